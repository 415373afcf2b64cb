"""A start pose from landmarks: named in the CT, picked in the pictures.

Perspective-n-point by OpenCV (SQPNP), in each view that shows enough of them, then least squares on
the distances in all views together. Landmarks that lie nearly in a plane, such as those of a few
vertebrae, have a second pose that fits almost as well, tilted the other way: both are proposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.geometry.checks import vector3
from xray_registration.geometry.json_files import read_json_object
from xray_registration.optional import require
from xray_registration.registration.start_pose import Starts
from xray_registration.registration.view import View

Matrix = NDArray[np.float64]

_FEWEST = 4
_STRAIGHT_MM = 3.0  # root mean square of the distances from a line
_MOST_OFF_MM = 15.0  # root mean square at the patient
_ALIKE_MM = 1.0  # poses that differ by less are one
_AS_GOOD = 3.0  # a second pose may fit so many times worse


@dataclass(frozen=True, eq=False)
class _Picked:
    """The landmarks of one view.

    Attributes:
        names: of them.
        points_lps_mm: (N, 3).
        rays: (N, 2) x / z and y / z in the camera.
        camera_from_rig: (4, 4).
    """

    names: list[str]
    points_lps_mm: Matrix
    rays: Matrix
    camera_from_rig: Matrix

    def off_mm(self, rig_from_ct: Matrix) -> Matrix:
        """(N, 2) between picture and pose, in mm at each landmark's depth."""
        camera = _moved(self.camera_from_rig @ rig_from_ct, self.points_lps_mm)
        return np.asarray(camera[:, :2] - self.rays * camera[:, 2:])

    def is_in_front(self, rig_from_ct: Matrix) -> bool:
        """Whether the camera sees them all."""
        camera = _moved(self.camera_from_rig @ rig_from_ct, self.points_lps_mm)
        return bool((camera[:, 2] > 0).all())


class LandmarkStart:
    """Landmarks in the CT and in each view."""

    def __init__(
        self,
        points_lps_mm: Mapping[str, ArrayLike],
        pixels: Sequence[Mapping[str, ArrayLike]],
        source: str = "landmarks",
    ) -> None:
        """Keep them.

        Args:
            points_lps_mm: name to (3,) in the CT.
            pixels: for each view name to (column, row), pixel centres at integers; those of the CT
                that a view does not show are left out.
            source: named by errors.

        Raises:
            InputError: a picked name that the CT does not have; anything but finite numbers.
        """
        self._source = source
        self._points = {n: vector3(p, f"{source}: {n!r}") for n, p in points_lps_mm.items()}
        self._pixels = [_checked_pixels(view, self._points, source) for view in pixels]

    def propose(self, views: Sequence[View]) -> Starts:
        """One pose, or two where the landmarks are nearly in a plane; the better first.

        Raises:
            InputError: no view shows four landmarks; they lie on a line; no pose in front of the
                source fits; the best one is off by more than 15 mm.
        """
        if len(views) != len(self._pixels):
            raise InputError(
                f"{self._source}: landmarks are picked in {len(self._pixels)} pictures, but there "
                f"are {len(views)} views; expected one set for each (it may be empty)."
            )
        picked = [
            self._in_view(view, pixels) for view, pixels in zip(views, self._pixels, strict=True)
        ]
        self._check_enough(picked)
        found: list[tuple[float, Matrix]] = []
        for guess in _guesses(picked):
            pose = _least_squares(picked, guess)
            if all(view.is_in_front(pose) for view in picked):
                found.append((_rms_mm(picked, pose), pose))
        if not found:
            raise InputError(
                f"{self._source}: every pose that fits has landmarks behind the X-ray source; are "
                "the names right, and is a mirrored picture declared as such?"
            )
        found.sort(key=lambda item: item[0])
        best_mm, best = found[0]
        self._check_fit(picked, best, best_mm)
        points = np.concatenate([view.points_lps_mm for view in picked])
        others = [
            (off_mm, pose)
            for off_mm, pose in found[1:]
            if off_mm <= _AS_GOOD * best_mm + _ALIKE_MM
            and np.linalg.norm(_moved(pose, points) - _moved(best, points), axis=1).max()
            > _ALIKE_MM
        ]
        kept = [found[0], *others[:1]]
        likelihoods = np.exp([-0.5 * (off_mm**2 - best_mm**2) for off_mm, _ in kept])
        return np.stack([pose for _, pose in kept]), likelihoods / likelihoods.sum()

    def _in_view(self, view: View, pixels: Mapping[str, Matrix]) -> _Picked:
        names = list(pixels)
        homogeneous = np.array([[*pixels[name], 1.0] for name in names]).reshape(-1, 3)
        rays = homogeneous @ np.linalg.inv(view.camera.K).T
        points = np.array([self._points[name] for name in names]).reshape(-1, 3)
        # contiguous, as OpenCV wants it
        flat = np.ascontiguousarray(rays[:, :2])
        return _Picked(names, points, flat, np.asarray(view.camera_from_rig))

    def _check_enough(self, picked: Sequence[_Picked]) -> None:
        counts = [len(view.names) for view in picked]
        if max(counts) < _FEWEST:
            raise InputError(
                f"{self._source}: {' and '.join(map(str, counts))} landmarks are picked in the "
                f"picture(s); expected at least {_FEWEST} in one of them, better 6 or more."
            )
        for view in picked:
            if len(view.names) >= _FEWEST and _spread_mm(view.points_lps_mm)[1] < _STRAIGHT_MM:
                raise InputError(
                    f"{self._source}: {', '.join(view.names)} lie on a line, about which the pose "
                    "is not known; expected landmarks to its sides too."
                )

    def _check_fit(self, picked: Sequence[_Picked], pose: Matrix, rms_mm: float) -> None:
        if rms_mm <= _MOST_OFF_MM:
            return
        off = [
            (float(np.linalg.norm(off_mm)), name)
            for view in picked
            for name, off_mm in zip(view.names, view.off_mm(pose), strict=True)
        ]
        worst_mm, worst = max(off)
        raise InputError(
            f"{self._source}: no pose fits: the best one leaves {rms_mm:.0f} mm (root mean square "
            f"at the patient; at most {_MOST_OFF_MM:.0f} mm is accepted), {worst!r} most of all "
            f"({worst_mm:.0f} mm); are the names right, and is a mirrored picture declared as such?"
        )


def read_pixels(path: str) -> dict[str, Matrix]:
    """Name to (column, row) of a file {"landmarks_px": {"NAME": [column, row], ...}}.

    Raises:
        InputError: unreadable, no such key, anything but two finite numbers for a name.
    """
    expected = 'landmarks {"landmarks_px": {"NAME": [column, row], ...}}'
    found = read_json_object(path, expected).get("landmarks_px")
    if not isinstance(found, dict):
        raise InputError(f"{path}: no mapping 'landmarks_px'; expected {expected}.")
    return {str(name): _pixel(value, f"{path}: {name!r}") for name, value in found.items()}


def _checked_pixels(
    pixels: Mapping[str, ArrayLike], points: Mapping[str, Matrix], source: str
) -> dict[str, Matrix]:
    unknown = sorted(set(pixels) - set(points))
    if unknown:
        raise InputError(
            f"{source}: {', '.join(unknown)} picked in a picture, but not among the landmarks of "
            f"the CT: {', '.join(sorted(points))}."
        )
    return {name: _pixel(value, f"{source}: {name!r}") for name, value in pixels.items()}


def _pixel(value: ArrayLike, name: str) -> Matrix:
    try:
        pixel = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        pixel = np.zeros(0)
    if pixel.shape != (2,) or not np.isfinite(pixel).all():
        raise InputError(f"{name} is {value!r}; expected [column, row], two finite numbers.")
    return pixel


def _guesses(picked: Sequence[_Picked]) -> Iterator[Matrix]:
    """rig_from_ct of each view with enough landmarks, and the same tilted the other way."""
    cv2 = require("cv2", "opencv-python-headless")
    for view in picked:
        if len(view.names) < _FEWEST:
            continue
        _, turns, shifts, _ = cv2.solvePnPGeneric(
            view.points_lps_mm, view.rays, np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP
        )
        rig_from_camera = np.linalg.inv(view.camera_from_rig)
        for turn, shift in zip(turns, shifts, strict=True):
            camera_from_ct = np.eye(4)
            camera_from_ct[:3, :3] = cv2.Rodrigues(turn)[0]
            camera_from_ct[:3, 3] = shift[:, 0]
            yield rig_from_camera @ camera_from_ct
            yield rig_from_camera @ _tilted_back(camera_from_ct, view.points_lps_mm)


def _tilted_back(camera_from_ct: Matrix, points_lps_mm: Matrix) -> Matrix:
    """The pose whose landmarks have mirrored depths.

    Seen from afar these look the same, and if they lie in a plane they are moved by a rigid motion:
    the reflection along the line of sight times that across their plane.
    """
    centre = points_lps_mm.mean(0)
    sight = _moved(camera_from_ct, centre[None])[0]
    sight /= np.linalg.norm(sight)
    normal = np.linalg.svd(points_lps_mm - centre)[2][2]
    tilted = camera_from_ct.copy()
    tilted[:3, :3] = _reflection(sight) @ camera_from_ct[:3, :3] @ _reflection(normal)
    tilted[:3, 3] = _moved(camera_from_ct, centre[None])[0] - tilted[:3, :3] @ centre
    return tilted


def _reflection(normal: Matrix) -> Matrix:
    return np.asarray(np.eye(3) - 2 * np.outer(normal, normal))


def _least_squares(picked: Sequence[_Picked], guess: Matrix) -> Matrix:
    """The pose near ``guess`` that fits best, in mm at the patient; moved about the landmarks."""
    from scipy.optimize import least_squares

    centre = torch.from_numpy(np.concatenate([view.points_lps_mm for view in picked]).mean(0))
    start = torch.from_numpy(guess)
    units = np.array([1.0] * 3 + [0.01] * 3)

    def moved(x: Matrix) -> Matrix:
        return se3.left_increment(start, torch.from_numpy(x * units), centre).numpy()

    def residual(x: Matrix) -> Matrix:
        pose = moved(x)
        return np.concatenate([view.off_mm(pose).ravel() for view in picked])

    return moved(least_squares(residual, np.zeros(6), method="lm").x)


def _rms_mm(picked: Sequence[_Picked], pose: Matrix) -> float:
    off_mm = np.concatenate([view.off_mm(pose) for view in picked])
    return float(np.sqrt((off_mm**2).sum(1).mean()))


def _spread_mm(points_lps_mm: Matrix) -> Matrix:
    """(3,) root mean square along their principal axes, largest first."""
    centred = points_lps_mm - points_lps_mm.mean(0)
    values = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(points_lps_mm))
    return np.asarray(values)


def _moved(pose: Matrix, points: Matrix) -> Matrix:
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])
