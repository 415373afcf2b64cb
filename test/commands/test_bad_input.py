"""Everything that can be wrong with what `register` is given: exit code 2 and a helpful message."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.geometry.json_files import read_pose, write_pose

Main = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def refused(cli_scene: Any, main: Main, tmp_path: Path) -> Callable[..., str]:
    """Registers with changed options; the message. Nothing may be written."""

    def run(*more: str, **changes: str | None) -> str:
        out = tmp_path / "result.json"
        code, message = main([*cli_scene.register_arguments(out, **changes), *more])
        assert code == 2, message
        assert message.startswith("xray-registration register: ")
        assert not out.exists()
        return message

    return run


def _edited(source: str, target: Path, **changes: Any) -> str:
    data = json.loads(Path(source).read_text())
    for key, value in changes.items():
        if value is None:
            del data[key]
        else:
            data[key] = value
    target.write_text(json.dumps(data))
    return str(target)


def test_missing_ct(refused: Any) -> None:
    assert "/nowhere/ct.nii" in refused(ct="/nowhere/ct.nii")


def test_corrupt_ct(refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "corrupt.nii.gz"
    path.write_bytes(b"\x1f\x8b not a volume")
    assert str(path) in refused(ct=str(path))


def test_empty_ct(refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "empty.nrrd"
    path.touch()
    message = refused(ct=str(path))
    assert str(path) in message
    assert "empty" in message


def test_ct_in_the_wrong_units(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / "counts.nii"
    image = sitk.ReadImage(str(cli_scene.ct))
    sitk.WriteImage(sitk.Clamp(image, lowerBound=-1024) + 1024, str(path))
    message = refused(ct=str(path))
    assert str(path) in message
    assert "Hounsfield" in message


def test_label_map_on_another_grid(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    labels = sitk.ReadImage(str(cli_scene.labels))
    moved = tmp_path / "moved.nii"
    labels.SetOrigin([x + 5.0 for x in labels.GetOrigin()])
    sitk.WriteImage(labels, str(moved))
    message = refused(label_map=str(moved))
    assert "moved.nii" in message
    assert "another grid" in message
    cut = tmp_path / "cut.nii"
    sitk.WriteImage(labels[1:, :, :], str(cut))
    assert "size" in refused(label_map=str(cut))


def test_image_size_is_not_the_cameras(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    camera = _edited(cli_scene.file("camera_000.json"), tmp_path / "cam.json", width=250)
    message = refused(camera=camera)
    assert "image_000.png" in message
    assert "256x256" in message
    assert "cam.json is for 250x256" in message


def test_uncalibrated_camera(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    k = [[0, 0, 127.5], [0, 850, 127.5], [0, 0, 1]]
    message = refused(camera=_edited(cli_scene.file("camera_000.json"), tmp_path / "c.json", K=k))
    assert "c.json" in message
    assert "uncalibrated" in message


@pytest.mark.parametrize("key", ["width", "height", "K"])
def test_camera_without_a_key(cli_scene: Any, refused: Any, tmp_path: Path, key: str) -> None:
    camera = _edited(cli_scene.file("camera_000.json"), tmp_path / "c.json", **{key: None})
    assert f"c.json: missing {key}" in refused(camera=camera)


def test_camera_from_rig_that_is_not_rigid(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    scaled = np.diag([2.0, 2.0, 2.0, 1.0]).tolist()
    camera = _edited(cli_scene.file("camera_000.json"), tmp_path / "c.json", camera_from_rig=scaled)
    assert "c.json: camera_from_rig" in refused(camera=camera)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{ not json", "not valid JSON, line 1"),
        ("", "empty"),
        ("[1, 2]", "list"),
        ('{"ct_axes": "lps"}', "missing rig_from_ct"),
        ('{"rig_from_ct": [[1]]}', "missing ct_axes"),
        (json.dumps({"rig_from_ct": np.eye(4).tolist(), "ct_axes": "xyz"}), "'xyz'"),
        (json.dumps({"rig_from_ct": np.eye(3).tolist(), "ct_axes": "lps"}), "(3, 3)"),
        (json.dumps({"rig_from_ct": "here", "ct_axes": "lps"}), "rig_from_ct"),
        (json.dumps({"rig_from_ct": np.diag([1, 1, np.nan, 1]).tolist(), "ct_axes": "lps"}), "nan"),
    ],
)
def test_unusable_pose_file(refused: Any, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "pose.json"
    path.write_text(content)
    message = refused(initial_pose=str(path))
    assert str(path) in message
    assert words in message


def test_missing_pose_file_and_binary_camera_file(refused: Any, tmp_path: Path) -> None:
    assert "/nowhere/pose.json: no such file" in refused(initial_pose="/nowhere/pose.json")
    binary = tmp_path / "camera.json"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    assert "not UTF-8" in refused(camera=str(binary))


def test_no_initial_pose_and_no_weights_for_this_ct(refused: Any, tmp_path: Path) -> None:
    message = refused(initial_pose=None)
    assert "carries no start-pose weights for this CT" in message
    assert "xray-registration train" in message
    weights = tmp_path / "regressor.json"
    assert f"{weights}: cannot be read" in refused(initial_pose=None, checkpoint=str(weights))
    weights.write_text("{")
    assert f"{weights}: damaged" in refused(initial_pose=None, checkpoint=str(weights))
    assert "expected one of them" in refused(checkpoint=str(weights))


def test_mirrored_pose(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    pose = json.loads(Path(cli_scene.file("start.json")).read_text())["rig_from_ct"]
    mirrored = (np.array(pose) @ np.diag([-1.0, 1.0, 1.0, 1.0])).tolist()
    path = _edited(cli_scene.file("start.json"), tmp_path / "p.json", rig_from_ct=mirrored)
    message = refused(initial_pose=path)
    assert "p.json: rig_from_ct" in message
    assert "determinant -1" in message


OUTSIDE = ((0, 900, 0), "outside the view")
BEHIND = ((0, 0, -900), "behind the X-ray source")


@pytest.mark.parametrize(("move", "words"), [OUTSIDE, BEHIND])
def test_ct_is_not_in_the_picture(
    cli_scene: Any, refused: Any, tmp_path: Path, move: tuple[float, ...], words: str
) -> None:
    pose, _ = read_pose(cli_scene.file("start.json"))
    pose[:3, 3] += move
    write_pose(tmp_path / "p.json", pose)
    message = refused(initial_pose=str(tmp_path / "p.json"))
    assert "image_000.png" in message
    assert words in message


@pytest.mark.parametrize("name", ["nan.npy", "flat.npy", "colour.png", "text.png", "pages.bmp"])
def test_unusable_image(refused: Any, tmp_path: Path, name: str) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / name
    ramp = np.tile(np.linspace(1.0, 200.0, 256), (256, 1))
    words = {"nan.npy": "NaN", "flat.npy": "constant", "colour.png": "colour"}.get(name, name)
    if name == "nan.npy":
        ramp[10, 20] = np.nan
        np.save(path, ramp)
    elif name == "flat.npy":
        np.save(path, np.full((256, 256), 7.0))
    elif name == "colour.png":
        cv2.imwrite(str(path), np.stack([ramp, ramp.T, ramp], -1).astype(np.uint8))
    else:
        path.write_text("no image")
    message = refused(image=str(path))
    assert str(path) in message
    assert words in message


def test_options_that_do_not_fit_together(cli_scene: Any, refused: Any, tmp_path: Path) -> None:
    second = ("--image", cli_scene.file("image_001.png"))
    assert "--camera is given 1 times for 2 images" in refused(*second)
    pair = (*second, "--camera", cli_scene.file("camera_001.json"))
    three = ("--i0", "1", "--i0", "2", "--i0", "3")
    assert "--i0 is given 3 times for 2 images" in refused(*pair, *three)
    assert "--mask is given 1 times for 2 images" in refused(*pair, "--mask", second[1])
    assert "i0" in refused(image_kind="attenuation", i0="500")
    assert "contradicts" in refused(polarity="bone_bright")
    assert "'tpu'" in refused(device="tpu")


def test_result_that_cannot_be_written(cli_scene: Any, main: Main, tmp_path: Path) -> None:
    code, message = main(cli_scene.register_arguments(tmp_path / "none" / "r.json"))
    assert code == 2
    assert "does not exist" in message
    code, message = main(cli_scene.register_arguments(tmp_path))
    assert code == 2
    assert "is a folder" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("levels: [", "not valid YAML"),
        ("just words", "expected a mapping"),
        ("levles: []", "levles"),
        ("gate: {min_similarity: .nan}", "min_similarity"),
        ("optimiser: {huber: -1}", "huber"),
    ],
)
def test_unusable_config(refused: Any, tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    assert words in refused(config=str(path))
    assert "/nowhere.yaml" in refused(config="/nowhere.yaml")


def test_rig_uncertainty_of_one_image(refused: Any) -> None:
    assert "--rig-uncertainty: there is one image" in refused("--rig-uncertainty", "2", "1")
