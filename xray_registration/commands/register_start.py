"""Where ``register`` starts: a pose file, the C-arm's angles, landmarks, or what a trained network
sees in the images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xray_registration.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.imaging.volume import CTVolume
    from xray_registration.registration import View
    from xray_registration.registration.start_pose import StartPose

_STARTS = ("initial_pose", "carm_angles", "landmarks_ct", "checkpoint")


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where to start."""
    parser.add_argument(
        "--initial-pose",
        metavar="POSE.json",
        help="start pose; without it or one of the next two, a network proposes starts",
    )
    parser.add_argument(
        "--carm-angles",
        nargs=2,
        type=float,
        metavar=("PRIMARY", "SECONDARY"),
        help="start from the C-arm's angles at the first image in degrees (+ LAO, + CRAN; patient "
        "head first, supine); --isocentre is the point of the CT at the C-arm's isocentre",
    )
    parser.add_argument(
        "--source-isocentre",
        type=float,
        default=700.0,
        metavar="MM",
        help="with --carm-angles: focal spot to the C-arm's isocentre (default: 700)",
    )
    parser.add_argument(
        "--landmarks-ct",
        metavar="FILE",
        help="start from landmarks: a .fcsv or .mrk.json of 3D Slicer with their places in the CT",
    )
    parser.add_argument(
        "--landmarks-image",
        action="append",
        metavar="POINTS.json",
        help="where they are in the image, once for each image; at least four in one of them, not "
        "on a line",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="NAME.json",
        help="weights that propose starts, from xray-registration train (default: those that come "
        "with the package for this CT)",
    )


def given_start(arguments: argparse.Namespace) -> Start | None:
    """The pose file; None where the start is known from something else.

    Raises:
        InputError: more than one start; half of the landmarks; an unusable file.
    """
    given = [f"--{n.replace('_', '-')}" for n in _STARTS if getattr(arguments, n) is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: expected one of them.")
    if (arguments.landmarks_ct is None) != (arguments.landmarks_image is None):
        raise InputError("--landmarks-ct and --landmarks-image: expected both of them.")
    images = len(arguments.image)
    if arguments.landmarks_ct is not None and len(arguments.landmarks_image) != images:
        raise InputError(
            f"--landmarks-image is given {len(arguments.landmarks_image)} times for {images} "
            "images; expected one for each, in the same order (it may hold no landmark)."
        )
    return None if arguments.initial_pose is None else GivenStart(arguments.initial_pose)


def start_of(
    arguments: argparse.Namespace, ct: CTVolume, flipped_widths: Sequence[int | None]
) -> Start:
    """The start that is no pose file; ``flipped_widths`` as those of `LandmarkStart`.

    Raises:
        InputError: angles or landmarks that are not possible; no weights for this CT.
    """
    if arguments.carm_angles is not None:
        centre = arguments.isocentre or ct.bone_box_lps().mean(0)
        return CArmStart(arguments.carm_angles, arguments.source_isocentre, centre)
    if arguments.landmarks_ct is not None:
        return LandmarkStart(arguments.landmarks_ct, arguments.landmarks_image, flipped_widths)
    return NetworkStart(ct, arguments.checkpoint)


class Start(Protocol):
    """Attributes: ct_axes: axes of the result file."""

    ct_axes: str

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """Starts (S, 4, 4), LPS mm, the likeliest first."""

    def record(self) -> dict[str, Any]:
        """What the result file says of it beside the pose."""


class _Plain:
    """What a start of the library proposes; ``ct_axes`` as it has none of its own."""

    ct_axes = "lps"

    def __init__(self, start: StartPose) -> None:
        self._start = start

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """See `Start`."""
        return self._start.propose(views)[0]

    def record(self) -> dict[str, Any]:
        """See `Start`."""
        return {}


class GivenStart(_Plain):
    """POSE.json."""

    def __init__(self, path: str) -> None:
        from xray_registration.geometry.json_files import read_pose
        from xray_registration.registration.start_pose import GivenStart as Given

        pose, self.ct_axes = read_pose(path)
        super().__init__(Given(pose))


class CArmStart(_Plain):
    """The C-arm's angles; the middle of its orbit is a point of the CT."""

    def __init__(
        self, angles_deg: Sequence[float], source_isocentre_mm: float, isocentre_lps_mm: Any
    ) -> None:
        from xray_registration.geometry.positioner import PositionerPose
        from xray_registration.registration.start_pose import PositionerStart

        x, y, z = (float(value) for value in isocentre_lps_mm)
        primary, secondary = angles_deg
        pose = PositionerPose(primary, secondary, source_isocentre_mm, (x, y, z))
        super().__init__(PositionerStart(pose))


class LandmarkStart(_Plain):
    """Landmarks named in the CT and picked in each image; flipped with the images."""

    def __init__(
        self, of_ct: str, of_images: Sequence[str], flipped_widths: Sequence[int | None]
    ) -> None:
        """``flipped_widths``: of every image that is flipped its width, else None."""
        import numpy as np

        from xray_registration.interchange.slicer import read_landmarks
        from xray_registration.registration.landmark_start import LandmarkStart as Landmarks
        from xray_registration.registration.landmark_start import read_pixels

        pixels = [read_pixels(path) for path in of_images]
        for view, width in zip(pixels, flipped_widths, strict=True):
            if width is not None:
                view.update({n: np.array([width - 1 - x, y]) for n, (x, y) in view.items()})
        source = f"{', '.join(of_images)} and {of_ct}"
        super().__init__(Landmarks(read_landmarks(of_ct), pixels, source))


class NetworkStart:
    """A regressor's proposals."""

    ct_axes = "lps"

    def __init__(self, ct: CTVolume, checkpoint: str | None) -> None:
        from xray_registration.registration.regressor_start import RegressorStart

        path = None if checkpoint is None else Path(checkpoint)
        self._regressor = RegressorStart.for_ct(ct, path)
        if self._regressor.is_agnostic:
            print(f"{self._regressor.path}: not trained for this CT (agnostic)", file=sys.stderr)

    def poses(self, views: Sequence[View]) -> NDArray[np.float64]:
        """See `Start`."""
        return self._regressor.propose(views)[0]

    def record(self) -> dict[str, Any]:
        """See `Start`."""
        return {
            "start_weights": {
                "file": self._regressor.path.name,
                "sha256": self._regressor.sha256,
                "agnostic": self._regressor.is_agnostic,
            }
        }
