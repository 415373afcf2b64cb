"""Findings about the numbers of cameras and poses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xray_registration.evaluation.geometry_check.finding import Severity
from xray_registration.evaluation.geometry_check.numbers import camera_findings, pose_findings
from xray_registration.geometry import Camera


def camera(**changes: Any) -> dict[str, Any]:
    """A usual C-arm, 1536 pixels of 0.194 mm at 1020 mm, with changes."""
    data = Camera.from_detector(1536, 1536, 0.194, 1020.0).to_dict()
    focal = changes.pop("focal", None)
    point = changes.pop("point", None)
    if focal is not None:
        data["K"][0][0], data["K"][1][1] = focal
    if point is not None:
        data["K"][0][2], data["K"][1][2] = point
    return {**data, **changes}


def codes(data: dict[str, Any]) -> list[str]:
    return [finding.code for finding in camera_findings(data, "cam.json")[1]]


def test_a_usual_camera_gives_no_findings() -> None:
    assert codes(camera()) == []
    # binned to 1 mm pixels: fx equals sdd, the principal point is where it belongs
    assert codes(Camera.from_detector(256, 256, 1.0, 1020.0).to_dict()) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (camera(sdd_mm=None), ["sdd_missing"]),
        (camera(sdd_mm=1.02), ["sdd_in_metres"]),
        (camera(sdd_mm=102.0), ["sdd_too_small"]),
        (camera(sdd_mm=50000.0), ["sdd_too_large"]),
        # K in mm: focal length 1020 mm, principal point at half of 298 mm
        (camera(focal=(1020.0, 1020.0), point=(149.0, 149.0)), ["k_in_mm"]),
        (camera(focal=(3.4, 3.4), point=(0.5, 0.5)), ["k_normalised", "pixel_pitch",
                                                      "principal_point"]),
        (camera(focal=(700.0, 700.0)), ["opening_angle"]),
        (camera(focal=(5257.0, 2600.0)), ["focal_lengths_differ"]),
        (camera(point=(100.0, 767.5)), ["principal_point"]),
        # the K of the full picture with one of half the size
        (camera(width=768, height=768), ["principal_point", "k_of_another_size"]),
        (camera(width=1200, height=500, point=(249.5, 599.5)),
         ["principal_point", "cx_cy_swapped"]),
        (camera(focal=(0.0, 0.0)), ["camera_unusable"]),
        (camera(focal=(-5257.0, 5257.0)), ["camera_mirrored"]),
        ({"width": 3}, ["camera_unusable"]),
    ],
)  # fmt: skip
def test_one_finding_each(data: dict[str, Any], expected: list[str]) -> None:
    assert codes(data) == expected


def test_texts_name_values() -> None:
    _, (finding,) = camera_findings(camera(sdd_mm=1.02), "cam.json")
    assert finding.severity is Severity.ERROR
    assert "1020 mm?" in finding.text
    _, findings = camera_findings(camera(width=768, height=768), "cam.json")
    assert "1536x1536" in findings[1].text


@pytest.mark.parametrize(
    ("matrix", "code", "kept"),
    [
        (np.diag([-1.0, 1, 1, 1]), "pose_mirrored", True),
        (np.diag([0.001, 0.001, 0.001, 1]), "pose_not_rigid", True),
        (np.full((4, 4), np.nan), "pose_unusable", False),
        (np.eye(3), "pose_unusable", False),
        ([["a"]], "pose_unusable", False),
        (np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [5, 6, 700, 1]]), "pose_unusable",
         False),
    ],
)  # fmt: skip
def test_poses(matrix: Any, code: str, kept: bool) -> None:
    found, (finding,) = pose_findings(matrix, "pose.json")
    assert finding.code == code
    assert (found is not None) is kept
    assert "pose.json" in finding.text


def test_a_rigid_pose_gives_no_findings() -> None:
    pose, findings = pose_findings(np.eye(4).tolist(), "pose.json")
    assert findings == []
    np.testing.assert_array_equal(pose, np.eye(4))
