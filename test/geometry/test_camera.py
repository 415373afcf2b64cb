from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera

Array = NDArray[np.float64]


def odd_camera(skew: float = 0.0) -> Camera:
    """Nothing about it is symmetric."""
    k = [[1500.0, skew, 9.3], [0.0, 1100.0, 21.8], [0.0, 0.0, 1.0]]
    return Camera(np.array(k), width=31, height=22, sdd_mm=1020.0)


def pixel_images(camera: Camera) -> Array:
    """Image whose pixel [v, u] holds its own (u, v). (H, W, 2)"""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return np.stack([u, v], -1).astype(np.float64)


def points_on_detector(camera: Camera, pixels: Array, depth: float = 700.0) -> Array:
    """Points (..., 3) in the camera frame seen at ``pixels`` (..., 2): K^-1 [u v 1] depth."""
    homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    return depth * homogeneous @ np.linalg.inv(camera.K).T


def assert_sees(
    camera: Camera, picture: Array, points_from_pixels: Callable[[Array], Array]
) -> None:
    """Each pixel of ``picture`` holds the old pixel (u, v) it shows; ``camera`` must see it."""
    assert picture.shape[:2] == (camera.height, camera.width)
    np.testing.assert_allclose(
        camera.project(points_from_pixels(picture)), pixel_images(camera), atol=1e-9
    )


# --- picture operations --------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [0.0, 40.0])
def test_cropped(skew: float) -> None:
    camera = odd_camera(skew)
    picture = pixel_images(camera)[5:17, 3:27]
    assert_sees(camera.cropped(3, 5, 24, 12), picture, lambda p: points_on_detector(camera, p))


@pytest.mark.parametrize("crop", [(-1, 0, 5, 5), (0, 0, 32, 5), (5, 5, 5, 18), (0, 30, 3, 3)])
def test_crop_must_stay_inside(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match="leaves the image of 31x22"):
        odd_camera().cropped(*crop)


def test_crop_in_whole_pixels_and_not_empty() -> None:
    with pytest.raises(InputError, match=r"x0 is 0\.5"):
        odd_camera().cropped(0.5, 0, 5, 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width is 0"):
        odd_camera().cropped(0, 0, 0, 5)


@pytest.mark.parametrize("skew", [0.0, 40.0])
@pytest.mark.parametrize(("nx", "ny"), [(1, 1), (2, 2), (3, 2), (5, 7)])
def test_binned(nx: int, ny: int, skew: float) -> None:
    camera = odd_camera(skew)
    width, height = camera.width // nx, camera.height // ny
    kept = pixel_images(camera)[: height * ny, : width * nx]
    picture = kept.reshape(height, ny, width, nx, 2).mean((1, 3))
    assert_sees(camera.binned(nx, ny), picture, lambda p: points_on_detector(camera, p))
    assert camera.binned(3) == camera.binned(3, 3)


def test_bin_must_fit() -> None:
    with pytest.raises(InputError, match="23x23 is larger than the image 31x22"):
        odd_camera().binned(23)
    with pytest.raises(InputError, match="binning is 0"):
        odd_camera().binned(0)


@pytest.mark.parametrize("skew", [0.0, 40.0])
@pytest.mark.parametrize("size", [(62, 44), (45, 70), (24, 20)])
def test_resized_is_what_torch_does(size: tuple[int, int], skew: float) -> None:
    camera = odd_camera(skew)
    image = torch.from_numpy(pixel_images(camera)).permute(2, 0, 1)[None]
    resampled = torch.nn.functional.interpolate(
        image, size=(size[1], size[0]), mode="bilinear", align_corners=False
    )
    picture = resampled[0].permute(1, 2, 0).numpy()
    new = camera.resized(*size)
    assert (new.width, new.height) == size
    seen = new.project(points_on_detector(camera, picture))
    # at the border torch repeats the outermost pixels
    np.testing.assert_allclose(seen[2:-2, 2:-2], pixel_images(new)[2:-2, 2:-2], atol=1e-9)


def test_resized_keeps_the_detector() -> None:
    """The outline of the detector in mm stays where it is."""
    camera = odd_camera()
    corners = np.array([[-0.5, -0.5], [camera.width - 0.5, camera.height - 0.5]])
    points = points_on_detector(camera, corners)
    for new in (camera.resized(7, 9), camera.resized(310, 220)):
        expected = [[-0.5, -0.5], [new.width - 0.5, new.height - 0.5]]
        np.testing.assert_allclose(new.project(points), expected, atol=1e-9)
        assert new.pixel_pitch_mm[0] * new.width == pytest.approx(
            camera.pixel_pitch_mm[0] * camera.width
        )


def test_resized_by_a_whole_factor_is_binned() -> None:
    camera = Camera.from_detector(64, 48, 0.3, 1000.0, cx=20.0)
    assert camera.resized(16, 12) == camera.binned(4)
    assert camera.scaled_to_width(16) == camera.binned(4)


def test_scaled_to_width_keeps_proportions() -> None:
    camera = Camera.from_detector(1000, 500, 0.3, 1000.0)
    assert camera.scaled_to_width(128).height == 64
    assert Camera.from_detector(1000, 3, 0.3, 1000.0).scaled_to_width(10).height == 1


@pytest.mark.parametrize("skew", [0.0, 40.0])
def test_flipped_horizontally(skew: float) -> None:
    camera = odd_camera(skew)
    picture = pixel_images(camera)[:, ::-1]
    mirror = np.array([-1.0, 1.0, 1.0])  # the new camera frame is the mirror image of the old one
    new = camera.flipped_horizontally()
    assert_sees(new, picture, lambda p: points_on_detector(camera, p) * mirror)
    assert new.fx > 0
    assert new.flipped_horizontally() == camera


@pytest.mark.parametrize("skew", [0.0, 40.0, -300.0])
@pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 4, 5])
def test_rotated_90(k: int, skew: float) -> None:
    camera = odd_camera(skew)
    picture = np.rot90(pixel_images(camera), k)
    turn = camera.frame_rotation_90(k)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    np.testing.assert_allclose(turn[2], [0, 0, 1, 0])
    assert_sees(
        camera.rotated_90(k), picture, lambda p: points_on_detector(camera, p) @ turn[:3, :3].T
    )
    if skew == 0.0:
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])  # x' = y, y' = -x
        np.testing.assert_array_equal(
            turn[:2, :2], np.linalg.matrix_power(quarter, k % 4).astype(float)
        )


def test_four_quarter_turns_are_none() -> None:
    camera = odd_camera()
    assert camera.rotated_90(1).rotated_90(1).rotated_90(1).rotated_90(1) == camera
    assert camera.rotated_90(2) == camera.rotated_90(1).rotated_90(1)


def test_operations_keep_the_distance() -> None:
    camera = odd_camera()
    for new in (
        camera.cropped(1, 1, 5, 5),
        camera.resized(10, 10),
        camera.binned(2),
        camera.flipped_horizontally(),
        camera.rotated_90(1),
        camera.scaled_to_width(16),
    ):
        assert new.sdd_mm == camera.sdd_mm
    assert camera.binned(2).pixel_pitch_mm[0] == pytest.approx(2 * camera.pixel_pitch_mm[0])
    pitch = camera.pixel_pitch_mm
    assert camera.rotated_90(1).pixel_pitch_mm == pytest.approx((pitch[1], pitch[0]))


# --- points and rays -----------------------------------------------------------------------------


def test_project_is_k_times_point() -> None:
    camera = odd_camera(12.0)
    points = np.array([[[10.0, -20.0, 700.0]], [[0.0, 0.0, 5.0]]])
    homogeneous = points @ camera.K.T
    expected = homogeneous[..., :2] / homogeneous[..., 2:]
    assert camera.project(points).shape == (2, 1, 2)
    np.testing.assert_allclose(camera.project(points), expected)
    np.testing.assert_allclose(camera.project([0.0, 0.0, 1.0]), [camera.cx, camera.cy])  # type: ignore[call-overload]


def test_project_tensor_is_differentiable() -> None:
    camera = odd_camera(12.0)
    points = torch.tensor([[10.0, -20.0, 700.0], [3.0, 4.0, 5.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(camera.project, (points.requires_grad_(),))
    assert camera.project(points.detach().float()).dtype == torch.float32
    np.testing.assert_allclose(
        camera.project(points.detach()).numpy(), camera.project(points.detach().numpy())
    )


def test_points_behind_the_focal_spot_are_not_seen() -> None:
    points = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 0], [1, 2, float("nan")]])
    pixels = odd_camera().project(points.requires_grad_())
    assert torch.isfinite(pixels[0]).all()
    assert torch.isnan(pixels[1:]).all()
    (gradient,) = torch.autograd.grad(pixels[0].sum(), points)
    assert torch.isfinite(gradient[:3]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rays_project_to_their_pixels(dtype: torch.dtype) -> None:
    camera = odd_camera(25.0)
    rays = camera.rays(dtype)
    assert rays.shape == (22, 31, 3)
    assert rays.dtype == dtype
    assert (rays[..., 2] == 1).all()
    pixels = torch.from_numpy(pixel_images(camera)).to(dtype)
    torch.testing.assert_close(camera.project(rays), pixels, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        rays.double().numpy(),
        points_on_detector(camera, pixel_images(camera), 1.0),
        atol=1e-7,
        rtol=0,
    )


def test_neighbouring_pixels_are_one_pitch_apart_on_the_detector() -> None:
    camera = Camera.from_detector(40, 30, (0.2, 0.5), 1020.0)
    detector = camera.rays(torch.float64) * 1020.0
    steps_x = (detector[:, 1:] - detector[:, :-1]).numpy()
    steps_y = (detector[1:] - detector[:-1]).numpy()
    np.testing.assert_allclose(steps_x, np.broadcast_to([0.2, 0, 0], steps_x.shape), atol=1e-12)
    np.testing.assert_allclose(steps_y, np.broadcast_to([0, 0.5, 0], steps_y.shape), atol=1e-12)
    # the ideal principal point is the middle of the picture
    np.testing.assert_allclose(detector.mean((0, 1)).numpy(), [0, 0, 1020.0], atol=1e-9)


def test_half_pixel_corner_intrinsics() -> None:
    """Where pixel (0, 0) covers 0..1, the ideal centre of a W-wide image is W / 2."""
    camera = Camera.from_detector(40, 30, 0.2, 1020.0)
    k = camera.half_pixel_corner_intrinsics()
    assert (k[0, 2], k[1, 2]) == (20.0, 15.0)
    assert (camera.cx, camera.cy) == (19.5, 14.5)
    np.testing.assert_array_equal(k[:, :2], camera.K[:, :2])


# --- construction --------------------------------------------------------------------------------


def test_from_detector() -> None:
    camera = Camera.from_detector(1536, 1536, 0.194, 1020.0)
    assert camera.fx == pytest.approx(1020.0 / 0.194)
    assert camera.fx == camera.fy
    assert camera.cx == 767.5
    assert camera.pixel_pitch_mm == pytest.approx((0.194, 0.194))
    camera = Camera.from_detector(10, 20, (0.1, 0.4), 500.0, cx=-3.0, cy=99.0)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((5000, 1250, -3, 99))


def test_frozen_and_hashable() -> None:
    k = odd_camera().K.copy()
    camera = Camera(k, 31, 22, 1020.0)
    k[0, 0] = 7.0
    assert camera.fx == 1500.0
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 1.0
    with pytest.raises(AttributeError):
        camera.width = 3  # type: ignore[misc]
    assert camera == odd_camera()
    assert len({camera, odd_camera(), odd_camera(1.0)}) == 2
    assert camera != "camera"
    assert pickle.loads(pickle.dumps(camera)) == camera
    assert copy.deepcopy(camera) == camera


def test_dict_round_trip_through_json() -> None:
    for camera in (odd_camera(3.0), Camera(np.diag([7.0, 8.0, 1.0]), 4, 5)):
        data = json.loads(json.dumps(camera.to_dict()))
        assert Camera.from_dict(data) == camera
        assert Camera.from_dict({**data, "camera_from_rig": np.eye(4).tolist()}) == camera
    del data["sdd_mm"]
    assert Camera.from_dict(data).sdd_mm is None


def test_pitch_is_refused_without_distance() -> None:
    with pytest.raises(InputError, match=r"no sdd_mm; give the source-detector distance"):
        _ = Camera(np.diag([7.0, 8.0, 1.0]), 4, 5).pixel_pitch_mm


GOOD = {"width": 31, "height": 22, "K": [[1500, 0, 9], [0, 1100, 8], [0, 0, 1]], "sdd_mm": 1020}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"K": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]},
            r"K\[0\] \(fx\) is 0: the camera is uncalibrated",
        ),
        ({"K": [[-1500, 0, 9], [0, 1100, 8], [0, 0, 1]]}, "fx = -1500.*flip_horizontal"),
        ({"K": [[1500, 0, 9], [0, 0, 8], [0, 0, 1]]}, "fy = 0"),
        ({"K": [[1500, 0, 9], [0, float("nan"), 8], [0, 0, 1]]}, "not finite"),
        ({"K": [[1500, 0, 9], [0, 1100, 8], [0, 0, 2]]}, r"expected \[\[fx, s, cx\]"),
        ({"K": [[1500, 0, 0], [0, 1100, 0], [9, 8, 1]]}, r"expected \[\[fx, s, cx\]"),
        ({"K": [1500, 0, 9, 0, 1100, 8, 0, 0, 1]}, r"K has shape \(9,\); expected 3x3"),
        ({"K": "K"}, "not 3 rows of 3 numbers"),
        ({"width": 0}, "width is 0; expected a positive whole number|width is 0"),
        ({"width": 31.5}, r"width is 31\.5; expected a positive whole number"),
        ({"height": "tall"}, "height is 'tall'"),
        ({"height": None}, "height is None"),
        ({"height": True}, "height is True"),
        ({"sdd_mm": -5}, "sdd_mm is -5; expected a positive number"),
        ({"sdd_mm": float("inf")}, "sdd_mm is inf"),
        ({"sdd_mm": "far"}, "sdd_mm is 'far'"),
    ],
)
def test_bad_numbers_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Camera.from_dict({**GOOD, **change}, "CAM.json")
    assert str(caught.value).startswith("CAM.json: ")


@pytest.mark.parametrize("key", ["width", "height", "K"])
def test_missing_keys_are_named(key: str) -> None:
    data = {k: v for k, v in GOOD.items() if k != key}
    with pytest.raises(InputError, match=rf"CAM\.json: missing {key}"):
        Camera.from_dict(data, "CAM.json")


def test_not_an_object() -> None:
    with pytest.raises(InputError, match=r"CAM\.json: expected an object"):
        Camera.from_dict([1, 2, 3], "CAM.json")  # type: ignore[arg-type]


@pytest.mark.parametrize("pitch", [0.0, -1.0, (0.1, 0.0), (0.1, 0.2, 0.3)])
def test_bad_pitch(pitch: float | tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="pixel_pitch_mm"):
        Camera.from_detector(10, 10, pitch, 1000.0)  # type: ignore[arg-type]


def test_a_widened_camera_sees_the_same_in_its_middle() -> None:
    camera = odd_camera(0.4)
    wide = camera.widened(7, 3)
    assert (wide.width, wide.height, wide.sdd_mm) == (31 + 14, 22 + 6, 1020.0)
    back = wide.cropped(7, 3, 31, 22)
    np.testing.assert_allclose(back.K, camera.K, rtol=1e-15)
