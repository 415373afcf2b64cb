"""One level off: poses in which every vertebra lies where its neighbour should.

Vertebrae look like their neighbours, and the classic failure of a registration of the spine is to
be off by one of them. So the neighbouring poses are tried on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xray_registration.imaging.labels import LabelMap

_VERTEBRA = re.compile(r"vertebrae?_([CTLS])(\d+)$")
_REGIONS = {"C": 0, "T": 7, "L": 19, "S": 24}


@dataclass(frozen=True, eq=False)
class LevelShift:
    """A pose that is off by one vertebra.

    Attributes:
        ct_from_ct: (4, 4) translation in mm, CT in LPS: rig_from_ct @ it shows each vertebra in
            the place of its neighbour.
        level: the vertebra nearest to the isocentre.
        taken_for: the one that would be taken for it.
    """

    ct_from_ct: NDArray[np.float64]
    level: str
    taken_for: str


def level_shifts(labels: LabelMap, isocentre_lps_mm: NDArray[np.float64]) -> list[LevelShift]:
    """One vertebra up and one down; empty where the label map holds no two neighbours.

    Vertebrae are known by names such as vertebrae_T7.
    """
    order = {}
    for name in labels.names.values():
        match = _VERTEBRA.search(name)
        if match:
            order[_REGIONS[match[1]] + int(match[2])] = name
    if len(order) < 2:
        return []
    centroids = labels.centroids_lps_mm()
    nearest = min(
        order, key=lambda n: float(np.linalg.norm(centroids[order[n]] - isocentre_lps_mm))
    )
    shifts = []
    for other in (nearest - 1, nearest + 1):
        if other in order:
            moved = np.eye(4)
            moved[:3, 3] = centroids[order[nearest]] - centroids[order[other]]
            shifts.append(LevelShift(moved, order[nearest], order[other]))
    return shifts
