"""xray-registration check-geometry: do camera, pose, CT, labels and landmarks fit together?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import add_patient_options, load_patient, make_folder
from xray_registration.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.evaluation.geometry_check.finding import Finding
    from xray_registration.evaluation.geometry_check.scene import Scene
    from xray_registration.evaluation.overlay import Structures
    from xray_registration.geometry.camera import Camera

NOT_RIGHT = 3

_DESCRIPTION = """\
Projects the CT's box, its labelled structures and landmarks with a camera and a pose, draws them,
and says in words what is off the picture, mirrored, or has implausible units.
"""
_EPILOG = """\
Written to DIR: geometry.png (orange: the CT's box, green: structures, pink: landmarks, blue cross:
principal point) and geometry.json (findings, projected points).
Exit code: 0 nothing wrong, 3 an error was found, 2 a file cannot be read.
"""


def add_parser(verbs: Any) -> None:
    """Add ``check-geometry`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "check-geometry",
        help="draw and say whether camera, pose, CT and landmarks fit together",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_patient_options(parser)
    parser.add_argument(
        "--camera",
        required=True,
        metavar="CAM",
        help="CAM.json, a MayaCam 2.0 .txt, or a DICOM image with C-arm tags",
    )
    parser.add_argument(
        "--pose",
        metavar="POSE.json",
        help="pose or result; may be left out with a DICOM camera: then its positioner angles "
        "about the middle of the bone",
    )
    parser.add_argument("--image", metavar="IMAGE", help="radiograph to draw on and compare with")
    parser.add_argument("--frame", type=int, default=0, help="frame of a DICOM image (default 0)")
    parser.add_argument(
        "--increments",
        choices=("steps", "offsets", "absolute"),
        help="how the angle increments of a DICOM run are meant (default: as their values allow)",
    )
    parser.add_argument(
        "--flip-horizontal", action="store_true", help="mirror the image first (as for register)"
    )
    parser.add_argument(
        "--landmarks", metavar="FILE", help="Slicer .fcsv or .mrk.json, drawn by name"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the drawing and the findings; 3 when one of them is an error."""
    from xray_registration.evaluation.geometry_check.finding import Severity, error
    from xray_registration.evaluation.geometry_check.likeness import likeness_findings
    from xray_registration.evaluation.geometry_check.picture import draw_check
    from xray_registration.evaluation.geometry_check.scene import (
        Scene,
        bone_points,
        plausible,
        scene_findings,
    )
    from xray_registration.evaluation.overlay import image_file_bytes
    from xray_registration.files import write_atomically
    from xray_registration.geometry.json_files import write_json
    from xray_registration.interchange.slicer import read_landmarks

    ct, labels = load_patient(arguments)
    landmarks = read_landmarks(arguments.landmarks) if arguments.landmarks else {}
    out = Path(arguments.out)
    make_folder(out, "--out")
    bone = bone_points(ct)
    camera, pose, flip, findings = _camera_and_pose(arguments, bone.mean(axis=0))
    image = _image(arguments, flip) if arguments.image else None
    structures = _structures(labels)
    scene: Scene | None = None
    outlines = []
    if camera is not None and image is not None and image.shape != (camera.height, camera.width):
        findings.append(
            error(
                "image_size",
                f"the image {arguments.image} has {image.shape[1]}x{image.shape[0]} pixels, the "
                f"camera {camera.width}x{camera.height}: K belongs to another size or a cut-out.",
            )
        )
        image = None
    if camera is not None and pose is not None:
        centroids = {} if structures is None else structures.centroids_lps_mm
        scene = Scene(ct, camera, pose, bone, centroids, landmarks)
        rigid = not any(finding.code.startswith("pose_") for finding in findings)
        findings += scene_findings(scene)
        if rigid and image is not None and plausible(scene, pose):
            findings += likeness_findings(scene, image)
        outlines = [] if structures is None else structures.projected(pose, camera)
    findings.sort(key=lambda finding: list(Severity).index(finding.severity))
    picture = draw_check(scene, _background(scene, image), outlines, findings)
    write_atomically(out / "geometry.png", image_file_bytes(picture))
    write_json(out / "geometry.json", _record(arguments, scene, findings))
    for finding in findings:
        print(f"{finding.severity.value}: {finding.text}")
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    print(f"{len(wrong)} errors. {out / 'geometry.png'}")
    return NOT_RIGHT if wrong else 0


def _camera_and_pose(
    arguments: argparse.Namespace, centre_lps_mm: NDArray[np.float64]
) -> tuple[Camera | None, NDArray[np.float64] | None, bool, list[Finding]]:
    """Camera, camera_from_ct (either may be unusable), whether the image is to be flipped."""
    from xray_registration.evaluation.geometry_check.numbers import camera_findings, pose_findings
    from xray_registration.geometry.frames import to_lps
    from xray_registration.geometry.json_files import read_json_object

    path = Path(arguments.camera)
    data, camera_from_rig, start, notes, flip = _read_camera(path, arguments, centre_lps_mm)
    camera, findings = camera_findings(data, str(path))
    findings += notes
    if arguments.pose is None:
        if start is None:
            raise InputError(
                f"--pose is missing, and {path} has no C-arm angles to take its place."
            )
        return camera, start, flip, findings
    expected = 'a pose {"rig_from_ct": 4x4 in mm, "ct_axes": "lps" or "ras"}'
    stored = read_json_object(arguments.pose, expected)
    missing = [key for key in ("rig_from_ct", "ct_axes") if key not in stored]
    if missing:
        raise InputError(f"{arguments.pose}: missing {', '.join(missing)}; expected {expected}.")
    pose, wrong = pose_findings(stored["rig_from_ct"], f"{arguments.pose}: rig_from_ct")
    rig, rig_wrong = pose_findings(camera_from_rig, f"{path}: camera_from_rig")
    findings += [*wrong, *rig_wrong]
    if pose is None or rig is None:
        return camera, None, flip, findings
    try:
        return camera, rig @ to_lps(pose, stored["ct_axes"]), flip, findings
    except InputError as problem:
        raise InputError(f"{arguments.pose}: {problem}") from problem


def _read_camera(
    path: Path, arguments: argparse.Namespace, centre_lps_mm: NDArray[np.float64]
) -> tuple[dict[str, Any], Any, NDArray[np.float64] | None, list[Finding], bool]:
    """CAM.json's content, camera_from_rig, a start pose or None, notes, whether to flip."""
    from xray_registration.evaluation.geometry_check.finding import note
    from xray_registration.geometry.json_files import read_json_object
    from xray_registration.interchange.dicom_carm import read_carm
    from xray_registration.interchange.mayacam import read_mayacam

    identity = [[float(i == j) for j in range(4)] for i in range(4)]
    suffix = path.suffix.lower()
    if suffix == ".json":
        data = read_json_object(path, 'a camera {"width", "height", "K", "sdd_mm"}')
        return data, data.get("camera_from_rig") or identity, None, [], False
    if suffix == ".txt":
        camera, camera_from_world = read_mayacam(path)
        return camera.to_dict(), camera_from_world.tolist(), None, [], False
    x, y, z = (float(value) for value in centre_lps_mm)
    shot = read_carm(
        path, arguments.frame, isocentre_lps_mm=(x, y, z), increments=arguments.increments
    )
    notes = [note("dicom", f"{path.name}: {text}.") for text in shot.notes]
    start = None if shot.positioner is None else shot.camera_from_ct
    return shot.camera.to_dict(), identity, start, notes, shot.flip_horizontal


def _image(arguments: argparse.Namespace, flip: bool) -> NDArray[np.float32]:
    """Grey values as stored; for the eye and for edges, so kind and polarity do not matter."""
    import numpy as np

    from xray_registration.imaging.radiograph_checks import grey
    from xray_registration.imaging.radiograph_files import read_radiograph_file

    path = Path(arguments.image)
    frame = (
        arguments.frame if path.suffix.lower() not in (".png", ".tif", ".tiff", ".npy") else None
    )
    values = grey(read_radiograph_file(path, "display", frame).values, str(path))
    picture = np.nan_to_num(np.asarray(values, np.float32))
    # a DICOM camera that asks for the flip means the picture in the same file
    own = flip and path == Path(arguments.camera)
    return np.ascontiguousarray(picture[:, ::-1]) if arguments.flip_horizontal or own else picture


def _structures(labels: Any) -> Structures | None:
    from xray_registration.evaluation.overlay import Structures

    if labels is None:
        return None
    vertebrae = Structures(labels, ("vertebrae_*",))
    return vertebrae if vertebrae.names else Structures(labels, ("*",))


def _background(scene: Scene | None, image: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The image, else the CT's bone as the pose shows it, else nothing."""
    import numpy as np

    from xray_registration.evaluation.bone_edges import BoneRenderer
    from xray_registration.geometry.checks import check_rigid

    if image is not None:
        return image
    if scene is None:
        return np.zeros((600, 600), np.float32)
    blank = np.zeros((scene.camera.height, scene.camera.width), np.float32)
    try:
        rigid = check_rigid(scene.camera_from_ct, "pose")
        small = scene.camera.scaled_to_width(min(512, scene.camera.width))
        bone = BoneRenderer(scene.ct).image(rigid, small)
    except InputError:  # a mirrored pose, or a CT without bone: lines only
        return blank
    from xray_registration.optional import require

    cv2 = require("cv2", pip="opencv-python-headless")
    return np.asarray(cv2.resize(bone, blank.shape[::-1]), np.float32)


def _record(
    arguments: argparse.Namespace, scene: Scene | None, findings: list[Finding]
) -> dict[str, Any]:
    import numpy as np

    record: dict[str, Any] = {
        "ct": arguments.ct,
        "camera": arguments.camera,
        "pose": arguments.pose,
        "image": arguments.image,
        "findings": [finding.to_dict() for finding in findings],
    }
    if scene is not None:
        record["camera_from_ct_lps_mm"] = scene.camera_from_ct.tolist()
        named = {"structures": scene.structures, "landmarks": scene.landmarks}
        named["ct_corners"] = {str(n): p for n, p in enumerate(scene.ct.corners_lps_mm)}
        for kind, points in named.items():
            record[f"{kind}_px"] = {
                name: pixel.tolist() if np.isfinite(pixel).all() else None
                for name, point in points.items()
                for pixel in scene.pixels(point[None])
            }
    return record
