"""The baselines: their similarity, and that each finds a pose that it can find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.evaluation import baselines
from xray_registration.evaluation.baseline_similarity import MultiscaleGradientNcc
from xray_registration.evaluation.methods import (
    BASELINES,
    OURS,
    OURS_NO_START,
    Method,
    Outcome,
    make_method,
)
from xray_registration.evaluation.metrics import mtre_mm
from xray_registration.geometry import Camera
from xray_registration.imaging.radiograph import make_radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import View
from xray_registration.rendering import AttenuationVolume, JosephProjector


def picture(seed: int = 0) -> torch.Tensor:
    noise = torch.randn(1, 1, 48, 64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[0, 0]


def test_similarity_is_one_for_the_same_and_blind_to_gain_and_offset() -> None:
    fixed = picture()
    everywhere = torch.ones_like(fixed, dtype=torch.bool)
    similarity = MultiscaleGradientNcc(fixed, everywhere)
    values = similarity(torch.stack([fixed, 3 * fixed - 7, -fixed, picture(1)]))
    assert float(values[0]) == pytest.approx(1, abs=5e-3)
    assert float(values[1]) == pytest.approx(float(values[0]), abs=1e-4)
    assert float(values[2]) == pytest.approx(-1, abs=5e-3)
    assert abs(float(values[3])) < 0.2


def test_similarity_does_not_see_what_is_masked() -> None:
    fixed = picture()
    mask = torch.ones_like(fixed, dtype=torch.bool)
    mask[:, :20] = False
    spoiled = fixed.clone()
    spoiled[:, :20] = 50.0
    a = MultiscaleGradientNcc(fixed, mask)(fixed[None])
    b = MultiscaleGradientNcc(spoiled, mask)(fixed[None])
    assert float(a) == pytest.approx(float(b), abs=1e-5)


def test_similarity_has_the_gradient_of_its_value() -> None:
    fixed = picture().double()
    mask = torch.ones_like(fixed, dtype=torch.bool)
    similarity = MultiscaleGradientNcc(fixed, mask)
    moving = picture(1).double()[None].requires_grad_()
    direction = picture(2).double()[None]
    (gradient,) = torch.autograd.grad(similarity(moving).sum(), moving)
    with torch.no_grad():
        step = 1e-5
        ahead, behind = similarity(moving + step * direction), similarity(moving - step * direction)
    expected = float((ahead - behind).sum()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def phantom_ct() -> CTVolume:
    """Irregular blocks in air, 3 mm voxels: no symmetry to fall for."""
    random = np.random.default_rng(4)
    hu = np.full((40, 36, 38), -1000, np.int16)
    for _ in range(14):
        low = random.integers(4, 24, 3)
        size = random.integers(4, 11, 3)
        block = tuple(slice(int(a), int(a + b)) for a, b in zip(low, size, strict=True))
        hu[block] = random.integers(200, 1200)
    grid = np.diag([3.0, 3.0, 3.0, 1.0])
    grid[:3, 3] = (-57, -54, -60)
    return CTVolume(hu, grid)


def start_and_truth() -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 700], [0, 0, 0, 1]])
    start = truth.copy()
    start[:3, 3] += (4, -3, 5)
    return start, truth


@pytest.fixture(scope="module")
def view(phantom_ct: CTVolume) -> View:
    camera = Camera.from_detector(64, 64, 3.2, 1000.0)
    _, truth = start_and_truth()
    projector = JosephProjector(AttenuationVolume.from_ct(phantom_ct))
    image = projector.image(torch.from_numpy(truth)[None], camera)[0].numpy()
    return View(make_radiograph(image, "attenuation", auto_mask=False), camera)


def points() -> np.ndarray:
    return np.array([[x, y, z] for x in (-30, 30) for y in (-30, 30) for z in (-30, 30)], float)


def search(evaluations: tuple[int, ...]) -> baselines.SearchSettings:
    return baselines.SearchSettings(evaluations=evaluations, first_step=(4, 1, 0.5))


@pytest.mark.parametrize("name", ["adam", "powell", "cma-es"])
def test_baseline_goes_to_the_true_pose(name: str, phantom_ct: CTVolume, view: View) -> None:
    """At a resolution of 3 mm, whatever the level: the search is tested, not its accuracy."""
    methods: dict[str, Method] = {
        "adam": baselines.Adam(phantom_ct, baselines.AdamSettings(steps=40)),
        "powell": baselines.Powell(phantom_ct, search((400, 200, 100))),
        "cma-es": baselines.CmaEs(phantom_ct, search((400, 200, 100))),
    }
    start, truth = start_and_truth()
    methods[name].warm_up([view], start)
    outcome = methods[name].register([view], start)
    assert isinstance(outcome, Outcome)
    before, after = (mtre_mm(p, truth, points()) for p in (start, outcome.rig_from_ct))
    assert after < 0.5 * before
    assert outcome.renderings is not None
    assert outcome.renderings > 50
    assert outcome.accepted is None


def test_methods_by_name(phantom_ct: CTVolume) -> None:
    for name in (OURS, *BASELINES):
        method = make_method(name, phantom_ct, None)
        assert method.name == name
        assert method.settings()
    with pytest.raises(InputError, match="no start-pose weights for this CT"):
        make_method(OURS_NO_START, phantom_ct, None)
    with pytest.raises(InputError, match="'simplex'"):
        make_method("simplex", phantom_ct, None)
