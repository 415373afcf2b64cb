"""Registration end to end: a real CT, realistic X-rays, default settings, the real solver."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, to_lps
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.volume import CTVolume, load_ct
from xray_registration.registration import (
    Level,
    Reason,
    Registrar,
    RegistrationConfig,
    RegistrationResult,
    SpreadConfig,
    Termination,
    View,
)
from xray_registration.rendering.xray_model import DisplayConfig

# two coarse levels and one attempt: for what does not depend on accuracy
QUICK = RegistrationConfig(
    levels=(
        Level(pixel_mm=6.0, spacing_mm=5.0, max_iterations=12),
        Level(pixel_mm=3.5, spacing_mm=3.5, max_iterations=8),
    ),
    spread=SpreadConfig(count=0),
)


@pytest.fixture(scope="module")
def quick(thorax: Any) -> Registrar:
    return Registrar(thorax.ct, QUICK)


def flat_radiograph(camera: Camera, value: float) -> Radiograph:
    """A picture of one value, as no loader would let it pass."""
    shape = (camera.height, camera.width)
    return Radiograph(np.full(shape, value, np.float32), np.ones(shape, bool), "attenuation")


def refused(result: RegistrationResult) -> bool:
    """Not accepted, and with a reason and words that say so."""
    return not result.accepted and result.reason is not Reason.ACCEPTED and bool(result.reason_text)


@pytest.mark.parametrize(("name", "seed"), [("ap", 0), ("ap", 1), ("lateral", 2)])
def test_comes_back_from_15_mm_and_8_degrees(thorax: Any, name: str, seed: int) -> None:
    truth = thorax.pose(name)
    start = thorax.start(truth, seed=seed)
    assert thorax.error_mm(start, truth) > 12
    result = thorax.registrar.register([thorax.view(name)], start)
    assert thorax.error_mm(result.rig_from_ct, truth) < 0.5
    assert result.accepted, result.reason_text
    assert result.reason is Reason.ACCEPTED
    assert result.similarity > 0.9 > result.start_similarity
    assert result.view_similarities == (pytest.approx(result.similarity),)
    assert result.seconds > 0
    assert result.device == "cpu"


def test_two_views_share_one_pose_of_the_rig(thorax: Any) -> None:
    """In a rig whose axes are those of neither camera."""
    rig_from_ct = thorax.start(thorax.pose("ap"), 300.0, 70.0, seed=9)
    views = [
        replace(thorax.view(name), camera_from_rig=thorax.pose(name) @ np.linalg.inv(rig_from_ct))
        for name in ("ap", "lateral")
    ]
    start = thorax.start(rig_from_ct, seed=4)
    both = thorax.registrar.register(views, start)
    assert both.accepted, both.reason_text
    assert thorax.error_mm(both.rig_from_ct, rig_from_ct) < 0.25
    assert len(both.view_similarities) == 2
    assert both.similarity == pytest.approx(np.mean(both.view_similarities))

    one = thorax.registrar.register(views[:1], start)
    depth_axis = views[0].camera_from_rig[2, :3]

    def depth_sigma(result: RegistrationResult) -> float:
        return float(np.sqrt(depth_axis @ result.covariance[:3, :3] @ depth_axis))

    # one view leaves the depth least known; a second one from the side sees it
    in_plane = np.sqrt(views[0].camera_from_rig[0, :3] @ one.covariance[:3, :3]
                       @ views[0].camera_from_rig[0, :3])  # fmt: skip
    assert depth_sigma(one) > 3 * in_plane
    assert depth_sigma(both) < depth_sigma(one) / 3


def test_of_several_starts_the_right_one_wins(thorax: Any, quick: Registrar) -> None:
    truth = thorax.pose("ap")
    far = [thorax.start(truth, 80.0, 25.0, seed) for seed in (1, 2)]
    starts = np.stack([far[0], thorax.start(truth, 10.0, 5.0), far[1]])
    result = quick.register([thorax.view()], starts)
    assert thorax.error_mm(result.rig_from_ct, truth) < 2.0
    assert result.rig_from_ct.shape == (4, 4)
    alone = quick.register([thorax.view()], starts[1])
    assert thorax.error_mm(result.rig_from_ct, alone.rig_from_ct) < 0.1
    assert result.iterations > alone.iterations


def test_one_level_takes_several_starts_too(thorax: Any) -> None:
    truth = thorax.pose("ap")
    single = Registrar(thorax.ct, QUICK.with_levels(QUICK.levels[0]))
    starts = np.stack([thorax.start(truth, 70.0, 20.0, 1), thorax.start(truth, 8.0, 4.0)])
    result = single.register([thorax.view()], starts)
    assert thorax.error_mm(result.rig_from_ct, truth) < 4.0
    assert np.isfinite(result.covariance).all()


@pytest.mark.parametrize(("mm", "deg"), [(0.0, 0.0), (0.3, 0.1), (40.0, 20.0), (90.0, 40.0)])
def test_never_worse_than_the_start(thorax: Any, quick: Registrar, mm: float, deg: float) -> None:
    result = quick.register([thorax.view()], thorax.start(thorax.pose("ap"), mm, deg, seed=3))
    assert result.similarity >= result.start_similarity
    assert np.isfinite(result.rig_from_ct).all()


def test_the_optimum_as_a_start_is_accepted(thorax: Any) -> None:
    """A C-arm at rest: the pose of the frame before is the best there is."""
    first = thorax.registrar.register([thorax.view()], thorax.start(thorax.pose("ap")))
    again = thorax.registrar.register([thorax.view()], first.rig_from_ct)
    assert again.accepted, again.reason_text
    assert thorax.error_mm(again.rig_from_ct, first.rig_from_ct) < 0.1


def test_a_second_attempt_finds_what_the_first_missed(thorax: Any) -> None:
    """From 50 mm and 25 degrees; this start leads a single attempt to a wrong pose."""
    truth = thorax.pose("ap")
    start = thorax.start(truth, 50.0, 25.0, seed=1)
    once = Registrar(thorax.ct, RegistrationConfig(spread=SpreadConfig(count=0)))
    first = once.register([thorax.view()], start)
    assert refused(first)
    assert thorax.error_mm(first.rig_from_ct, truth) > 10
    both = thorax.registrar.register([thorax.view()], start)
    assert both.accepted, both.reason_text
    assert thorax.error_mm(both.rig_from_ct, truth) < 0.5
    assert both.iterations > first.iterations


def test_an_unknown_display_window_does_not_matter(thorax: Any) -> None:
    """8 bits, a gamma and an S curve that the receiver does not know, either polarity."""
    truth = thorax.pose("ap")
    model = thorax.model.with_config(replace(thorax.model.config, display=DisplayConfig()))
    picture = model.render(truth, thorax.camera, seed=7)
    view = View(picture.to_radiograph(), thorax.camera)
    result = thorax.registrar.register([view], thorax.start(truth, seed=5))
    assert result.accepted, result.reason_text
    assert thorax.error_mm(result.rig_from_ct, truth) < 1.0


def test_what_is_masked_changes_nothing(thorax: Any, quick: Registrar) -> None:
    truth, picture = thorax.pose("ap"), thorax.radiograph("ap")
    mask = np.ones_like(picture.mask)
    mask[:, :90] = False
    mask[150:165] = False
    results = []
    for filler in (0.0, 1e3):
        spoiled = np.where(mask, picture.attenuation, np.float32(filler))
        view = View(Radiograph(spoiled, mask, "attenuation"), thorax.camera)
        results.append(quick.register([view], thorax.start(truth, 10.0, 5.0)))
    assert np.array_equal(results[0].rig_from_ct, results[1].rig_from_ct)
    assert results[0].similarity == results[1].similarity
    assert thorax.error_mm(results[0].rig_from_ct, truth) < 2.0


def test_a_ct_that_ends_inside_the_picture(thorax: Any) -> None:
    """The picture shows more patient than the CT holds; here 17 cm of 33."""
    truth = thorax.pose("ap")
    affine = thorax.ct.lps_from_index.copy()
    affine[:3, 3] = thorax.ct.lps_of_index((0, 0, 35))
    part = CTVolume(thorax.ct.hu[35:103], affine)
    registrar = Registrar(part, isocentre_lps_mm=thorax.centre)
    result = registrar.register([thorax.view()], thorax.start(truth, seed=6))
    assert result.accepted, result.reason_text
    assert thorax.error_mm(result.rig_from_ct, truth) < 1.0


def test_noise_is_refused(thorax: Any, quick: Registrar) -> None:
    raw = np.random.default_rng(1).integers(1000, 60000, (384, 384)).astype(np.uint16)
    view = View(make_radiograph(raw, "intensity", i0=60000.0), thorax.camera)
    result = quick.register([view], thorax.start(thorax.pose("ap")))
    assert result.reason is Reason.LOW_SIMILARITY
    assert refused(result)


def test_a_blank_picture_is_refused(thorax: Any, quick: Registrar) -> None:
    result = quick.register([View(flat_radiograph(thorax.camera, 2.0), thorax.camera)],
                            thorax.start(thorax.pose("ap")))  # fmt: skip
    assert refused(result)
    assert abs(result.similarity) < 0.1
    assert np.isfinite(result.rig_from_ct).all()


def test_one_blank_view_of_two_is_refused_and_named(thorax: Any, quick: Registrar) -> None:
    blank = View(flat_radiograph(thorax.camera, 2.0), thorax.camera)
    result = quick.register([thorax.view(), blank], thorax.start(thorax.pose("ap"), 3.0, 1.0))
    assert result.reason is Reason.LOW_SIMILARITY
    assert "view 1" in result.reason_text


@pytest.mark.parametrize("turned", ["mirrored", "upside down"])
def test_a_picture_put_in_the_wrong_way_is_refused(
    thorax: Any, quick: Registrar, turned: str
) -> None:
    picture = thorax.radiograph("ap")
    wrong = picture.flipped_horizontally() if turned == "mirrored" else picture.rotated_90(2)
    result = quick.register([View(wrong, thorax.camera)], thorax.start(thorax.pose("ap"), 5.0, 3.0))
    assert refused(result), f"similarity {result.similarity:.3f}"


@pytest.mark.parametrize(
    "name", ["head_invesalius_cranium.nii.gz", "pelvis_totalsegmentator_3mm.nii.gz"]
)
def test_another_patients_ct_is_refused(thorax: Any, shared_data: Path, name: str) -> None:
    other = Registrar(load_ct(shared_data / "ct" / name))
    # put where the thorax is
    start = thorax.pose("ap").copy()
    start[:3, 3] += start[:3, :3] @ (thorax.centre - other.isocentre_lps_mm)
    result = other.register([thorax.view()], start)
    assert refused(result), f"similarity {result.similarity:.3f}"


def test_the_mirror_image_of_the_patient_is_refused(thorax: Any) -> None:
    """As like as another patient's thorax can be."""
    mirrored = CTVolume(thorax.ct.hu[:, :, ::-1], thorax.ct.lps_from_index)
    registrar = Registrar(mirrored, RegistrationConfig(spread=SpreadConfig(count=0)))
    result = registrar.register([thorax.view()], thorax.start(thorax.pose("ap"), 5.0, 3.0))
    assert refused(result), f"similarity {result.similarity:.3f}"


def test_does_the_same_twice(thorax: Any) -> None:
    start = thorax.start(thorax.pose("ap"), seed=8)
    results = [thorax.registrar.register([thorax.view()], start) for _ in range(2)]
    first, second = (replace(result, seconds=0.0).to_dict() for result in results)
    assert first == second


@pytest.mark.parametrize("ct_axes", ["lps", "ras"])
def test_the_result_file_gives_the_pose_back(
    thorax: Any, quick: Registrar, tmp_path: Path, ct_axes: str
) -> None:
    result = quick.register([thorax.view()], thorax.start(thorax.pose("ap"), 5.0, 2.0))
    path = tmp_path / "RESULT.json"
    result.write_json(path, ct_axes, thorax.ct)
    content = json.loads(path.read_text())
    pose = to_lps(np.array(content["rig_from_ct"]), content["ct_axes"])
    np.testing.assert_allclose(pose, result.rig_from_ct, atol=1e-12)
    assert content["ct"]["sha256"] == thorax.ct.sha256
    assert content["termination"] in {why.value for why in Termination}
    assert content["reason"] == result.reason.value


def test_what_it_returns_belongs_to_the_caller(thorax: Any, quick: Registrar) -> None:
    start = thorax.start(thorax.pose("ap"), 5.0, 2.0)
    kept = start.copy()
    result = quick.register([thorax.view()], start)
    assert np.array_equal(start, kept)
    result.isocentre_lps_mm[:] = 0
    assert not np.array_equal(quick.isocentre_lps_mm, np.zeros(3))


def shifted(pose: np.ndarray, by: tuple[float, float, float]) -> np.ndarray:
    result = pose.copy()
    result[:3, 3] += by
    return result


def test_a_ct_outside_the_picture_is_bad_input(thorax: Any, quick: Registrar) -> None:
    start = shifted(thorax.pose("ap"), (900.0, 0.0, 0.0))
    message = r"ap picture: .* lies wholly outside the view: .* of a 384x384 image; check .*ct_axes"
    with pytest.raises(InputError, match=message):
        quick.register([thorax.view()], start)


def test_a_ct_behind_the_source_is_bad_input(thorax: Any, quick: Registrar) -> None:
    for start in (
        shifted(thorax.pose("ap"), (0, 0, -700)),
        shifted(thorax.pose("ap"), (0, 0, -2e3)),
    ):
        with pytest.raises(InputError, match=r"ap picture: .* behind the X-ray source .*mm"):
            quick.register([thorax.view()], start)


def test_the_inverse_pose_is_bad_input(thorax: Any, quick: Registrar) -> None:
    """The commonest mistake: ct_from_camera. The message says what to look at."""
    with pytest.raises(InputError, match="check the pose's direction"):
        quick.register([thorax.view()], np.linalg.inv(thorax.pose("ap")))


def test_metres_are_bad_input(thorax: Any, quick: Registrar) -> None:
    start = thorax.pose("ap").copy()
    start[:3, 3] /= 1000
    with pytest.raises(InputError, match=r"units \(mm\)"):
        quick.register([thorax.view()], start)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p @ np.diag([-1.0, 1, 1, 1]), "mirrored"),
        (lambda p: np.where(np.eye(4) > 0, np.nan, p), "all must be finite"),
        (lambda p: p[:3], "shape"),
        (lambda p: p.T, "transposed"),
        (lambda p: p * 1.5, "last row"),
        (lambda p: np.zeros((0, 4, 4)), r"expected \(4, 4\) or \(S, 4, 4\)"),
        (lambda p: p[None, None], r"expected \(4, 4\) or \(S, 4, 4\)"),
        (lambda p: "here", "rig_from_ct_start"),
        (lambda p: np.stack([p, p @ np.diag([1.0, 1, -1, 1])]), r"rig_from_ct_start\[1\]: .*mirr"),
    ],
)
def test_a_start_that_is_no_pose_is_bad_input(
    thorax: Any, quick: Registrar, change: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quick.register([thorax.view()], change(thorax.pose("ap")))


def test_no_views_are_bad_input(thorax: Any, quick: Registrar) -> None:
    with pytest.raises(InputError, match="no views were given"):
        quick.register([], thorax.pose("ap"))


def test_a_picture_of_another_size_than_its_camera_is_bad_input(thorax: Any) -> None:
    with pytest.raises(InputError, match="the image is 384x384 pixels, its camera is for 383x384"):
        View(thorax.radiograph("ap"), thorax.camera.cropped(0, 0, 383, 384))


def test_a_rig_that_is_not_rigid_is_bad_input(thorax: Any) -> None:
    with pytest.raises(InputError, match=r"ap picture: camera_from_rig: .*mirrored"):
        replace(thorax.view(), camera_from_rig=np.diag([1.0, 1, -1, 1]))


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_bad_input(thorax: Any, device: str) -> None:
    with pytest.raises(InputError, match=r"device is .*'cpu'"):
        Registrar(thorax.ct, QUICK, device=device)


def test_a_ct_of_nothing_but_air_is_bad_input() -> None:
    air = CTVolume(np.full((20, 20, 20), -1000, np.int16), np.eye(4))
    with pytest.raises(InputError, match="Hounsfield"):
        Registrar(air, QUICK)
