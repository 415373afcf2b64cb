"""The objective: its Jacobian with respect to the rig's pose, and which pixels count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.geometry import Camera, PositionerPose, camera_from_positioner, se3
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.detected import IDEAL_BEAM, BeamConfig, detected
from xray_registration.registration.objective import Objective, cut_faces, ends_of, level_width
from xray_registration.registration.view import View
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.similarity import GradientResidual, WeightedGradientResidual

SDD_MM, SOD_MM = 1000.0, 700.0
SPACING_MM = 4.0
ISOCENTRE = np.array([5.0, -8.0, 3.0])
CAMERA = Camera.from_detector(48, 40, 6.0, SDD_MM)
WATER_PER_MM = 0.02


def smooth_phantom(seed: int = 3) -> AttenuationVolume:
    """Blobs that end well inside the grid; smooth, so that finite differences mean something."""
    axis = torch.arange(-20, 21, dtype=torch.float64) * SPACING_MM
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    mu = torch.zeros_like(x)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(14):
        cx, cy, cz, width = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        distance = (x - 35 * cx) ** 2 + (y - 35 * cy) ** 2 + (z - 35 * cz) ** 2
        mu += torch.exp(-distance / (2 * (11 + 3 * width) ** 2)) * WATER_PER_MM
    mu[mu < 1e-7] = 0
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = -20 * SPACING_MM
    return AttenuationVolume(mu, affine)


def box_ct(tissue: Sequence[slice], shape: tuple[int, int, int] = (30, 32, 34)) -> CTVolume:
    hu = np.full(shape, -1000, np.int16)
    hu[tuple(tissue)] = 40
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = -0.5 * SPACING_MM * np.array(shape[::-1])
    return CTVolume(hu, affine)


def pose_at(primary_deg: float, secondary_deg: float = 0.0) -> NDArray[np.float64]:
    where = PositionerPose(primary_deg, secondary_deg, SOD_MM, (0.0, 0.0, 0.0))
    return camera_from_positioner(where)


def views_of(
    projector: JosephProjector,
    rig_from_ct: NDArray[np.float64],
    cameras_from_rig: Sequence[NDArray[np.float64]],
) -> list[View]:
    views = []
    for camera_from_rig in cameras_from_rig:
        pose = torch.from_numpy(camera_from_rig @ rig_from_ct)[None]
        picture = projector.image(pose, CAMERA)[0].numpy()
        radiograph = Radiograph(picture, np.ones(picture.shape, bool), "attenuation")
        views.append(View(radiograph, CAMERA, camera_from_rig))
    return views


def objective_of(
    views: Sequence[View],
    projector: JosephProjector,
    starts: Tensor,
    cut: AttenuationVolume | None = None,
    margin_mm: float = 16.0,
    residual: GradientResidual | WeightedGradientResidual | None = None,
    background: JosephProjector | None = None,
    beam: BeamConfig = IDEAL_BEAM,
) -> Objective:
    volume = projector.volume
    ends = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = ends * volume.shape_ijk - 0.5
    corners = corners @ volume.lps_from_index[:3, :3].T + volume.lps_from_index[:3, 3]
    return Objective(
        views,
        projector,
        None if cut is None else JosephProjector(cut),
        corners,
        # a window so wide that no picture here is cropped to what the CT can reach
        residual or GradientResidual(window_px=4.0),
        pixel_mm=6.0 * SOD_MM / SDD_MM,
        starts=starts,
        margin_mm=margin_mm,
        background=background,
        beam=beam,
    )


@pytest.fixture(scope="module", params=["everywhere alike", "weighted", "weighted, real beam"])
def biplane(request: pytest.FixtureRequest) -> tuple[Objective, Tensor]:
    """Two views a quarter turn apart in a rig whose axes are nobody's, and two starts; the whole
    patient, or bones before a background.
    """
    projector = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    first_from_rig = se3.se3_exp(torch.tensor([40.0, -25.0, 60.0, 0.3, -0.6, 0.2]).double())
    rig_from_ct = se3.inverse(first_from_rig).numpy() @ pose_at(5, 3)
    second_from_rig = pose_at(95, -4) @ np.linalg.inv(rig_from_ct)
    views = views_of(projector, rig_from_ct, [first_from_rig.numpy(), second_from_rig])
    xi = torch.tensor([[6.0, -3.0, 8.0, 0.05, -0.04, 0.08], [-4.0, 2.0, 5.0, -0.1, 0.03, 0.0]])
    truth = torch.from_numpy(rig_from_ct).expand(2, 4, 4)
    starts = se3.left_increment(truth, xi.double(), torch.from_numpy(ISOCENTRE))
    if request.param == "everywhere alike":
        return objective_of(views, projector, starts), starts
    residual = WeightedGradientResidual(window_px=4.0, gain_px=8.0, tile_px=8)
    background = JosephProjector(smooth_phantom(seed=4), ISOCENTRE, backend="torch")
    beam = BeamConfig(0.6, 0.1) if request.param.endswith("beam") else IDEAL_BEAM
    objective = objective_of(
        views, projector, starts, residual=residual, background=background, beam=beam
    )
    return objective, starts


def test_jacobian_is_that_of_the_rigs_pose(biplane: tuple[Objective, Tensor]) -> None:
    objective, starts = biplane
    places, centre = torch.arange(2), torch.from_numpy(ISOCENTRE)
    residual, jacobian, weight = objective(starts, places)
    assert residual.shape == weight.shape == (2, residual.shape[1])
    assert jacobian.shape == (2, 6, residual.shape[1])
    assert residual.shape[1] > 2 * 2 * 500  # two views, two derivatives
    for column, step in enumerate([0.02] * 3 + [2e-4] * 3):
        xi = torch.zeros(2, 6, dtype=torch.float64)
        xi[:, column] = step
        ahead, _, _ = objective(se3.left_increment(starts, xi, centre), places)
        behind, _, _ = objective(se3.left_increment(starts, -xi, centre), places)
        expected = (ahead - behind) / (2 * step) * weight
        error = (jacobian[:, column] * weight - expected).norm() / expected.norm()
        assert float(error) < 4e-3, f"column {column}"


def test_places_pick_the_starts_own_pixels(biplane: tuple[Objective, Tensor]) -> None:
    objective, starts = biplane
    both = objective(starts, torch.arange(2))
    second = objective(starts[1:], torch.tensor([1]))
    for whole, part in zip(both, second, strict=True):
        torch.testing.assert_close(whole[1:], part)
    correlations = objective.correlations(starts, torch.arange(2))
    assert correlations.shape == (2, 2)
    torch.testing.assert_close(
        correlations[1:], objective.correlations(starts[1:], torch.tensor([1]))
    )


def test_bones_before_a_background_are_flattened_as_the_beam_flattens_the_patient() -> None:
    bones = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    background = JosephProjector(smooth_phantom(seed=4), ISOCENTRE, backend="torch")
    pose, beam = torch.from_numpy(pose_at(5, 3))[None], BeamConfig(0.9, 0.3)
    lines = bones.image(pose, CAMERA) + background.image(pose, CAMERA)
    picture = detected(lines, beam)[0].numpy()
    radiograph = Radiograph(picture, np.ones(picture.shape, bool), "attenuation")
    view = View(radiograph, CAMERA, np.eye(4))
    residual = WeightedGradientResidual(window_px=4.0, gain_px=8.0, tile_px=8)
    rms = []
    for given in (beam, IDEAL_BEAM):
        objective = objective_of(
            [view], bones, pose, residual=residual, background=background, beam=given
        )
        off, _, weight = objective(pose, torch.arange(1))
        rms.append(float((off * weight).square().mean().sqrt()))
    assert rms[0] < 0.3 * rms[1]


def test_the_true_pose_has_no_residual_and_full_correlation() -> None:
    projector = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    pose = pose_at(20)
    views = views_of(projector, pose, [np.eye(4)])
    truth = torch.from_numpy(pose)[None]
    objective = objective_of(views, projector, truth)
    residual, _, weight = objective(truth, torch.arange(1))
    assert float((weight * residual).abs().max()) < 1e-5  # the radiograph is float32
    assert float(objective.correlations(truth, torch.arange(1))) == pytest.approx(1.0, abs=1e-9)


def _weights(objective: Objective) -> NDArray[np.bool_]:
    """(H, W) of the only view and start, of the whole picture."""
    (view,) = objective._views
    return (view.weight[0] > 0).numpy()


@pytest.fixture(scope="module")
def cut_body() -> tuple[CTVolume, AttenuationVolume]:
    """A body that the scan cut at both ends of the long axis and nowhere else."""
    ct = box_ct((slice(None), slice(8, 24), slice(8, 26)))
    return ct, AttenuationVolume.from_ct(ct)


def test_cut_faces_are_where_the_scan_ended(cut_body: tuple[CTVolume, AttenuationVolume]) -> None:
    ct, volume = cut_body
    assert volume.shape_ijk == (18, 16, 30)  # cropped to the body
    ends = ends_of(ct, volume)
    assert ends.tolist() == [[False, False], [False, False], [True, True]]
    faces = cut_faces(volume, ends)
    assert faces is not None
    plate = faces.mu_per_mm > 0
    assert bool(plate[0].any())
    assert bool(plate[-1].any())
    assert not bool(plate[1:-1].any())
    # without knowing better, the crop's own sides look like cuts
    everywhere = cut_faces(volume)
    assert everywhere is not None
    assert bool((everywhere.mu_per_mm[5:-5] > 0).any())


def test_a_whole_body_is_not_cut() -> None:
    ct = box_ct((slice(6, 20), slice(8, 24), slice(8, 26)))
    volume = AttenuationVolume.from_ct(ct)
    assert not ends_of(ct, volume).any()
    assert cut_faces(volume, ends_of(ct, volume)) is None


def test_a_touch_is_not_a_cut() -> None:
    """A limb of one voxel at the border; what is cut is as wide as a few."""
    ct = box_ct((slice(6, 20), slice(8, 24), slice(8, 26)))
    hu = ct.hu.copy()
    hu[:7, 16:18, 16:18] = 40
    touching = CTVolume(hu, ct.lps_from_index)
    volume = AttenuationVolume.from_ct(touching)
    assert ends_of(touching, volume)[2].tolist() == [True, False]
    assert cut_faces(volume, ends_of(touching, volume)) is None


def test_oblique_grids_know_their_ends_too() -> None:
    turned = se3.se3_exp(torch.tensor([9.0, 1.0, -4.0, 0.5, 0.2, -0.7]).double()).numpy()
    ct = box_ct((slice(0, 20), slice(8, 24), slice(8, 34)))
    ct = CTVolume(ct.hu, turned @ ct.lps_from_index)
    ends = ends_of(ct, AttenuationVolume.from_ct(ct))
    assert ends.tolist() == [[False, True], [False, False], [True, False]]


def test_rays_through_or_beyond_a_cut_do_not_count(
    cut_body: tuple[CTVolume, AttenuationVolume],
) -> None:
    ct, volume = cut_body
    cut = cut_faces(volume, ends_of(ct, volume))
    assert cut is not None
    projector = JosephProjector(volume, backend="torch")
    pose = pose_at(0)
    truth = torch.from_numpy(pose)[None]
    views = views_of(projector, pose, [np.eye(4)])
    counted = _weights(objective_of(views, projector, truth, cut))
    everything = _weights(objective_of(views, projector, truth))
    shadow = views[0].radiograph.attenuation > 0
    passed = JosephProjector(cut).image(truth, CAMERA)[0].numpy() > 0
    assert counted.shape == shadow.shape
    assert passed.any()
    assert not counted[passed].any()
    # head and feet are up and down: above and below the shadow is patient that the CT has not
    rows = np.flatnonzero(shadow.any(axis=1))
    assert everything[rows[0] - 2].any()
    assert not counted[: rows[0]].any()
    assert not counted[rows[-1] + 1 :].any()
    # beside it there is air, which does count, up to the margin of 4 pixels
    middle = (rows[0] + rows[-1]) // 2
    columns = np.flatnonzero(shadow[middle])
    assert counted[middle, columns[0] - 4 : columns[-1] + 5].all()
    assert not counted[middle, : columns[0] - 4].any()


def test_masked_pixels_do_not_count() -> None:
    projector = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    pose = pose_at(20)
    (view,) = views_of(projector, pose, [np.eye(4)])
    mask = np.ones(view.radiograph.mask.shape, bool)
    mask[:, :22] = False
    masked = View(Radiograph(view.radiograph.attenuation, mask, "attenuation"), CAMERA)
    truth = torch.from_numpy(pose)[None]
    counted = _weights(objective_of([masked], projector, truth))
    assert counted.any()
    # the mask and the two pixels that its edge reaches; the picture is cropped there, not beyond
    assert not counted[:, : 24 - mask.shape[1]].any()


def test_a_wide_frame_of_masked_pixels_changes_nothing_but_the_time() -> None:
    """What lies beyond the blades is neither rendered nor compared."""
    projector = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    start = torch.from_numpy(pose_at(3))[None]
    (view,) = views_of(projector, pose_at(0), [np.eye(4)])
    frame = 40
    mask = np.pad(view.radiograph.mask, frame)
    picture = np.pad(view.radiograph.attenuation, frame, constant_values=9.0)
    wide = View(Radiograph(picture, mask, "attenuation"), CAMERA.widened(frame, frame))
    objectives = [objective_of([one], projector, start) for one in (view, wide)]
    (_, height, width), (_, wide_height, wide_width) = (each.shapes[0] for each in objectives)
    assert wide_height <= height + 2 * 8
    assert wide_width <= width + 2 * 8
    normals = []
    for objective in objectives:
        r, jacobian, weight = (
            x.double() for x in objective(start, torch.zeros(1, dtype=torch.long))
        )
        normals.append((jacobian[0] * weight) @ torch.cat((jacobian[0], r)).T)
    # smoothing ends at the border of the one and at the mask of the other
    assert (normals[1] - normals[0]).norm() < 0.02 * normals[0].norm()


def test_overlap_of_a_small_bone_and_of_a_close_up_is_whole() -> None:
    projector = JosephProjector(smooth_phantom(), ISOCENTRE, backend="torch")
    truth = torch.from_numpy(pose_at(0))[None]
    away = truth.clone()
    away[:, 0, 3] += 130.0
    starts = torch.cat((truth, away))

    def overlaps(camera: Camera) -> list[float]:
        picture = np.ones((camera.height, camera.width), np.float32)
        view = View(Radiograph(picture, picture > 0, "attenuation"), camera)
        return objective_of([view], projector, starts).overlaps[:, 0].tolist()

    whole, shifted = overlaps(Camera.from_detector(128, 128, 6.0, SDD_MM))
    assert whole == pytest.approx(1.0, abs=0.01)
    close_up, partly = overlaps(Camera.from_detector(48, 48, 1.0, SDD_MM))
    assert close_up == pytest.approx(1.0, abs=0.01)
    assert shifted > 0.9  # still inside the wide picture
    assert partly < 0.1


def test_level_width_gives_the_pixel_its_size_at_the_isocentre() -> None:
    camera = Camera.from_detector(1024, 1024, 0.3, SDD_MM)
    assert level_width(camera, SOD_MM, 2.1) == 102
    assert level_width(camera, SOD_MM, 0.01) == 1024  # never more than there are
    assert level_width(camera, SOD_MM, 1000.0) == 16
