"""register without a pose file: from landmarks, from the C-arm's angles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.evaluation.metrics import mtre_mm
from xray_registration.geometry.json_files import read_camera, read_pose
from xray_registration.geometry.positioner import positioner_from_camera
from xray_registration.imaging.labels import load_label_map
from xray_registration.imaging.volume import load_ct
from xray_registration.interchange.slicer import write_landmarks

_PICKED = ("vertebrae_T6", "vertebrae_T9", "rib_left_6", "rib_right_6", "rib_left_8", "rib_right_8")


@pytest.fixture(scope="module")
def landmarks(cli_scene: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A file of the CT, and one for each of the two pictures, picked some pixels off."""
    folder = tmp_path_factory.mktemp("landmarks")
    centroids = load_label_map(cli_scene.labels, load_ct(cli_scene.ct)).centroids_lps_mm()
    write_landmarks(folder / "ct.fcsv", {name: centroids[name] for name in centroids})
    truth, _ = read_pose(cli_scene.file("truth.json"))
    random = np.random.default_rng(4)
    files = []
    for n in range(2):
        camera, camera_from_rig = read_camera(cli_scene.file(f"camera_00{n}.json"))
        pose = camera_from_rig @ truth
        pixels = {
            name: camera.project(pose[:3, :3] @ centroids[name] + pose[:3, 3])
            + random.normal(size=2) * 2.0
            for name in _PICKED
        }
        path = folder / f"points_{n}.json"
        path.write_text(json.dumps({"landmarks_px": {k: v.tolist() for k, v in pixels.items()}}))
        files.append(str(path))
    return str(folder / "ct.fcsv"), files


def _found(out: Path, cli_scene: Any, targets_lps_mm: np.ndarray) -> tuple[float, float]:
    """Errors of start and result, mm."""
    result = json.loads(out.read_text())
    truth, _ = read_pose(cli_scene.file("truth.json"))
    start = np.array(result["rig_from_ct_start"])
    return mtre_mm(start, truth, targets_lps_mm), mtre_mm(read_pose(out)[0], truth, targets_lps_mm)


def test_landmarks(
    cli_scene: Any, main: Any, landmarks: Any, targets_lps_mm: np.ndarray, tmp_path: Path
) -> None:
    of_ct, of_images = landmarks
    out = tmp_path / "result.json"
    arguments = cli_scene.register_arguments(
        out, initial_pose=None, landmarks_ct=of_ct, landmarks_image=of_images[0]
    )
    code, said = main(arguments)
    assert code == 0, said
    start_mm, end_mm = _found(out, cli_scene, targets_lps_mm)
    assert 0.1 < start_mm < 25.0
    assert end_mm < 2.0


def test_landmarks_of_a_mirrored_picture_are_mirrored_with_it(
    cli_scene: Any, main: Any, landmarks: Any, targets_lps_mm: np.ndarray, tmp_path: Path
) -> None:
    cv2 = pytest.importorskip("cv2")
    raw = cv2.imread(cli_scene.file("image_000.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(tmp_path / "mirrored.png"), raw[:, ::-1])
    points = json.loads(Path(landmarks[1][0]).read_text())["landmarks_px"]
    mirrored = {name: [raw.shape[1] - 1 - x, y] for name, (x, y) in points.items()}
    (tmp_path / "points.json").write_text(json.dumps({"landmarks_px": mirrored}))
    out = tmp_path / "result.json"
    arguments = cli_scene.register_arguments(
        out,
        image=str(tmp_path / "mirrored.png"),
        initial_pose=None,
        landmarks_ct=landmarks[0],
        landmarks_image=str(tmp_path / "points.json"),
    )
    code, said = main([*arguments, "--flip-horizontal"])
    assert code == 0, said
    assert _found(out, cli_scene, targets_lps_mm)[1] < 2.0


def test_carm_angles(cli_scene: Any, main: Any, targets_lps_mm: np.ndarray, tmp_path: Path) -> None:
    truth, _ = read_pose(cli_scene.file("truth.json"))
    stood = positioner_from_camera(truth, 700.0)
    out = tmp_path / "result.json"
    arguments = cli_scene.register_arguments(out, initial_pose=None)
    angles = ["--carm-angles", str(stood.primary_deg + 3.0), str(stood.secondary_deg - 2.0)]
    centre = [str(value + 4.0) for value in stood.isocentre_lps_mm]
    code, said = main([*arguments, *angles, "--isocentre", *centre])
    assert code == 0, said
    start_mm, end_mm = _found(out, cli_scene, targets_lps_mm)
    assert 3.0 < start_mm < 25.0
    assert end_mm < 2.0


def test_starts_that_cannot_be_used(
    cli_scene: Any, main: Any, landmarks: Any, tmp_path: Path
) -> None:
    of_ct, (points, _) = landmarks
    few = tmp_path / "few.json"
    few.write_text('{"landmarks_px": {"vertebrae_T6": [1, 2]}}')
    unknown = tmp_path / "unknown.json"
    unknown.write_text('{"landmarks_px": {"T99": [1, 2]}}')
    out = tmp_path / "result.json"
    for changes, words in [
        ({"landmarks_ct": of_ct}, "expected both of them"),
        ({"landmarks_ct": of_ct, "landmarks_image": str(few)}, "at least 4"),
        ({"landmarks_ct": of_ct, "landmarks_image": str(unknown)}, "T99 picked in a picture"),
        ({"landmarks_ct": of_ct, "landmarks_image": "gone.json"}, "gone.json: no such file"),
        (
            {"landmarks_ct": of_ct, "landmarks_image": points, "initial_pose": "x.json"},
            "--initial-pose and --landmarks-ct: expected one of them",
        ),
    ]:
        values = {"initial_pose": None, **changes}
        code, said = main(cli_scene.register_arguments(out, **values))
        assert code == 2
        assert words in said
    again = ["--image", cli_scene.file("image_001.png"), "--camera"]
    arguments = cli_scene.register_arguments(
        out, initial_pose=None, landmarks_ct=of_ct, landmarks_image=points
    )
    code, said = main([*arguments, *again, cli_scene.file("camera_001.json")])
    assert code == 2
    assert "--landmarks-image is given 1 times for 2 images" in said
    assert not out.exists()
