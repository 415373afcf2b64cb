"""Line integrals that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.geometry import Camera, left_increment
from xray_registration.rendering import AttenuationVolume, JosephProjector, native_kernel

BACKENDS = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(
            native_kernel.unavailable_reason() is not None,
            reason=f"no compiled kernel: {native_kernel.unavailable_reason()}",
        ),
    ),
]
MU = 0.02
SHAPE, SPACING, LOW, HIGH = (40, 36, 32), (1.5, 2.0, 1.25), (8, 9, 7), (31, 27, 25)


def _box(centred_affine) -> tuple[AttenuationVolume, np.ndarray, np.ndarray]:
    """A volume with MU inside LOW <= index < HIGH; the box's corners in mm (half a voxel out)."""
    mu = torch.zeros(SHAPE[::-1])
    mu[LOW[2] : HIGH[2], LOW[1] : HIGH[1], LOW[0] : HIGH[0]] = MU
    affine = centred_affine(SHAPE, SPACING)
    low = affine[:3, :3] @ (np.array(LOW) - 0.5) + affine[:3, 3]
    high = affine[:3, :3] @ (np.array(HIGH) - 0.5) + affine[:3, 3]
    return AttenuationVolume(mu, affine), low, high


def _chords(pose: torch.Tensor, camera: Camera, low: np.ndarray, high: np.ndarray):
    """Slab method: (H, W) chord length in mm, and the axes of the entry and the exit face."""
    rotation, translation = pose[:3, :3].numpy(), pose[:3, 3].numpy()
    source = -rotation.T @ translation
    direction = camera.rays(torch.float64).numpy() @ rotation
    length = np.linalg.norm(direction, axis=-1)
    with np.errstate(divide="ignore"):
        first, second = (low - source) / direction, (high - source) / direction
    near, far = np.minimum(first, second), np.maximum(first, second)
    chord = np.maximum(far.min(-1) - near.max(-1), 0) * length
    return chord, near.argmax(-1), far.argmin(-1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rotation", [(0, 0, 0), (0.3, 0.1, 0.2), (0.15, -0.45, 0.7)])
def test_box_has_its_chord_lengths(backend, rotation, centred_affine, looking_at) -> None:
    volume, low, high = _box(centred_affine)
    camera = Camera.from_detector(61, 53, (1.9, 1.7), 1000.0)
    pose = looking_at((low + high) / 2, 600.0, rotation)
    projector = JosephProjector(volume, backend=backend)
    image = projector.image(pose[None], camera)[0].numpy()
    chord, entry, leave = _chords(pose, camera, low, high)

    axis = projector.sampling_axes(pose)[0]
    through = (entry == axis) & (leave == axis) & (chord > 0)
    # the ramp of one voxel at the sides: only rays that stay clear of it have the exact chord
    tight_low, tight_high = low + 1.5 * np.array(SPACING), high - 1.5 * np.array(SPACING)
    tight_low[axis], tight_high[axis] = low[axis], high[axis]
    inside, tight_entry, tight_leave = _chords(pose, camera, tight_low, tight_high)
    clear = through & (tight_entry == axis) & (tight_leave == axis) & (inside > 0)
    assert int(clear.sum()) > 100
    tolerance = 2e-4 if backend == "native" else 1e-5  # 16-bit volume
    np.testing.assert_allclose(image[clear], MU * chord[clear], rtol=tolerance)
    # across the rays mu falls over one voxel, along them a sample stands for a slice: every other
    # ray lies between the chords of a box that is smaller and of one that is larger by as much
    margin = 0.5 * np.array(SPACING)
    margin[axis] *= 2
    inner = _chords(pose, camera, low + margin, high - margin)[0]
    outer = _chords(pose, camera, low - margin, high + margin)[0]
    assert (image > MU * inner - 1e-4).all()
    assert (image < MU * outer + 1e-4).all()
    assert image.sum() == pytest.approx(MU * chord.sum(), rel=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unit_impulse(backend, centred_affine, looking_at) -> None:
    """One voxel of mu = 1 per mm.

    The ray through its centre along the stepping axis reads its spacing along that axis (mm); the
    picture, integrated over the plane through the voxel, is the voxel's volume (mm^3).
    """
    shape, spacing = (9, 9, 9), (1.5, 2.0, 1.25)
    mu = torch.zeros(shape[::-1])
    mu[4, 4, 4] = 1.0
    volume = AttenuationVolume(mu, centred_affine(shape, spacing))
    camera = Camera.from_detector(201, 201, 0.03, 1000.0)
    far = looking_at((0, 0, 0), 990.0)
    image = JosephProjector(volume, backend=backend).image(far[None], camera)[0].double()
    assert float(image[100, 100]) == pytest.approx(spacing[1], rel=1e-4)  # it looks along y
    pixel_area = (0.03 * 990.0 / 1000.0) ** 2
    assert float(image.sum()) * pixel_area == pytest.approx(float(np.prod(spacing)), rel=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_oblique_ray_through_an_impulse(backend, centred_affine, looking_at) -> None:
    """At an angle the slice's sample stands for spacing / cosine mm of the ray."""
    mu = torch.zeros(9, 9, 9)
    mu[4, 4, 4] = 1.0
    volume = AttenuationVolume(mu, centred_affine((9, 9, 9), (2.0, 2.0, 2.0)))
    camera = Camera.from_detector(3, 3, 0.1, 1000.0)
    pose = looking_at((0, 0, 0), 800.0, (0.4, 0.0, 0.0))
    image = JosephProjector(volume, backend=backend).image(pose[None], camera)[0]
    assert float(image[1, 1]) == pytest.approx(2.0 / np.cos(0.4), rel=1e-4)


GRIDS = {
    "isotropic": {"shape_ijk": (90, 90, 90), "spacing_mm": (1.5, 1.5, 1.5)},
    "anisotropic": {"shape_ijk": (68, 100, 56), "spacing_mm": (2.0, 1.4, 2.5)},
    "oblique": {"shape_ijk": (90, 96, 84), "spacing_mm": (1.6, 1.5, 1.7),
                "rotation": (0.3, -0.5, 0.4)},
    "left-handed": {"shape_ijk": (90, 90, 84), "spacing_mm": (1.5, 1.6, 1.7),
                    "flips": (1, 1, -1)},
    "PIR": {"shape_ijk": (90, 84, 90), "spacing_mm": (1.6, 1.7, 1.5), "order": (1, 2, 0),
            "flips": (1, -1, -1)},
    "left-handed, oblique, permuted": {"shape_ijk": (96, 84, 90), "spacing_mm": (1.5, 1.7, 1.6),
                                       "rotation": (-0.2, 0.6, 0.1), "order": (2, 1, 0)},
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GRIDS)
def test_any_affine_gives_the_analytic_picture(
    name, backend, gaussians, centred_affine, looking_at, odd_camera
) -> None:
    grid = GRIDS[name]
    volume = gaussians.on_grid(grid["shape_ijk"], centred_affine(**grid), torch.float32)
    poses = torch.stack(
        [looking_at((0, 0, 0), 420, r) for r in ((0.1, 0.2, -0.3), (-0.5, 0.4, 0.2), (0, 1.4, 1))]
    )
    image = JosephProjector(volume, backend=backend).image(poses, odd_camera).double()
    exact = gaussians.image(poses, odd_camera)
    error = (image - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    assert error.max() < 8e-3  # linear interpolation, blobs of 8 mm on 2.5 mm: h^2 / (12 s^2)


@pytest.mark.parametrize("name", GRIDS)
def test_any_affine_gives_the_analytic_jacobian(
    name, gaussians, centred_affine, looking_at, odd_camera
) -> None:
    """The derivative of the true picture, not only that of the sampled one."""
    grid = GRIDS[name]
    volume = gaussians.on_grid(grid["shape_ijk"], centred_affine(**grid))
    pose = looking_at((0, 0, 0), 420, (-0.2, 0.35, 0.2))[None]
    centre = torch.tensor([10.0, -20.0, 5.0], dtype=torch.float64)
    _, jacobian = JosephProjector(volume, centre.numpy()).image_and_jacobian(pose, odd_camera)
    for column in range(6):
        xi = torch.zeros(6, dtype=torch.float64)
        xi[column] = step = 1e-3 if column < 3 else 1e-5
        ahead, behind = (
            gaussians.image(left_increment(pose, sign * xi, centre), odd_camera) for sign in (1, -1)
        )
        exact = (ahead - behind) / (2 * step)
        assert (jacobian[:, column] - exact).norm() < 0.03 * exact.norm(), column
