"""Label maps: which voxel belongs to which bone, on the grid of its CT."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.grid import check_affine, largest_grid_offset_mm, spacing_of
from xray_registration.imaging.volume import CTVolume
from xray_registration.imaging.volume_files import read_volume

_LARGEST_LABEL = 65535
_GRID_TOLERANCE = 0.1  # of the smallest voxel side


def _bone_names() -> dict[int, str]:
    """Bones among the class ids of TotalSegmentator 2's task 'total' (version 1 numbers differ)."""
    names = {25: "sacrum", 26: "vertebrae_S1"}
    levels = [("L", 5), ("T", 12), ("C", 7)]
    spine = [f"vertebrae_{letter}{n}" for letter, count in levels for n in range(count, 0, -1)]
    names.update({27 + n: name for n, name in enumerate(spine)})
    paired = {69: "humerus", 71: "scapula", 73: "clavicula", 75: "femur", 77: "hip"}
    for first, name in paired.items():
        names[first], names[first + 1] = f"{name}_left", f"{name}_right"
    names[91] = "skull"
    names.update({91 + n: f"rib_left_{n}" for n in range(1, 13)})
    names.update({103 + n: f"rib_right_{n}" for n in range(1, 13)})
    names[116] = "sternum"
    return names


TOTALSEGMENTATOR_BONES: dict[int, str] = _bone_names()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Integer labels on a grid.

    Attributes:
        labels: (D, H, W) uint8 or uint16, read-only, [k, j, i]; 0 is background.
        lps_from_index: (4, 4) float64, LPS mm of voxel centres.
        names: every label that occurs, to its name; names are unique.
        path: file it was read from, "" when made in memory.
    """

    labels: NDArray[Any]
    lps_from_index: NDArray[np.float64]
    names: dict[int, str]
    path: str = ""

    def __post_init__(self) -> None:
        source = self.path or "label map"
        labels = _whole_numbers(np.asarray(self.labels), source).view()
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)
        affine = check_affine(self.lps_from_index, source)
        object.__setattr__(self, "lps_from_index", affine)
        present = np.flatnonzero(np.bincount(labels.ravel()))
        named = {int(n): self.names.get(int(n), f"label_{n}") for n in present if n != 0}
        if len(set(named.values())) != len(named):
            doubled = sorted(n for n in named.values() if list(named.values()).count(n) > 1)
            raise InputError(f"{source}: several labels have the same name {doubled[0]!r}.")
        object.__setattr__(self, "names", named)

    def label_of(self, name: str) -> int:
        """The label of a name.

        Raises:
            InputError: the name does not occur; the message lists those that do.
        """
        for label, known in self.names.items():
            if known == name:
                return label
        raise InputError(
            f"{self.path or 'label map'}: no structure {name!r}; it holds: "
            f"{', '.join(sorted(self.names.values())) or 'nothing'}."
        )

    def mask_of(self, names: str | Iterable[str]) -> NDArray[np.bool_]:
        """(D, H, W) bool, True where any of the named structures is."""
        wanted = [names] if isinstance(names, str) else list(names)
        table = np.zeros(int(self.labels.max()) + 1, dtype=np.bool_)
        table[[self.label_of(name) for name in wanted]] = True
        return table[self.labels]

    def centroids_lps_mm(self) -> dict[str, NDArray[np.float64]]:
        """Name to the (3,) mean LPS mm position of the structure's voxels."""
        from scipy import ndimage

        result = {}
        boxes = ndimage.find_objects(self.labels)
        for label, name in self.names.items():
            box = boxes[label - 1]
            kji = np.argwhere(self.labels[box] == label).mean(axis=0)
            kji += [part.start for part in box]
            result[name] = self._lps(kji[::-1])
        return result

    def box_lps_mm(self, names: str | Iterable[str]) -> NDArray[np.float64]:
        """(2, 3) lower and upper LPS mm corner around the voxel centres of the structures."""
        points = self._lps(np.argwhere(self.mask_of(names))[:, ::-1])
        return np.stack([points.min(axis=0), points.max(axis=0)])

    def surface_points_lps_mm(self, name: str, n: int, seed: int = 0) -> NDArray[np.float64]:
        """(m, 3) LPS mm centres of surface voxels, m = min(n, number of them), drawn evenly.

        A voxel is on the surface when one of its six neighbours is not of the structure; beyond
        the grid counts as not. Same `seed`, same points.
        """
        from scipy import ndimage

        label = self.label_of(name)
        box = ndimage.find_objects(self.labels, max_label=label)[label - 1]
        padded = np.pad(self.labels[box] == label, 1)
        shell = padded & ~ndimage.binary_erosion(padded)
        kji = np.argwhere(shell) - 1 + np.array([part.start for part in box])
        if len(kji) > n:
            rows = np.random.default_rng(seed).choice(len(kji), size=n, replace=False)
            kji = kji[np.sort(rows)]
        return self._lps(kji[:, ::-1])

    def _lps(self, index_ijk: NDArray[Any]) -> NDArray[np.float64]:
        return index_ijk @ self.lps_from_index[:3, :3].T + self.lps_from_index[:3, 3]


def load_label_map(
    path: str | Path,
    ct: CTVolume,
    names: Mapping[int, str] | str | Path | None = None,
) -> LabelMap:
    """Read a label map and check that it lies on the CT's grid.

    Args:
        path: any volume format of `load_ct`.
        ct: the CT it belongs to.
        names: label to name; or a JSON ({"1": "radius"} or {"radius": 1}) or CSV (a header with
            id/label/value and name/structure) file; None: TotalSegmentator 2's bones. A label
            without a name is called label_<number>.

    Raises:
        InputError: unreadable; another shape, or voxels elsewhere than the CT's by more than a
            tenth of the smallest voxel side; fractions, negative or NaN labels; no label at all.
    """
    raw = read_volume(Path(path))
    if raw.array.shape != ct.hu.shape:
        shape = tuple(reversed(raw.array.shape))
        raise InputError(
            f"{path}: the label map is on another grid than the CT {ct.path or ''}: size (i, j, k) "
            f"{shape} against {ct.shape_ijk}. Resample it onto the CT (nearest neighbour)."
        )
    offset = largest_grid_offset_mm(raw.lps_from_index, ct.lps_from_index, ct.shape_ijk)
    allowed = _GRID_TOLERANCE * float(spacing_of(ct.lps_from_index).min())
    if offset > allowed:
        raise InputError(
            f"{path}: the label map is on another grid than the CT {ct.path or ''}: same size, but "
            f"voxels lie up to {offset:.3f} mm apart (allowed {allowed:.3f} mm). lps_from_index of "
            f"the labels: {_shown(raw.lps_from_index)}, of the CT: {_shown(ct.lps_from_index)}. "
            "Resample it onto the CT (nearest neighbour)."
        )
    if names is None:
        table: Mapping[int, str] = TOTALSEGMENTATOR_BONES
    elif isinstance(names, (str, Path)):
        table = read_label_names(Path(names))
    else:
        table = names
    # The CT's affine, so that both grids are the same to the last bit.
    return LabelMap(raw.array, ct.lps_from_index, dict(table), path=str(path))


def read_label_names(path: Path) -> dict[int, str]:
    """Label names from a JSON or CSV file, in the forms `load_label_map` describes."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _from_json(text) if path.suffix.lower() == ".json" else _from_csv(text)
    except (OSError, UnicodeDecodeError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as label names ({error}). Expected JSON "
            '{"1": "radius"} or a CSV with the columns id and name.'
        ) from error
    return pairs


def _from_json(text: str) -> dict[int, str]:
    pairs = {}
    for key, value in json.loads(text).items():
        if isinstance(value, str):
            pairs[int(key)] = value
        else:
            pairs[int(value)] = str(key)
    return pairs


def _from_csv(text: str) -> dict[int, str]:
    rows = csv.DictReader(text.splitlines())
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    number = next((columns[c] for c in ("id", "label", "value") if c in columns), None)
    title = next((columns[c] for c in ("name", "structure") if c in columns), None)
    if number is None or title is None:
        raise ValueError(f"its columns are {list(columns)}")
    return {int(row[number]): row[title].strip() for row in rows}


def _whole_numbers(labels: NDArray[Any], source: str) -> NDArray[Any]:
    if labels.ndim != 3:
        raise InputError(f"{source}: labels of shape {labels.shape}, expected (D, H, W).")
    if labels.dtype.kind not in "iufb":
        raise InputError(f"{source}: labels of type {labels.dtype}, expected integers.")
    if labels.dtype.kind == "f":
        fractions = labels != np.rint(labels)  # NaN compares unequal too
        count = int(np.count_nonzero(fractions))
        if count:
            value = float(labels[fractions][0])
            raise InputError(
                f"{source}: {count} voxels are not whole numbers (e.g. {value:g}): this is no "
                "label map, or it was resampled with interpolation. Use nearest neighbour."
            )
    low, high = float(labels.min()) + 0.0, float(labels.max()) + 0.0  # no -0
    if low < 0 or high > _LARGEST_LABEL:
        raise InputError(
            f"{source}: labels run from {low:g} to {high:g}; expected 0 to {_LARGEST_LABEL}."
        )
    if high == 0:
        raise InputError(f"{source}: every voxel is background (0).")
    return np.ascontiguousarray(labels.astype(np.uint8 if high <= 255 else np.uint16))


def _shown(affine: NDArray[np.float64]) -> str:
    return str(np.round(affine[:3], 4).tolist())
