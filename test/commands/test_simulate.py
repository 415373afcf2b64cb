"""xray-registration simulate: files that belong together, truth and start as stated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.geometry.json_files import read_camera, read_pose, write_pose
from xray_registration.geometry.positioner import positioner_from_camera

ISOCENTRE_LABELS = ("vertebrae_T7", "vertebrae_T8")


def _image(path: str) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    return cv2.imread(path, cv2.IMREAD_UNCHANGED)


def test_what_is_written(cli_scene: Any) -> None:
    simulation = json.loads(Path(cli_scene.file("simulation.json")).read_text())
    isocentre = np.array(simulation["isocentre_lps_mm"])
    truth, axes = read_pose(cli_scene.file("truth.json"))
    assert axes == "lps"
    for number, primary in enumerate((-10.0, 30.0)):
        image = _image(cli_scene.file(f"image_{number:03d}.png"))
        assert image.dtype == np.uint16
        assert image.shape == (256, 256)
        camera, camera_from_rig = read_camera(cli_scene.file(f"camera_{number:03d}.json"))
        assert (camera.width, camera.height, camera.sdd_mm) == (256, 256, 1020.0)
        assert camera.pixel_pitch_mm == pytest.approx((1.2, 1.2))
        # one truth for all images: each camera's place in the rig is known
        camera_from_ct = camera_from_rig @ truth
        pose = positioner_from_camera(camera_from_ct, 700.0)
        assert pose.primary_deg == pytest.approx(primary, abs=1e-6)
        np.testing.assert_allclose(pose.isocentre_lps_mm, isocentre, atol=1e-6)
        np.testing.assert_allclose(
            camera_from_ct, simulation["images"][number]["camera_from_ct_lps"], atol=1e-9
        )
    assert len(simulation["ct"]["sha256"]) == 64
    assert simulation["images"][0]["image_kind"] == "intensity"

    start, _ = read_pose(cli_scene.file("start.json"))
    turn = start[:3, :3] @ truth[:3, :3].T
    assert math.degrees(math.acos((np.trace(turn) - 1) / 2)) == pytest.approx(4.0, abs=1e-6)
    shift = (start - truth) @ [*isocentre, 1.0]
    assert np.linalg.norm(shift) == pytest.approx(8.0, abs=1e-9)


def test_same_seed_same_pixels_and_the_picture_is_the_patient(
    cli_scene: Any, main: Any, tmp_path: Path
) -> None:
    write_pose(tmp_path / "pose.json", read_pose(cli_scene.file("truth.json"))[0], "ras")
    arguments = ["simulate", "--ct", str(cli_scene.ct), "--pose", str(tmp_path / "pose.json")]
    arguments += ["--camera", cli_scene.file("camera_000.json"), "--format", "tiff"]
    for seed in (3, 4):
        code, message = main([*arguments, "--out", str(tmp_path / str(seed)), "--seed", str(seed)])
        assert code == 0, message
    before = _image(cli_scene.file("image_000.png"))
    again = _image(str(tmp_path / "3" / "image_000.tiff"))
    other = _image(str(tmp_path / "4" / "image_000.tiff"))
    np.testing.assert_array_equal(again, before)
    assert (other != before).mean() > 0.5
    assert np.corrcoef(other.ravel(), before.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", "0"], "--frames is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--primary", "0", "1", "2"], "--primary is given 3 angles"),
        (["--primary", "500"], "primary_deg is 500"),
        (["--isocentre-labels", "vertebrae_T8"], "--label-map"),
        (["--preset", "sunny"], "sunny"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--camera", "/nowhere.json"], "/nowhere.json"),
        (["--pose", "/nowhere.json"], "/nowhere.json"),
        (["--width", "0"], "width"),
        (["--start-mm", "-1"], "translation_mm is -1"),
        (["--ct", "/nowhere.nii"], "/nowhere.nii"),
    ],
)
def test_unusable_options(
    cli_scene: Any, main: Any, tmp_path: Path, options: list[str], words: str
) -> None:
    arguments = ["simulate", "--ct", str(cli_scene.ct), "--out", str(tmp_path / "out")]
    code, message = main([*arguments, *options])
    assert code == 2, message
    assert words in message
    assert not (tmp_path / "out").exists()


def test_camera_without_distance_is_refused(cli_scene: Any, main: Any, tmp_path: Path) -> None:
    camera = json.loads(Path(cli_scene.file("camera_000.json")).read_text())
    del camera["sdd_mm"]
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(camera))
    arguments = ["simulate", "--ct", str(cli_scene.ct), "--out", str(tmp_path / "out")]
    code, message = main([*arguments, "--camera", str(path)])
    assert code == 2
    assert "camera.json: sdd_mm is missing" in message
