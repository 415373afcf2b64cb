"""Starts scattered about a given one: for when the given one does not lead to a good pose."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from xray_registration.geometry import se3
from xray_registration.registration.config import SpreadConfig


def spread_starts(
    starts: Tensor, centre_lps_mm: Tensor, config: SpreadConfig
) -> tuple[Tensor, Tensor]:
    """About ``config.candidates`` poses (N, 4, 4) about all ``starts`` (S, 4, 4), and the start of
    each (N, 4, 4).

    A scrambled Sobol sequence with a fixed seed, mapped to a normal distribution: the same poses in
    every run, and more evenly spread than independent draws.
    """
    from scipy.stats import norm, qmc

    each = max(1, round(config.candidates / len(starts)))
    drawn = qmc.Sobol(6, scramble=True, seed=config.seed).random_base2(
        math.ceil(math.log2(each * len(starts)))
    )
    deviates = norm.ppf(drawn[: each * len(starts)])
    sigma = np.array([config.translation_mm] * 3 + [math.radians(config.rotation_deg)] * 3)
    given = starts.repeat_interleave(each, 0)
    return given, se3.left_increment(given, torch.from_numpy(deviates * sigma), centre_lps_mm)


def distinct(
    poses: Tensor,
    rank: Tensor,
    count: int,
    apart_mm: float,
    centre_lps_mm: Tensor,
    rotation_scale_mm: float,
) -> Tensor:
    """Indices of at most ``count`` of the poses (N, 4, 4), the highest ``rank`` (N,) first, each
    further than ``apart_mm`` from those before it (1 rad as ``rotation_scale_mm``): they are to
    lead to different optima.
    """
    picked: list[int] = []
    for n in rank.argsort(descending=True, stable=True).tolist():
        if len(picked) == count:
            break
        if picked:
            here = poses[n].expand(len(picked), 4, 4)
            between = se3.distance_mm(here, poses[picked], centre_lps_mm, rotation_scale_mm)
            if float(between.min()) < apart_mm:
                continue
        picked.append(n)
    return torch.tensor(picked, dtype=torch.long)
