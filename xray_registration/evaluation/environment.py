"""On what machine and with what software figures were made: they mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import xray_registration
from xray_registration.evaluation.fingerprint import METHOD_CODE, code_fingerprint

_PACKAGES = ("torch", "numpy", "scipy", "numba", "SimpleITK", "cma", "distributed")


def environment() -> dict[str, str]:
    """Name to value, for a report."""
    values = {
        "date (UTC)": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "xray_registration": xray_registration.__version__,
        "commit": commit(),
        "method code": code_fingerprint(METHOD_CODE),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores for this process": str(available_cores()),
        "memory": memory(),
        "load average at the end": load(),
    }
    values.update({name: version(name) for name in _PACKAGES})
    return {name: value for name, value in values.items() if value}


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str:
    """The checkout's commit, with "+ changes" when files differ from it; "" outside a checkout."""
    root = Path(xray_registration.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "xray_registration")
    return head + (" + changes" if head and changed else "")


def processor() -> str:
    """Its name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory() -> str:
    """Installed memory in GiB; "" where the system does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return ""
    return f"{size / 2**30:.0f} GiB"


def load() -> str:
    """Of the last 1, 5 and 15 minutes: above the number of cores, wall-clock times are too long."""
    try:
        return " ".join(f"{value:.1f}" for value in os.getloadavg())
    except (OSError, AttributeError):
        return ""


def version(package: str) -> str:
    """Of an installed package, else ""."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
