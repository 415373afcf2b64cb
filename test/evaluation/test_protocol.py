"""Protocols as data: those that come with the package, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from xray_registration.errors import InputError
from xray_registration.evaluation.protocol import (
    load_protocol,
    protocol_from_dict,
    protocol_names,
)

NEEDED = {
    "spine-single", "spine-biplane", "head-single", "pelvis-single", "spine-hard-single",
    "spine-hard-biplane", "reject",
}  # fmt: skip


def values(name: str = "spine-single") -> dict[str, Any]:
    return load_protocol(name).to_dict()


def test_all_protocols_are_there_and_named_as_their_files() -> None:
    assert set(protocol_names()) >= NEEDED
    for name in protocol_names():
        assert load_protocol(name).name == name


@pytest.mark.parametrize("name", sorted(NEEDED - {"reject"}))
def test_ranges_and_numbers_of_the_pose_protocols(name: str) -> None:
    protocol = load_protocol(name)
    pose = protocol.pose
    assert (pose.primary_deg, pose.secondary_deg, pose.roll_deg) == (35, 20, 10)
    assert (pose.shift_mm, pose.depth_mm) == (30, 60)
    assert protocol.starts.bins_mm == (0, 5, 10, 20, 40, 80)
    assert protocol.cases_per_bin * 5 >= 100
    assert len(protocol.cameras) == (2 if name.endswith("biplane") else 1)


@pytest.mark.parametrize("name", ["spine-hard-single", "spine-hard-biplane"])
def test_the_hard_patient_differs_in_all_but_the_spine(name: str) -> None:
    protocol = load_protocol(name)
    for variant in protocol.variants:
        assert variant.contrast != "as_ct"
        assert variant.deformation is not None
        assert variant.deformation["amplitude_mm"] <= 8
        assert variant.fixed == ("vertebrae_*",)
    shares = {a.name: a.share for a in protocol.acquisitions}
    assert shares["display"] * 3 == sum(shares.values())
    for acquisition in protocol.acquisitions:
        assert acquisition.collimator is not None
        assert set(acquisition.instruments) == {"fixation", "table"}
        assert acquisition.xray["preset"] == "low_dose"


def test_reject_set_has_all_kinds_and_enough_cases() -> None:
    reject = load_protocol("reject").reject
    assert reject is not None
    assert set(reject.kinds) >= {
        "blank", "saturated", "other_patient", "out_of_view", "mirrored", "wrong_sdd"
    }  # fmt: skip
    assert len(reject.kinds) * reject.cases_per_kind >= 500


def test_round_trip_and_a_file_of_ones_own(tmp_path: Path) -> None:
    protocol = load_protocol("spine-hard-single")
    assert protocol_from_dict(protocol.to_dict()).to_dict() == protocol.to_dict()
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(protocol.to_dict()))))
    assert load_protocol(path).to_dict() == protocol.to_dict()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'spine-triple'.*spine-single"):
        load_protocol("spine-triple")
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load_protocol(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(InputError, match=r"broken\.yaml: not valid YAML"):
        load_protocol(broken)
    data = values()
    data["poses"] = 3
    with pytest.raises(InputError, match=r"unknown \['poses'\]"):
        protocol_from_dict(data, "x.yaml")
    data = values()
    del data["seed"]
    with pytest.raises(InputError, match=r"x\.yaml: \['seed'\] is missing"):
        protocol_from_dict(data, "x.yaml")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("version",), 0, "version is 0"),
        (("patient",), "../etc", "patient is"),
        (("targets", "kind"), "volume", "targets: kind is 'volume'"),
        (("targets", "structures"), [], "targets: structures"),
        (("starts", "bins_mm"), [0, 5, 5], "starts: bins_mm"),
        (("starts", "sigma_mm"), 0, "starts: sigma_mm"),
        (("pose", "depth_mm"), -1, "pose: depth_mm is -1"),
        (("pose", "depth_mm"), 500, "within 300 mm"),
        (("pose", "source_isocentre_mm"), "far", "wrong type"),
        (("cameras",), [], "cameras is empty"),
        (("cameras",), [{"orbit_deg": 5.0}], "first camera"),
        (("cameras",), [{"size": [10, 10]}], r"cameras\[0\]: size"),
        (("acquisitions",), [{"name": "a", "instruments": ["drill"]}], "drill"),
        (("acquisitions",), [{"name": "a"}, {"name": "a"}], "same name"),
        (("variants",), [{"name": "v", "contrast": "more"}], r"variants\[0\]: contrast is 'more'"),
        (("variants",), [{"name": "v", "contrast": "added"}], "vessels"),
        (("reject",), {"kinds": ["ugly"]}, "ugly"),
        (("reject",), {"kinds": ["other_patient"]}, "other_patients"),
    ],
)
def test_bad_values_are_refused(place: tuple[str, ...], value: Any, message: str) -> None:
    data = values()
    at: Any = data
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(InputError, match=message):
        protocol_from_dict(data)
