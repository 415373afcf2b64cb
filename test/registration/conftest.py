"""A thorax, its realistic X-rays from known poses, and starts beside them.

The X-rays come from the X-ray model: another renderer than the one that moves in a registration,
at full resolution, with a spectrum, scatter, blur and noise.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xray_registration.geometry import Camera, PositionerPose, camera_from_positioner, se3
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import Registrar, View
from xray_registration.rendering.xray_model import SimulatedXray, XrayModel, XrayModelConfig

Pose = NDArray[np.float64]
_ANGLES_DEG = {"ap": (8.0, -4.0), "lateral": (82.0, 3.0)}


class Thorax:
    """The example CT, prepared once for all tests; nothing in it is written to."""

    camera = Camera.from_detector(384, 384, 0.8, 1020.0)

    def __init__(self, ct: CTVolume) -> None:
        self.ct = ct
        self._xrays: dict[str, SimulatedXray] = {}

    @cached_property
    def registrar(self) -> Registrar:
        """With the default settings."""
        return Registrar(self.ct)

    @cached_property
    def model(self) -> XrayModel:
        """A single shot of a flat-panel C-arm."""
        return XrayModel(self.ct, XrayModelConfig(threads=1))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Isocentre (3,), LPS mm."""
        return self.registrar.isocentre_lps_mm

    def pose(self, name: str) -> Pose:
        """The true camera_from_ct of a picture."""
        x, y, z = (self.centre + np.array([6.0, -9.0, 12.0])).tolist()
        return camera_from_positioner(PositionerPose(*_ANGLES_DEG[name], 690.0, (x, y, z)))

    def xray(self, name: str) -> SimulatedXray:
        """The picture "ap" or "lateral"."""
        if name not in self._xrays:
            self._xrays[name] = self.model.render(self.pose(name), self.camera, seed=len(name))
        return self._xrays[name]

    def radiograph(self, name: str) -> Radiograph:
        """As a receiver makes it, knowing nothing but the pixels and I0."""
        return self.xray(name).to_radiograph(source=f"{name} picture")

    def view(self, name: str = "ap") -> View:
        """The picture alone: its camera is the rig."""
        return View(self.radiograph(name), self.camera)

    def start(self, truth: Pose, mm: float = 15.0, deg: float = 8.0, seed: int = 0) -> Pose:
        """The pose with its isocentre moved by ``mm``, turned by ``deg``; directions drawn."""
        directions = np.random.default_rng(seed).normal(size=(2, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        xi = torch.from_numpy(np.concatenate((mm * directions[0], np.deg2rad(deg) * directions[1])))
        return se3.left_increment(
            torch.from_numpy(truth), xi, torch.from_numpy(self.centre)
        ).numpy()

    def error_mm(self, pose: Pose, truth: Pose) -> float:
        """Mean 3-D distance (mTRE) of the corners of a cube of 12 cm around the isocentre."""
        corners = np.array([[x, y, z] for x in (-60, 60) for y in (-60, 60) for z in (-60, 60)])
        points = np.c_[self.centre + corners, np.ones(8)]
        return float(np.linalg.norm(points @ (pose - truth).T, axis=1).mean())


@pytest.fixture(scope="session")
def thorax(example_ct: CTVolume) -> Thorax:
    """One for all tests."""
    return Thorax(example_ct)
