"""xray-registration info: every kind of file, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xray_registration
from xray_registration.cli import main as cli_main


@pytest.fixture
def info(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `info --json`: exit code, what it printed, what it said on stderr."""

    def run(*paths: object) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli_main(["info", "--json", *map(str, paths)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out.strip() else None, said.err

    return run


def test_installation(info: Any) -> None:
    code, record, _ = info()
    assert code == 0
    assert record["xray_registration"] == xray_registration.__version__
    assert record["compiled_projector"].startswith(("available", "unavailable: "))
    assert record["ros"].startswith(("available", "unavailable: no"))
    assert record["packages"]["numpy"] == np.__version__


def test_volumes_images_and_json(cli_scene: Any, info: Any) -> None:
    paths = [cli_scene.ct, cli_scene.labels]
    paths += [cli_scene.file(n) for n in ("image_000.png", "camera_000.json", "truth.json")]
    code, records, message = info(*paths)
    assert (code, message) == (0, "")
    assert [r["what"] for r in records] == ["CT", "label map", "image", "camera", "pose"]
    ct, labels, image, camera, _ = records
    assert ct["shape_ijk"] == [171, 171, 67]
    assert len(ct["sha256"]) == 64
    assert labels["structures"]["35"] == "vertebrae_T9"
    assert (image["width"], image["height"], image["pixel_type"]) == (256, 256, "uint16")
    assert camera["pixel_pitch_mm"] == pytest.approx([1.2, 1.2])


def test_plain_text(cli_scene: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    assert cli_main(cli_scene.register_arguments(result)) == 0
    capsys.readouterr()
    assert cli_main(["info", str(result), str(cli_scene.ct)]) == 0
    text = capsys.readouterr().out
    assert f"registration result: {result}" in text
    assert "accepted: True" in text
    assert "index_axes: LAS" in text


@pytest.mark.parametrize("name", ["none.nii", "text.nii", "other.json", "word.doc", "flat.nii"])
def test_what_is_none_of_these(info: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "other.json":
        path.write_text('{"a": 1}')
    elif name == "flat.nii":
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 4, 4), -3, np.int16)), str(path))
    elif name != "none.nii":
        path.write_text("some words")
    code, record, message = info(path)
    assert code == 2
    assert record in (None, [])
    assert str(path) in message
