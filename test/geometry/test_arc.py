"""An arc of the C-arm."""

from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.arc import Arc
from xray_registration.geometry.positioner import positioner_from_camera

ISOCENTRE = np.array([5.0, -60.0, 130.0])


def test_equal_steps_about_the_isocentre() -> None:
    arc = Arc((-20.0, 10.0), (0.0, 6.0), 4, 700.0)
    assert arc.angles_deg == [(-20.0, 0.0), (-10.0, 2.0), (0.0, 4.0), (10.0, 6.0)]
    for pose, angles in zip(arc.poses(ISOCENTRE), arc.angles_deg, strict=True):
        np.testing.assert_allclose(pose[:3, :3] @ ISOCENTRE + pose[:3, 3], [0, 0, 700], atol=1e-9)
        found = positioner_from_camera(pose, 700.0)
        assert (found.primary_deg, found.secondary_deg) == pytest.approx(angles, abs=1e-9)


def test_one_frame_is_the_first() -> None:
    assert Arc((7.0, 50.0), (1.0, 2.0), 1, 700.0).angles_deg == [(7.0, 1.0)]


def test_what_is_impossible_is_refused() -> None:
    with pytest.raises(InputError, match="frames"):
        Arc((0.0, 1.0), (0.0, 0.0), 0, 700.0)
    with pytest.raises(InputError, match="primary_deg"):
        Arc((0.0, 200.0), (0.0, 0.0), 2, 700.0).poses(ISOCENTRE)
    with pytest.raises(InputError, match="source_isocentre_mm"):
        Arc((0.0, 1.0), (0.0, 0.0), 2, -1.0).poses(ISOCENTRE)
