"""xray-registration simulate: realistic X-ray images of a CT, with cameras, truth and a start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import (
    add_patient_options,
    check_folder_of,
    load_patient,
    make_folder,
    read_yaml_mapping,
)
from xray_registration.errors import InputError
from xray_registration.optional import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.geometry.camera import Camera
    from xray_registration.imaging.labels import LabelMap
    from xray_registration.imaging.volume import CTVolume
    from xray_registration.rendering.xray_model import SimulatedXray, XrayModelConfig

_DESCRIPTION = """\
Render X-ray images of a CT with the realistic X-ray model (polychromatic beam, noise, scatter,
blur) from one pose or along an arc of the C-arm.
"""
_EPILOG = """\
Written to DIR, NNN from 000 on:
  image_NNN.png     16 bit, kind "intensity" (8 bit, kind "display", with such a model setting)
  camera_NNN.json   its CAM.json; the rig is the first camera, so all images share one pose
  truth.json        the true POSE.json of the rig
  start.json        the same, moved by --start-mm and --start-deg about the isocentre
  simulation.json   every setting

A pair for registration:  xray-registration register --ct CT --image DIR/image_000.png
  --camera DIR/camera_000.json --image-kind intensity --initial-pose DIR/start.json --out R.json
"""


def add_parser(verbs: Any) -> None:
    """Add ``simulate`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "simulate",
        help="render X-ray images of a CT with known poses",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_patient_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    where = parser.add_argument_group("where the C-arm stands (an arc, or --pose)")
    where.add_argument("--pose", metavar="POSE.json", help="one image from this rig_from_ct")
    where.add_argument(
        "--primary",
        nargs="+",
        type=float,
        default=[0.0],
        metavar="DEG",
        help="C-arm angle, or first and last of the arc: + LAO, - RAO",
    )
    where.add_argument(
        "--secondary",
        nargs="+",
        type=float,
        default=[0.0],
        metavar="DEG",
        help="the same, + CRAN, - CAUD",
    )
    where.add_argument("--frames", type=int, default=1, help="images along the arc (default 1)")
    where.add_argument(
        "--source-isocentre-mm", type=float, default=700.0, metavar="MM", help="default 700"
    )
    where.add_argument(
        "--isocentre",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="what the C-arm turns about, LPS mm (default: the middle of the bone)",
    )
    where.add_argument(
        "--isocentre-labels",
        metavar="NAMES",
        help="the same as the mean centroid of structures of the label map, comma-separated",
    )
    camera = parser.add_argument_group("the camera (--camera, or a flat detector)")
    camera.add_argument("--camera", metavar="CAM.json")
    camera.add_argument("--width", type=int, default=1024)
    camera.add_argument("--height", type=int, default=1024)
    camera.add_argument("--pixel-pitch-mm", type=float, default=0.29, metavar="MM")
    camera.add_argument("--sdd-mm", type=float, default=1020.0, metavar="MM")
    model = parser.add_argument_group("the picture")
    model.add_argument("--preset", default=None, help="standard (default), low_dose or hard")
    model.add_argument("--config", metavar="YAML", help="X-ray model settings over the preset's")
    model.add_argument("--format", choices=("png", "tiff"), default="png")
    model.add_argument("--seed", type=int, default=0, help="of noise and start pose (default 0)")
    start = parser.add_argument_group("the start pose")
    start.add_argument("--start-mm", type=float, default=10.0, metavar="MM", help="default 10")
    start.add_argument("--start-deg", type=float, default=5.0, metavar="DEG", help="default 5")
    start.add_argument(
        "--ct-axes", choices=("lps", "ras"), default="lps", help="of the files written"
    )
    bag = parser.add_argument_group("a rosbag2 with the same images (needs rclpy and rosbags)")
    bag.add_argument(
        "--bag",
        metavar="BAG",
        help="folder to make: /image, /camera_info, /initialpose, /ground_truth/pose",
    )
    bag.add_argument(
        "--bag-storage", choices=("mcap", "sqlite3"), default="mcap", help="default mcap"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Render and write; 0.

    Raises:
        InputError: any unusable input.
    """
    from xray_registration.geometry.json_files import write_camera, write_json, write_pose
    from xray_registration.registration.perturbation import perturbed_pose
    from xray_registration.rendering.xray_model import XrayModel

    folder = Path(arguments.out)
    if arguments.frames < 1:
        raise InputError(f"--frames is {arguments.frames}; expected 1 or more.")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; expected 0 or more.")
    if arguments.bag is not None:
        require("rclpy", pip="ros-rclpy")
        if Path(arguments.bag).exists():
            raise InputError(f"--bag {arguments.bag}: exists already; bags are not overwritten.")
        check_folder_of(Path(arguments.bag), "--bag")
    camera = _camera(arguments)
    config = _model_config(arguments)
    ct, labels = load_patient(arguments)
    isocentre = _isocentre(arguments, ct, labels)
    poses = _poses(arguments, isocentre)
    start = perturbed_pose(
        poses[0], isocentre, arguments.start_mm, arguments.start_deg, arguments.seed
    )
    model = XrayModel(ct, config, labels)
    make_folder(folder, "--out")

    shots, bag_shots = [], []
    for number, camera_from_ct in enumerate(poses):
        shot = model.render(camera_from_ct, camera, arguments.seed + number)
        camera_from_rig = camera_from_ct @ _inverse(poses[0])
        image = f"image_{number:03d}.{arguments.format}"
        _write_image(folder / image, shot)
        bag_shots.append((shot.image, camera, camera_from_ct))
        write_camera(folder / f"camera_{number:03d}.json", camera, camera_from_rig)
        shots.append(
            {
                "image": image,
                "camera": f"camera_{number:03d}.json",
                "camera_from_ct_lps": camera_from_ct.tolist(),
                "image_kind": shot.kind,
                "polarity": shot.polarity,
                "i0": shot.i0,
                "seed": arguments.seed + number,
            }
        )
        print(f"{folder / image}")
    write_pose(folder / "truth.json", poses[0], arguments.ct_axes)
    write_pose(folder / "start.json", start, arguments.ct_axes)
    write_json(
        folder / "simulation.json",
        {
            "ct": {"path": Path(ct.path).name, "sha256": ct.sha256},
            "isocentre_lps_mm": isocentre.tolist(),
            "start_mm": arguments.start_mm,
            "start_deg": arguments.start_deg,
            "seed": arguments.seed,
            "images": shots,
            "xray_model": config.to_dict(),
        },
    )
    print(f"{folder / 'truth.json'}, {folder / 'start.json'}, {folder / 'simulation.json'}")
    if arguments.bag is not None:
        from xray_registration.ros.simulated_bag import write_simulated_bag

        write_simulated_bag(
            Path(arguments.bag), bag_shots, start, arguments.ct_axes, arguments.bag_storage
        )
        print(arguments.bag)
    return 0


def _camera(arguments: argparse.Namespace) -> Camera:
    from xray_registration.geometry.camera import Camera
    from xray_registration.geometry.json_files import read_camera

    if arguments.camera is None:
        return Camera.from_detector(
            arguments.width, arguments.height, arguments.pixel_pitch_mm, arguments.sdd_mm
        )
    camera, _ = read_camera(arguments.camera)
    if camera.sdd_mm is None:
        raise InputError(
            f"{arguments.camera}: sdd_mm is missing; the X-ray model needs the source-detector "
            "distance in mm."
        )
    return camera


def _model_config(arguments: argparse.Namespace) -> XrayModelConfig:
    from xray_registration.rendering.xray_model import XrayModelConfig

    values: dict[str, Any] = {}
    if arguments.config is not None:
        values = read_yaml_mapping(Path(arguments.config))
    if arguments.preset is not None:
        values["preset"] = arguments.preset
    return XrayModelConfig.from_dict(values, arguments.config or "--preset")


def _isocentre(
    arguments: argparse.Namespace, ct: CTVolume, labels: LabelMap | None
) -> NDArray[np.float64]:
    import numpy as np

    if arguments.isocentre is not None:
        return np.array(arguments.isocentre, dtype=np.float64)
    if arguments.isocentre_labels is None:
        return np.asarray(ct.bone_box_lps().mean(axis=0))
    if labels is None:
        raise InputError("--isocentre-labels needs --label-map, which is not given.")
    centroids = labels.centroids_lps_mm()
    names = [name.strip() for name in arguments.isocentre_labels.split(",")]
    for name in names:
        labels.label_of(name)
    return np.asarray(np.mean([centroids[name] for name in names], axis=0))


def _poses(
    arguments: argparse.Namespace, isocentre: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    from xray_registration.geometry.arc import Arc
    from xray_registration.geometry.json_files import read_pose

    if arguments.pose is not None:
        if arguments.frames != 1:
            raise InputError(f"--frames is {arguments.frames} with --pose, which is one image.")
        return [read_pose(arguments.pose)[0]]
    ends = []
    for option in ("primary", "secondary"):
        angles = getattr(arguments, option)
        if len(angles) > 2:
            raise InputError(f"--{option} is given {len(angles)} angles; expected one or two.")
        ends.append((angles[0], angles[-1]))
    arc = Arc(ends[0], ends[1], arguments.frames, arguments.source_isocentre_mm)
    return arc.poses(isocentre)


def _write_image(path: Path, shot: SimulatedXray) -> None:
    from xray_registration.evaluation.overlay import image_file_bytes
    from xray_registration.files import write_atomically

    write_atomically(path, image_file_bytes(shot.image, path.suffix))


def _inverse(rigid: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    inverse = np.eye(4)
    inverse[:3, :3] = rigid[:3, :3].T
    inverse[:3, 3] = -rigid[:3, :3].T @ rigid[:3, 3]
    return inverse
