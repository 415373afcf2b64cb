"""MayaCam 2.0: what is written is read back; the real files; broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.interchange.mayacam import read_mayacam, write_mayacam

K = np.array([[6100.5, 0.25, 803.7], [0.0, 6110.25, 865.7], [0.0, 0.0, 1.0]])
POSE = camera_from_positioner(PositionerPose(20.0, -10.0, 700.0, (5.0, -7.0, 30.0), 4.0))


def text(**blocks: str) -> str:
    parts = {
        "image size": "64,48",
        "camera matrix": "100,0,31.5\n0,100,23.5\n0,0,1",
        "rotation": "1,0,0\n0,1,0\n0,0,1",
        "translation": "1\n2\n300",
    }
    parts.update({name.replace("_", " "): value for name, value in blocks.items()})
    return "\n\n".join(f"{name}\n{value}" for name, value in parts.items() if value) + "\n"


def test_written_file_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    camera = Camera(K, 1760, 1700)
    write_mayacam(tmp_path / "cam.txt", camera, POSE)
    read, camera_from_world = read_mayacam(tmp_path / "cam.txt")
    assert read == camera
    np.testing.assert_allclose(camera_from_world, POSE, atol=1e-12)
    assert read_mayacam(tmp_path / "cam.txt", sdd_mm=1200.0)[0].sdd_mm == 1200.0


def test_reads_windows_line_ends_and_trailing_commas(tmp_path: Path) -> None:
    path = tmp_path / "cam.txt"
    path.write_bytes(text(image_size="64,48,").replace("\n", "\r\n").encode())
    camera, camera_from_world = read_mayacam(path)
    assert (camera.width, camera.height, camera.cx) == (64, 48, 31.5)
    np.testing.assert_allclose(camera_from_world[:3, 3], (1, 2, 300))


def test_real_biplane_cameras_see_the_reference_bone(shared_data: Path) -> None:
    """Both real cameras look at one place: the beams' axes cross in front of the sources."""
    cameras = [read_mayacam(shared_data / "wrist" / f"xr_calib_wrist_cam0{n}.txt") for n in (1, 2)]
    sources, axes = [], []
    for camera, camera_from_world in cameras:
        assert (camera.width, camera.height, camera.sdd_mm) == (1760, 1760, None)
        rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
        sources.append(-rotation.T @ translation)
        axes.append(rotation[2])
    # the closest points of two lines
    normal = np.cross(axes[0], axes[1])
    gap = abs((sources[1] - sources[0]) @ normal) / np.linalg.norm(normal)
    assert gap < 60.0
    depths = np.linalg.lstsq(np.stack([axes[0], -axes[1]], 1), sources[1] - sources[0], rcond=None)
    assert (depths[0] > 400.0).all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (text(rotation=""), "no block 'rotation'"),
        (text(camera_matrix="1,0,0\n0,1,0"), "'camera matrix' holds 2 lines"),
        (text(translation="1\n2\nthree"), "line .*'three' in the block 'translation'"),
        (text(rotation="1,0,0\n0,1,0\n0,0,-1"), "mirrored"),
        (text(rotation="2,0,0\n0,2,0\n0,0,2"), "scale of 2"),
        (text(camera_matrix="0,0,1\n0,1,1\n0,0,1"), "uncalibrated"),
        (text(image_size="64.5,48"), "width is 64.5"),
        (text() + "rotation\n1,0,0\n", "'rotation' comes twice"),
        ("272.3\n1,2,3\n", "line 1"),
        ("", "no block 'image size', 'camera matrix'"),
    ],
)
def test_broken_files(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        read_mayacam(path)
    assert "broken.txt" in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_mayacam(tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        read_mayacam(tmp_path / "binary.txt")
