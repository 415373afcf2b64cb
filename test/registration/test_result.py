"""RESULT.json: both axes conventions, plain JSON, whole files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xray_registration
from xray_registration.errors import InputError
from xray_registration.geometry import check_rigid, se3, to_lps
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import Reason, RegistrationResult, Termination
from xray_registration.registration.result import SCHEMA_VERSION

POSE = se3.se3_exp(torch.tensor([30.0, -20.0, 700.0, 0.4, -1.0, 0.3]).double()).numpy()
ISOCENTRE_LPS = np.array([12.0, -34.0, 56.0])
CT = CTVolume(np.zeros((4, 4, 4), np.int16), np.eye(4), path="/some/where/ct.nii.gz", sha256="ab12")


def made(**changes: Any) -> RegistrationResult:
    result = RegistrationResult(
        rig_from_ct=POSE,
        accepted=True,
        reason=Reason.ACCEPTED,
        reason_text="similarity 0.900",
        similarity=0.9,
        start_similarity=0.2,
        view_similarities=(0.95, 0.85),
        covariance=np.diag(np.arange(1.0, 7.0)),
        isocentre_lps_mm=ISOCENTRE_LPS,
        iterations=31,
        termination=Termination.STEP,
        seconds=0.8,
        device="cpu",
    )
    return replace(result, **changes)


@pytest.mark.parametrize("ct_axes", ["lps", "ras"])
def test_pose_and_isocentre_survive_in_either_axes(ct_axes: str) -> None:
    content = json.loads(json.dumps(made().to_dict(ct_axes, CT), allow_nan=False))
    assert content["ct_axes"] == ct_axes
    rig_from_ct = check_rigid(content["rig_from_ct"], "rig_from_ct")
    np.testing.assert_allclose(to_lps(rig_from_ct, ct_axes), POSE, atol=1e-12)
    # the isocentre is in the same axes as the pose: the same point of the rig
    point = rig_from_ct @ [*content["isocentre"], 1.0]
    np.testing.assert_allclose(point, POSE @ [*ISOCENTRE_LPS, 1.0], atol=1e-9)


def test_the_two_axes_differ_as_lps_and_ras_do() -> None:
    lps, ras = (made().to_dict(axes) for axes in ("lps", "ras"))
    np.testing.assert_allclose(
        np.array(ras["rig_from_ct"]), np.array(lps["rig_from_ct"]) @ np.diag([-1, -1, 1, 1])
    )
    assert lps["isocentre"] == ISOCENTRE_LPS.tolist()
    assert ras["isocentre"] == pytest.approx([-12.0, 34.0, 56.0])
    # the covariance is in rig axes: no business of the CT's
    assert lps["covariance"] == ras["covariance"]


def test_an_unknown_axes_name_is_refused() -> None:
    with pytest.raises(InputError, match="ct_axes is 'xyz'"):
        made().to_dict("xyz")


def test_every_key_of_the_contract_is_there() -> None:
    content = made().to_dict(ct=CT)
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["version"] == xray_registration.__version__
    assert content["ct"] == {"path": "ct.nii.gz", "sha256": "ab12"}
    assert content["reason"] == "accepted"
    assert content["termination"] == "step_below_tolerance"
    assert content["length_unit"] == "mm"
    assert np.array(content["covariance"]).shape == (6, 6)
    for key in ("accepted", "similarity", "iterations", "seconds", "device", "ct_axes"):
        assert key in content
    assert made().to_dict()["ct"] is None


def test_numbers_that_json_does_not_know_become_null() -> None:
    result = made(
        similarity=float("nan"),
        view_similarities=(float("nan"), 0.1),
        covariance=np.full((6, 6), np.inf),
    )
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["similarity"] is None
    assert content["view_similarities"] == [None, 0.1]
    assert content["covariance"] is None


def test_extra_facts_are_kept() -> None:
    assert made(extra={"camera": "left"}).to_dict()["camera"] == "left"


def test_writes_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    made().write_json(path, "ras", CT)
    content = json.loads(path.read_text())
    assert content == json.loads(json.dumps(made().to_dict("ras", CT)))
    assert path.read_text().endswith("}\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_an_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        made().write_json(tmp_path / "absent" / "result.json")
