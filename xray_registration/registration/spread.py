"""Starts scattered about a given one: for when the given one does not lead to a good pose."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import SpreadConfig


def spread_starts(start: Tensor, centre_lps_mm: Tensor, config: SpreadConfig) -> Tensor:
    """``config.count`` poses (count, 4, 4) about ``start`` (4, 4).

    A scrambled Sobol sequence with a fixed seed, mapped to a normal distribution: the same poses in
    every run, and more evenly spread than independent draws.
    """
    from scipy.stats import norm, qmc

    drawn = qmc.Sobol(6, scramble=True, seed=config.seed).random_base2(
        math.ceil(math.log2(config.count))
    )
    deviates = norm.ppf(drawn[: config.count])
    sigma = np.array([config.translation_mm] * 3 + [math.radians(config.rotation_deg)] * 3)
    return se3.left_increment(
        start.expand(config.count, 4, 4), torch.from_numpy(deviates * sigma), centre_lps_mm
    )
