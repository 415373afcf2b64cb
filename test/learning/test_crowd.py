"""Made-up patients, and a network that learns many of them at once."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.attenuation import mu_from_hu
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import AGNOSTIC, load_checkpoint
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.crowd import Crowd
from xray_registration.learning.crowd_bodies import CrowdConfig, _mu
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.regressor import KIND, load_regressor, pose_network
from xray_registration.learning.training import regressor_task, train_regressor

SMALL = CrowdConfig(count=4, box_mm=(150.0, 120.0, 140.0))
SPACE = PoseSpace((0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def crowd(phantom: CTVolume) -> Crowd:
    return Crowd([phantom], SMALL, SPACE, 5.0, 3)


@pytest.fixture(scope="module")
def of_crowd(tiny: TrainingConfig) -> TrainingConfig:
    return replace(tiny, crowd=SMALL)


@pytest.mark.parametrize("primary", [0.0, 90.0])
def test_pictures_are_those_of_the_projector(
    phantom: CTVolume, tiny: TrainingConfig, primary: float
) -> None:
    space = replace(SPACE, primary_centre_deg=primary)
    crowd = Crowd([phantom], SMALL, space, 5.0, 3)
    camera = tiny.canonical.camera
    poses = space.sample(np.random.default_rng(1), 3)
    expected = crowd.line_integrals(np.array([0, 2, 2]), np.array([1, 0, 0]), poses, camera)
    on_gpu = crowd._rendered(torch.tensor([1, 4, 4]), poses, camera)
    assert float(expected.flatten(1).amax(1).min()) > 0.5
    assert (on_gpu - expected).norm() < 1e-3 * expected.norm()
    assert (expected[1] - expected[2]).norm() > 0.05 * expected[1].norm()


def test_patients_differ_and_variants_hardly(crowd: Crowd, phantom: CTVolume) -> None:
    bodies = crowd._bodies.flatten(1).float()
    assert crowd.count == 4
    assert bodies.isfinite().all()
    assert bodies.min() >= 0
    normed = bodies / bodies.norm(dim=1, keepdim=True)
    alike = normed @ normed.T
    for patient in range(4):
        same = float(alike[2 * patient, 2 * patient + 1])
        others = alike[2 * patient, [n for n in range(8) if n // 2 != patient]]
        assert same > float(others.max())
        assert same < 0.9999
    again = Crowd([phantom], SMALL, SPACE, 5.0, 3)
    assert torch.equal(again._bodies, crowd._bodies)
    assert not torch.equal(Crowd([phantom], SMALL, SPACE, 5.0, 4)._bodies, crowd._bodies)


def test_mu_is_that_of_the_package() -> None:
    hu = np.linspace(-1100, 3500, 500)
    expected = torch.from_numpy(mu_from_hu(hu, 63.0))
    torch.testing.assert_close(
        _mu(torch.from_numpy(hu).float(), 63.0), expected, rtol=1e-5, atol=1e-8
    )


def test_what_cannot_be_made_is_said(phantom: CTVolume) -> None:
    with pytest.raises(InputError, match="one CT or more"):
        Crowd([], SMALL, SPACE, 5.0, 0)
    soft = CTVolume(np.minimum(phantom.hu, 50), phantom.lps_from_index, "soft.nii", "cd" * 32)
    with pytest.raises(InputError, match=r"soft\.nii: nothing exceeds 300 HU"):
        Crowd([soft], SMALL, SPACE, 5.0, 0)
    with pytest.raises(InputError, match="within 70 degrees"):
        Crowd([phantom], SMALL, replace(SPACE, primary_deg=90.0), 5.0, 0)
    for wrong in ({"variants": 0}, {"scaled": 0.5}, {"turned_deg": -1.0}, {"bone": (0.7, np.nan)}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            CrowdConfig(**{**asdict(SMALL), **wrong})


def test_the_network_tells_patients_apart_once_it_has_learned(tiny: TrainingConfig) -> None:
    torch.manual_seed(0)
    network = pose_network(tiny.network, tiny.canonical, SPACE, patients=3).eval()
    pictures = torch.randn(2, 3, 32, 32)
    anybody = network(pictures).mean
    torch.testing.assert_close(network(pictures, patients=torch.tensor([0, 2])).mean, anybody)
    with torch.no_grad():
        network.own[2, 2] += 1.0
    told = network(pictures, patients=torch.tensor([0, 2])).mean
    torch.testing.assert_close(told[0], anybody[0])
    assert not torch.allclose(told[1], anybody[1])


def test_a_batch_is_a_function_of_its_number(
    phantom: CTVolume, isocentre: np.ndarray, of_crowd: TrainingConfig
) -> None:
    stream = regressor_task([phantom], [isocentre], of_crowd)._stream
    first, again, other = stream.batch(5), stream.batch(5), stream.held_out(5)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.patients, again.patients)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.inputs.shape == (8, 3, 32, 32)
    assert set(torch.cat([stream.batch(n).patients for n in range(8)]).tolist()) == {0, 1, 2, 3}


def test_a_patient_starts_from_what_the_crowd_has_in_common(
    tmp_path: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    of_crowd: TrainingConfig,
) -> None:
    (tmp_path / "crowd").mkdir()
    (tmp_path / "one").mkdir()
    path = train_regressor([phantom], [isocentre], of_crowd, tmp_path / "crowd")
    _, checkpoint = load_regressor(path)
    assert checkpoint.facts["ct_sha256"] == AGNOSTIC
    assert checkpoint.facts["ct_file"] == "4 patients made up from 1 CTs"
    assert "own" not in checkpoint.tensors
    path = train_regressor([phantom], [isocentre], tiny, tmp_path / "one", init=checkpoint)
    load_checkpoint(path, KIND).check_ct(phantom)
