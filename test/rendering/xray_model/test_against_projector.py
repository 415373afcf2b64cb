"""The X-ray model and the projector that moves in a registration share no code but one world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.attenuation_volume import AttenuationVolume
from xray_registration.rendering.joseph import JosephProjector
from xray_registration.rendering.xray_model import MaterialConfig, XrayModel, XrayModelConfig


@pytest.mark.parametrize("direction", [(0, 1, 0), (0.5, 0.9, 0.2), (1, 0.1, -0.3)])
def test_same_pixels_see_the_same_anatomy(
    direction: tuple[float, ...],
    make_ct: Callable[..., CTVolume],
    look: Callable[..., NDArray[np.float64]],
) -> None:
    k, j, i = np.mgrid[-1:1:40j, -1:1:60j, -1:1:70j]
    hu = -1000.0 + 1040.0 / (1.0 + np.exp(40.0 * (np.sqrt(i**2 + j**2) - 0.75)))
    for x, y, z in ((0.3, 0.2, 0.4), (-0.3, 0.1, -0.2), (0.1, -0.4, 0.1), (0.0, 0.4, -0.5)):
        distance = np.sqrt((i - x) ** 2 + (j - y) ** 2 + (k - z) ** 2)
        hu += 700.0 * np.exp(-((distance / 0.12) ** 2))
    ct = make_ct(hu, (2.0, 2.2, 3.0))
    camera = Camera(
        np.array([[500.0, 4.0, 60.0], [0.0, 520.0, 50.0], [0.0, 0.0, 1.0]]), 128, 96, 1020.0
    )
    pose = look(direction)
    config = XrayModelConfig(material=MaterialConfig(isolate_patient=False))
    ours = XrayModel(ct, config).render(pose, camera, 0).primary_attenuation
    projector = JosephProjector(AttenuationVolume.from_ct(ct), backend="torch")
    moving = projector.image(torch.tensor(pose, dtype=torch.float32)[None], camera)[0].numpy()

    def agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        edges = [np.gradient(image, axis=axis) for image in (a, b) for axis in (0, 1)]
        first = np.concatenate([edge.ravel() for edge in edges[:2]])
        second = np.concatenate([edge.ravel() for edge in edges[2:]])
        return float(np.corrcoef(first, second)[0, 1])

    best = agreement(ours, moving)
    # the gradients agree but for beam hardening, and less so after a shift of one pixel either way
    assert best > 0.99
    for axis in (0, 1):
        for shift in (-1, 1):
            assert agreement(np.roll(ours, shift, axis), moving) < best - 0.002
