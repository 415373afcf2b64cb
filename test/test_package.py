"""The package as its users' tools see it: metadata, dependencies, installed files, pins."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import xray_registration

NAME = "xray_registration"
# Modules whose package ROS machines get through a rosdep key of package.xml.
ROSDEP_KEYS = {
    "ament_index_python": "ament_index_python",
    "cv2": "python3-opencv",
    "cv_bridge": "cv_bridge",
    "launch": "launch",
    "launch_ros": "launch_ros",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "PIL": "python3-pil",
    "pytransform3d": "python3-pytransform3d-pip",
    "rclpy": "rclpy",
    "scipy": "python3-scipy",
    "skimage": "python3-skimage",
    "tf2_ros": "tf2_ros",
    "torch": "python3-pytorch-pip",
    "tornado": "python3-tornado",
    "xacro": "xacro",
    "yaml": "python3-yaml",
}
# Modules that belong to a package of another name on PyPI; they are in an extra of setup.py.
PIP_NAMES = {"llvmlite": "numba"}
SOURCE_TREE_ONLY = pytest.mark.skipif(
    not (Path(__file__).parents[1] / "setup.py").is_file(), reason="needs the source tree"
)
pytestmark = SOURCE_TREE_ONLY


@pytest.fixture
def distribution(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What setup.py tells setuptools, without running a command."""
    import setuptools  # noqa: F401  puts its own distutils in place
    from distutils.core import run_setup  # isort: skip

    monkeypatch.chdir(repository)
    return run_setup("setup.py", stop_after="init")


@pytest.fixture
def manifest(repository: Path) -> ElementTree.Element:
    """Root element of package.xml."""
    return ElementTree.parse(repository / "package.xml").getroot()


def tracked_files(repository: Path) -> list[Path]:
    """Files under version control, or skip outside a clone."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git clone")
    return [repository / name for name in listing.split("\0") if (repository / name).is_file()]


def imported_modules(folder: Path) -> dict[str, Path]:
    """Top-level modules that the Python files below a folder import, each with one such file.

    ``require("name")`` counts as an import.
    """
    found: dict[str, Path] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "require"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                names = [str(node.args[0].value)]
            found.update({name.partition(".")[0]: path for name in names})
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Name and version of every requirement of a file; fails on anything that is not a pin."""
    result = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)", text)
            assert match, f"{path.name}: '{text}' is not NAME==VERSION"
            result[normalised(match[1])] = match[2]
    return result


def test_package_xml_is_valid(repository: Path) -> None:
    package = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    parsed = package.parse_package(str(repository / "package.xml"), warnings=warnings)
    assert warnings == []
    assert parsed.name == NAME
    assert parsed.package_format == 3
    assert parsed.get_build_type() == "ament_python"
    assert parsed.licenses == ["Apache-2.0"]
    assert "Apache License" in (repository / parsed.licenses[0].file).read_text(encoding="utf-8")


def test_one_version_everywhere(
    repository: Path, distribution: Any, manifest: ElementTree.Element
) -> None:
    version = xray_registration.__version__
    assert distribution.get_version() == version
    assert manifest.findtext("version") == version
    headings = re.findall(
        r"^(\d+\.\d+\.\d+).*\n-+$",
        (repository / "CHANGELOG.rst").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert headings[0] == version


def test_same_description_of_the_package_everywhere(
    distribution: Any, manifest: ElementTree.Element
) -> None:
    maintainer = manifest.find("maintainer")
    assert maintainer is not None
    assert distribution.get_name() == manifest.findtext("name") == NAME
    assert distribution.get_license() == manifest.findtext("license")
    assert distribution.get_maintainer() == maintainer.text
    assert distribution.get_maintainer_email() == maintainer.get("email")


def test_every_module_is_installed(repository: Path, distribution: Any) -> None:
    folders = {path.parent for path in (repository / NAME).rglob("*.py")}
    modules = {".".join(folder.relative_to(repository).parts) for folder in folders}
    assert modules == set(distribution.packages), "a folder lacks __init__.py"


def test_every_data_file_is_installed(repository: Path, distribution: Any) -> None:
    installed = {file: target for target, files in distribution.data_files for file in files}
    assert installed[f"resource/{NAME}"] == "share/ament_index/resource_index/packages"
    assert installed["package.xml"] == f"share/{NAME}"
    for path in tracked_files(repository):
        name = path.relative_to(repository)
        if name.parts[0] in ("launch", "config", "urdf", "worlds", "rviz"):
            assert installed.get(str(name)) == f"share/{NAME}/{name.parent}", name
        elif name.parts[0] == NAME and name.suffix != ".py":
            inside = name.relative_to(NAME)
            patterns = distribution.package_data[NAME]
            assert any(inside in _glob(repository / NAME, p) for p in patterns), name


def _glob(folder: Path, pattern: str) -> set[Path]:
    return {path.relative_to(folder) for path in folder.glob(pattern)}


def test_console_scripts_can_be_imported(distribution: Any) -> None:
    scripts = distribution.entry_points["console_scripts"]
    names = {script.partition("=")[0].strip() for script in scripts}
    assert names == {
        "xray-registration", "registration_node", "carm_simulator", "joint_sweep", "truth_monitor",
    }  # fmt: skip
    for script in scripts:
        module, _, function = script.partition("=")[2].strip().partition(":")
        if ".ros." in module:
            pytest.importorskip("rclpy")
        assert callable(getattr(importlib.import_module(module), function)), script


def test_every_import_is_declared(
    repository: Path, distribution: Any, manifest: ElementTree.Element
) -> None:
    declared = {element.text for element in manifest.iter("exec_depend")}
    extras = {normalised(name) for names in distribution.extras_require.values() for name in names}
    imports = imported_modules(repository / NAME) | imported_modules(repository / "launch")
    for module, path in imports.items():
        if module == NAME or module in sys.stdlib_module_names:
            continue
        if module in ROSDEP_KEYS or module.endswith(("_msgs", "_srvs", "_interfaces")):
            key = ROSDEP_KEYS.get(module, module)
            assert key in declared, f"{path} imports {module}: package.xml lacks {key}"
        else:
            name = normalised(PIP_NAMES.get(module, module))
            assert name in extras, f"{path} imports {module}: no extra of setup.py has {name}"


def test_every_requirement_is_pinned_once(repository: Path, distribution: Any) -> None:
    folder = repository / "requirements"
    constraints = pins(folder / "constraints.txt")
    for path in sorted(folder.glob("*.txt")):
        for name, version in pins(path).items():
            # torch is not a constraint: its local version ("+cpu") depends on the machine.
            assert name == "torch" or constraints.get(name) == version, f"{path.name}: {name}"
    for names in distribution.extras_require.values():
        for name in names:
            assert normalised(name) in constraints, f"extra {name} is not pinned"


def test_the_environment_holds_what_is_pinned(repository: Path) -> None:
    if Path(sys.prefix) != repository / ".venv":
        pytest.skip("not run in the repository's .venv")
    folder = sysconfig.get_paths()["purelib"]
    installed = {
        normalised(distribution.metadata["Name"]): distribution.version.partition("+")[0]
        for distribution in importlib.metadata.distributions(path=[folder])
    }
    for path in sorted((repository / "requirements").glob("*.txt")):
        if path.name == "constraints.txt":
            continue
        for name, version in pins(path).items():
            assert installed.get(name) == version, name


def test_no_package_hosts_and_no_paths_of_one_machine(repository: Path) -> None:
    # Written in two halves, so that this file does not hold what it looks for.
    hosts = ("py" + "pi.org", "python" + "hosted.org", "download." + "pytorch", "deb." + "debian",
             "registry." + "npmjs", "--index" + "-url", "--find" + "-links")  # fmt: skip
    machine = re.compile(r"(?<![\w./:$}])/(?:work|root|home|Users|workspace)/\w")
    for path in tracked_files(repository):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{path.relative_to(repository)}:{number}: {line.strip()}"
            assert not any(host in line for host in hosts), where
            assert not machine.search(line), where
