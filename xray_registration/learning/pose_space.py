"""The poses that a regressor is trained for, and the six numbers that it predicts.

The six numbers: where the isocentre is seen (along columns and rows, as mm at the nominal
distance), how far it is (log of depth over nominal, as mm), and the rotation from the nominal view
AS SEEN ALONG THE RAY to the isocentre (rotation vector, times ``rotation_scale_mm``). The picture
of an object that is moved sideways is nearly the same but for a shift; with the rotation taken
along its own ray the three rotation numbers do not change then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.geometry import PositionerPose, camera_from_positioner, se3

UNIT_MM = 30.0
"""One unit of the network's six outputs."""


@dataclass(frozen=True)
class PoseSpace:
    """C-arm angles and shifts about a point of the CT; all half widths of even distributions.

    Attributes:
        isocentre_lps_mm: the point of the CT at which pictures are aimed.
        primary_deg: LAO/RAO, about ``primary_centre_deg``.
        secondary_deg: CRAN/CAUD, about ``secondary_centre_deg``.
        roll_deg: of the detector about the beam, about ``roll_centre_deg``.
        shift_mm: of the isocentre across the beam, either direction.
        depth_mm: of the isocentre along the beam.
        source_isocentre_mm: nominal distance.
        rotation_scale_mm: 1 rad weighs as much as so many mm.
    """

    isocentre_lps_mm: tuple[float, float, float]
    primary_deg: float = 38.0
    secondary_deg: float = 22.0
    roll_deg: float = 12.0
    shift_mm: float = 36.0
    depth_mm: float = 70.0
    source_isocentre_mm: float = 700.0
    primary_centre_deg: float = 0.0
    secondary_centre_deg: float = 0.0
    roll_centre_deg: float = 0.0
    rotation_scale_mm: float = 100.0

    def __post_init__(self) -> None:
        point = tuple(float(x) for x in self.isocentre_lps_mm)
        if len(point) != 3 or not np.isfinite(point).all():
            raise InputError(f"isocentre_lps_mm is {self.isocentre_lps_mm}; expected 3 numbers.")
        object.__setattr__(self, "isocentre_lps_mm", point)
        for name in ("primary_deg", "secondary_deg", "roll_deg", "shift_mm", "depth_mm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        if not 0 <= self.depth_mm < self.source_isocentre_mm:
            raise InputError(
                f"depth_mm is {self.depth_mm}, source_isocentre_mm {self.source_isocentre_mm}; "
                "expected the isocentre to stay in front of the focal spot."
            )
        if self.secondary_deg + abs(self.secondary_centre_deg) > 90 or self.primary_deg > 180:
            raise InputError("primary_deg goes up to 180, secondary_deg up to 90.")
        if not self.rotation_scale_mm > 0:
            raise InputError(f"rotation_scale_mm is {self.rotation_scale_mm}; expected > 0.")

    @property
    def centre(self) -> Tensor:
        """The isocentre (3,), float64."""
        return torch.tensor(self.isocentre_lps_mm, dtype=torch.float64)

    @property
    def nominal(self) -> NDArray[np.float64]:
        """camera_from_ct (4, 4) in the middle of all ranges."""
        return camera_from_positioner(
            PositionerPose(
                _wrapped(self.primary_centre_deg),
                self.secondary_centre_deg,
                self.source_isocentre_mm,
                self.isocentre_lps_mm,
                _wrapped(self.roll_centre_deg),
            )
        )

    def sample(self, random: np.random.Generator, count: int) -> Tensor:
        """``count`` poses camera_from_ct (count, 4, 4), float64, drawn evenly from the ranges."""
        a, b, r, x, y, d = random.uniform(-1.0, 1.0, (count, 6)).T
        # camera_from_positioner for all of them at once
        primary = np.radians(self.primary_centre_deg + a * self.primary_deg)
        secondary = np.radians(self.secondary_centre_deg + b * self.secondary_deg)
        roll = np.radians(self.roll_centre_deg + r * self.roll_deg)
        at_zero = camera_from_positioner(PositionerPose(0.0, 0.0, 1.0))[:3, :3]
        gantry = _rotations(primary, 2) @ _rotations(-secondary, 0)
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3, :3] = _rotations(roll, 2) @ at_zero @ gantry.transpose(0, 2, 1)
        place = (self.shift_mm * x, self.shift_mm * y, self.source_isocentre_mm + d * self.depth_mm)
        poses[:, :3, 3] = np.stack(place, 1) - poses[:, :3, :3] @ np.array(self.isocentre_lps_mm)
        return torch.from_numpy(poses)

    def clamped(self, numbers: Tensor, slack: float = 1.25) -> Tensor:
        """Place and depth (the first three of (..., 6)) kept within ``slack`` times the ranges.

        A wide hypothesis' tails may lie anywhere, also with the patient about the focal spot.
        """
        distance = self.source_isocentre_mm
        depth = min(slack * self.depth_mm, 0.8 * distance)
        aside = slack * self.shift_mm * distance / (distance - self.depth_mm)
        low = distance * math.log1p(-depth / distance)
        high = distance * math.log1p(depth / distance)
        limits = numbers.new_tensor([[-aside, -aside, low], [aside, aside, high]]) / UNIT_MM
        inside = torch.maximum(torch.minimum(numbers[..., :3], limits[1]), limits[0])
        return torch.cat((inside, numbers[..., 3:]), -1)

    @property
    def nominal_rotation(self) -> Tensor:
        """(3, 3) of `nominal`, float64."""
        return torch.from_numpy(self.nominal[:3, :3].copy())

    def encode(self, camera_from_ct: Tensor) -> Tensor:
        """The six numbers (..., 6) of poses (..., 4, 4)."""
        centre = self.centre.to(camera_from_ct)
        rotation = camera_from_ct[..., :3, :3]
        place = (rotation @ centre[:, None])[..., 0] + camera_from_ct[..., :3, 3]
        along_ray = _turn_to_ray(place).mT @ rotation
        w = se3.so3_log(along_ray @ self.nominal_rotation.to(along_ray).mT)
        z = place[..., 2:]
        seen = self.source_isocentre_mm * place[..., :2] / z
        depth = self.source_isocentre_mm * (z / self.source_isocentre_mm).log()
        return torch.cat((seen, depth, self.rotation_scale_mm * w), -1) / UNIT_MM

    def decode(self, numbers: Tensor) -> Tensor:
        """Poses camera_from_ct (..., 4, 4) of six numbers (..., 6): the inverse of `encode`."""
        mm = numbers * UNIT_MM
        z = self.source_isocentre_mm * (mm[..., 2:3] / self.source_isocentre_mm).exp()
        place = torch.cat((mm[..., :2] / self.source_isocentre_mm * z, z), -1)
        turned = se3.so3_exp(mm[..., 3:] / self.rotation_scale_mm)
        turned = turned @ self.nominal_rotation.to(numbers)
        rotation = _turn_to_ray(place) @ turned
        translation = place - (rotation @ self.centre.to(numbers)[:, None])[..., 0]
        top = torch.cat((rotation, translation[..., None]), -1)
        last = torch.zeros_like(top[..., :1, :])
        last[..., 3] = 1.0
        return torch.cat((top, last), -2)


def _rotations(radians: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """(N, 3, 3) about x (0) or z (2)."""
    first, second = (n for n in range(3) if n != axis)
    matrices = np.tile(np.eye(3), (len(radians), 1, 1))
    matrices[:, first, first] = matrices[:, second, second] = np.cos(radians)
    matrices[:, second, first] = np.sin(radians)
    matrices[:, first, second] = -np.sin(radians)
    return matrices


def _wrapped(degrees: float) -> float:
    """The same angle within +-180: ranges may go on beyond it."""
    return (degrees + 180.0) % 360.0 - 180.0


def _turn_to_ray(place: Tensor) -> Tensor:
    """The smallest rotation (..., 3, 3) that takes the beam axis z to the ray to ``place``."""
    ray = place / place.norm(dim=-1, keepdim=True)
    x, y, z = ray.unbind(-1)
    share = 1.0 / (1.0 + z)  # z > 0: what is seen lies in front of the focal spot
    rows = (
        torch.stack((1.0 - x * x * share, -x * y * share, x), -1),
        torch.stack((-x * y * share, 1.0 - y * y * share, y), -1),
        torch.stack((-x, -y, z), -1),
    )
    return torch.stack(rows, -2)
