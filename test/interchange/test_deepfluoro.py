"""A synthetic file in DeepFluoro's HDF5 layout: the file's own projection is the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.converters import matrix_from_rt
from xray_registration.interchange import deepfluoro

h5py = pytest.importorskip("h5py")

WIDTH, HEIGHT, PITCH, SDD = 96, 80, 3.0, 1020.0
LANDMARKS = {"FH-l": (93.0, 38.0, -941.0), "FH-r": (-90.0, 30.0, -938.0), "SPS": (3.0, -9.0, -900)}
# a rigid ct_from_world and camera_from_world without any symmetry
CT_FROM_WORLD = matrix_from_rt([0.1, -0.2, 0.3], [10.0, 20.0, -915.0])


def extrinsic(sign: float) -> np.ndarray:
    """World's middle in front of the source, at z = sign * 640."""
    world = matrix_from_rt([1.4, 0.1, -0.05] if sign < 0 else [-1.4, 0.1, 0.05], [4.0, -6.0, 0.0])
    world[2, 3] = sign * 640.0
    return world


def intrinsic(sign: float) -> np.ndarray:
    focal = sign * SDD / PITCH
    return np.array([[focal, 0.7, 50.0], [0, focal, 37.0], [0, 0, 1]])


def project(sign: float, point: Any) -> np.ndarray:
    """As the layout's description says: intrinsic, extrinsic, inverse of cam-to-vol."""
    camera = extrinsic(sign) @ np.linalg.inv(CT_FROM_WORLD) @ np.append(point, 1.0)
    pixel = intrinsic(sign) @ camera[:3]
    return pixel[:2] / pixel[2]


def write(path: Path, sign: float = -1.0, edit: Callable[[Any], None] | None = None) -> Path:
    picture = np.arange(WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    with h5py.File(path, "w") as file:
        parameters = file.create_group("proj-params")
        parameters["intrinsic"] = intrinsic(sign)
        parameters["extrinsic"] = extrinsic(sign)
        parameters["num-cols"], parameters["num-rows"] = np.uint64(WIDTH), np.uint64(HEIGHT)
        parameters["pixel-col-spacing"] = parameters["pixel-row-spacing"] = PITCH
        specimen = file.create_group("17-1882")
        specimen["vol/pixels"] = np.full((4, 5, 6), -1000.0, np.float32)
        specimen["vol/origin"] = np.array([[-150.0], [-120.0], [-1000.0]])
        specimen["vol/spacing"] = np.array([[1.0], [2.0], [3.0]])
        specimen["vol/dir-mat"] = np.eye(3)
        shot = specimen.create_group("projections/003")
        shot["image/pixels"] = picture
        for bone in ("pelvis", "left-femur"):
            shot[f"gt-poses/cam-to-{bone}-vol"] = CT_FROM_WORLD
        shot["gt-poses/left-femur-good-fov"] = 1
        shot["rot-180-for-up"] = 1
        for name, point in LANDMARKS.items():
            specimen[f"vol-landmarks/{name}"] = np.array(point)[:, None]
            shot[f"gt-landmarks/{name}"] = project(sign, point)[:, None]
        if edit:
            edit(file)
    return path


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_landmarks_project_onto_their_pixels(tmp_path: Path, sign: float) -> None:
    path = write(tmp_path / "full.h5", sign)
    shot = deepfluoro.read_projection(path, "17-1882", "003")
    assert set(shot.camera_from_ct) == {"pelvis", "left-femur"}
    pose = shot.camera_from_ct["pelvis"]
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    assert shot.camera.sdd_mm == pytest.approx(SDD)
    assert shot.flipped is (sign < 0)
    assert shot.upside_down
    for name, point in deepfluoro.read_landmarks(path, "17-1882").items():
        in_camera = pose[:3, :3] @ point + pose[:3, 3]
        assert in_camera[2] > 300.0  # between source and detector
        np.testing.assert_allclose(
            shot.camera.project(in_camera), shot.landmarks_px[name], atol=1e-9
        )


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_picture_and_landmarks_are_flipped_alike(tmp_path: Path, sign: float) -> None:
    shot = deepfluoro.read_projection(write(tmp_path / "full.h5", sign), "17-1882", "003")
    u, v = project(sign, LANDMARKS["SPS"])
    column, row = round(u), round(v)
    stored = row * WIDTH + column
    found = shot.landmarks_px["SPS"]
    assert shot.image[row, round(found[0])] == stored
    assert shot.image.shape == (HEIGHT, WIDTH)


def test_specimens_and_ct(tmp_path: Path) -> None:
    path = write(tmp_path / "full.h5")
    assert deepfluoro.specimens(path) == {"17-1882": ["003"]}
    ct = deepfluoro.read_ct(path, "17-1882")
    assert ct.shape_ijk == (6, 5, 4)
    np.testing.assert_allclose(ct.lps_of_index((1, 1, 1)), (-149.0, -118.0, -997.0))


def _set(name: str, value: Any) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return edit


SHOT = "17-1882/projections/003"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_set("proj-params/intrinsic", None), "no data set /proj-params/intrinsic"),
        (_set("proj-params/intrinsic", np.diag([-340.0, 340.0, 1.0])), "both negative"),
        (_set("proj-params/pixel-row-spacing", 1.0), "agree within 1 %"),
        (_set("proj-params/pixel-row-spacing", 0.0), "pixel-row-spacing is 0"),
        (_set("proj-params/num-cols", 90), "has shape"),
        (_set("proj-params/extrinsic", np.diag([1.0, 1, -1, 1])), "mirrored"),
        (_set(f"{SHOT}/gt-poses/cam-to-pelvis-vol", 2 * np.eye(4)), "cam-to-pelvis-vol"),
        (_set(f"{SHOT}/gt-poses", None), "no group 'gt-poses'"),
        (_set(SHOT, None), "no group '003'"),
        (_set(f"{SHOT}/gt-landmarks/SPS", np.zeros(3)), "expected \\(2,\\)"),
    ],
)
def test_refusals_name_the_place(tmp_path: Path, edit: Callable[[Any], None], says: str) -> None:
    path = write(tmp_path / "full.h5", edit=edit)
    with pytest.raises(InputError, match=says) as caught:
        deepfluoro.read_projection(path, "17-1882", "003")
    assert "full.h5" in str(caught.value)


def test_unknown_specimen_truncated_and_foreign_files(tmp_path: Path) -> None:
    path = write(tmp_path / "full.h5")
    with pytest.raises(InputError, match=r"no group 'x'.*17-1882"):
        deepfluoro.read_projection(path, "x", "003")
    short = tmp_path / "short.h5"
    short.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        deepfluoro.specimens(short)
    with pytest.raises(InputError, match="no such file"):
        deepfluoro.specimens(tmp_path / "none.h5")
