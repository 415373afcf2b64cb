"""What must not change the picture: batches, chunks, threads, layouts, precision, crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.rendering import (
    AttenuationVolume,
    JosephProjector,
    joseph_sums,
    native_kernel,
)

needs_kernel = pytest.mark.skipif(
    native_kernel.unavailable_reason() is not None,
    reason=f"no compiled kernel: {native_kernel.unavailable_reason()}",
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]
ROTATIONS = ((0.1, 0.2, -0.3), (1.45, 0.0, 0.2), (0.1, 1.4, 0.0), (0.1, 0.2, 1.2), (-0.2, 0.1, 0))
SHAPE, SPACING = (44, 50, 38), (2.6, 2.4, 3.0)


@pytest.fixture
def volume(gaussians, centred_affine) -> AttenuationVolume:
    return gaussians.on_grid(SHAPE, centred_affine(SHAPE, SPACING), torch.float32)


@pytest.fixture
def poses(looking_at) -> torch.Tensor:
    """Their rays run along different axes, and their image rows as well."""
    return torch.stack([looking_at((0, 0, 0), 420, r) for r in ROTATIONS])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_singles_with_mixed_axes(backend, volume, poses, odd_camera) -> None:
    projector = JosephProjector(volume, backend=backend)
    assert set(projector.sampling_axes(poses)) == {0, 1, 2}
    image, jacobian = projector.image_and_jacobian(poses, odd_camera)
    assert image.shape == (5, odd_camera.height, odd_camera.width)
    assert jacobian.shape == (5, 6, odd_camera.height, odd_camera.width)
    alone = projector.image(poses, odd_camera)
    for index, pose in enumerate(poses):
        one_image, one_jacobian = projector.image_and_jacobian(pose[None], odd_camera)
        scale, slope = one_image.abs().max(), one_jacobian.abs().amax((2, 3))
        assert (image[index] - one_image[0]).abs().max() < 1e-5 * scale
        assert (alone[index] - one_image[0]).abs().max() < 1e-5 * scale
        assert ((jacobian[index] - one_jacobian[0]).abs().amax((1, 2)) < 1e-4 * slope[0]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_held_axes_are_used(backend, volume, looking_at, odd_camera) -> None:
    """Where rays cross as many slices of one axis as of another, the stepping axis flips.

    Held, the picture stays continuous.
    """
    projector = JosephProjector(volume, backend=backend)
    flip = np.arctan2(SPACING[0], SPACING[1])
    before, after = (looking_at((0, 0, 0), 420, (0, flip + a, 0)) for a in (-1e-4, 1e-4))
    assert projector.sampling_axes(before) != projector.sampling_axes(after)
    held = projector.sampling_axes(before)
    first = projector.image(before[None], odd_camera, held)
    kept = projector.image(after[None], odd_camera, held)
    flipped = projector.image(after[None], odd_camera)
    assert (kept - first).norm() < 0.3 * (flipped - first).norm()
    both, _ = projector.image_and_jacobian(after[None], odd_camera, held)
    assert torch.allclose(both, kept, rtol=1e-5, atol=1e-6)


def test_chunks_do_not_change_the_picture(volume, poses, odd_camera, monkeypatch) -> None:
    projector = JosephProjector(volume, backend="torch")
    image, jacobian = projector.image_and_jacobian(poses, odd_camera)
    for chunk in ((1 << 30, 1 << 30), (997, 5000), (64, 64)):
        monkeypatch.setattr(joseph_sums, "_CPU", chunk)
        other_image, other_jacobian = projector.image_and_jacobian(poses, odd_camera)
        assert (other_image - image).abs().max() < 2e-6 * image.max()
        assert (other_jacobian - jacobian).norm() < 2e-6 * jacobian.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_do_not_change_a_bit(backend, volume, poses, odd_camera) -> None:
    projector = JosephProjector(volume, backend=backend)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(projector.image_and_jacobian(poses, odd_camera))
    finally:
        torch.set_num_threads(threads)
    first, slope = results[0]
    for image, jacobian in results[1:]:
        assert torch.equal(image, first)
        if backend == "native":
            assert torch.equal(jacobian, slope)
        else:  # torch's matrix product rounds differently with another number of threads
            assert (jacobian - slope).norm() < 1e-6 * slope.norm()


@needs_kernel
def test_passing_over_empty_blocks_does_not_change_a_bit(
    centred_affine, poses, odd_camera, monkeypatch
) -> None:
    mu = torch.zeros(38, 50, 44)
    for k, j, i in ((0, 0, 0), (37, 49, 43), (15, 16, 7), (20, 30, 24), (8, 40, 31)):
        mu[max(0, k - 2) : k + 3, j : j + 4, i : i + 2] = 0.02
    volume = AttenuationVolume(mu, centred_affine(SHAPE, SPACING))
    results = []
    for filled_blocks in (native_kernel.filled_blocks, lambda counts: None):
        monkeypatch.setattr(native_kernel, "filled_blocks", filled_blocks)
        projector = JosephProjector(volume, backend="native")
        results.append(projector.image_and_jacobian(poses, odd_camera))
        assert torch.equal(projector.image(poses, odd_camera), results[-1][0])
    assert results[0][0].amax((1, 2)).min() > 0
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_blocks_are_looked_for_only_where_many_are_empty() -> None:
    counts = np.zeros((21, 30, 40), np.int16)
    counts[17, 29, 3] = 1
    sums = native_kernel.filled_blocks(counts)
    assert sums is not None
    assert sums.shape == (4, 7, 6)  # blocks of 4 across, 8 along, 8 along the rows
    assert not sums[:3].any()
    assert sums[3, -1, -1] == 1
    assert np.array_equal(sums[3] > 0, np.arange(7)[:, None] * (np.arange(6) > 0) > 4)
    assert native_kernel.filled_blocks(np.ones_like(counts)) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_thick_slices_are_means_along_the_rays_alone(backend, volume, poses, odd_camera) -> None:
    fine = JosephProjector(volume, backend=backend)
    thick = JosephProjector(volume, backend=backend, slice_mm=5.0)  # two voxels of each axis
    assert torch.equal(
        thick.image(poses, odd_camera), fine.with_slices_of(5.0).image(poses, odd_camera)
    )
    image, jacobian = thick.image_and_jacobian(poses, odd_camera)
    expected, slopes = fine.image_and_jacobian(poses, odd_camera)
    for n, axis in enumerate(fine.sampling_axes(poses)):
        factors = [1, 1, 1]
        factors[axis] = 2
        coarse = JosephProjector(volume.coarsened(tuple(factors)), fine.isocentre_lps_mm, backend)
        same, same_slopes = coarse.image_and_jacobian(poses[n : n + 1], odd_camera, [axis])
        torch.testing.assert_close(image[n], same[0])
        torch.testing.assert_close(jacobian[n], same_slopes[0])
    assert (image - expected).norm() < 0.01 * expected.norm()
    assert (jacobian - slopes).norm() < 0.05 * slopes.norm()


def test_slices_that_are_thick_already_stay() -> None:
    volume = AttenuationVolume(torch.rand(6, 7, 8), np.diag([2.0, 2.0, 5.0, 1.0]))
    projector = JosephProjector(volume, slice_mm=4.0)
    assert projector._along(2) is volume
    assert projector._along(0).shape_ijk == (4, 7, 6)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (9, 17), (16, 7)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_sizes_are_parts_of_the_large_picture(backend, size, volume, poses) -> None:
    camera = Camera.from_detector(40, 36, 3.0, 900.0)
    width, height = size
    projector = JosephProjector(volume, backend=backend)
    whole = projector.image(poses, camera)
    part = projector.image(poses, camera.cropped(11, 13, width, height))
    expected = whole[:, 13 : 13 + height, 11 : 11 + width]
    assert torch.allclose(part, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_outside_and_behind_is_nothing(backend, volume, looking_at) -> None:
    camera = Camera.from_detector(16, 16, 1.0, 900.0)
    beside = looking_at((0, 0, 0), 420, (0.1, 0, 0), (400.0, 0, 0))
    image, jacobian = JosephProjector(volume, backend=backend).image_and_jacobian(
        beside[None], camera
    )
    assert not image.any()
    assert not jacobian.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_crop_to_matter_keeps_the_picture(backend, centred_affine, looking_at, odd_camera) -> None:
    mu = torch.zeros(30, 40, 50)
    mu[9:17, 12:30, 20:41] = 0.02 * torch.rand(8, 18, 21) + 0.01
    volume = AttenuationVolume(mu, centred_affine((50, 40, 30), (2.0, 2.0, 2.0)))
    cropped = volume.cropped_to_matter(1e-3)
    assert cropped.shape_ijk == (21, 18, 8)
    poses = torch.stack([looking_at((0, 0, 0), 420, r) for r in ROTATIONS])
    isocentre = (1.0, 2.0, 3.0)
    results = [
        JosephProjector(v, isocentre, backend).image_and_jacobian(poses, odd_camera)
        for v in (volume, cropped)
    ]
    (image, jacobian), (image_cropped, jacobian_cropped) = results
    assert (image - image_cropped).abs().max() < 1e-4 * image.max()
    assert (jacobian - jacobian_cropped).norm() < 1e-3 * jacobian.norm()


def test_either_axis_gives_the_picture_at_45_degrees(volume, looking_at, odd_camera) -> None:
    pose = looking_at((0, 0, 0), 420, (0, 0.8, 0))[None]
    first, second = (JosephProjector(volume).image(pose, odd_camera, [a]) for a in (0, 1))
    assert (first - second).norm() < 0.01 * first.norm()


def test_bad_input_is_refused_with_the_value(volume, poses, odd_camera) -> None:
    projector = JosephProjector(volume)
    with pytest.raises(InputError, match=r"\(B, 4, 4\)"):
        projector.image(torch.zeros(3, 4), odd_camera)
    with pytest.raises(InputError, match="NaN"):
        projector.image(torch.full((1, 4, 4), torch.nan), odd_camera)
    with pytest.raises(InputError, match="sampling_axes"):
        projector.image(poses, odd_camera, [0, 1])
    with pytest.raises(InputError, match="sampling_axes"):
        projector.image(poses[:1], odd_camera, [3])
    with pytest.raises(InputError, match="isocentre"):
        JosephProjector(volume, (0.0, np.nan, 0.0))
    with pytest.raises(InputError, match="backend"):
        JosephProjector(volume, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 or more voxels"):
        JosephProjector(AttenuationVolume(torch.rand(1, 5, 5), np.eye(4)))
    assert projector.image(poses[0], odd_camera).shape == (1, 37, 45)
