"""A small patient in files, X-rayed by the command line's own simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class CliScene:
    """Files: the example CT at a third of its resolution, and two X-rays of it."""

    ct: Path
    labels: Path
    folder: Path

    def file(self, name: str) -> str:
        """A file that `simulate` has written."""
        return str(self.folder / name)

    def register_arguments(self, out: Path, **changes: str | None) -> list[str]:
        """Arguments of a good registration of the first image; None drops an option."""
        values: dict[str, str | None] = {
            "ct": str(self.ct),
            "image": self.file("image_000.png"),
            "camera": self.file("camera_000.json"),
            "image-kind": "intensity",
            "initial-pose": self.file("start.json"),
            "out": str(out),
        }
        values.update({name.replace("_", "-"): value for name, value in changes.items()})
        pairs = [(f"--{name}", value) for name, value in values.items() if value is not None]
        return ["register", *[word for pair in pairs for word in pair]]


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Runs ``xray-registration ...`` as a process of its own."""

    def run(*arguments: Any, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xray_registration.cli", *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
            text=True,
            capture_output=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def cli_scene(
    tmp_path_factory: pytest.TempPathFactory,
    example_ct_file: Path,
    example_label_file: Path,
    run_cli: RunCli,
) -> CliScene:
    """Two views, 40 degrees apart; the start is 8 mm and 4 degrees off."""
    sitk = pytest.importorskip("SimpleITK")
    folder = tmp_path_factory.mktemp("cli")
    paths = []
    for source, name in ((example_ct_file, "ct.nii"), (example_label_file, "labels.nii")):
        whole = sitk.ReadImage(str(source))
        paths.append(folder / name)
        sitk.WriteImage(whole[::3, ::3, ::2], str(paths[-1]))
    done = run_cli(
        *("simulate", "--ct", paths[0], "--label-map", paths[1], "--out", folder / "xrays"),
        *("--primary", -10, 30, "--frames", 2, "--isocentre-labels", "vertebrae_T7,vertebrae_T8"),
        *("--width", 256, "--height", 256, "--pixel-pitch-mm", 1.2, "--seed", 3),
        *("--start-mm", 8, "--start-deg", 4),
    )
    assert done.returncode == 0, done.stderr
    return CliScene(paths[0], paths[1], folder / "xrays")


@pytest.fixture(scope="session")
def targets_lps_mm(cli_scene: CliScene) -> np.ndarray:
    """(N, 3) centroids of the thoracic vertebrae."""
    from xray_registration.imaging.labels import load_label_map
    from xray_registration.imaging.volume import load_ct

    centroids = load_label_map(cli_scene.labels, load_ct(cli_scene.ct)).centroids_lps_mm()
    return np.array([centroids[f"vertebrae_T{n}"] for n in range(5, 11)])


@pytest.fixture
def main(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    """Runs the command line in this process: exit code and what it said on stderr."""
    from xray_registration.cli import main as cli_main

    def run(arguments: list[str]) -> tuple[int, str]:
        capsys.readouterr()
        code = cli_main(arguments)
        return code, capsys.readouterr().err

    return run
