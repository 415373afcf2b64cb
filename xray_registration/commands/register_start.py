"""Where ``register`` starts: a pose file, or what a trained network sees in the images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.imaging.volume import CTVolume
    from xray_registration.registration import RegistrationConfig, View

_SPREAD_OF_MANY = 2


class Start(Protocol):
    """Attributes: ct_axes: axes of the result file."""

    ct_axes: str

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Starts (S, 4, 4), LPS mm, the likeliest first."""

    def adapted(self, config: RegistrationConfig) -> RegistrationConfig:
        """The configuration for this many starts."""

    def record(self) -> dict[str, Any]:
        """What the result file says of it beside the pose."""


class GivenStart:
    """POSE.json."""

    def __init__(self, path: str) -> None:
        from xray_registration.geometry.json_files import read_pose

        self._pose, self.ct_axes = read_pose(path)

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """See `Start`; the views do not matter."""
        return self._pose[None]

    def adapted(self, config: RegistrationConfig) -> RegistrationConfig:
        """See `Start`."""
        return config

    def record(self) -> dict[str, Any]:
        """See `Start`."""
        return {}


class NetworkStart:
    """A regressor's proposals."""

    ct_axes = "lps"

    def __init__(self, ct: CTVolume, checkpoint: str | None) -> None:
        from xray_registration.registration.regressor_start import RegressorStart

        path = None if checkpoint is None else Path(checkpoint)
        self._regressor = RegressorStart.for_ct(ct, path)
        if self._regressor.is_agnostic:
            print(f"{self._regressor.path}: not trained for this CT (agnostic)", file=sys.stderr)

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """See `Start`."""
        return self._regressor.propose(views)[0]

    def adapted(self, config: RegistrationConfig) -> RegistrationConfig:
        """Fewer scattered starts about each: there are many, scattered already."""
        count = min(config.spread.count, _SPREAD_OF_MANY)
        return replace(config, spread=replace(config.spread, count=count))

    def record(self) -> dict[str, Any]:
        """See `Start`."""
        return {
            "start_weights": {
                "file": self._regressor.path.name,
                "sha256": self._regressor.sha256,
                "agnostic": self._regressor.is_agnostic,
            }
        }
