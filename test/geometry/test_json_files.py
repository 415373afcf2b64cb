"""CAM.json and POSE.json: round trips; what is refused is tested through `register`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, se3
from xray_registration.geometry.json_files import (
    read_camera,
    read_json_object,
    read_pose,
    write_camera,
    write_json,
    write_pose,
)

POSE = se3.se3_exp(torch.tensor([10.0, -20.0, 700.0, 0.3, -1.1, 0.2]).double()).numpy()


@pytest.mark.parametrize("sdd_mm", [1020.0, None])
@pytest.mark.parametrize("camera_from_rig", [POSE, None])
def test_camera(tmp_path: Path, sdd_mm: float | None, camera_from_rig: np.ndarray | None) -> None:
    camera = Camera(np.array([[900.0, 1.5, 40.0], [0, 910.0, 33.3], [0, 0, 1]]), 80, 64, sdd_mm)
    write_camera(tmp_path / "c.json", camera, camera_from_rig)
    found, found_from_rig = read_camera(tmp_path / "c.json")
    assert found == camera
    expected = np.eye(4) if camera_from_rig is None else camera_from_rig
    np.testing.assert_allclose(found_from_rig, expected, atol=1e-12)


def test_camera_from_rig_may_be_absent(tmp_path: Path) -> None:
    write_json(tmp_path / "c.json", Camera.from_detector(8, 8, 1.0, 1000.0).to_dict())
    np.testing.assert_array_equal(read_camera(tmp_path / "c.json")[1], np.eye(4))


@pytest.mark.parametrize("ct_axes", ["lps", "ras"])
def test_pose(tmp_path: Path, ct_axes: str) -> None:
    write_pose(tmp_path / "p.json", POSE, ct_axes, extra={"note": "µ"})
    found, axes = read_pose(tmp_path / "p.json")
    np.testing.assert_allclose(found, POSE, atol=1e-12)
    assert axes == ct_axes
    stored = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert stored["note"] == "µ"
    signs = [1, 1, 1] if ct_axes == "lps" else [-1, -1, 1]
    np.testing.assert_allclose(np.array(stored["rig_from_ct"])[:3, :3], POSE[:3, :3] * signs)


def test_axes_in_capitals_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = json.dumps({"rig_from_ct": POSE.tolist(), "ct_axes": "RAS"})
    (tmp_path / "p.json").write_text(text, encoding="utf-8-sig")
    assert read_pose(tmp_path / "p.json")[1] == "ras"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a thing"):
        read_json_object(tmp_path, "a thing")


def test_nothing_is_written_that_is_not_rigid_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write_pose(tmp_path / "p.json", 2 * np.eye(4))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "p.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
