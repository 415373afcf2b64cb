"""Named targets: the points of the anatomy whose 3-D error is the figure that counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume


@dataclass(frozen=True, eq=False)
class TargetSet:
    """Points with names.

    Attributes:
        names: of each point; points of one structure may share its name.
        points_lps_mm: (N, 3), N >= 1, read-only.
        description: one line for reports: what these points are.
    """

    names: tuple[str, ...]
    points_lps_mm: NDArray[np.float64]
    description: str

    def __post_init__(self) -> None:
        points = np.array(self.points_lps_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise InputError(
                f"targets ({self.description}) have shape {points.shape}; expected (N, 3), N >= 1."
            )
        if not np.isfinite(points).all():
            raise InputError(f"targets ({self.description}) hold NaN or infinite coordinates.")
        if len(self.names) != len(points):
            raise InputError(
                f"targets ({self.description}): {len(self.names)} names for {len(points)} points."
            )
        points.setflags(write=False)
        object.__setattr__(self, "points_lps_mm", points)

    @property
    def centre_lps_mm(self) -> NDArray[np.float64]:
        """(3,) mean of the points."""
        return np.asarray(self.points_lps_mm.mean(axis=0))

    def mean_by_name(self, errors_mm: ArrayLike) -> dict[str, float]:
        """Name to the mean of ``errors_mm`` (N,) over the points of that name."""
        values = np.asarray(errors_mm, dtype=np.float64)
        if values.shape != (len(self.names),):
            raise InputError(f"{values.shape} errors for {len(self.names)} targets.")
        names = np.array(self.names)
        return {name: float(values[names == name].mean()) for name in dict.fromkeys(self.names)}


def landmark_targets(landmarks_lps_mm: Mapping[str, ArrayLike], source: str) -> TargetSet:
    """Landmarks by name, (3,) LPS mm each.

    Raises:
        InputError: none, or one that is not three finite numbers; ``source`` is named.
    """
    if not landmarks_lps_mm:
        raise InputError(f"{source}: no landmarks; expected one or more.")
    for name, point in landmarks_lps_mm.items():
        if np.asarray(point).shape != (3,):
            raise InputError(f"{source}: landmark {name!r} is {point!r}; expected (x, y, z) in mm.")
    points = np.array([np.asarray(point, np.float64) for point in landmarks_lps_mm.values()])
    return TargetSet(tuple(landmarks_lps_mm), points, f"landmarks of {source}")


def centroid_targets(labels: LabelMap, structures: Iterable[str]) -> TargetSet:
    """Centroid of every structure whose name matches one of the patterns (``*`` and ``?``).

    Raises:
        InputError: a pattern matches nothing.
    """
    names = matching_names(labels, structures)
    centroids = labels.centroids_lps_mm()
    points = np.stack([centroids[name] for name in names])
    return TargetSet(tuple(names), points, f"centroids of {_listed(names)}")


def surface_targets(
    labels: LabelMap, structures: Iterable[str], points_each: int, seed: int = 0
) -> TargetSet:
    """``points_each`` points drawn evenly from the surface of each matching structure.

    Raises:
        InputError: a pattern matches nothing; ``points_each`` < 1.
    """
    if points_each < 1:
        raise InputError(f"points_each is {points_each}; expected 1 or more.")
    names = matching_names(labels, structures)
    parts = [labels.surface_points_lps_mm(name, points_each, seed) for name in names]
    owners = [name for name, part in zip(names, parts, strict=True) for _ in range(len(part))]
    return TargetSet(tuple(owners), np.concatenate(parts), f"surface points of {_listed(names)}")


def bone_surface_targets(ct: CTVolume, threshold_hu: float, n: int, seed: int = 0) -> TargetSet:
    """``n`` points of the surface of the largest connected piece above ``threshold_hu``.

    For a CT without labels. A head holder or a couch is a piece of its own.

    Raises:
        InputError: nothing is above the threshold.
    """
    from scipy import ndimage

    dense = ct.hu > threshold_hu
    labelled, count = ndimage.label(dense)
    if not count:
        raise InputError(
            f"{ct.path or 'CT volume'}: no voxel is above {threshold_hu:g} HU; there is no bone to "
            "take targets from."
        )
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    piece = labelled == int(sizes.argmax())
    shell = piece & ~ndimage.binary_erosion(piece)
    kji = np.argwhere(shell)
    if len(kji) > n:
        rows = np.random.default_rng(seed).choice(len(kji), size=n, replace=False)
        kji = kji[np.sort(rows)]
    points = ct.lps_of_index(kji[:, ::-1])
    return TargetSet(
        ("bone",) * len(points), points, f"bone surface points (above {threshold_hu:g} HU)"
    )


def matching_names(labels: LabelMap, patterns: Iterable[str]) -> list[str]:
    """Names in ``labels`` that match, in the order of the patterns, none twice.

    Raises:
        InputError: a pattern matches nothing; the message lists the names there are.
    """
    names = list(labels.names.values())
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [name for name in names if fnmatchcase(name, pattern)]
        if not hits:
            raise InputError(
                f"{labels.path or 'label map'}: no structure matches {pattern!r}; it holds: "
                f"{', '.join(sorted(names))}."
            )
        found.update(dict.fromkeys(hits))
    if not found:
        raise InputError("no structures were named; expected one or more names or patterns.")
    return list(found)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} structures ({names[0]} to {names[-1]})"
