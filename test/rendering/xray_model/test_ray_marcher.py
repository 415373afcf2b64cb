from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.rendering.xray_model.ray_marcher import (
    MarchVolume,
    path_integrals_g_per_cm2,
)

Look = Callable[..., NDArray[np.float64]]


def centred_affine(shape: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -0.5 * (np.array(shape[2::-1]) - 1.0) * spacing
    return affine


def box_lengths_mm(
    pose: NDArray[np.float64], camera: Camera, half: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Closed form: the ray's way through the box -half..half at the CT's origin."""
    v, u = np.mgrid[: camera.height, : camera.width]
    pixels = np.stack((u, v, np.ones_like(u)), -1).astype(float)
    rays = pixels @ np.linalg.inv(camera.K).T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    directions = rays @ pose[:3, :3]
    source = -pose[:3, :3].T @ pose[:3, 3]
    with np.errstate(divide="ignore"):
        a, b = (-half - source) / directions, (half - source) / directions
    return np.maximum(np.maximum(a, b).min(-1) - np.minimum(a, b).max(-1), 0.0)


@pytest.fixture
def blob() -> MarchVolume:
    """Two smooth materials in air, with whole bricks of air, in an oblique left-handed grid."""
    z, y, x = np.mgrid[-1:1:30j, -1:1:41j, -1:1:52j]
    ball = np.maximum(0.0, 1.0 - ((x - 0.2) ** 2 + y**2 + (z + 0.1) ** 2) / 0.3)
    other = np.maximum(0.0, 0.5 - ((x + 0.4) ** 2 + (y - 0.3) ** 2) / 0.2)
    density = np.stack((ball, other), -1).astype(np.float32)
    angle = 0.4
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1.0]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array([2.0, 2.2, 3.0])
    affine[:3, 3] = -affine[:3, :3] @ [25.5, 20.0, 14.5]
    return MarchVolume.from_density(density, affine)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("direction", [(0, 1, 0), (1, 0, 0), (0.5, 0.8, 0.3), (0, 0, 1.0)])
def test_a_box_has_its_exact_length(
    backend: str, direction: tuple[float, ...], look: Look, camera: Camera
) -> None:
    if direction == (0, 0, 1.0):
        pose = np.eye(4)
        pose[2, 3] = 650.0
    else:
        pose = look(direction)
    density = np.ones((20, 30, 40, 2), np.float32)
    density[..., 1] = 0.5
    spacing = (1.5, 2.0, 2.5)
    volume = MarchVolume.from_density(density, centred_affine(density.shape, spacing))
    result = path_integrals_g_per_cm2(volume, pose, camera, 0.7, backend=backend)  # type: ignore[arg-type]
    expected = 0.1 * box_lengths_mm(pose, camera, np.array([30.0, 30.0, 25.0]))
    np.testing.assert_allclose(result[..., 0], expected, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(result[..., 1], 0.5 * expected, rtol=2e-5, atol=1e-5)
    assert (expected == 0.0).any()


@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), (0.3, -0.4, 0.2)])
def test_a_unit_voxel_integrates_to_its_volume(
    look: Look, offset: tuple[float, float, float]
) -> None:
    density = np.zeros((9, 9, 9, 2), np.float32)
    density[4, 4, 4] = (1.0, 2.0)
    spacing = (2.0, 3.0, 4.0)
    affine = centred_affine(density.shape, spacing)
    affine[:3, 3] += offset
    volume = MarchVolume.from_density(density, affine)
    # a far source: parallel rays, 0.1 mm apart at the voxel
    far = 1.0e6
    camera = Camera.from_detector(121, 121, 0.1, far)
    sums = path_integrals_g_per_cm2(volume, look((0, 1, 0), far), camera, 0.02).sum((0, 1))
    volume_mm3 = 10.0 * sums * 0.1 * 0.1  # g/cm^2 to mm, times the rays' spacing
    np.testing.assert_allclose(volume_mm3, [24.0, 48.0], rtol=2e-3)


def test_back_ends_agree(blob: MarchVolume, look: Look, camera: Camera) -> None:
    for direction in ((0, 1, 0), (1.0, 0.2, 0.3), (-0.5, -1.0, 0.1)):
        arguments = (blob, look(direction), camera, 0.8)
        by_numba = path_integrals_g_per_cm2(*arguments, backend="numba")
        by_torch = path_integrals_g_per_cm2(*arguments, backend="torch")
        assert by_numba.max() > 1.0
        np.testing.assert_allclose(by_numba, by_torch, atol=2e-5)


def test_finer_steps_change_little(blob: MarchVolume, look: Look, camera: Camera) -> None:
    pose = look((0.3, 1, 0.2))
    coarse = path_integrals_g_per_cm2(blob, pose, camera, 1.0)
    fine = path_integrals_g_per_cm2(blob, pose, camera, 0.1)
    assert np.abs(coarse - fine).max() < 1e-3 * fine.max()


def test_skipping_air_changes_nothing(blob: MarchVolume, look: Look, camera: Camera) -> None:
    assert (blob.occupied == 0).any()
    full = MarchVolume(blob.density, blob.lps_from_index, np.ones_like(blob.occupied))
    pose = look((0.2, 1, -0.3))
    np.testing.assert_allclose(
        path_integrals_g_per_cm2(blob, pose, camera, 0.8),
        path_integrals_g_per_cm2(full, pose, camera, 0.8),
        atol=1e-5,
    )


def test_threads_change_no_bit(blob: MarchVolume, look: Look, camera: Camera) -> None:
    pose = look((0.2, 1, -0.3))
    one = path_integrals_g_per_cm2(blob, pose, camera, 0.8, threads=1)
    for threads in (2, 5):
        many = path_integrals_g_per_cm2(blob, pose, camera, 0.8, threads=threads)
        np.testing.assert_array_equal(one, many)
    with ThreadPoolExecutor(3) as pool:  # as several nodes' callbacks would
        for again in pool.map(
            lambda _: path_integrals_g_per_cm2(blob, pose, camera, 0.8), range(6)
        ):
            np.testing.assert_array_equal(one, again)


def test_skew_and_offset_principal_point(blob: MarchVolume, look: Look) -> None:
    """Any K: a pixel of a skewed camera sees what the plain camera sees along the same ray."""
    pose = look((0.1, 1, 0.1))
    k = np.array([[400.0, 30.0, 70.0], [0.0, 500.0, 20.0], [0.0, 0.0, 1.0]])
    skewed = path_integrals_g_per_cm2(blob, pose, Camera(k, 90, 60), 0.8)
    pixel = np.array([55, 30])
    ray = np.linalg.inv(k) @ [*pixel, 1.0]
    single = Camera(np.array([[1.0, 0, -ray[0]], [0, 1.0, -ray[1]], [0, 0, 1.0]]), 1, 1)
    alone = path_integrals_g_per_cm2(blob, pose, single, 0.8)
    assert alone.max() > 0.5
    np.testing.assert_allclose(skewed[pixel[1], pixel[0]], alone[0, 0], rtol=1e-4)


def test_source_inside_and_volume_behind(look: Look, camera: Camera) -> None:
    density = np.ones((20, 20, 20, 2), np.float32)
    volume = MarchVolume.from_density(density, centred_affine(density.shape, (2.0, 2.0, 2.0)))
    inside = path_integrals_g_per_cm2(volume, look(depth_mm=0.0), camera, 0.5)
    assert inside[24, 32, 0] == pytest.approx(2.0, rel=1e-4)  # from the middle to the face: 20 mm
    behind = path_integrals_g_per_cm2(volume, look(depth_mm=-100.0), camera, 0.5)
    assert not behind.any()


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, float("nan")])
def test_steps_that_are_too_coarse_or_senseless(
    step: float, blob: MarchVolume, look: Look, camera: Camera
) -> None:
    with pytest.raises(InputError, match="step_mm"):
        path_integrals_g_per_cm2(blob, look(), camera, step)


def test_a_mirrored_pose_is_refused(blob: MarchVolume, camera: Camera) -> None:
    with pytest.raises(InputError, match="mirrored"):
        path_integrals_g_per_cm2(blob, np.diag([1.0, 1.0, -1.0, 1.0]), camera, 0.5)


def test_unknown_back_end(blob: MarchVolume, look: Look, camera: Camera) -> None:
    with pytest.raises(InputError, match="vulkan"):
        path_integrals_g_per_cm2(blob, look(), camera, 0.5, backend="vulkan")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="torch"):
        path_integrals_g_per_cm2(blob, look(), camera, 0.5, backend="numba", device="cuda")


def test_volumes_beyond_32_bit_offsets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xray_registration.rendering.xray_model.ray_marcher._LARGEST_SIZE", 100)
    with pytest.raises(InputError, match="Crop it"):
        MarchVolume.from_density(np.ones((4, 4, 4, 2), np.float32), np.eye(4))
