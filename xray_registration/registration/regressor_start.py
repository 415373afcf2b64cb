"""Start poses from the pictures themselves: a trained regressor proposes, the registrar refines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration.view import View

if TYPE_CHECKING:
    from xray_registration.learning.regressor import PoseDistribution

DEFAULT_COUNT = 24
# Density that any pose keeps in a view: one picture that misleads does not overrule the others.
_FLOOR = -20.0


class RegressorStart:
    """A checkpoint's regressor, for one CT."""

    def __init__(self, checkpoint: Path, ct: CTVolume) -> None:
        """Load the weights.

        Raises:
            InputError: damaged weights, or those of another CT.
        """
        # here, not above: a registration with a start pose needs no network
        from xray_registration.learning.regressor import load_regressor

        self.path = Path(checkpoint)
        self._regressor, loaded = load_regressor(self.path)
        loaded.check_ct(ct)
        self.sha256 = str(loaded.facts["weights_sha256"])
        self.is_agnostic = loaded.is_agnostic

    @classmethod
    def for_ct(cls, ct: CTVolume, checkpoint: Path | None = None) -> RegressorStart:
        """With the given weights, or with those that come with the package for this CT.

        Raises:
            InputError: none given and none shipped for this CT; as the constructor.
        """
        from xray_registration.learning.regressor import KIND
        from xray_registration.learning.shipped import shipped_weights_for

        path = checkpoint or shipped_weights_for(ct, KIND)
        if path is None:
            raise InputError(
                f"{ct.path or 'this CT'}: no start pose, and the package carries no start-pose "
                "weights for this CT; give a start pose, or train once for the CT (xray-"
                "registration train CT --out DIR) and give DIR/regressor.json as the checkpoint."
            )
        return cls(Path(path), ct)

    def propose(
        self, views: Sequence[View], count: int = DEFAULT_COUNT
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Starts rig_from_ct (S, 4, 4), heaviest first, and weights (S,), which sum to 1.

        Every view proposes as many as it is asked for; each proposal is weighed by all views.

        Raises:
            InputError: no views; a view with hardly a usable pixel in the regressor's field.
        """
        if not views:
            raise InputError("no views were given; expected one or more.")
        said = [self._regressor.distribution(view.radiograph, view.camera) for view in views]
        rigs = [torch.from_numpy(np.array(view.camera_from_rig)) for view in views]
        proposed = torch.cat(
            [
                torch.linalg.inv(rig) @ distribution.hypotheses(count)[0]
                for rig, distribution in zip(rigs, said, strict=True)
            ]
        )
        density = _log_density(proposed, said, rigs)
        order = density.argsort(descending=True, stable=True)[:count]
        weights = density[order].softmax(0)
        return _rigid(proposed[order]), weights.numpy()


def _log_density(
    rig_from_ct: Tensor, said: Sequence[PoseDistribution], rigs: Sequence[Tensor]
) -> Tensor:
    """(N,) of poses (N, 4, 4), of all views together."""
    each = [
        distribution.log_density(rig @ rig_from_ct).clamp_min(_FLOOR)
        for rig, distribution in zip(rigs, said, strict=True)
    ]
    return torch.stack(each).sum(0)


def _rigid(matrices: Tensor) -> NDArray[np.float64]:
    """Free of the rounding that float products leave in rotations."""
    u, _, vt = torch.linalg.svd(matrices[:, :3, :3])
    result = matrices.clone()
    result[:, :3, :3] = u @ vt
    return np.asarray(result.numpy())
