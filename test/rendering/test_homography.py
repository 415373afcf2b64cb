"""Re-sampling a picture for a camera that is turned about its focal spot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from xray_registration.errors import InputError
from xray_registration.geometry import Camera, so3_exp
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.rendering.homography import covering_camera, resample_turned, turned_pose

CAMERAS = [
    Camera.from_detector(48, 40, 5.0, 1020.0),
    Camera(np.array([[190.0, 6.0, 30.0], [0, 230.0, 12.0], [0, 0, 1]]), 48, 40),
    Camera(np.array([[260.0, 0.0, 5.0], [0, 260.0, 25.0], [0, 0, 1]]), 48, 40),
]
TURNS = torch.tensor(
    [[0.03, -0.02, 0.4], [-0.05, 0.04, -2.5], [0.02, 0.06, 0.1]], dtype=torch.float64
)


@pytest.fixture
def rotations() -> torch.Tensor:
    return so3_exp(TURNS)


@pytest.fixture(scope="module")
def volume(example_ct) -> AttenuationVolume:  # type: ignore[no-untyped-def]
    return AttenuationVolume.from_ct(example_ct, spacing_mm=3.0)


@pytest.mark.parametrize(
    ("interpolation", "scale", "tolerance"),
    [("bilinear", 1.0, 0.01), ("bicubic", 1.0, 0.006), ("bicubic", 2.0, 0.003)],
)
def test_equals_rendering_again(
    interpolation, scale, tolerance, volume, looking_at, rotations
) -> None:
    """One wide picture of the real CT becomes three of other cameras, tilts and rolls."""
    projector = JosephProjector(volume)
    pose = looking_at(volume.centre_lps_mm, 700.0, (0.1, 0.2, 0.0))[None]
    axes = projector.sampling_axes(pose)
    wide = covering_camera(CAMERAS, rotations, scale)
    picture = projector.image(pose, wide, axes)
    images, inside = resample_turned(
        picture, wide, CAMERAS, rotations, [0, 0, 0], interpolation=interpolation
    )
    assert images.shape == (3, 40, 48)
    assert inside.all()
    for image, camera, rotation in zip(images, CAMERAS, rotations, strict=True):
        again = projector.image(turned_pose(rotation[None], pose), camera, axes)[0]
        assert (image - again).norm() < tolerance * again.norm()
        middle = slice(4, -4)
        offset = (image - again)[middle, middle].mean()
        assert offset.abs() < 1e-3 * again.mean()


def test_exact_where_pixels_fall_on_pixels(volume, looking_at) -> None:
    """A half turn about the axis and a shift by whole pixels read the very rays rendered before."""
    projector = JosephProjector(volume, backend="torch")
    pose = looking_at(volume.centre_lps_mm, 700.0, (0.1, 0.2, 0.0))[None]
    camera = Camera.from_detector(41, 31, 7.0, 1020.0)
    picture = projector.image(pose, camera)
    half_turn = so3_exp(torch.tensor([[0.0, 0.0, np.pi]], dtype=torch.float64))
    part = camera.cropped(5, 3, 20, 10)
    images, inside = resample_turned(picture, camera, part, half_turn, interpolation="bilinear")
    again = projector.image(turned_pose(half_turn, pose), part)
    assert inside.all()
    assert torch.allclose(images, again, rtol=1e-4, atol=1e-4)
    assert torch.allclose(images, picture.flip(1, 2)[:, 3:13, 5:25], rtol=1e-4, atol=1e-4)


def test_identity_and_outside() -> None:
    camera = Camera.from_detector(12, 9, 1.0, 100.0)
    picture = torch.rand(2, 9, 12)
    still = torch.eye(3)[None].expand(2, 3, 3)
    for interpolation in ("bilinear", "bicubic"):
        images, inside = resample_turned(
            picture, camera, camera, still, interpolation=interpolation
        )
        assert torch.allclose(images, picture, atol=1e-5)
        assert inside.all()
    wider = Camera.from_detector(16, 9, 1.0, 100.0)
    images, inside = resample_turned(picture, camera, wider, still)
    assert torch.equal(inside.sum((1, 2)), torch.tensor([108, 108]))
    assert not images[~inside].any()
    backwards = so3_exp(torch.tensor([[0.0, np.pi, 0.0]], dtype=torch.float64))
    images, inside = resample_turned(picture, camera, camera, backwards, [1])
    assert not inside.any()
    assert not images.any()


def test_gradient_to_the_picture(rotations) -> None:
    camera = CAMERAS[0]
    picture = torch.rand(2, 40, 48, dtype=torch.float64, requires_grad=True)
    small = Camera.from_detector(4, 3, 30.0, 1020.0)

    def resample(p: torch.Tensor) -> torch.Tensor:
        return resample_turned(p, camera, small, rotations, [1, 0, 1])[0]

    assert gradcheck(resample, (picture,), fast_mode=True)


def test_turned_pose_moves_points_with_the_camera(looking_at, rotations) -> None:
    pose = looking_at((1, 2, 3), 700.0, (0.1, 0.2, 0.3))
    point = torch.tensor([10.0, -20.0, 30.0, 1.0], dtype=torch.float64)
    turned = turned_pose(rotations, pose.expand(3, 4, 4))
    expected = (rotations @ (pose @ point)[:3, None])[..., 0]
    assert torch.allclose((turned @ point)[:, :3], expected)
    assert torch.equal(turned[:, 3], pose[3].expand(3, 4))


def test_bad_input(rotations) -> None:
    camera = CAMERAS[0]
    picture = torch.rand(3, 40, 48)
    with pytest.raises(InputError, match="of the camera"):
        resample_turned(picture[:, :-1], camera, camera, rotations)
    with pytest.raises(InputError, match="say which"):
        resample_turned(picture[:2], camera, camera, rotations)
    with pytest.raises(InputError, match="one camera per rotation"):
        resample_turned(picture, camera, CAMERAS[:2], rotations)
    with pytest.raises(InputError, match="not a rotation"):
        resample_turned(picture, camera, camera, 1.01 * rotations)
    with pytest.raises(InputError, match="not a rotation"):
        turned_pose(torch.diag(torch.tensor([1.0, 1.0, -1.0]))[None], torch.eye(4)[None])
    with pytest.raises(InputError, match=r"\(N, 3, 3\)"):
        turned_pose(torch.eye(4)[None], torch.eye(4)[None])
    with pytest.raises(InputError, match="interpolation"):
        resample_turned(picture, camera, camera, rotations, interpolation="nearest")  # type: ignore[arg-type]
    sideways = so3_exp(torch.tensor([[0.0, 1.5, 0.0]], dtype=torch.float64))
    with pytest.raises(InputError, match="sideways"):
        covering_camera(camera, sideways)
