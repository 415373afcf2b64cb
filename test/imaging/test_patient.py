from __future__ import annotations

import numpy as np

from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import CTVolume


def test_couch_and_gown_go_and_lungs_and_both_legs_stay() -> None:
    hu = np.full((10, 80, 120), -1000)
    hu[:, 20:50, 10:50] = 40  # one leg
    hu[:, 20:50, 60:110] = 40  # the other
    hu[:, 30:40, 70:90] = -870  # air inside
    hu[:, 62:64, :] = 200  # couch, 2 voxels thick
    mask = patient_mask(CTVolume(hu.astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0])))
    assert mask[:, 20:50, 10:50].all()
    assert mask[:, 20:50, 60:110].all()
    assert not mask[:, 61:65].any()


def test_the_patient_is_found_in_sagittal_slices_too() -> None:
    hu = np.full((60, 70, 80), -1000)
    hu[:, 10:50, 10:70] = 30  # runs through all slices
    hu[:, 20:40, 30:50] = -900  # and so does its lung
    axial = CTVolume(hu.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
    affine = np.zeros((4, 4))
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (0, 0, 3), (3, 0, 0), (0, 3, 0)
    affine[3, 3] = 1.0
    # index i runs along S, j along L, k along P
    sagittal = CTVolume(np.ascontiguousarray(axial.hu.transpose(1, 2, 0)), affine)
    np.testing.assert_array_equal(patient_mask(sagittal).transpose(2, 0, 1), patient_mask(axial))
    assert patient_mask(axial)[:, 20:40, 30:50].all()
