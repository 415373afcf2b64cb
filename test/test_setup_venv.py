"""scripts/setup_venv.py up to where it would need a network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "setup_venv.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="needs the source tree")


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the script reads, in a repository of its own."""
    for name in ("scripts", "requirements", "wheels"):
        shutil.copytree(SCRIPT.parents[1] / name, tmp_path / name)
    for name in ("setup.py", "setup.cfg", "package.xml"):
        shutil.copy(SCRIPT.parents[1] / name, tmp_path)
    return tmp_path


def start(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    return subprocess.run(
        [sys.executable, str(tree / "scripts" / "setup_venv.py"), *arguments],
        env={**os.environ, **offline, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_failed_step_is_explained_and_taken_up_again(tree: Path) -> None:
    first = start(tree)
    assert first.returncode == 1
    assert "step 'build' failed" in first.stderr
    assert "run the same command again" in first.stderr
    assert "Traceback" not in first.stderr
    assert not (tree / ".venv" / ".complete").exists()

    marker = tree / ".venv" / "not_made_anew"
    marker.touch()
    second = start(tree)
    assert second.returncode == 1
    assert marker.exists()


def test_a_missing_compiler_is_said_before_anything_is_fetched(tree: Path) -> None:
    result = start(tree, CXX="no-such-compiler")
    assert result.returncode == 1
    assert "apt-get install g++" in result.stderr
    assert not (tree / ".venv").exists()


def test_an_unusable_interpreter_is_refused(tree: Path) -> None:
    result = start(tree, "--python", "/bin/false")
    assert result.returncode == 1
    assert "/bin/false: need Python 3.10 to 3.13" in result.stderr
    assert not (tree / ".venv").exists()


def test_other_machines_are_sent_to_colcon(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.platform, "machine", lambda: "aarch64")
    with pytest.raises(script.SetupError, match=r"x86-64 only.*aarch64"):
        script.check_platform()


def test_the_fingerprint_follows_contents_and_variant(script: ModuleType, tree: Path) -> None:
    script.ROOT = tree
    sources = [tree / "requirements" / "ros.txt", tree / "wheels" / "tf2_msgs"]
    before = script.fingerprint(sources, "")
    assert script.fingerprint(sources, "") == before
    assert script.fingerprint(sources, "gpu") != before
    message = tree / "wheels" / "tf2_msgs" / "msg" / "TFMessage.msg"
    message.write_text(message.read_text() + "# changed\n")
    assert script.fingerprint(sources, "") != before


def test_half_installed_packages_are_forgotten(script: ModuleType, tmp_path: Path) -> None:
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    whole, half = (site_packages / f"{name}-1.0.dist-info" for name in ("whole", "half"))
    for path in (whole, half):
        path.mkdir(parents=True)
        (path / "METADATA").touch()
        (path / "RECORD").touch()
    (whole / "INSTALLER").touch()
    script.VENV = tmp_path
    script.discard_half_installed()
    assert whole.is_dir()
    assert not half.exists()


def test_cmake_paths_of_the_wheels_are_repaired(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    builder = "/opt/python/cp312-cp312"
    file.write_text(
        f'"{builder}/include/python3.12;'
        f'{builder}/lib/python3.12/site-packages/numpy/_core/include;/usr/include"'
    )
    script.VENV = tmp_path
    monkeypatch.setattr(script, "run", lambda *_: "/here/numpy/_core/include\n")
    monkeypatch.setattr(script, "include_folder", lambda _: Path("/here/include/python3.12"))
    script.repair_cmake_paths()
    repaired = '"/here/include/python3.12;/here/numpy/_core/include;/usr/include"'
    assert file.read_text() == repaired
