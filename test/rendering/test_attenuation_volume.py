from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.attenuation import mu_from_hu
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering import AttenuationVolume, JosephProjector


def _content(volume: AttenuationVolume) -> tuple[float, np.ndarray]:
    """Integral of mu over the volume (mm^2) and its centre of mass (LPS mm)."""
    mu = volume.mu_per_mm.double()
    voxel = abs(np.linalg.det(volume.lps_from_index[:3, :3]))
    k, j, i = (torch.arange(n, dtype=torch.float64) for n in mu.shape)
    mass = float(mu.sum())
    middle = [
        float((mu * grid).sum() / mass)
        for grid in (i[None, None, :], j[None, :, None], k[:, None, None])
    ]
    centre = volume.lps_from_index[:3, :3] @ np.array(middle) + volume.lps_from_index[:3, 3]
    return mass * voxel, centre


@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 1, 2), (1, 4, 5), (1, 1, 1)])
def test_coarsening_keeps_integrals(factors, gaussians, centred_affine, looking_at) -> None:
    shape, spacing = (83, 91, 77), (1.6, 1.5, 1.7)  # no multiple of the factors
    affine = centred_affine(shape, spacing, (0.1, 0.2, -0.3), flips=(1, 1, -1))
    fine = gaussians.on_grid(shape, affine)
    coarse = fine.coarsened(factors)
    expected = [-(-n // f) for n, f in zip(shape, factors, strict=True)]
    assert list(coarse.shape_ijk) == expected
    np.testing.assert_allclose(coarse.spacing_mm, np.array(spacing) * factors)
    mass, centre = _content(fine)
    coarse_mass, coarse_centre = _content(coarse)
    assert coarse_mass == pytest.approx(mass, rel=1e-12)
    np.testing.assert_allclose(coarse_centre, centre, atol=1e-4)
    camera = Camera.from_detector(60, 50, 3.0, 900.0)
    pose = looking_at((0, 0, 0), 420.0, (0.2, 0.1, 0.4))[None]
    images = [JosephProjector(v, (0, 0, 0)).image(pose, camera) for v in (fine, coarse)]
    assert float(images[1].sum()) == pytest.approx(float(images[0].sum()), rel=5e-3)
    blur = 0.12 if max(factors) > 2 else 0.03
    assert (images[1] - images[0]).norm() < blur * images[0].norm()


def test_factors(centred_affine) -> None:
    volume = AttenuationVolume(torch.rand(8, 9, 10), centred_affine((10, 9, 8), (0.7, 0.7, 2.5)))
    assert volume.factors_for(1.4) == (2, 2, 1)
    assert volume.factors_for(3.0) == (4, 4, 1)
    assert volume.factors_for(0.1) == (1, 1, 1)
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="spacing_mm"):
            volume.factors_for(value)


def test_crop_keeps_places(centred_affine) -> None:
    affine = centred_affine((10, 9, 8), (0.7, 0.9, 2.5), (0.3, 0.1, 0.2))
    volume = AttenuationVolume(torch.rand(8, 9, 10), affine)
    cropped = volume.cropped((2, 3, 1), (7, 9, 5))
    assert cropped.shape_ijk == (5, 6, 4)
    assert torch.equal(cropped.mu_per_mm, volume.mu_per_mm[1:5, 3:9, 2:7])
    np.testing.assert_allclose(
        cropped.lps_from_index @ [0, 0, 0, 1], affine @ [2, 3, 1, 1], atol=1e-12
    )


def test_from_ct(centred_affine) -> None:
    hu = np.full((12, 14, 16), -1024, np.int16)
    hu[3:9, 4:12, 5:13] = 40
    hu[5, 6, 7] = 1200
    ct = CTVolume(hu, centred_affine((16, 14, 12), (1.0, 1.0, 2.0)))
    volume = AttenuationVolume.from_ct(ct)
    assert volume.shape_ijk == (8, 8, 6)
    expected = mu_from_hu(hu)[3:9, 4:12, 5:13]
    np.testing.assert_allclose(volume.mu_per_mm.numpy(), expected, rtol=1e-6)
    coarse = AttenuationVolume.from_ct(ct, spacing_mm=2.0)
    assert coarse.shape_ijk == (4, 4, 6)
    np.testing.assert_allclose(coarse.centre_lps_mm, volume.centre_lps_mm, atol=1e-9)


def test_bad_volumes_are_refused(centred_affine) -> None:
    affine = centred_affine((4, 4, 4), (1, 1, 1))
    with pytest.raises(InputError, match=r"\(D, H, W\)"):
        AttenuationVolume(torch.rand(4, 4), affine)
    with pytest.raises(InputError, match="int16"):
        AttenuationVolume(torch.zeros(4, 4, 4, dtype=torch.int16), affine)
    with pytest.raises(InputError, match="affine"):
        AttenuationVolume(torch.rand(4, 4, 4), np.zeros((4, 4)))
    with pytest.raises(InputError, match="affine"):
        AttenuationVolume(torch.rand(4, 4, 4), np.eye(3))
    with pytest.raises(InputError, match="attenuates"):
        AttenuationVolume(torch.zeros(4, 4, 4), affine).cropped_to_matter(1e-3)
