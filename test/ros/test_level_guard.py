"""The guard against the wrong level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import make_radiograph
from xray_registration.ros.frame_processor import Shot
from xray_registration.ros.level_guard import GuardState, LevelFinder, LevelsSeen, judge, seen


@pytest.fixture(scope="module")
def labels(scene: Any) -> LabelMap:
    from xray_registration.imaging.labels import load_label_map
    from xray_registration.imaging.volume import load_ct

    return load_label_map(scene.label_path, load_ct(scene.ct_path))


def _shot(scene: Any, mask: np.ndarray | None = None) -> Shot:
    attenuation = -np.log(scene.raw / 40000.0).astype(np.float32)
    return Shot(make_radiograph(attenuation, "attenuation", mask=mask), scene.camera)


def test_what_a_view_shows(scene: Any, labels: LabelMap) -> None:
    finder = LevelFinder(labels, ("vertebrae_*",))
    planned = ("vertebrae_T8", "vertebrae_T1")
    levels = finder.seen(planned, [_shot(scene)], [scene.camera_from_ct])
    assert {"vertebrae_T7", "vertebrae_T8", "vertebrae_T9"} <= set(levels.in_view)
    assert all(name.startswith("vertebrae_") for name in levels.in_view)
    assert levels.planned["vertebrae_T8"] > 0.99
    assert levels.planned["vertebrae_T1"] < 0.5
    assert "vertebrae_T1" not in levels.in_view

    # A blade over the lower half of the picture hides it, in one of two views as in one alone.
    blade = np.ones(scene.raw.shape, bool)
    blade[100:] = False
    hidden = finder.seen(planned, [_shot(scene, blade)], [scene.camera_from_ct])
    both = finder.seen(
        planned, [_shot(scene), _shot(scene, blade)], [scene.camera_from_ct, scene.camera_from_ct]
    )
    assert hidden.planned["vertebrae_T8"] < 0.5
    assert both == hidden

    # A pose that is not finite shows nothing; neither does a point behind the source.
    assert finder.seen(planned, [_shot(scene)], [np.full((4, 4), np.nan)]) == LevelsSeen()
    behind = scene.camera_from_ct.copy()
    behind[2, 3] -= 3000.0
    assert not seen(scene.targets_lps_mm, _shot(scene), behind).any()
    assert LevelFinder(None, ("*",)).seen((), [_shot(scene)], [np.eye(4)]) == LevelsSeen()


def test_verdicts() -> None:
    levels = LevelsSeen(("vertebrae_T7",), {"vertebrae_T8": 0.3})
    planned = ("vertebrae_T8",)
    assert judge((), 0.5, True, "accepted", levels).state is GuardState.OFF
    assert judge(planned, 0.2, True, "accepted", levels).state is GuardState.OK
    assert judge(planned, 0.5, False, "low_similarity", levels).state is GuardState.UNKNOWN
    missing = judge(planned, 0.5, True, "accepted", levels)
    assert missing.state is GuardState.NOT_IN_VIEW
    assert missing.is_error
    assert "vertebrae_T8 (30 % of it)" in missing.text
    assert "vertebrae_T7" in missing.text
    # Ambiguous is an error whether or not a level is planned.
    for names in ((), planned):
        verdict = judge(names, 0.5, False, "ambiguous", levels)
        assert verdict.state is GuardState.AMBIGUOUS
        assert verdict.is_error
