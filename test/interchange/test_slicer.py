"""Slicer's landmark files: axes from the header, round trips, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.interchange.slicer import read_landmarks, write_landmarks

POINTS = {"ASIS-l": np.array([93.25, -37.5, -941.125]), 'a, "b"': np.array([0.1, 2e-7, 3.0])}
ROW = "1,10.5,20,-30,0,0,0,1,1,1,0,tip,,"


def fcsv(system: str | None, *rows: str) -> str:
    lines = ["# Markups fiducial file version = 4.10"]
    lines += [] if system is None else [f"# CoordinateSystem = {system}"]
    lines.append("# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID")
    return "\n".join([*lines, *rows]) + "\n"


def markups(point: dict[str, Any] | None = None, **keys: Any) -> str:
    control = {"label": "tip", "position": [10.5, 20.0, -30.0], **(point or {})}
    markup = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": [control], **keys}
    return json.dumps({"markups": [{k: v for k, v in markup.items() if v is not None}]})


@pytest.mark.parametrize("name", ["points.fcsv", "points.mrk.json"])
def test_written_points_are_read_back(tmp_path: Path, name: str) -> None:
    write_landmarks(tmp_path / name, POINTS)
    read = read_landmarks(tmp_path / name)
    assert list(read) == list(POINTS)
    for key, point in POINTS.items():
        np.testing.assert_array_equal(read[key], point)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("0", (-10.5, -20, -30)),
        ("RAS", (-10.5, -20, -30)),
        ("1", (10.5, 20, -30)),
        ("LPS", (10.5, 20, -30)),
    ],
)
def test_fcsv_axes_follow_the_header(
    tmp_path: Path, system: str, expected: tuple[float, float, float]
) -> None:
    path = tmp_path / "p.fcsv"
    path.write_text(fcsv(system, ROW))
    np.testing.assert_array_equal(read_landmarks(path)["tip"], expected)


def test_json_axes_and_points_not_placed_yet(tmp_path: Path) -> None:
    path = tmp_path / "p.mrk.json"
    path.write_text(markups())
    np.testing.assert_array_equal(read_landmarks(path)["tip"], (-10.5, -20, -30))
    path.write_text(markups(coordinateSystem="LPS", coordinateUnits=["mm", "UCUM", "mm"]))
    np.testing.assert_array_equal(read_landmarks(path)["tip"], (10.5, 20, -30))
    path.write_text(markups({"positionStatus": "undefined"}))
    with pytest.raises(InputError, match="no landmarks with a position"):
        read_landmarks(path)


def test_points_without_labels_get_their_number(tmp_path: Path) -> None:
    path = tmp_path / "p.fcsv"
    path.write_text(fcsv("LPS", "a,1,2,3", "b,4,5,6"))
    assert list(read_landmarks(path)) == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.fcsv", fcsv(None, ROW), "no line '# CoordinateSystem"),
        ("p.fcsv", fcsv("2", ROW), "'2'; expected RAS or LPS"),
        ("p.fcsv", fcsv("IJK", ROW), "'IJK'; expected RAS or LPS"),
        ("p.fcsv", fcsv("LPS", "1,x,2,3,0,0,0,1,1,1,0,tip"), "'tip'.*not numeric"),
        ("p.fcsv", fcsv("LPS", "1,nan,2,3,0,0,0,1,1,1,0,tip"), "must be finite"),
        ("p.fcsv", fcsv("LPS", "1,2"), "2 columns"),
        ("p.fcsv", fcsv("LPS", ROW, ROW), "several landmarks are called 'tip'"),
        ("p.fcsv", fcsv("LPS"), "no landmarks"),
        ("p.mrk.json", markups(coordinateSystem=None), "no coordinateSystem"),
        ("p.mrk.json", markups(coordinateUnits="m"), "expected mm"),
        ("p.mrk.json", markups({"position": [1, 2]}), "expected 3 numbers"),
        ("p.mrk.json", "{}", "no list 'markups'"),
        ("p.mrk.json", "[", "not valid JSON"),
        ("p.txt", "", "unknown landmark format"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        read_landmarks(path)
    assert name in str(caught.value)


def test_refuses_to_write_nothing_or_nonsense(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no landmarks to write"):
        write_landmarks(tmp_path / "p.fcsv", {})
    with pytest.raises(InputError, match="finite"):
        write_landmarks(tmp_path / "p.fcsv", {"a": [np.inf, 0, 0]})
    with pytest.raises(InputError, match="unknown landmark format"):
        write_landmarks(tmp_path / "p.txt", POINTS)
    with pytest.raises(InputError, match="no such file"):
        read_landmarks(tmp_path / "p.fcsv")
