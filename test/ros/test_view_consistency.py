"""A view alone against all together: distances by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.ros.view_consistency import PosedView, disagreements

POINTS = np.array([[10.0, 0, 0], [-10.0, 0, 0]])
CENTRE = np.zeros(3)


def at(z_mm: float) -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = z_mm
    return pose


def test_each_view_is_measured_in_its_own_axes() -> None:
    quarter = np.eye(4)  # the second camera looks along the rig's x
    quarter[:3, :3] = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    quarter[2, 3] = 700.0
    together = PosedView("", True, at(700.0), np.eye(4))
    first = PosedView("view_0", False, at(703.0), np.eye(4))
    moved = quarter @ at(700.0)
    moved[0, 3] += 2.0
    second = PosedView("view_1", True, moved, quarter)
    one, two = disagreements("a + b", together, [first, second], POINTS, CENTRE)
    assert (one.distance_mm, one.depth_mm, one.in_plane_mm) == pytest.approx((3.0, 3.0, 0.0))
    assert (two.distance_mm, two.depth_mm, two.in_plane_mm) == pytest.approx((2.0, 0.0, 2.0))
    assert one.rotation_deg == pytest.approx(0.0, abs=1e-6)
    assert (one.accepted_alone, two.accepted_alone, one.accepted_together) == (False, True, True)
    assert "view_0 alone (refused) lies 3.00 mm" in one.sentence()
    assert two.to_dict()["view"] == "view_1"
