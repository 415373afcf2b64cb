"""Runs of a small protocol: their records, what is taken over, what a failure leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.evaluation import methods
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import append_records, read_records
from xray_registration.evaluation.runner import RECORDS, RunOptions, run_protocol
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.patients import VariantConfig
from xray_registration.learning.training import train_regressor
from xray_registration.registration import Level, RegistrationConfig

QUICK = RunOptions(quick=True)
COARSE = RunOptions(quick=True, config=RegistrationConfig(levels=(Level(5.0, 5.0, 4),)))


def stable(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs from run to run."""
    return [{k: v for k, v in r.items() if k not in ("seconds", "cpu_s", "input_cpu_s")}
            for r in records]  # fmt: skip


def _one_step_of_training(protocol: Protocol, folder: Path) -> Path:
    ct, _ = load_patient(protocol.patient)
    few = VariantConfig(count=1)
    config = TrainingConfig(steps=1, batch_size=2, held_out_batches=1, spacing_mm=6.0, variants=few)
    return train_regressor([ct], [ct.bone_box_lps().mean(0)], config, folder)


@pytest.mark.usefixtures("in_this_process")
class TestInOneProcess:
    def test_every_case_gets_a_record_with_its_errors(
        self, small_protocol: Protocol, tmp_path: Path
    ) -> None:
        records = run_protocol(small_protocol, QUICK, tmp_path / "run", lambda _: None)
        assert len(records) == 4
        for record in records:
            low, high = record["start_bin_mm"]
            assert low <= record["start_mtre_mm"] <= high
            assert record["error"] is None
            assert record["mtre_mm"] < 1.0
            assert record["in_plane_mtre_mm"] <= record["mtre_mm"] + 1e-9
            assert set(record["mtre_by_structure_mm"]) == {"label_1", "label_2", "label_3"}
            assert record["cpu_s"] > 0
        assert {r["case"] for r in records} == {
            f"small-v1-b{b}-00{i}" for b in (0, 1) for i in (0, 1)
        }

    def test_a_second_run_takes_over_what_is_there(
        self, small_protocol: Protocol, tmp_path: Path
    ) -> None:
        first = run_protocol(small_protocol, QUICK, tmp_path, lambda _: None)
        said: list[str] = []
        path = tmp_path / RECORDS
        size = path.stat().st_size
        again = run_protocol(small_protocol, QUICK, tmp_path, said.append)
        assert again == first
        assert path.stat().st_size == size
        assert said == ["small: 4 of 4 results are there already"]
        # half a line, as a killed run leaves it: that case alone is done again
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:3]) + lines[3][:50])
        said.clear()
        healed = run_protocol(small_protocol, QUICK, tmp_path, said.append)
        assert stable(healed) == stable(first)
        assert sum(line.startswith("[") for line in said) == 1
        assert len(read_records(path)) == 4

    def test_other_settings_are_run_again(self, small_protocol: Protocol, tmp_path: Path) -> None:
        first = run_protocol(small_protocol, QUICK, tmp_path, lambda _: None)
        records = run_protocol(small_protocol, COARSE, tmp_path, lambda _: None)
        assert len(read_records(tmp_path / RECORDS)) == 8
        for a, b in zip(first, records, strict=True):
            assert a["case"] == b["case"]
            assert a["rig_from_ct"] != b["rig_from_ct"]

    def test_a_defect_in_a_method_is_a_record_and_the_others_go_on(
        self, small_protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = methods.Ours.register

        def breaks(self: methods.Ours, views: Any, start: Any) -> methods.Outcome:
            if "b1-000" in views[0].radiograph.source:
                raise RuntimeError("no convergence")
            return work(self, views, start)

        monkeypatch.setattr(methods.Ours, "register", breaks)
        records = run_protocol(small_protocol, QUICK, tmp_path, lambda _: None)
        broken = [r for r in records if r["error"]]
        assert [r["case"] for r in broken] == ["small-v1-b1-000"]
        assert broken[0]["reason"] == "defect"
        assert "RuntimeError: no convergence (test_runner.py:" in broken[0]["error"]
        assert broken[0]["accepted"] is False
        assert len(records) == 4

    def test_reject_protocol(self, make_protocol: Callable[..., Protocol], tmp_path: Path) -> None:
        kinds = ["blank", "mirrored", "wrong_sdd"]
        protocol = make_protocol(reject={"kinds": kinds, "quick_per_kind": 2})
        records = run_protocol(protocol, COARSE, tmp_path, lambda _: None)
        assert [r["reject"] for r in records] == [k for k in kinds for _ in range(2)]
        assert all(r["mtre_mm"] is None for r in records)
        constant = records[1]
        assert (constant["accepted"], constant["reason"]) == (False, "unusable_input")
        assert "constant image" in constant["error"]

    def test_two_views(self, make_protocol: Callable[..., Protocol], tmp_path: Path) -> None:
        camera = {"size": [160, 160], "pixel_pitch_mm": 1.2, "sdd_mm": 1000.0}
        protocol = make_protocol(
            cameras=[camera, {**camera, "orbit_deg": 90.0}], starts={"bins_mm": [0, 4]},
            quick_per_bin=1, acquisitions=[{"name": "plain"}],
        )  # fmt: skip
        (record,) = run_protocol(protocol, QUICK, tmp_path, lambda _: None)
        assert record["views"] == 2
        assert record["mtre_mm"] < 0.5

    def test_weights_of_ones_own(
        self, make_protocol: Callable[..., Protocol], tmp_path: Path
    ) -> None:
        protocol = make_protocol(starts={"bins_mm": [0, 4]}, quick_per_bin=1)
        weights = tmp_path / "weights"
        weights.mkdir()
        path = _one_step_of_training(protocol, weights)
        options = replace(COARSE, methods=(methods.OURS_NO_START,), checkpoint=path)
        records = run_protocol(protocol, options, tmp_path / "run", lambda _: None)
        assert [r["error"] for r in records] == [None]
        # what the weights are decides, not where they lie
        moved = shutil.copytree(weights, tmp_path / "moved") / path.name
        said: list[str] = []
        options = replace(options, checkpoint=moved)
        again = run_protocol(protocol, options, tmp_path / "run", said.append)
        assert again == records
        assert "1 of 1 results are there already" in said[0]
        absent = replace(options, checkpoint=tmp_path / "nothing.json")
        with pytest.raises(InputError, match="nothing"):
            run_protocol(protocol, absent, tmp_path / "other", lambda _: None)

    def test_a_folder_that_cannot_be(self, small_protocol: Protocol, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="file"):
            run_protocol(small_protocol, QUICK, tmp_path / "file" / "run")


def test_bad_options() -> None:
    with pytest.raises(InputError, match="'simplex'"):
        RunOptions(methods=("simplex",))
    with pytest.raises(InputError, match="jobs is 0"):
        RunOptions(jobs=0)
    with pytest.raises(InputError, match=r"w\.json: it is of ours-no-start"):
        RunOptions(checkpoint=Path("w.json"))


def test_records_survive_half_lines_and_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert read_records(path) == []
    append_records(path, [{"case": "a"}, {"case": "b"}])
    with path.open("a") as stream:
        stream.write('{"case": "c", "met')
    append_records(path, [{"case": "d"}])
    assert [r["case"] for r in read_records(path)] == ["a", "b", "d"]
    with pytest.raises(ValueError, match="JSON"):
        append_records(path, [{"case": "e", "x": float("nan")}])
    json.loads(path.read_text().splitlines()[-1])


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_that_was_done(
    small_protocol: Protocol, tmp_path: Path
) -> None:
    """Two real processes; one is killed after the first result; a second run ends the work."""
    said: list[str] = []

    def kill_one(line: str) -> None:
        said.append(line)
        if line.startswith("[1/"):
            victim = multiprocessing.active_children()[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)

    options = RunOptions(quick=True, jobs=2)
    with pytest.raises(XrayRegistrationError, match="run the same command again"):
        run_protocol(small_protocol, options, tmp_path, kill_one)
    kept = len(read_records(tmp_path / RECORDS))
    assert 1 <= kept < 4
    said.clear()
    records = run_protocol(small_protocol, options, tmp_path, said.append)
    assert len(records) == 4
    assert said[0] == f"small: {kept} of 4 results are there already"
    assert sum(line.startswith("[") for line in said) == 4 - kept
