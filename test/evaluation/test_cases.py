"""The drawn cases: repeatable, in their bins and ranges, with the right truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation.cases import Case, make_cases
from xray_registration.evaluation.metrics import mtre_mm, rotation_error_deg
from xray_registration.evaluation.protocol import Protocol, load_protocol
from xray_registration.evaluation.protocol_parts import StartSpec
from xray_registration.evaluation.starts import perturbed_to_mtre
from xray_registration.evaluation.targets import TargetSet
from xray_registration.geometry.positioner import positioner_from_camera

VERTEBRAE = tuple(f"vertebrae_T{n}" for n in (7, 8, 9, 10))


def targets() -> TargetSet:
    points = np.random.default_rng(0).normal(size=(40, 3)) * (15, 15, 30) + (5, 86, -170)
    names = tuple(VERTEBRAE[n // 10] for n in range(40))
    return TargetSet(names, points, "made up")


def cases(name: str, quick: bool = False) -> tuple[Protocol, list[Case]]:
    protocol = load_protocol(name)
    centres = {patient: np.array([0.0, 0.0, 50.0]) for patient in protocol.patients()}
    return protocol, make_cases(protocol, targets(), centres, quick)


def test_true_poses_and_starts_are_within_the_protocol() -> None:
    _, found = cases("spine-single")
    assert len(found) == 120
    aim = targets().centre_lps_mm
    for case in found:
        low, high = case.start_bin
        start = mtre_mm(case.rig_from_ct_start, case.rig_from_ct, targets().points_lps_mm)
        assert low <= start <= high
        assert case.start_mtre_mm == pytest.approx(start)
        at = case.rig_from_ct[:3, :3] @ aim + case.rig_from_ct[:3, 3]
        assert np.abs(at[:2]).max() <= 30
        assert abs(at[2] - 700) <= 60
        carm = positioner_from_camera(case.rig_from_ct, at[2])
        assert abs(carm.primary_deg) <= 35 + 1e-6
        assert abs(carm.secondary_deg) <= 20 + 1e-6
        assert abs(carm.roll_deg) <= 10 + 1e-6
    assert {case.start_bin for case in found} == {(0, 5), (5, 10), (10, 20), (20, 40), (40, 80)}
    assert len({case.id for case in found}) == 120


def test_cases_are_repeatable_and_the_quick_ones_are_among_them() -> None:
    _, full = cases("spine-hard-biplane")
    _, again = cases("spine-hard-biplane")
    _, quick = cases("spine-hard-biplane", quick=True)
    by_id = {case.id: case for case in again}
    for case in (*full, *quick):
        twin = by_id[case.id]
        np.testing.assert_array_equal(case.rig_from_ct_start, twin.rig_from_ct_start)
        for a, b in zip(case.shots, twin.shots, strict=True):
            assert (a.seed, a.xray) == (b.seed, b.xray)
            np.testing.assert_array_equal(a.camera_from_patient, b.camera_from_patient)
    assert 0 < len(quick) < len(full)


def test_every_third_hard_case_is_a_display_picture_and_all_variants_occur() -> None:
    protocol, full = cases("spine-hard-single")
    assert sum(case.acquisition == "display" for case in full) * 3 == len(full)
    assert {case.variant.name for case in full} == {v.name for v in protocol.variants}
    _, quick = cases("spine-hard-single", quick=True)
    assert {case.variant.name for case in quick} == {v.name for v in protocol.variants}
    assert {case.acquisition for case in quick} == {"intensity", "display"}


def test_two_views_agree_on_one_rig_pose() -> None:
    _, found = cases("spine-biplane")
    for case in found:
        first, second = case.shots
        np.testing.assert_allclose(first.camera_from_rig, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(
            second.camera_from_rig @ case.rig_from_ct, second.camera_from_patient, atol=1e-9
        )
        beams = first.camera_from_patient[2, :3] @ second.camera_from_patient[2, :3]
        assert abs(np.degrees(np.arccos(beams)) - 90) < 25


def test_blades_are_about_the_anatomy() -> None:
    _, found = cases("spine-hard-single")
    aim = targets().centre_lps_mm
    for case in found:
        shot = case.shots[0]
        blades = shot.xray["collimator"]
        camera = shot.camera
        at = shot.camera_from_patient[:3, :3] @ aim + shot.camera_from_patient[:3, 3]
        middle = (camera.project(at) - (camera.cx, camera.cy)) * camera.pixel_pitch_mm
        assert np.abs(middle - blades["centre_mm"]).max() <= 12


def test_reject_cases() -> None:
    _, found = cases("reject")
    assert len(found) == 504
    by_kind: dict[str, list[Case]] = {}
    for case in found:
        assert case.reject is not None
        by_kind.setdefault(case.reject, []).append(case)
    aim = targets().centre_lps_mm
    for case in by_kind["out_of_view"]:
        shot = case.shots[0]
        pose = shot.camera_from_patient
        seen = shot.camera.project(targets().points_lps_mm @ pose[:3, :3].T + pose[:3, 3])
        outside = (seen < 0).any(1) | (seen > shot.camera.width).any(1)
        assert outside.mean() > 0.95
    for case in by_kind["wrong_sdd"]:
        shot = case.shots[0]
        ratio = shot.given_camera.fx / shot.camera.fx
        assert ratio == pytest.approx(0.8) or ratio == pytest.approx(1.2)
    assert {c.patient for c in by_kind["other_patient"]} == {"head", "pelvis"}
    assert {c.shots[0].effect for c in by_kind["blank"]} == {"open_beam", "constant"}
    assert {c.shots[0].effect for c in by_kind["mirrored"]} == {"mirrored"}
    assert all(c.variant.stretch is not None for c in by_kind["other_patient_warped"])
    # the start is a pose of the registered CT, near where the picture was aimed
    for case in by_kind["other_patient"]:
        pose = case.rig_from_ct_start
        at = pose[:3, :3] @ aim + pose[:3, 3]
        assert abs(at[2] - 700) < 85


def test_a_start_has_exactly_the_wanted_error() -> None:
    truth = np.eye(4)
    truth[2, 3] = 700
    random = np.random.default_rng(2)
    for wanted in (0.1, 7.0, 79.0):
        start = perturbed_to_mtre(truth, targets(), StartSpec(), wanted, random)
        assert mtre_mm(start, truth, targets().points_lps_mm) == pytest.approx(wanted, rel=1e-6)
        assert rotation_error_deg(start, truth) <= 60


def test_an_impossible_start_is_refused() -> None:
    spec = StartSpec(sigma_mm=1e-6, sigma_deg=10, largest_rotation_deg=1)
    with pytest.raises(InputError, match=r"no start of 50\.0 mm"):
        perturbed_to_mtre(np.eye(4), targets(), spec, 50, np.random.default_rng(0))


def test_fixation_needs_vertebrae(make_protocol: Callable[..., Protocol]) -> None:
    protocol = make_protocol(acquisitions=[{"name": "a", "instruments": ["fixation"]}])
    made_up = TargetSet(("bone",), np.zeros((1, 3)), "one bone")
    with pytest.raises(InputError, match="two vertebrae"):
        make_cases(protocol, made_up, {}, True)
