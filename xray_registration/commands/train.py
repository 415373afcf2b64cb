"""xray-registration train: one CT (or a folder of CTs) -> the weights of its pose regressor."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray_registration.commands.inputs import CT_HELP, EXAMPLE, load_named_ct, make_folder
from xray_registration.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xray_registration.imaging.volume import CTVolume
    from xray_registration.learning.checkpoint import Checkpoint

PRETRAINED = "pretrained"
_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

_DESCRIPTION = """\
Train the network that finds a start pose in an X-ray image, before surgery, from the patient's CT
alone: pictures are rendered from it and disturbed while the training runs. An interrupted training
goes on where it stopped when it is called again with the same DIR.
"""
_EPILOG = """\
DIR receives regressor.json with its weights (register --checkpoint DIR/regressor.json), state.pt
to go on from, and TensorBoard files in log/. Several processes: torchrun --nproc-per-node N
training/train_regressor.py with the same arguments.
"""


def add_parser(verbs: Any) -> None:
    """Add ``train`` to the verbs."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="train a start-pose network for a CT",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of the verb and of training/train_regressor.py."""
    parser.add_argument("ct", metavar="CT", help=CT_HELP)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--agnostic",
        action="store_true",
        help="CT is a folder of CT files of several patients: weights for any patient",
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="of training (30)")
    parser.add_argument("--steps", type=int, metavar="N", help="a number of steps instead")
    parser.add_argument("--config", metavar="YAML", help="settings; see docs/learning.md")
    parser.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="start from a checkpoint's NAME.json, or 'pretrained': the weights that come with "
        "the package",
    )
    parser.add_argument("--label-map", metavar="LABELS", help="label map on the CT's grid")
    parser.add_argument(
        "--aim",
        metavar="NAMES",
        help="structures of the label map (comma-separated) at whose centre pictures are aimed "
        "(default: the middle of the bone)",
    )
    parser.add_argument(
        "--isocentre",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="the point (LPS mm) at which pictures are aimed, instead of --aim",
    )
    parser.add_argument("--seed", type=int, help="of everything that is drawn")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no TensorBoard")


def run(arguments: argparse.Namespace) -> int:
    """Train; 0.

    Raises:
        InputError: any unusable input.
    """
    from xray_registration.learning.checkpoint import load_checkpoint
    from xray_registration.learning.config import TrainingConfig
    from xray_registration.learning.processes import processes
    from xray_registration.learning.regressor import KIND
    from xray_registration.learning.reporting import Console, Reporter
    from xray_registration.learning.training import train_regressor

    config = TrainingConfig()
    if arguments.config is not None:
        config = TrainingConfig.from_yaml(Path(arguments.config))
    for name in ("minutes", "steps", "seed"):
        if getattr(arguments, name) is not None:
            config = replace(config, **{name: getattr(arguments, name)})
    init: Checkpoint | None = None
    if arguments.init is not None:
        init = load_checkpoint(_init_path(arguments.init), KIND)
    out = Path(arguments.out)
    make_folder(out, "--out")
    cts = _load_cts(arguments)
    isocentres = [_isocentre(ct, arguments) for ct in cts]
    with processes() as group:
        loud = group.is_first and not arguments.quiet
        reporter = Console(out / "log", config.batch_size * group.world) if loud else Reporter()
        with reporter:
            path = train_regressor(cts, isocentres, config, out, init, group, reporter)
        if group.is_first:
            print(f"checkpoint: {path}")
    return 0


def _init_path(given: str) -> Path:
    if given != PRETRAINED:
        return Path(given)
    from xray_registration.learning.regressor import KIND
    from xray_registration.learning.shipped import shipped_to_start_from

    path = shipped_to_start_from(KIND)
    if path is None:
        raise InputError("--init pretrained: this installation carries no such weights.")
    return path


def _load_cts(arguments: argparse.Namespace) -> list[CTVolume]:
    from xray_registration.imaging.volume import load_ct

    if arguments.ct == EXAMPLE or not arguments.agnostic:
        return [load_named_ct(arguments.ct)]
    path = Path(arguments.ct)
    if not path.is_dir():
        raise InputError(f"{path}: --agnostic expects a folder of CT files.")
    files = sorted(
        file
        for file in path.iterdir()
        if file.name.endswith(_VOLUME_SUFFIXES) and "_labels." not in file.name
    )
    if len(files) < 2:
        raise InputError(f"{path}: {len(files)} CT file(s); --agnostic expects two or more.")
    return [load_ct(file) for file in files]


def _isocentre(ct: CTVolume, arguments: argparse.Namespace) -> NDArray[np.float64]:
    import numpy as np

    if arguments.isocentre is not None:
        return np.array(arguments.isocentre)
    if arguments.aim is None:
        return ct.bone_box_lps().mean(0)
    from xray_registration.imaging.example import example_label_path, example_structures
    from xray_registration.imaging.labels import load_label_map

    if arguments.label_map is None:
        raise InputError("--aim names structures of a label map; give --label-map.")
    if arguments.label_map == EXAMPLE:
        labels = load_label_map(example_label_path(), ct, names=example_structures())
    else:
        labels = load_label_map(Path(arguments.label_map), ct)
    centroids = labels.centroids_lps_mm()
    names = [name.strip() for name in arguments.aim.split(",")]
    unknown = [name for name in names if name not in centroids]
    if unknown:
        raise InputError(f"--aim: {unknown} not in the label map; it holds {sorted(centroids)}.")
    return np.asarray(np.mean([centroids[name] for name in names], axis=0))
