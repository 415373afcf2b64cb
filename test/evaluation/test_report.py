"""evaluate --protocol from the command line to the files it leaves."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from xray_registration import cli
from xray_registration.errors import InputError
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.report import read_summary


@pytest.fixture
def protocol_file(make_protocol: Callable[..., Protocol], tmp_path: Path) -> Path:
    return _written(make_protocol(quick_per_bin=1), tmp_path)


def _written(protocol: Protocol, folder: Path) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(protocol.to_dict()))))
    return path


@pytest.mark.usefixtures("in_this_process")
def test_a_run_leaves_a_page_of_its_own_a_summary_and_a_table(
    protocol_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = cli.main(
        ["evaluate", "--protocol", str(protocol_file), "--quick", "--out", str(out),
         "--method", "ours", "--method", "adam", "--config", str(_coarse(tmp_path))]
    )  # fmt: skip
    assert code == 0
    said = capsys.readouterr().out
    assert "| ours " in said
    assert "| adam " in said
    assert "times our CPU time" in said
    page = (out / "report.html").read_text()
    # nothing is fetched, and nothing beside the file is needed
    assert not re.search(r"(src|href)\s*=\s*\"(?!data:|#)", page)
    assert "@import" not in page
    assert page.count("<svg") >= 5
    assert page.count("data:image/jpeg;base64,") == 2
    assert "mis-scaled" in page
    summary = read_summary(out / "summary.json")
    assert summary["cases"] == 2
    assert summary["methods"]["ours"]["all"]["n"] == 2
    assert summary["comparisons"][0]["method"] == "adam"
    assert summary["environment"]["python"]
    assert summary["settings"]["adam"]["step_mm"] == 1.0
    with (out / "cases.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert float(rows[0]["mtre_mm"]) >= 0
    assert {row["method"] for row in rows} == {"ours", "adam"}


@pytest.mark.usefixtures("in_this_process")
def test_reject_page(make_protocol: Callable[..., Protocol], tmp_path: Path) -> None:
    protocol = make_protocol(reject={"kinds": ["blank", "mirrored"], "quick_per_kind": 2})
    path = _written(protocol, tmp_path)
    out = tmp_path / "out"
    code = cli.main(
        ["evaluate", "--protocol", str(path), "--quick", "--out", str(out), "--config",
         str(_coarse(tmp_path))]
    )  # fmt: skip
    assert code == 0
    page = (out / "report.html").read_text()
    assert "must be refused" in page
    assert "mirrored" in page


def _coarse(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text("levels: [{pixel_mm: 3.0, spacing_mm: 3.0, max_iterations: 15}]\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "spine-triple"], "'spine-triple'"),
        (["--protocol", "spine-single", "--jobs", "0"], "jobs is 0"),
        (["--protocol", "spine-single", "--method", "simplex"], "simplex"),
        (["--protocol", "spine-single", "somewhere.mcap"], "one of them"),
        (["somewhere.mcap", "--quick"], "--quick belong to --protocol"),
        ([], "nothing to evaluate"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["evaluate", "--out", str(tmp_path / "o"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_missing_data_are_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XRAY_REGISTRATION_DATA", str(tmp_path / "none"))
    out = ["--out", str(tmp_path / "o")]
    assert cli.main(["evaluate", "--protocol", "head-single", "--quick", *out]) == 2
    assert "make data" in capsys.readouterr().err


def test_summary_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="no summary"):
        read_summary(tmp_path / "summary.json")
