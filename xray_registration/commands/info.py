"""xray-registration info: what a file is, and what this installation can do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xray_registration.errors import InputError, XrayRegistrationError

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_IMAGES = (".png", ".tif", ".tiff", ".npy", ".dcm", ".ima")
_ACCEPTED = (
    f"expected a CT or label map ({', '.join(_VOLUMES)}, a DICOM series folder), an image "
    f"({', '.join(_IMAGES)}) or a CAM.json, POSE.json or RESULT.json"
)


def add_parser(verbs: Any) -> None:
    """Add ``info`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "info",
        help="say what files are, and what this installation can do",
        description="Say what each file is; without files: versions, devices, back ends.",
    )
    parser.add_argument("path", nargs="*", help="files or DICOM folders; 'example' is the CT of "
                        "the demo")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print; 2 when a file cannot be used."""
    if not arguments.path:
        _print([installation()], arguments.json)
        return 0
    described = [_described_or_error(path) for path in arguments.path]
    records = [record for record in described if isinstance(record, dict)]
    _print(records, arguments.json)
    for error in described:
        if isinstance(error, InputError):
            print(f"xray-registration info: {error}", file=sys.stderr)
    return 0 if len(records) == len(described) else 2


def describe(path: str) -> dict[str, Any]:
    """What a file or folder is, as plain values.

    Raises:
        InputError: it is nothing that this package reads, or it is broken.
    """
    if path == "example":
        from xray_registration.imaging.example import example_ct_path

        return describe(str(example_ct_path()))
    name = path.lower()
    readers: list[tuple[bool, Callable[[Path], dict[str, Any]]]] = [
        (not Path(path).exists(), _missing),
        (Path(path).is_dir() or name.endswith(_VOLUMES), _volume),
        (name.endswith(".json"), _json),
        (name.endswith(_IMAGES) or not Path(path).suffix, _image),
    ]
    for fits, reader in readers:
        if fits:
            return reader(Path(path))
    raise InputError(f"{path}: a file of another kind; {_ACCEPTED}.")


def _described_or_error(path: str) -> dict[str, Any] | InputError:
    try:
        return describe(path)
    except InputError as error:
        return error


def _missing(path: Path) -> dict[str, Any]:
    raise InputError(f"{path}: no such file or folder; {_ACCEPTED}.")


def _volume(path: Path) -> dict[str, Any]:
    from xray_registration.imaging.volume import ct_info, load_ct

    try:
        ct = load_ct(path)
    except InputError as error:
        labels = _label_map(path)
        if labels is None:
            raise error
        return labels
    record = {"what": "CT", **ct_info(ct)}
    try:
        record["bone_box_lps_mm"] = ct.bone_box_lps().round(1).tolist()
    except InputError as error:
        record["bone_box_lps_mm"] = str(error)
    return record


def _label_map(path: Path) -> dict[str, Any] | None:
    """None when it is no label map either."""
    from xray_registration.imaging.labels import TOTALSEGMENTATOR_BONES, LabelMap
    from xray_registration.imaging.volume_files import read_volume

    try:
        raw = read_volume(path)
        labels = LabelMap(raw.array, raw.lps_from_index, dict(TOTALSEGMENTATOR_BONES), str(path))
    except InputError:
        return None
    width, height, depth = reversed(labels.labels.shape)
    return {
        "what": "label map",
        "path": str(path),
        "shape_ijk": [width, height, depth],
        "lps_from_index": labels.lps_from_index.tolist(),
        "structures": {str(label): name for label, name in sorted(labels.names.items())},
        "names": "as TotalSegmentator numbers them; --label-names of register gives others",
    }


def _image(path: Path) -> dict[str, Any]:
    from xray_registration.imaging.radiograph_checks import grey
    from xray_registration.imaging.radiograph_files import read_radiograph_file

    stored = read_radiograph_file(path, "display")
    values = grey(stored.values, str(path))
    record: dict[str, Any] = {
        "what": "image",
        "path": str(path),
        "width": int(values.shape[1]),
        "height": int(values.shape[0]),
        "pixel_type": str(values.dtype),
        "white_is_zero": stored.white_is_zero,
    }
    import numpy as np

    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    record["pixels_not_finite"] = int(values.size - finite.size)
    if finite.size:
        low, middle, high = (float(v) for v in np.percentile(finite, (0, 50, 100)))
        record.update(smallest=low, median=middle, largest=high)
        record["at_largest_fraction"] = float(np.mean(finite == finite.max()))
    return record


def _json(path: Path) -> dict[str, Any]:
    from xray_registration.geometry.json_files import read_camera, read_json_object, read_pose

    data = read_json_object(path, "a camera, a pose or a result")
    if "K" in data:
        camera, camera_from_rig = read_camera(path)
        pitch = None if camera.sdd_mm is None else list(camera.pixel_pitch_mm)
        return {
            "what": "camera",
            "path": str(path),
            **camera.to_dict(),
            "pixel_pitch_mm": pitch,
            "camera_from_rig": camera_from_rig.tolist(),
        }
    if "rig_from_ct" in data:
        read_pose(path)
        what = "registration result" if "accepted" in data else "pose"
        return {"what": what, "path": str(path), **data}
    raise InputError(
        f"{path}: has the keys {', '.join(list(data)[:8]) or 'none'}; expected a camera (K), or a "
        "pose or result (rig_from_ct)."
    )


def installation() -> dict[str, Any]:
    """Versions, devices and back ends of this installation."""
    import platform
    from importlib import metadata

    import torch

    import xray_registration
    from xray_registration.rendering import native_kernel

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    reason = native_kernel.unavailable_reason()
    packages = ("numpy", "scipy", "SimpleITK", "pydicom", "opencv-python-headless", "numba",
                "rich", "diffdrr")  # fmt: skip
    record: dict[str, Any] = {
        "what": "installation",
        "xray_registration": xray_registration.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "cpu_threads": torch.get_num_threads(),
        "cuda_devices": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "compiled_projector": "available" if reason is None else f"unavailable: {reason}",
        "ros": _ros(),
    }
    record["packages"] = {package: version(package) for package in packages}
    try:
        from xray_registration.imaging.example import example_ct_path

        record["example_ct"] = str(example_ct_path())
    except XrayRegistrationError as error:
        record["example_ct"] = str(error)
    return record


def _ros() -> str:
    """Asked by importlib only: to import rclpy is the business of ros/."""
    from importlib.util import find_spec

    missing = [name for name in ("rclpy", "sensor_msgs", "tf2_msgs") if find_spec(name) is None]
    if missing:
        return f"unavailable: no {', '.join(missing)}"
    return "available"


def _print(records: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(records[0] if len(records) == 1 else records, indent=2))
        return
    for number, record in enumerate(records):
        if number:
            print()
        title = record.get("path", "")
        print(f"{record['what']}{': ' if title else ''}{title}")
        for line in _lines({k: v for k, v in record.items() if k not in ("what", "path")}, 1):
            print(line)


def _lines(values: dict[str, Any], depth: int) -> list[str]:
    lines = []
    indent = "  " * depth
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:")
            lines += _lines(value, depth + 1)
        elif _is_matrix(value):
            lines.append(f"{indent}{key}:")
            lines += [f"{indent}  {' '.join(f'{x:11.4g}' for x in row)}" for row in value]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value):
                lines.append(f"{indent}{key}[{number}]:")
                lines += _lines(item, depth + 1)
        else:
            lines.append(f"{indent}{key}: {_text(value)}")
    return lines


def _is_matrix(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, list) and row for row in value)
        and all(isinstance(x, (int, float)) for row in value for x in row)
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)
