"""A trained pose regressor: radiograph + camera -> weighted hypotheses of camera_from_ct."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.learning.canonical import CanonicalCamera, canonical_view, network_input
from xray_registration.learning.checkpoint import Checkpoint, described, load_checkpoint
from xray_registration.learning.network import (
    CrowdNetwork,
    Mixture,
    NetworkConfig,
    PoseNetwork,
)
from xray_registration.learning.pose_space import UNIT_MM, PoseSpace

KIND = "pose_regressor"


@dataclass(frozen=True, eq=False)
class PoseDistribution:
    """What one picture says of the pose.

    Attributes:
        mixture: of the canonical camera's six numbers, a batch of one.
        space: what the numbers mean.
        camera_from_canonical: (3, 3) float64.
    """

    mixture: Mixture
    space: PoseSpace
    camera_from_canonical: Tensor

    def hypotheses(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` poses camera_from_ct (count, 4, 4), float64, and weights (count,), heaviest
        first.

        The mean of the whole, the components' means, then a fixed evenly spread (Sobol) sample of
        the mixture, so that a wide distribution is covered and a narrow one is sampled densely. The
        weights are densities and sum to 1.
        """
        if count < 1:
            raise InputError(f"count is {count}; expected 1 or more.")
        order = self.mixture.weights[0].argsort(descending=True)
        means = torch.cat((self.mixture.mean, self.mixture.means[0, order])).double()
        kept = means[:count]
        if count > len(kept):
            kept = torch.cat((kept, self._sample(count - len(kept))))
        kept = self.space.clamped(kept)
        density = self.log_density_of_numbers(kept)
        weights = density.softmax(0)
        order = weights.argsort(descending=True, stable=True)
        return self._poses(kept[order]), weights[order]

    def log_density(self, camera_from_ct: Tensor) -> Tensor:
        """Log density (N,) of poses (N, 4, 4)."""
        canonical = camera_from_ct.double().clone()
        canonical[:, :3] = self.camera_from_canonical.mT @ canonical[:, :3]
        return self.log_density_of_numbers(self.space.encode(canonical))

    def log_density_of_numbers(self, numbers: Tensor) -> Tensor:
        """Log density (N,) of numbers (N, 6)."""
        mixture = self.mixture
        count = len(numbers)
        many = Mixture(
            mixture.logits.double().expand(count, -1),
            mixture.means.double().expand(count, -1, -1),
            mixture.log_scales.double().expand(count, -1, -1),
        )
        return many.log_density(numbers)

    def _sample(self, count: int) -> Tensor:
        from scipy.stats import qmc

        power = max(1, int(np.ceil(np.log2(count))))
        drawn = qmc.Sobol(7, scramble=True, seed=0).random_base2(power)[:count]
        edges = self.mixture.weights[0].double().cumsum(0)
        place = torch.from_numpy(drawn[:, 0]).clamp(max=float(edges[-1]) - 1e-9)
        component = torch.searchsorted(edges, place, right=True).clamp(max=len(edges) - 1)
        # inverse of Laplace's distribution function
        p = torch.from_numpy(drawn[:, 1:]).clamp(1e-3, 1 - 1e-3) - 0.5
        deviates = -p.sign() * torch.log1p(-2 * p.abs())
        scales = self.mixture.log_scales[0].double().exp()
        return self.mixture.means[0].double()[component] + deviates * scales[component]

    def _poses(self, numbers: Tensor) -> Tensor:
        poses = self.space.decode(numbers)
        poses[:, :3] = self.camera_from_canonical @ poses[:, :3]
        return poses


class PoseRegressor:
    """The network with all that its checkpoint says."""

    def __init__(self, network: PoseNetwork, space: PoseSpace, canonical: CanonicalCamera) -> None:
        self._network = network.eval()
        self.space = space
        self.canonical = canonical

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> PoseRegressor:
        """Rebuild it.

        Raises:
            InputError: the description or the tensors do not fit this version.
        """
        facts = checkpoint.facts
        with described(checkpoint, "regressor"):
            canonical = CanonicalCamera(**facts["camera"])
            space = PoseSpace(**facts["pose_space"])
            network = pose_network(NetworkConfig(**facts["network"]), canonical, space)
            network.load_state_dict(checkpoint.tensors)
        return cls(network, space, canonical)

    @torch.no_grad()
    def distribution(self, radiograph: Radiograph, camera: Camera) -> PoseDistribution:
        """What the radiograph says of camera_from_ct.

        Raises:
            InputError: hardly anything usable in the regressor's field of view.
        """
        image, usable, rotation = canonical_view(radiograph, camera, self.canonical)
        mixture = self._network(network_input(image[None], usable[None]))
        return PoseDistribution(mixture, self.space, torch.from_numpy(rotation.T.copy()))

    def limits(self, camera: Camera) -> str | None:
        """Why this camera is outside of what was trained, or None."""
        field = camera.width / camera.fx
        if field < self.canonical.field_rad / 2:
            return (
                f"the picture shows {field:.3f} rad, less than half of the "
                f"{self.canonical.field_rad:.3f} rad that the regressor was trained on"
            )
        return None


def load_regressor(path: Path) -> tuple[PoseRegressor, Checkpoint]:
    """From NAME.json with its safetensors; errors as `load_checkpoint`."""
    checkpoint = load_checkpoint(path, KIND)
    return PoseRegressor.from_checkpoint(checkpoint), checkpoint


def pose_network(
    config: NetworkConfig, canonical: CanonicalCamera, space: PoseSpace, patients: int = 0
) -> PoseNetwork:
    """A network with random weights for pictures of this camera and poses of this space.

    With ``patients`` a `CrowdNetwork` of so many.
    """
    across = canonical.field_rad * space.source_isocentre_mm / UNIT_MM
    if patients:
        return CrowdNetwork(config, canonical.size, across, patients)
    return PoseNetwork(config, canonical.size, across)


def facts_of(
    space: PoseSpace, canonical: CanonicalCamera, network: NetworkConfig
) -> dict[str, Any]:
    """What `from_checkpoint` needs, as plain values."""
    return {
        "camera": asdict(canonical),
        "network": {**asdict(network), "blocks": list(network.blocks)},
        "pose_space": {**asdict(space), "isocentre_lps_mm": list(space.isocentre_lps_mm)},
    }
