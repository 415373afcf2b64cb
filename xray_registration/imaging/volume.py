"""The CT: Hounsfield units on a grid that knows where it lies in the patient.

Arrays are indexed ``[k, j, i]`` (slice, row, column); index vectors are ``(i, j, k)``, x fastest.
World coordinates are LPS millimetres, the world of DICOM and ITK. The full direction matrix is
kept: oblique, PIR and left-handed index axes (e.g. LAS) are all right, because nothing but
``lps_from_index`` says where a voxel is. Nothing is re-centred or re-oriented.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.imaging.grid import check_affine, spacing_of
from xray_registration.imaging.hounsfield import check_finite, check_hounsfield, compact
from xray_registration.imaging.volume_files import RawVolume, read_volume

AIR_HU = -1000.0


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT in Hounsfield units.

    Attributes:
        hu: (D, H, W) int16 or float32, read-only, index ``[k, j, i]``. Padding below -1000 (the
            -1024, -2000 or -2048 outside the scanner's field of view) is kept as stored;
            `attenuation.mu_from_hu` clips it to air.
        lps_from_index: (4, 4) float64, read-only; maps homogeneous ``(i, j, k, 1)`` of a voxel
            centre to LPS mm. May be left-handed.
        path: the file or folder it was read from, "" for a volume made in memory.
        sha256: of the file (with the detached data file of .mhd/.nhdr), or of the contents of
            the series' files sorted by name; "" for a volume made in memory.

    Raises:
        InputError: when `hu` is not 3-D and numeric, or the affine is not one of a regular grid.
    """

    hu: NDArray[Any]
    lps_from_index: NDArray[np.float64]
    path: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        source = self.path or "CT volume"
        hu = np.asarray(self.hu)
        if hu.ndim != 3 or min(hu.shape) < 2:
            raise InputError(
                f"{source}: the HU array has shape {hu.shape}; a CT is (slices, rows, columns), "
                "each at least 2."
            )
        if hu.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            hu = compact(hu, source)
        hu = np.ascontiguousarray(hu).view()
        hu.setflags(write=False)
        affine = check_affine(self.lps_from_index, source)
        object.__setattr__(self, "hu", hu)
        object.__setattr__(self, "lps_from_index", affine)

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of voxels along i (columns), j (rows), k (slices)."""
        depth, height, width = self.hu.shape
        return int(width), int(height), int(depth)

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """(3,) voxel spacing along i, j, k in mm."""
        return spacing_of(self.lps_from_index)

    @property
    def index_from_lps(self) -> NDArray[np.float64]:
        """(4, 4) inverse of `lps_from_index`."""
        return np.asarray(np.linalg.inv(self.lps_from_index), dtype=np.float64)

    @property
    def corners_lps_mm(self) -> NDArray[np.float64]:
        """(8, 3) outer corners of the corner voxels in LPS mm."""
        upper = np.array(self.shape_ijk, dtype=np.float64) - 0.5
        steps = np.array([[a, b, c] for c in (0, 1) for b in (0, 1) for a in (0, 1)])
        return self.lps_of_index(np.where(steps == 1, upper, -0.5))

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(2, 3): lower and upper corner, in LPS mm, of the axis-aligned box around the volume."""
        corners = self.corners_lps_mm
        return np.stack([corners.min(axis=0), corners.max(axis=0)])

    def lps_of_index(self, index_ijk: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) indices (i, j, k), fractions allowed, to (..., 3) LPS mm."""
        index = np.asarray(index_ijk, dtype=np.float64)
        return index @ self.lps_from_index[:3, :3].T + self.lps_from_index[:3, 3]

    def index_of_lps(self, points_lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) LPS mm to (..., 3) fractional indices (i, j, k)."""
        inverse = self.index_from_lps
        points = np.asarray(points_lps_mm, dtype=np.float64)
        return points @ inverse[:3, :3].T + inverse[:3, 3]

    def sample_hu(self, points_lps_mm: ArrayLike, outside_hu: float = AIR_HU) -> NDArray[Any]:
        """Trilinear HU at (..., 3) LPS points; `outside_hu` beyond the outermost voxel centres.

        Returns float32 of shape (...,).
        """
        from scipy.ndimage import map_coordinates

        index = self.index_of_lps(points_lps_mm)
        kji = np.moveaxis(index[..., ::-1], -1, 0).reshape(3, -1)
        # Rounding in the affine's inverse must not push a border voxel outside.
        last = np.array(self.hu.shape, dtype=np.float64)[:, None] - 1.0
        inner = np.clip(kji, 0.0, last)
        kji = np.asarray(np.where(np.abs(inner - kji) < 1e-6, inner, kji))
        values = map_coordinates(
            self.hu, kji, output=np.float32, order=1, mode="constant", cval=outside_hu
        )
        return values.reshape(index.shape[:-1])

    def cropped_to(
        self,
        *,
        mask: NDArray[np.bool_] | None = None,
        box_lps_mm: ArrayLike | None = None,
        margin_mm: float = 0.0,
    ) -> CTVolume:
        """The smallest part of the grid that holds `mask` or `box_lps_mm`, and a margin.

        Args:
            mask: (D, H, W) bool on this grid.
            box_lps_mm: (2, 3) lower and upper corner in LPS mm.
            margin_mm: added on every side.

        The world position of every voxel stays; `path` and `sha256` still name the whole file.

        Raises:
            InputError: not exactly one of mask and box; empty mask; box wholly outside.
        """
        if (mask is None) == (box_lps_mm is None):
            raise InputError("cropped_to: give exactly one of mask and box_lps_mm.")
        if mask is not None:
            if mask.shape != self.hu.shape:
                raise InputError(
                    f"cropped_to: the mask has shape {mask.shape}, the CT {self.hu.shape}."
                )
            hits = [np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
            if any(hit.size == 0 for hit in hits):
                raise InputError("cropped_to: the mask is empty.")
            extent = np.array([[hit[0], hit[-1]] for hit in hits], dtype=np.float64).T
        else:
            box = np.asarray(box_lps_mm, dtype=np.float64)
            steps = np.array([[a, b, c] for c in (0, 1) for b in (0, 1) for a in (0, 1)])
            corners = self.index_of_lps(np.where(steps == 1, box[1], box[0]))
            extent = np.stack([corners.min(axis=0), corners.max(axis=0)])
        margin = margin_mm / self.spacing_mm
        shape = np.array(self.shape_ijk)
        first = np.floor(extent[0] - margin).astype(int)
        last = np.ceil(extent[1] + margin).astype(int)
        if np.any(first > shape - 1) or np.any(last < 0):
            raise InputError(
                f"cropped_to: the box lies outside the CT, whose bounds are {self.bounds.tolist()} "
                "(LPS mm)."
            )
        first = np.clip(first, 0, shape - 2)
        last = np.clip(last, first + 1, shape - 1)
        affine = self.lps_from_index.copy()
        affine[:3, 3] = self.lps_of_index(first)
        (i0, j0, k0), (i1, j1, k1) = first, last + 1
        return replace(self, hu=self.hu[k0:k1, j0:j1, i0:i1], lps_from_index=affine)

    def bone_box_lps(
        self, threshold_hu: float = 200.0, trim_fraction: float = 0.002
    ) -> NDArray[np.float64]:
        """(2, 3) LPS mm box around the bone, robust to specks; its centre is the isocentre.

        Voxels at or above `threshold_hu` are looked at on a grid of about 2 mm. Connected pieces
        smaller than 2 % of the largest (calcifications, wires, bits of the table) are dropped,
        and `trim_fraction` of the remaining voxels at each end of each axis.

        Raises:
            InputError: no voxel reaches the threshold.
        """
        from scipy import ndimage

        stride = [max(1, round(2.0 / float(s))) for s in self.spacing_mm]
        coarse = self.hu[:: stride[2], :: stride[1], :: stride[0]] >= threshold_hu
        pieces, count = ndimage.label(coarse, structure=np.ones((3, 3, 3)))
        if count == 0:
            raise InputError(
                f"{self.path or 'CT volume'}: no voxel reaches {threshold_hu:g} HU (largest is "
                f"{float(self.hu.max()):g} HU): there is no bone to register."
            )
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        keep = sizes >= max(1.0, 0.02 * sizes.max())
        kji = np.argwhere(keep[pieces])
        points = self.lps_of_index(kji[:, ::-1] * np.array(stride))
        return np.quantile(points, [trim_fraction, 1.0 - trim_fraction], axis=0)


def ct_info(ct: CTVolume) -> dict[str, Any]:
    """Facts about a CT for `xray-registration info` and result files (JSON-ready; LPS, mm, HU)."""
    direction = ct.lps_from_index[:3, :3] / ct.spacing_mm
    return {
        "path": ct.path,
        "sha256": ct.sha256,
        "shape_ijk": list(ct.shape_ijk),
        "spacing_mm": [round(float(s), 6) for s in ct.spacing_mm],
        "index_axes": axis_code(direction),
        "lps_from_index": ct.lps_from_index.tolist(),
        "bounds_lps_mm": ct.bounds.tolist(),
        "hu_min": float(ct.hu.min()),
        "hu_max": float(ct.hu.max()),
    }


def axis_code(direction_lps: ArrayLike) -> str:
    """Three letters saying which way i, j and k mostly grow, e.g. "LPS", "RAS", "PIR".

    Oblique axes get the letter of their largest component.
    """
    direction = np.asarray(direction_lps, dtype=np.float64)
    letters = ""
    for column in direction.T:
        axis = int(np.argmax(np.abs(column)))
        letters += "LPS"[axis] if column[axis] > 0 else "RAI"[axis]
    return letters


def load_ct(path: str | Path, series_uid: str | None = None) -> CTVolume:
    """Read a CT from NIfTI, NRRD, MHA/MHD or a folder with one DICOM series.

    Rescale slope and intercept are applied. A fourth axis of length one is dropped.

    Args:
        path: .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, or a folder of DICOM slices.
        series_uid: SeriesInstanceUID to take when the folder holds several series.

    Raises:
        InputError: missing, empty or corrupt file; unknown format; 4-D or vector data; several
            series; non-uniform slice spacing; gantry tilt; implausible spacing; NaN; values
            that are not Hounsfield units.
    """
    raw: RawVolume = read_volume(Path(path), series_uid=series_uid)
    check_finite(raw.array, raw.path)
    hu = compact(raw.array, raw.path)
    check_hounsfield(hu, raw.path)
    return CTVolume(hu=hu, lps_from_index=raw.lps_from_index, path=raw.path, sha256=raw.sha256)
