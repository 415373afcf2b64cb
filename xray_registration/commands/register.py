"""xray-registration register: images + CT (+ a start pose) -> RESULT.json and overlays."""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xray_registration.commands.inputs import (
    add_device_option,
    add_patient_options,
    check_folder_of,
    file_sha256,
    load_patient,
    make_folder,
    per_image,
    read_yaml_mapping,
)
from xray_registration.commands.register_start import add_start_options, given_start, start_of
from xray_registration.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.commands.register_start import Start
    from xray_registration.geometry.camera import Camera
    from xray_registration.imaging.radiograph import Kind, Polarity, Radiograph
    from xray_registration.registration import (
        Registrar,
        RegistrationConfig,
        RegistrationResult,
        View,
    )

ACCEPTED, REJECTED = 0, 3
KINDS = ("intensity", "attenuation", "display")

_DESCRIPTION = """\
Register one or more X-ray images of one patient, taken with known cameras, to the CT: find the one
pose rig_from_ct that explains them all, starting from a pose that is roughly right, from the
C-arm's angles, from landmarks, or from what a network that was trained for this CT
(xray-registration train) sees in the images.
"""
_EPILOG = """\
CAM.json     {"width", "height", "K": 3x3 in pixels (centres at integers), "sdd_mm",
              "camera_from_rig": 4x4 in mm, the identity when absent}
POSE.json    {"rig_from_ct": 4x4 in mm, "ct_axes": "lps" or "ras"}; a RESULT.json will do
POINTS.json  {"landmarks_px": {"NAME": [column, row], ...}}, pixel centres at integers
RESULT.json  the same with accepted, reason, similarity, covariance, ...

Exit codes: 0 accepted, 3 rejected (RESULT.json is written and says why), 2 bad input.
"""


def add_parser(verbs: Any) -> None:
    """Add ``register`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "register",
        help="find the pose of a CT in X-ray images",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_patient_options(parser)
    add_device_option(parser)
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        metavar="IMG",
        help="X-ray image: PNG, TIFF, NPY or DICOM; repeat for several views",
    )
    parser.add_argument(
        "--camera", action="append", required=True, metavar="CAM.json", help="one for each image"
    )
    parser.add_argument(
        "--image-kind",
        action="append",
        required=True,
        choices=KINDS,
        help="what pixel values are: intensity (photon count, bone dark), attenuation (-log(I/I0), "
        "bone bright), display (unknown monotone window); once, or once for each image",
    )
    parser.add_argument(
        "--polarity",
        action="append",
        choices=("bone_dark", "bone_bright"),
        help="of display images; without it both are tried and the better one is taken",
    )
    parser.add_argument(
        "--i0",
        action="append",
        type=float,
        metavar="I0",
        help="unattenuated intensity of intensity images in pixel values; without it, it is "
        "estimated from each image",
    )
    parser.add_argument(
        "--mask",
        action="append",
        metavar="MASK",
        help="image of the same size, 0 where the X-ray must not be used; once for each image",
    )
    parser.add_argument(
        "--flip-horizontal",
        action="store_true",
        help="the images are mirrored (as DICOM XA is shown): mirror images and cameras back first",
    )
    add_start_options(parser)
    parser.add_argument("--out", required=True, metavar="RESULT.json", help="result to write")
    parser.add_argument(
        "--overlay", metavar="DIR", help="write pictures of the X-rays with the CT's edges to DIR"
    )
    parser.add_argument(
        "--config", metavar="YAML", help="levels, optimiser, gate, energy_kev of the registration"
    )
    parser.add_argument(
        "--rig-uncertainty",
        nargs=2,
        type=float,
        metavar=("MM", "DEG"),
        help="of several views: camera_from_rig beyond the first is known with these standard "
        "deviations, along and about each axis at the patient; it is refined with the pose",
    )
    parser.add_argument(
        "--isocentre",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="point of the CT (mm, axes of POSE.json) about which covariances are given "
        "(default: the middle of the bone)",
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True, eq=False)
class Shot:
    """One image as the options describe it."""

    image: Path
    camera_path: Path
    camera: Camera
    camera_from_rig: NDArray[np.float64]
    kind: Kind
    polarity: Polarity | None
    i0: float | None
    mask: NDArray[np.bool_] | None
    flip: bool

    def view(self, polarity: Polarity | None) -> View:
        """The image, read with a polarity of the display kind."""
        from xray_registration.imaging.radiograph import load_radiograph
        from xray_registration.registration import View

        radiograph = load_radiograph(
            self.image, self.kind, i0=self.i0, polarity=polarity, mask=self.mask
        )
        camera = self.camera
        if (radiograph.width, radiograph.height) != (camera.width, camera.height):
            raise InputError(
                f"{self.image}: the image is {radiograph.width}x{radiograph.height} pixels, but "
                f"{self.camera_path} is for {camera.width}x{camera.height}; expected the camera of "
                "this very image (crop, bin or resize K with the image)."
            )
        if self.flip:
            radiograph, camera = radiograph.flipped_horizontally(), camera.flipped_horizontally()
        return View(radiograph, camera, self.camera_from_rig)


def run(arguments: argparse.Namespace) -> int:
    """Register, write what was asked for, say the outcome; 0 accepted, 3 rejected.

    Raises:
        InputError: any unusable input.
    """
    from xray_registration.geometry.frames import lps_from_ct_axes
    from xray_registration.registration import Registrar
    from xray_registration.registration.rig_refinement import views_of

    out = Path(arguments.out)
    check_folder_of(out, "--out")
    if arguments.overlay is not None:
        make_folder(Path(arguments.overlay), "--overlay")
    config = _config(arguments)
    given = given_start(arguments)
    shots = _shots(arguments)
    readings = {polarity: _views(shots, polarity) for polarity in _polarities(shots)}
    ct, labels = load_patient(arguments)
    flipped = [shot.camera.width if shot.flip else None for shot in shots]
    start = given or start_of(arguments, ct, flipped)
    ct_axes = start.ct_axes
    isocentre = arguments.isocentre
    if isocentre is not None:
        isocentre = lps_from_ct_axes(ct_axes)[:3, :3] @ isocentre
    registrar = Registrar(ct, config, labels, arguments.device, isocentre)

    began = time.perf_counter()
    polarity = _polarity_that_fits(registrar, readings, start)
    views = readings[polarity]
    starts = start.poses(views)
    result = registrar.register(views, starts)
    result = replace(
        result,
        seconds=time.perf_counter() - began,
        extra={
            "rig_from_ct_start": _in_axes(starts[0], ct_axes),
            **start.record(),
            "views": [
                _view_record(shot, view, used, similarity)
                for shot, view, used, similarity in zip(
                    shots,
                    views,
                    _used_polarities(shots, polarity),
                    result.view_similarities,
                    strict=True,
                )
            ],
            "label_map": None if labels is None else Path(labels.path).name,
            "config": registrar.config.to_dict(),
        },
    )
    result.write_json(out, ct_axes, ct)
    if arguments.overlay is not None:
        views = views_of(result, views)
        _write_overlays(Path(arguments.overlay), shots, views, registrar, starts[0], result)
    _say(result, out)
    return ACCEPTED if result.accepted else REJECTED


def _config(arguments: argparse.Namespace) -> RegistrationConfig:
    from xray_registration.registration import RegistrationConfig, RigUncertainty

    path, config = arguments.config, RegistrationConfig()
    if path is not None:
        config = RegistrationConfig.from_dict(read_yaml_mapping(Path(path)), source=path)
    if arguments.rig_uncertainty is None:
        return config
    if len(arguments.image) < 2:
        raise InputError("--rig-uncertainty: there is one image; expected two or more.")
    return replace(config, rig_uncertainty=RigUncertainty(*arguments.rig_uncertainty))


def _shots(arguments: argparse.Namespace) -> list[Shot]:
    from xray_registration.geometry.json_files import read_camera

    images, cameras = arguments.image, arguments.camera
    count = len(images)
    if len(cameras) != count:
        raise InputError(
            f"--camera is given {len(cameras)} times for {count} images; expected one CAM.json for "
            "each --image, in the same order."
        )
    kinds = per_image(arguments.image_kind, count, "--image-kind")
    polarities = per_image(arguments.polarity, count, "--polarity")
    i0s = per_image(arguments.i0, count, "--i0")
    masks = arguments.mask or [None] * count
    if len(masks) != count:
        raise InputError(
            f"--mask is given {len(masks)} times for {count} images; expected one for each."
        )
    shots = []
    for n in range(count):
        camera, camera_from_rig = read_camera(cameras[n])
        shots.append(
            Shot(
                image=Path(images[n]),
                camera_path=Path(cameras[n]),
                camera=camera,
                camera_from_rig=camera_from_rig,
                kind=cast("Kind", kinds[n]),
                polarity=cast("Polarity | None", polarities[n]),
                i0=i0s[n],
                mask=None if masks[n] is None else _mask(Path(masks[n])),
                flip=arguments.flip_horizontal,
            )
        )
    return shots


def _mask(path: Path) -> NDArray[np.bool_]:
    from xray_registration.imaging.radiograph_checks import grey
    from xray_registration.imaging.radiograph_files import read_radiograph_file

    values = read_radiograph_file(path, "display").values
    if values.dtype.kind == "b":
        return values
    return grey(values, str(path)) != 0


def _polarities(shots: list[Shot]) -> list[Polarity | None]:
    """What to try: one reading when every image's polarity is known, else both."""
    open_question = any(shot.kind == "display" and shot.polarity is None for shot in shots)
    return ["bone_dark", "bone_bright"] if open_question else [None]


def _polarity_that_fits(
    registrar: Registrar,
    readings: dict[Polarity | None, list[View]],
    start: Start,
) -> Polarity | None:
    """Of two readings of the images the one that the CT explains better, by a quick registration.

    With the wrong polarity every gradient of the picture points the wrong way.
    """
    if len(readings) == 1:
        return next(iter(readings))
    quick = copy.copy(registrar)  # shares the volumes
    quick.config = replace(registrar.config, spread=replace(registrar.config.spread, count=0))

    def similarity(polarity: Polarity | None) -> float:
        views = readings[polarity]
        return quick.register(views, start.poses(views)).similarity

    return max(readings, key=similarity)


def _used_polarities(shots: list[Shot], tried: Polarity | None) -> list[Polarity]:
    fixed: dict[str, Polarity] = {"intensity": "bone_dark", "attenuation": "bone_bright"}
    return [fixed.get(shot.kind) or shot.polarity or cast("Polarity", tried) for shot in shots]


def _views(shots: list[Shot], tried: Polarity | None) -> list[View]:
    return [
        shot.view(polarity if shot.kind == "display" else shot.polarity)
        for shot, polarity in zip(shots, _used_polarities(shots, tried), strict=True)
    ]


def _view_record(shot: Shot, view: View, polarity: Polarity, similarity: float) -> dict[str, Any]:
    radiograph: Radiograph = view.radiograph
    return {
        "image": shot.image.name,
        "image_sha256": file_sha256(shot.image),
        "image_kind": shot.kind,
        "polarity": polarity,
        "i0": radiograph.i0,
        "i0_origin": radiograph.i0_origin,
        "usable_fraction": radiograph.usable_fraction,
        "masked": dict(radiograph.masked),
        "flip_horizontal": shot.flip,
        "similarity": similarity,
        "camera": {**view.camera.to_dict(), "camera_from_rig": view.camera_from_rig.tolist()},
    }


def _in_axes(rig_from_lps: NDArray[np.float64], ct_axes: str) -> list[list[float]]:
    from xray_registration.geometry.frames import from_lps

    return cast("list[list[float]]", from_lps(rig_from_lps, ct_axes).tolist())


def _write_overlays(
    folder: Path,
    shots: list[Shot],
    views: list[View],
    registrar: Registrar,
    start: NDArray[np.float64],
    result: RegistrationResult,
) -> None:
    from xray_registration.evaluation.overlay_files import write_overlays

    names = [f"view{n + 1}_{shot.image.stem}" for n, shot in enumerate(shots)]
    for path in write_overlays(folder, names, views, registrar, start, result):
        print(f"overlay: {path}", file=sys.stderr)


def _say(result: RegistrationResult, out: Path) -> None:
    word = "accepted" if result.accepted else f"REJECTED ({result.reason.value})"
    print(f"{word}: {result.reason_text}")
    print(
        f"similarity {result.start_similarity:.3f} at the start, {result.similarity:.3f} at the "
        f"end; {result.iterations} iterations, {result.seconds:.2f} s on {result.device}"
    )
    print(f"result: {out}")
