"""Baselines on our projector: the methods that others use, on the same pictures and machine.

All three maximise the same similarity (`baseline_similarity`) over the same 6 numbers, the
increment ``xi`` about the isocentre, through the same three resolutions; and, like the method that
they are compared with, each renders a CT that is averaged to the pixels of the resolution.

- ``adam``: xvr's refinement (Gopalakrishnan et al. 2025; its published defaults): Adam, 1 mm and
  0.01 rad per step, divided by 2 and by 4 more at the next resolutions, reduced tenfold on a
  plateau of 10 steps without a gain of 1e-4, until the third plateau or 500 steps per resolution.
  The gradient comes from the exact Jacobian of our projector.
- ``powell``: SciPy's Powell, directions restarted at each resolution.
- ``cma-es``: the package cma (Hansen), its population rendered as one batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.evaluation.baseline_similarity import MultiscaleGradientNcc
from xray_registration.evaluation.methods import Method, Outcome
from xray_registration.geometry import Camera, check_rigid, se3
from xray_registration.imaging.pyramid import downsample
from xray_registration.imaging.volume import CTVolume
from xray_registration.optional import require
from xray_registration.registration import RegistrationConfig, View
from xray_registration.rendering import AttenuationVolume, JosephProjector

WIDTHS_PX = (64, 128, 256)
"""Columns of the pictures, coarse to fine: xvr's 24, 12, 6 of a 1536-pixel detector."""

# Unit of the derivative-free searches: 1 mm and this many rad.
_ROTATION_UNIT_RAD = 0.01


@dataclass(frozen=True, eq=False)
class _LevelView:
    camera: Camera
    camera_from_rig: Tensor
    similarity: MultiscaleGradientNcc


class _Objective:
    """Mean similarity of all views at one resolution; counts the pictures it renders."""

    def __init__(
        self, projector: JosephProjector, views: Sequence[View], width: int, start: Tensor
    ) -> None:
        self._projector = projector
        self._start = start
        self._centre = torch.from_numpy(np.array(projector.isocentre_lps_mm))
        self.renderings = 0
        self._views = []
        for view in views:
            radiograph, camera = downsample(
                view.radiograph, view.camera, min(width, view.camera.width)
            )
            fixed = torch.from_numpy(np.array(radiograph.attenuation))
            similarity = MultiscaleGradientNcc(fixed, torch.from_numpy(np.array(radiograph.mask)))
            camera_from_rig = torch.from_numpy(np.array(view.camera_from_rig))
            self._views.append(_LevelView(camera, camera_from_rig, similarity))

    def poses(self, xi: Tensor) -> Tensor:
        """(B, 4, 4) of increments (B, 6) in mm and rad."""
        return se3.left_increment(self._start.expand(len(xi), 4, 4), xi, self._centre)

    def __call__(self, xi: Tensor) -> Tensor:
        """(B,) similarity of increments (B, 6); differentiable."""
        poses = self.poses(xi)
        values = [
            view.similarity(self._projector.image(view.camera_from_rig @ poses, view.camera))
            for view in self._views
        ]
        self.renderings += len(xi) * len(values)
        return torch.stack(values).mean(0)

    def loss(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B,) minus the similarity, of x (B, 6) in the units of the searches."""
        scaled = np.atleast_2d(x) * ([1.0] * 3 + [_ROTATION_UNIT_RAD] * 3)
        with torch.no_grad():
            values: NDArray[np.float64] = -self(torch.from_numpy(scaled)).double().numpy()
        # outside of everything the picture is empty and the similarity 0, never NaN
        return np.nan_to_num(values, nan=1.0)


class _Pyramid:
    """The CT's projectors by voxel size; shared by the baselines of one process."""

    def __init__(self, ct: CTVolume) -> None:
        config = RegistrationConfig()
        self.isocentre = np.asarray(ct.bone_box_lps().mean(0))
        self._finest = AttenuationVolume.from_ct(
            ct, energy_kev=config.energy_kev, isolate_patient=config.isolate_patient
        )
        self._projectors: dict[tuple[int, int, int], JosephProjector] = {}

    def projector(self, view: View, pose: Tensor, width: int) -> JosephProjector:
        """With voxels about as large as a pixel of a ``width`` px picture at the isocentre."""
        depth = float((view.camera_from_rig @ pose.numpy())[2] @ np.append(self.isocentre, 1.0))
        columns = min(width, view.camera.width)
        pixel_mm = max(depth, 1.0) / view.camera.fx * view.camera.width / columns
        factors = self._finest.factors_for(pixel_mm)
        if factors not in self._projectors:
            volume = self._finest.coarsened(factors)
            self._projectors[factors] = JosephProjector(volume, self.isocentre)
        return self._projectors[factors]


@lru_cache(maxsize=1)
def _pyramid(ct: CTVolume) -> _Pyramid:
    return _Pyramid(ct)


class _Baseline(Method):
    """Coarse to fine; each resolution starts where the last one ended."""

    def __init__(self, ct: CTVolume) -> None:
        self._pyramid = _pyramid(ct)

    def register(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> Outcome:
        """See `Method`."""
        pose = torch.from_numpy(check_rigid(rig_from_ct_start, "rig_from_ct_start").copy())
        iterations = renderings = 0
        similarity = float("nan")
        for level, width in enumerate(WIDTHS_PX):
            objective = _Objective(
                self._pyramid.projector(views[0], pose, width), views, width, pose
            )
            xi, steps = self._maximise(objective, level)
            with torch.no_grad():
                pose = objective.poses(xi[None])[0]
                similarity = float(objective(xi[None])[0])
            iterations += steps
            renderings += objective.renderings
        return Outcome(
            rig_from_ct=pose.numpy().copy(),
            similarity=similarity,
            iterations=iterations,
            renderings=renderings,
        )

    def warm_up(self, views: Sequence[View], rig_from_ct_start: NDArray[np.float64]) -> None:
        """One value and one gradient at each resolution."""
        pose = torch.from_numpy(check_rigid(rig_from_ct_start, "rig_from_ct_start").copy())
        for width in WIDTHS_PX:
            projector = self._pyramid.projector(views[0], pose, width)
            xi = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
            _Objective(projector, views, width, pose)(xi).sum().backward()

    @abstractmethod
    def _maximise(self, objective: _Objective, level: int) -> tuple[Tensor, int]:
        """The increment (6,) float64 in mm and rad, and how many steps it took."""


@dataclass(frozen=True)
class AdamSettings:
    """xvr's defaults."""

    step_mm: float = 1.0
    step_rad: float = 1e-2
    divisors: tuple[float, ...] = (1.0, 2.0, 8.0)
    steps: int = 500
    patience: int = 10
    threshold: float = 1e-4
    plateaus: int = 3


class Adam(_Baseline):
    """See the module."""

    name = "adam"

    def __init__(self, ct: CTVolume, settings: AdamSettings | None = None) -> None:
        super().__init__(ct)
        self._settings = settings or AdamSettings()

    def settings(self) -> dict[str, Any]:
        """See `Method`."""
        return {"widths_px": WIDTHS_PX, **asdict(self._settings)}

    def _maximise(self, objective: _Objective, level: int) -> tuple[Tensor, int]:
        settings, divisor = self._settings, self._settings.divisors[level]
        shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        turn = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam(
            [
                {"params": [turn], "lr": settings.step_rad / divisor},
                {"params": [shift], "lr": settings.step_mm / divisor},
            ],
            maximize=True,
        )
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max",
            factor=0.1,
            patience=settings.patience,
            threshold=settings.threshold,
        )
        rate, plateaus = float("inf"), 0
        steps = 0
        while steps < settings.steps and plateaus < settings.plateaus:
            optimiser.zero_grad()
            value = objective(torch.cat((shift, turn))[None])[0]
            value.backward()
            optimiser.step()
            scheduler.step(float(value.detach()))
            steps += 1
            now = float(optimiser.param_groups[0]["lr"])
            if now < rate:  # the first step counts as one, as there
                rate, plateaus = now, plateaus + 1
        return torch.cat((shift, turn)).detach(), steps


@dataclass(frozen=True)
class SearchSettings:
    """Of a derivative-free search, per resolution; lengths in mm and hundredths of a radian.

    ``population`` is that of CMA-ES. The budgets are what a comparison can afford: each costs
    about as much as Adam or more.
    """

    first_step: tuple[float, ...] = (10.0, 2.0, 0.5)
    evaluations: tuple[int, ...] = (600, 300, 120)
    population: int = 12
    tolerance: tuple[float, ...] = (0.2, 0.05, 0.02)
    seed: int = 1


class Powell(_Baseline):
    """See the module."""

    name = "powell"

    def __init__(self, ct: CTVolume, settings: SearchSettings | None = None) -> None:
        super().__init__(ct)
        self._settings = settings or SearchSettings()

    def settings(self) -> dict[str, Any]:
        """See `Method`."""
        return {"widths_px": WIDTHS_PX, **asdict(self._settings)}

    def _maximise(self, objective: _Objective, level: int) -> tuple[Tensor, int]:
        from scipy.optimize import minimize

        found = minimize(
            lambda x: float(objective.loss(x)[0]),
            np.zeros(6),
            method="Powell",
            options={
                "direc": np.eye(6) * self._settings.first_step[level],
                "xtol": self._settings.tolerance[level],
                "ftol": 1e-6,
                "maxfev": self._settings.evaluations[level],
            },
        )
        return _increment(found.x), int(found.nit)


class CmaEs(_Baseline):
    """See the module."""

    name = "cma-es"

    def __init__(self, ct: CTVolume, settings: SearchSettings | None = None) -> None:
        super().__init__(ct)
        require("cma")
        self._settings = settings or SearchSettings()

    def settings(self) -> dict[str, Any]:
        """See `Method`."""
        return {"widths_px": WIDTHS_PX, **asdict(self._settings)}

    def _maximise(self, objective: _Objective, level: int) -> tuple[Tensor, int]:
        cma = require("cma")
        search = cma.CMAEvolutionStrategy(
            np.zeros(6),
            self._settings.first_step[level],
            {
                "maxfevals": self._settings.evaluations[level],
                "popsize": self._settings.population,
                "tolx": 0.1 * self._settings.tolerance[level],
                "seed": self._settings.seed,
                "verbose": -9,
            },
        )
        while not search.stop():
            candidates = search.ask()
            search.tell(candidates, objective.loss(np.array(candidates)).tolist())
        return _increment(search.result.xbest), int(search.result.iterations)


def _increment(x: Any) -> Tensor:
    return torch.from_numpy(
        np.asarray(x, dtype=np.float64) * ([1.0] * 3 + [_ROTATION_UNIT_RAD] * 3)
    )
