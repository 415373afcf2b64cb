"""Metal and blades that a network finds in the picture alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.imaging.pyramid import downsample
from xray_registration.registration.config import SHIPPED_MASK
from xray_registration.registration.objective import isocentre_depth, level_width
from xray_registration.registration.view import View

if TYPE_CHECKING:
    from xray_registration.learning.mask_network import MaskNetwork

_SMALLEST_PX = 32
# As sure as this is sure enough: a pixel more round metal costs more than it saves
_LEAST_LOGIT = 0.0


@dataclass(frozen=True, eq=False)
class LearnedMask:
    """Attributes: the network, in evaluation mode; isocentre_lps_mm (3,) of the CT."""

    network: MaskNetwork
    isocentre_lps_mm: np.ndarray

    def applied(self, view: View, rig_from_ct: Tensor) -> View:
        """The view without metal and blades.

        Args:
            view: any.
            rig_from_ct: (S, 4, 4); of them only the distance from the source is used, for the size
                of a pixel.
        """
        # here, not above: a registration without it needs no network
        from xray_registration.learning.mask_network import mask_input

        poses = torch.from_numpy(np.array(view.camera_from_rig)) @ rig_from_ct
        depth = isocentre_depth(poses, self.isocentre_lps_mm)
        width = level_width(view.camera, depth, self.network.config.pixel_mm)
        small, _ = downsample(view.radiograph, view.camera, width)
        usable = np.array(small.mask)
        if min(usable.shape) < _SMALLEST_PX or not usable.any():
            return view
        device = next(self.network.parameters()).device
        picture = torch.from_numpy(np.array(small.attenuation))[None].to(device)
        with torch.no_grad():
            logits = self.network(mask_input(picture, torch.from_numpy(usable)[None].to(device)))
        size = (view.radiograph.height, view.radiograph.width)
        fine = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0]
        found = (fine > _LEAST_LOGIT).any(0).cpu().numpy()
        return replace(view, radiograph=view.radiograph.without(found, "found_by_network"))


def loaded_mask(
    checkpoint: str, isocentre_lps_mm: np.ndarray, device: torch.device | str
) -> LearnedMask:
    """From NAME.json of training/train_mask.py, or ``SHIPPED_MASK``.

    Raises:
        InputError: damaged weights, or no such network.
    """
    from xray_registration.learning.checkpoint import load_checkpoint
    from xray_registration.learning.mask_network import KIND, mask_network_from
    from xray_registration.learning.shipped import shipped_weights

    path = Path(checkpoint)
    if checkpoint == SHIPPED_MASK:
        found = shipped_weights(KIND)
        if not found:
            raise InputError(
                "mask_network is 'shipped': this installation carries no such weights."
            )
        path = found[0]
    network = mask_network_from(load_checkpoint(path, KIND))
    return LearnedMask(network.to(device).requires_grad_(False), isocentre_lps_mm)
