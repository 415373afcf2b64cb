"""xray-registration register: the contract, through the real process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from xray_registration.evaluation.metrics import mtre_mm
from xray_registration.geometry.json_files import read_pose, write_pose

SCHEMA = Path(__file__).parents[2] / "xray_registration/registration/schema/result.schema.json"


def _check_schema(result: dict[str, Any]) -> None:
    """Valid, and nothing in it that the schema does not describe."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(result)
    assert set(result) <= set(schema["properties"])


def test_one_image(
    cli_scene: Any, run_cli: Any, targets_lps_mm: np.ndarray, tmp_path: Path
) -> None:
    cv2 = pytest.importorskip("cv2")
    out, overlays = tmp_path / "result.json", tmp_path / "deep" / "overlays"
    done = run_cli(
        *cli_scene.register_arguments(
            out, overlay=str(overlays), label_map=str(cli_scene.labels), device="cpu"
        )
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "accepted" in done.stdout
    assert "Traceback" not in done.stderr

    result = json.loads(out.read_text())
    _check_schema(result)
    assert result["accepted"] is True
    assert result["reason"] == "accepted"
    assert result["ct_axes"] == "lps"
    assert result["device"] == "cpu"
    assert len(result["ct"]["sha256"]) == 64
    assert result["views"][0]["image"] == "image_000.png"
    assert result["views"][0]["polarity"] == "bone_dark"
    assert result["label_map"] == "labels.nii"
    truth, _ = read_pose(cli_scene.file("truth.json"))
    start, _ = read_pose(cli_scene.file("start.json"))
    np.testing.assert_allclose(result["rig_from_ct_start"], start)
    # RESULT.json is a POSE.json
    found, _ = read_pose(out)
    assert mtre_mm(start, truth, targets_lps_mm) > 7.0
    assert mtre_mm(found, truth, targets_lps_mm) < 2.0

    written = sorted(path.name for path in overlays.iterdir())
    names = ("drr", "result", "start")
    assert written == [f"view1_image_000_{name}.png" for name in names]
    pictures = [cv2.imread(str(overlays / name)) for name in written]
    assert all(picture.shape == (256, 256, 3) for picture in pictures)
    green = (pictures[1][..., 1] > 200) & (pictures[1][..., 0] < 150) & (pictures[1][..., 2] < 150)
    assert green.sum() > 300


def test_two_images_one_pose_in_the_axes_of_the_start(
    cli_scene: Any, run_cli: Any, targets_lps_mm: np.ndarray, tmp_path: Path
) -> None:
    start, _ = read_pose(cli_scene.file("start.json"))
    write_pose(tmp_path / "start_ras.json", start, "ras")
    out = tmp_path / "result.json"
    arguments = cli_scene.register_arguments(
        out, initial_pose=str(tmp_path / "start_ras.json"), i0="60000"
    )
    second = ["--image", cli_scene.file("image_001.png"), "--camera"]
    done = run_cli(*arguments, *second, cli_scene.file("camera_001.json"))
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads(out.read_text())
    _check_schema(result)
    assert result["ct_axes"] == "ras"
    assert len(result["views"]) == len(result["view_similarities"]) == 2
    assert result["views"][1]["i0"] == 60000.0
    assert np.abs(np.array(result["views"][1]["camera"]["camera_from_rig"]) - np.eye(4)).max() > 0.1
    found, axes = read_pose(out)
    assert axes == "ras"
    truth, _ = read_pose(cli_scene.file("truth.json"))
    assert mtre_mm(found, truth, targets_lps_mm) < 1.0


def test_rejected_is_exit_code_3_with_a_result(
    cli_scene: Any, run_cli: Any, tmp_path: Path
) -> None:
    config = tmp_path / "strict.yaml"
    level = {"pixel_mm": 5.0, "spacing_mm": 5.0, "max_iterations": 2}
    config.write_text(yaml.safe_dump({"levels": [level], "gate": {"min_similarity": 0.999}}))
    out = tmp_path / "result.json"
    done = run_cli(*cli_scene.register_arguments(out, config=str(config), overlay=str(tmp_path)))
    assert done.returncode == 3, done.stderr
    assert "REJECTED (low_similarity)" in done.stdout
    result = json.loads(out.read_text())
    _check_schema(result)
    assert result["accepted"] is False
    assert "0.999" in result["reason_text"]
    assert result["config"]["gate"]["min_similarity"] == 0.999
    assert (tmp_path / "view1_image_000_result.png").is_file()


def test_bad_input_is_exit_code_2_without_a_trace(
    cli_scene: Any, run_cli: Any, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    done = run_cli(*cli_scene.register_arguments(out, ct="/nowhere/ct.nii.gz"))
    assert done.returncode == 2
    assert done.stderr.startswith("xray-registration register: /nowhere/ct.nii.gz")
    assert "Traceback" not in done.stderr
    assert not out.exists()
    # as argparse does it
    done = run_cli("register", "--ct", "x")
    assert done.returncode == 2
    assert "--image" in done.stderr


@pytest.mark.parametrize("polarity", ["bone_dark", "bone_bright"])
def test_display_image_of_unknown_polarity(
    cli_scene: Any, main: Any, targets_lps_mm: np.ndarray, tmp_path: Path, polarity: str
) -> None:
    cv2 = pytest.importorskip("cv2")
    raw = cv2.imread(cli_scene.file("image_000.png"), cv2.IMREAD_UNCHANGED).astype(np.float64)
    picture = np.interp(np.log(raw), np.percentile(np.log(raw), (2, 98)), (0, 255))
    if polarity == "bone_bright":
        picture = 255 - picture
    cv2.imwrite(str(tmp_path / "display.png"), np.round(picture).astype(np.uint8))
    out = tmp_path / "result.json"
    code, _ = main(
        cli_scene.register_arguments(out, image=str(tmp_path / "display.png"), image_kind="display")
    )
    assert code == 0
    result = json.loads(out.read_text())
    _check_schema(result)
    assert result["views"][0]["polarity"] == polarity
    truth, _ = read_pose(cli_scene.file("truth.json"))
    assert mtre_mm(read_pose(out)[0], truth, targets_lps_mm) < 2.0


def test_mirrored_image_and_mask(
    cli_scene: Any, main: Any, targets_lps_mm: np.ndarray, tmp_path: Path
) -> None:
    cv2 = pytest.importorskip("cv2")
    raw = cv2.imread(cli_scene.file("image_000.png"), cv2.IMREAD_UNCHANGED)
    raw[40:60, 100:160] = 0  # something that is not the patient
    mask = np.full(raw.shape, 255, np.uint8)
    mask[36:64, 96:164] = 0
    cv2.imwrite(str(tmp_path / "mirrored.png"), raw[:, ::-1])
    cv2.imwrite(str(tmp_path / "mask.png"), mask[:, ::-1])
    out = tmp_path / "result.json"
    arguments = cli_scene.register_arguments(
        out, image=str(tmp_path / "mirrored.png"), mask=str(tmp_path / "mask.png")
    )
    code, _ = main([*arguments, "--flip-horizontal", "--isocentre", "0", "-80", "-150"])
    assert code == 0
    result = json.loads(out.read_text())
    _check_schema(result)
    assert result["isocentre"] == pytest.approx([0.0, -80.0, -150.0])
    assert result["views"][0]["masked"]["given"] == pytest.approx((mask == 0).mean())
    truth, _ = read_pose(cli_scene.file("truth.json"))
    assert mtre_mm(read_pose(out)[0], truth, targets_lps_mm) < 2.0
