"""A small phantom on a C-arm that turns: followed, lost, found again, begun anew."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, PositionerPose, camera_from_positioner
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import (
    GateConfig,
    Level,
    Reason,
    Registrar,
    RegistrationConfig,
    SpreadConfig,
    View,
)
from xray_registration.registration.detected import IDEAL_BEAM
from xray_registration.registration.quick_registrar import QuickConfig, QuickRegistrar
from xray_registration.registration.start_pose import GivenStart
from xray_registration.registration.tracker import Mode, Tracker, TrackerConfig

RATE_HZ = 7.5
CAMERA = Camera.from_detector(160, 160, 1.6, 1020.0)
Pose = np.ndarray


class Phantom:
    """Unequal bony balls in a box of soft tissue: 12 cm, no symmetry."""

    def __init__(self) -> None:
        k, j, i = np.mgrid[:48, :48, :48].astype(float)
        hu = np.where((np.abs(np.stack((i, j, k)) - 23.5) < 21).all(0), 30, -1000).astype(np.int16)
        random = np.random.default_rng(8)
        for radius in np.linspace(2.5, 6.0, 14):
            x, y, z = random.uniform(9, 38, 3)
            hu[np.hypot(np.hypot(i - x, j - y), k - z) < radius] = 900
        affine = np.diag([2.5, 2.5, 2.5, 1.0])
        affine[:3, 3] = -60.0
        self.ct = CTVolume(hu, affine, path="balls")
        self.pictures = 0

    @cached_property
    def registrar(self) -> Registrar:
        """Three levels; no neighbours, no label map."""
        levels = (Level(5.0, 5.0, 20), Level(2.5, 2.5, 15), Level(1.25, 2.5, 10))
        config = RegistrationConfig(
            levels=levels,
            spread=SpreadConfig(count=4, candidates=16),
            beam=IDEAL_BEAM,  # the pictures are plain projections
            gate=GateConfig(max_sigma_mm=1.0),
        )
        return Registrar(self.ct, config)

    def view(self, pose: Pose, camera: Camera = CAMERA) -> View:
        """The picture from a pose, with some noise."""
        projector = self.registrar._levels[-1].projector
        image = projector.image(torch.from_numpy(pose)[None], camera)[0].numpy()
        self.pictures += 1
        noise = np.random.default_rng(self.pictures).normal(0.0, 0.01, image.shape)
        usable = np.ones(image.shape, bool)
        return View(Radiograph((image + noise).astype(np.float32), usable, "attenuation"), camera)

    def error_mm(self, pose: Pose, truth: Pose) -> float:
        """Mean distance of the corners of a cube of 8 cm."""
        corners = [[x, y, z, 1.0] for x in (-40, 40) for y in (-40, 40) for z in (-40, 40)]
        return float(np.linalg.norm(np.array(corners) @ (pose - truth).T, axis=1).mean())


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom()


def orbit(frame: float, rate_deg_per_s: float = 15.0) -> Pose:
    """True pose of a frame; the axis of the arm is beside the phantom."""
    angle = rate_deg_per_s * frame / RATE_HZ
    return camera_from_positioner(PositionerPose(angle, 4.0, 690.0, (10.0, -15.0, 5.0)))


def empty() -> View:
    """A picture with nothing in it but noise."""
    noise = np.random.default_rng(0).normal(1.0, 0.05, (160, 160)).astype(np.float32)
    return View(Radiograph(noise, np.ones((160, 160), bool), "attenuation"), CAMERA)


def begun(phantom: Phantom, frames: int = 2, **settings: object) -> Tracker:
    """A tracker after the first frames of the orbit."""
    tracker = Tracker(phantom.registrar, **settings)  # type: ignore[arg-type]
    for n in range(frames):
        frame = tracker.track([phantom.view(orbit(n))], n / RATE_HZ, orbit(0))
        assert frame.result.accepted, frame.why + frame.result.reason_text
    return tracker


def test_an_orbit_is_followed_in_few_steps(phantom: Phantom) -> None:
    tracker = Tracker(phantom.registrar)
    for n in range(6):
        frame = tracker.track([phantom.view(orbit(n))], n / RATE_HZ, orbit(0))
        assert frame.result.accepted, frame.why
        assert frame.mode is (Mode.TRACKED if n else Mode.REGISTERED), frame.why
        assert phantom.error_mm(frame.result.rig_from_ct, orbit(n)) < 0.5
        # the first prediction is the last pose; then the motion is known
        if n >= 2:
            assert frame.innovation_mm is not None
            assert frame.innovation_mm < 1.0
            assert frame.result.iterations <= 10
    np.testing.assert_array_equal(tracker.rig_from_ct, frame.result.rig_from_ct)


def test_uneven_spacing_is_predicted_by_the_stamps(phantom: Phantom) -> None:
    tracker = begun(phantom, frames=3)
    for moment in (4.5, 5.0, 7.7):
        frame = tracker.track([phantom.view(orbit(moment))], moment / RATE_HZ)
        assert frame.mode is Mode.TRACKED, frame.why
        assert frame.innovation_mm is not None
        assert frame.innovation_mm < 1.0


def test_a_jump_is_lost_and_found_in_the_same_call(phantom: Phantom) -> None:
    tracker = begun(phantom)
    jumped = orbit(3).copy()
    jumped[:3, 3] += [14.0, -9.0, 0.0]
    frame = tracker.track([phantom.view(jumped)], 3 / RATE_HZ)
    assert frame.mode is Mode.RECOVERED
    assert frame.why
    assert frame.result.accepted
    assert phantom.error_mm(frame.result.rig_from_ct, jumped) < 0.5
    # that was no velocity: the next prediction is that very pose
    frame = tracker.track([phantom.view(jumped)], 4 / RATE_HZ)
    assert frame.mode is Mode.TRACKED
    assert frame.innovation_mm is not None
    assert frame.innovation_mm < 1.0


def test_far_from_the_prediction_is_refused_by_the_few_steps(phantom: Phantom) -> None:
    quick = QuickRegistrar(phantom.registrar, QuickConfig(max_innovation_mm=2.0))
    off = orbit(0).copy()
    off[:3, 3] += [4.0, 0.0, 0.0]
    result = quick.register([phantom.view(orbit(0))], off)
    assert result.reason is Reason.FAR_FROM_START
    assert not result.accepted


def test_what_is_refused_is_never_accepted_and_the_track_goes_on(phantom: Phantom) -> None:
    tracker = begun(phantom)
    before = tracker.rig_from_ct
    frame = tracker.track([empty()], 3 / RATE_HZ)
    assert frame.mode is Mode.LOST
    assert not frame.result.accepted
    np.testing.assert_array_equal(tracker.rig_from_ct, before)
    frame = tracker.track([phantom.view(orbit(4))], 4 / RATE_HZ)
    assert frame.mode is Mode.TRACKED, frame.why
    assert phantom.error_mm(frame.result.rig_from_ct, orbit(4)) < 0.5


def test_who_is_lost_is_found_by_the_proposer(phantom: Phantom) -> None:
    away = orbit(40)  # 80 degrees on
    tracker = begun(phantom, proposer=GivenStart(orbit(39)))
    frame = tracker.track([phantom.view(away)], 3 / RATE_HZ)
    assert frame.mode is Mode.RECOVERED
    assert phantom.error_mm(frame.result.rig_from_ct, away) < 0.5
    # nor does a first frame need a start
    tracker.reset()
    assert tracker.rig_from_ct is None
    frame = tracker.track([phantom.view(away)], 4 / RATE_HZ)
    assert frame.mode is Mode.REGISTERED
    assert frame.result.accepted


@pytest.mark.parametrize(
    ("change", "stamp_s", "words"),
    [
        (lambda c: c.resized(128, 128), 0.4, "geometry has changed"),
        (lambda c: replace(c, sdd_mm=1100.0), 0.4, "geometry has changed"),
        (lambda c: c, 3.0, "no accepted pose for"),
        (lambda c: c, 0.1, "before the last one"),
    ],
)
def test_another_geometry_or_a_gap_begins_anew(
    phantom: Phantom, change: object, stamp_s: float, words: str
) -> None:
    tracker = begun(phantom)
    camera = change(CAMERA)  # type: ignore[operator]
    frame = tracker.track([phantom.view(orbit(3), camera)], stamp_s)
    assert frame.mode is Mode.RECOVERED
    assert words in frame.why
    assert frame.innovation_mm is None
    assert frame.result.accepted
    # no velocity is left
    frame = tracker.track([phantom.view(orbit(3), camera)], stamp_s + 0.1)
    assert frame.mode is Mode.TRACKED
    assert frame.innovation_mm is not None
    assert frame.innovation_mm < 1.0


def test_another_number_of_views_begins_anew(phantom: Phantom) -> None:
    tracker = begun(phantom)
    side = orbit(40)
    camera_from_rig = side @ np.linalg.inv(orbit(3))
    views = [
        phantom.view(orbit(3)),
        replace(phantom.view(side), camera_from_rig=camera_from_rig),
    ]
    frame = tracker.track(views, 0.4)
    assert "2 views, and 1 before" in frame.why
    assert frame.result.accepted
    assert tracker.track(views, 0.5).mode is Mode.TRACKED


def test_a_camera_that_differs_by_calibration_alone_is_followed(phantom: Phantom) -> None:
    tracker = begun(phantom)
    camera = Camera(CAMERA.K + np.array([[2.0, 0, 0.5], [0, 2.0, -0.4], [0, 0, 0]]), 160, 160, 1020)
    frame = tracker.track([phantom.view(orbit(3), camera)], 3 / RATE_HZ)
    assert frame.mode is Mode.TRACKED, frame.why


def test_few_steps_with_thick_slices_of_the_same_volumes(phantom: Phantom) -> None:
    full = phantom.registrar
    quick = QuickRegistrar(full, QuickConfig(finest_mm=1.5))
    scale = full._levels[-1].pixel_mm / 1.25  # a small patient
    assert [p.pixel_mm for p in quick._gone_through] == pytest.approx([2.5 * scale, 1.5 * scale])
    assert [p.level.max_iterations for p in quick._gone_through] == [6, 3]
    camera, pose = Camera.from_detector(32, 32, 8.0, 1020.0), torch.from_numpy(orbit(0))[None]
    for short, whole in zip(quick._gone_through, full._levels[1:], strict=True):
        assert short.projector.volume is whole.projector.volume
        (axis,) = whole.projector.sampling_axes(pose)
        sizes = [p.projector._along(axis).shape_ijk[axis] for p in (short, whole)]
        assert sizes[0] == -(-sizes[1] // 2)
        thick, fine = (p.projector.image(pose, camera) for p in (short, whole))
        assert (thick - fine).norm() < 0.02 * fine.norm()
    # levels of one spacing share one volume, as in the full registrar
    assert full._levels[1].projector is full._levels[2].projector
    assert quick._levels[1].projector is quick._levels[2].projector
    # and the full registrar is as it was
    assert [p.level.max_iterations for p in full._gone_through] == [20, 15, 10]
    assert full.config.spread.count == 4


def test_nothing_to_start_from_and_bad_settings(phantom: Phantom) -> None:
    tracker = Tracker(phantom.registrar)
    with pytest.raises(InputError, match="no start pose was given"):
        tracker.track([phantom.view(orbit(0))], 0.0)
    with pytest.raises(InputError, match="no views"):
        tracker.track([], 0.0, orbit(0))
    behind = np.eye(4)
    with pytest.raises(InputError, match="behind the X-ray source"):
        tracker.track([phantom.view(orbit(0))], 0.0, behind)
    for make, wrong in (
        (TrackerConfig, {"max_gap_s": 0.0}),
        (QuickConfig, {"coarsest_mm": 0.0}),
        (QuickConfig, {"finest_mm": 0.0}),
        (QuickConfig, {"last_iterations": 0}),
        (QuickConfig, {"max_innovation_mm": 0.0}),
    ):
        with pytest.raises(InputError, match="expected"):
            make(**wrong)  # type: ignore[operator]
