"""The demo: three real processes over DDS; what it writes; that Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs")
pytest.importorskip("diffdrr")

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def _command(out: Path, *more: object) -> list[str]:
    return [sys.executable, "-m", "xray_registration.cli", "demo", "--out", str(out),
            *map(str, more)]  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo: 3 frames of 384 x 384."""
    out = tmp_path_factory.mktemp("demo") / "output"
    done = subprocess.run(
        _command(out, "--frames", 3, "--size", 384), text=True, capture_output=True, timeout=900
    )
    logs = "\n".join(p.read_text() for p in (out / "nodes").glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    (out / "stdout.txt").write_text(done.stdout)
    return out


def test_every_frame_is_right(demo: Path) -> None:
    summary = json.loads((demo / "summary.json").read_text())
    assert summary["frames"] == summary["accepted"] == summary["broadcast"] == 3
    assert summary["problems"] == []
    assert 0.0 < summary["mtre_median_mm"] <= summary["mtre_max_mm"] < 2.0
    assert summary["seconds_median"] > 0.0
    # nobody gives a start: the network's guess is some millimetres or centimetres off
    assert 0.5 < summary["first_start_mtre_mm"] < 60.0
    frames = summary["per_frame"]
    assert [frame["frame"] for frame in frames] == [0, 1, 2]
    assert [frame["start_source"] for frame in frames] == ["network", "previous", "previous"]
    assert len({frame["stamp"] for frame in frames}) == 3


def test_table_on_the_terminal(demo: Path) -> None:
    text = (demo / "stdout.txt").read_text()
    assert "true mTRE" in text
    assert len(re.findall(r"^ +[012] +[+-].* yes$", text, re.MULTILINE)) == 3
    assert "ROS_DOMAIN_ID=" in text


def test_pictures_and_page(demo: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    for number in range(3):
        image = cv2.imread(str(demo / f"images/frame_{number:02d}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (384, 384)
        assert image.dtype.name == "uint16"
        overlay = cv2.imread(str(demo / f"overlays/frame_{number:02d}.png"))
        green = (overlay[..., 1] > 200) & (overlay[..., 2] < 120)
        assert green.sum() > 500
    assert (demo / "overlays" / "frame_00_start.png").is_file()
    page = (demo / "index.html").read_text()
    # self-contained: nothing is fetched from anywhere
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    data: dict[str, Any] = json.loads(
        page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    )
    assert len(data["frames"]) == 3
    names = {item["name"] for item in data["frames"][1]["found"]}
    assert {"T6", "T7", "T8", "T9"} <= names
    assert "LIDC-IDRI-0001" in page
    leftovers = [p.name for p in demo.iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_the_node_is_told_neither_a_start_nor_the_arc(demo: Path) -> None:
    values = yaml.safe_load((demo / "nodes" / "registration_node.yaml").read_text())
    parameters = values["registration_node"]["ros__parameters"]
    assert set(parameters) == {
        "ct_path",
        "label_map_path",
        "isocentre.labels",
        "image.kind",
        "device",
        "start.source",
        "start.use_previous",
    }
    assert parameters["start.source"] == "network"


def _descendants(pid: int) -> set[int]:
    """Children, their children, ..., by parent: also those with a session of their own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found: set[int] = set()
    grown = {pid}
    while grown:
        grown = {child for child, parent in parents.items() if parent in grown}
        found |= grown
    return found


def test_ctrl_c_stops_all_children(tmp_path: Path) -> None:
    out = tmp_path / "output"
    demo = subprocess.Popen(
        _command(out, "--frames", 40), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not (out / "nodes" / "demo_client.yaml").exists():
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(1.0)
    children = _descendants(demo.pid)
    assert len(children) >= 3
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=120)
    assert demo.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not [pid for pid in children if (Path("/proc") / str(pid)).exists()]
    assert not list(out.glob(".images.*"))
    assert not (out / "index.html").exists()


def test_a_simulator_that_cannot_start_ends_the_demo(tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where a folder is wanted")
    done = subprocess.run(
        _command(tmp_path / "output", "--frames", 2, "--cache", blocked),
        text=True,
        capture_output=True,
        timeout=300,
        env={**os.environ},
    )
    assert done.returncode == 1
    assert "carm_simulator has ended with exit code 2" in done.stderr
    assert "cache_dir" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--frames", "0"], "--frames is 0"), (["--size", "10"], "--size is 10")],
)
def test_unusable_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    from xray_registration.cli import main

    assert main(["demo", "--out", str(tmp_path), *options]) == 2
    assert words in capsys.readouterr().err
