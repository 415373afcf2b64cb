"""`register` on real data: a real biplane radiograph of a wrist; X-rays of real CTs, simulated.

Skipped without the data sets (see the fixture ``shared_data``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.cli import main
from xray_registration.evaluation.metrics import mtre_mm, pose_errors
from xray_registration.geometry.json_files import read_camera, read_pose, write_camera, write_pose
from xray_registration.imaging.volume import load_ct
from xray_registration.interchange.mayacam import read_mayacam
from xray_registration.registration.perturbation import perturbed_pose

pytestmark = pytest.mark.slow

# One attempt from the start: what is tested here is the registration, not the search about it.
ONE_ATTEMPT = "spread: {count: 0}\n"


@dataclass(frozen=True)
class Wrist:
    """Files that `register` takes, made of the data set's own; see ``wrist``."""

    ct: Path
    images: tuple[Path, Path]
    cameras: tuple[Path, Path]
    reference: np.ndarray
    targets_lps_mm: np.ndarray


@pytest.fixture(scope="module")
def wrist(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Wrist:
    """The radius of the biplane wrist (Autoscoper's sample data, frame 0099).

    The partial CT is a TIFF of one page per slice, 0 outside the bone and HU + 1024 inside, with
    voxels of 0.39625 x 0.39625 x 0.625 mm (column, row, page). It becomes an NRRD of HU with air
    outside, whose origin is the middle of the grid: then the pseudo-reference's R and T (about that
    middle, to the world of the calibration) are rig_from_ct. The rig is that world.
    """
    sitk = pytest.importorskip("SimpleITK")
    tifffile = pytest.importorskip("tifffile")
    source = shared_data / "wrist"
    folder = tmp_path_factory.mktemp("wrist")

    stored = tifffile.imread(source / "rad_dcm_cropped.tif")
    hu = np.where(stored > 0, stored.astype(np.int32) - 1024, -1000).astype(np.int16)
    record = json.loads((source / "radius_reference_pose_0099.json").read_text())
    voxel_mm = np.array(record["voxel_size_mm"])
    volume = sitk.GetImageFromArray(hu)
    volume.SetSpacing(voxel_mm.tolist())
    volume.SetOrigin((-voxel_mm * (np.array(hu.shape[::-1]) - 1) / 2).tolist())
    ct_path = folder / "radius.nrrd"
    sitk.WriteImage(volume, str(ct_path))

    cameras = []
    for number in (1, 2):
        camera, camera_from_world = read_mayacam(source / f"xr_calib_wrist_cam0{number}.txt")
        cameras.append(folder / f"camera_{number}.json")
        write_camera(cameras[-1], camera, camera_from_world)
    reference = np.eye(4)
    reference[:3, :3] = record["frames"]["0099"]["R"]
    reference[:3, 3] = record["frames"]["0099"]["T"]
    ct = load_ct(ct_path)
    targets = ct.lps_of_index(np.argwhere(ct.hu > 200)[::50, ::-1])
    images = tuple(source / f"xr_rad_uln_cam0{n}_UND.0099.tif" for n in (1, 2))
    return Wrist(ct_path, (images[0], images[1]), (cameras[0], cameras[1]), reference, targets)


def _register_wrist(wrist: Wrist, folder: Path, seed: int, *more: str) -> tuple[int, Path]:
    """Both views, from the pseudo-reference moved by 5 mm and 5 degrees."""
    start = perturbed_pose(wrist.reference, np.zeros(3), 5.0, 5.0, seed)
    write_pose(folder / f"start_{seed}.json", start)
    out = folder / f"result_{seed}.json"
    arguments = ["register", "--ct", str(wrist.ct), "--out", str(out)]
    for image, camera in zip(wrist.images, wrist.cameras, strict=True):
        arguments += ["--image", str(image), "--camera", str(camera)]
    code = main([*arguments, "--initial-pose", str(folder / f"start_{seed}.json"), *more])
    return code, out


@pytest.mark.parametrize("kind", ["display", "intensity"])
def test_wrist_both_views(wrist: Wrist, tmp_path: Path, kind: str) -> None:
    """From three starts to one pose, near the pseudo-reference.

    The reference is an independent fit to the same two pictures (gradient NCC, Powell), not the
    truth: 0.25 mm and 0.45 degrees lie between, most of it turns about the bone's own long axis,
    which two views of a shaft show least.
    """
    config = tmp_path / "config.yaml"
    config.write_text(ONE_ATTEMPT)
    poses = []
    for seed in range(3):
        options = ["--image-kind", kind, "--config", str(config)]
        options += ["--polarity", "bone_dark"] if kind == "display" else []
        code, out = _register_wrist(wrist, tmp_path, seed, *options)
        assert code == 0, out.read_text()
        poses.append(read_pose(out)[0])
        start = read_pose(tmp_path / f"start_{seed}.json")[0]
        assert mtre_mm(start, wrist.reference, wrist.targets_lps_mm) > 4.0
        errors = pose_errors(poses[-1], wrist.reference, wrist.targets_lps_mm, np.zeros(3))
        assert errors.mtre_mm < 0.5
        assert errors.rotation_deg < 1.0
    for pose in poses[1:]:
        assert mtre_mm(pose, poses[0], wrist.targets_lps_mm) < 0.05


def test_wrist_with_defaults_as_a_newcomer_would(wrist: Wrist, tmp_path: Path) -> None:
    """No polarity, no configuration; overlays with a close-up of the small bone."""
    overlays = tmp_path / "overlays"
    code, out = _register_wrist(
        wrist, tmp_path, 7, "--image-kind", "display", "--overlay", str(overlays)
    )
    assert code == 0
    result = json.loads(out.read_text())
    assert [view["polarity"] for view in result["views"]] == ["bone_dark"] * 2
    assert mtre_mm(read_pose(out)[0], wrist.reference, wrist.targets_lps_mm) < 0.5
    kinds = sorted(path.stem.rsplit("_", 1)[1] for path in overlays.iterdir())
    assert kinds == sorted(["detail", "drr", "result", "start"] * 2)


def test_wrist_through_evaluate_says_whether_its_views_agree(wrist: Wrist, tmp_path: Path) -> None:
    """Both together from a manifest, then each alone: one view of the bone is refused."""
    pytest.importorskip("rclpy")
    pytest.importorskip("rosbags")
    views = []
    for n, (image, camera) in enumerate(zip(wrist.images, wrist.cameras, strict=True)):
        (tmp_path / f"{n}.tif").write_bytes(image.read_bytes())
        (tmp_path / f"{n}.json").write_bytes(camera.read_bytes())
        views.append({"image": f"{n}.tif", "camera": f"{n}.json"})
    write_pose(tmp_path / "start.json", perturbed_pose(wrist.reference, np.zeros(3), 5.0, 5.0, 0))
    write_pose(tmp_path / "reference.json", wrist.reference)
    moment = {"views": views, "start": "start.json", "truth": "reference.json", "alone": True}
    moment |= {"image_kind": "display", "polarity": "bone_dark"}
    (tmp_path / "manifest.json").write_text(json.dumps({"images": [moment]}))
    (tmp_path / "config.yaml").write_text(ONE_ATTEMPT)
    out = tmp_path / "out"
    arguments = ["evaluate", str(tmp_path / "manifest.json"), "--ct", str(wrist.ct)]
    arguments += ["--out", str(out), "--set", f"registration_config_path={tmp_path}/config.yaml"]
    assert main(arguments) == 0
    written = json.loads((out / "evaluation.json").read_text())
    summary, images = written["summary"], written["images"]
    assert (summary["images"], summary["accepted"]) == (1, 1)
    assert images[0]["mtre_mm"] < 0.5
    assert [view["view"] for view in summary["view_consistency"]] == ["view_0", "view_1"]
    assert not any(view["accepted_alone"] for view in summary["view_consistency"])
    better = summary["view_consistency"][1]
    # what one view does not tell is the depth
    assert better["in_plane_mm"] < 1.0 < better["depth_mm"]
    from xray_registration.ros.bag_files import BagReader

    with BagReader(out / "result_bag") as bag:
        overlays = [topic for topic in bag.topics if topic.endswith("/overlay")]
        assert len(overlays) == 2
        assert len(list(bag.messages(["/tf"]))) == 1


@pytest.fixture(scope="module")
def xrayed(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """CT and a folder with two realistic X-rays of it, 60 degrees apart; made once each."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(name: str) -> tuple[Path, Path]:
        if name not in made:
            ct = shared_data / "ct" / name
            folder = tmp_path_factory.mktemp("xrays")
            arguments: list[Any] = ["simulate", "--ct", ct, "--out", folder, "--primary", 5, 65]
            arguments += ["--frames", 2, "--width", 512, "--height", 512]
            arguments += ["--pixel-pitch-mm", 0.58, "--start-mm", 10, "--start-deg", 5]
            assert main([str(argument) for argument in arguments]) == 0
            made[name] = (ct, folder)
        return made[name]

    return make


@pytest.mark.parametrize("views", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize(
    "name",
    [
        "head_invesalius_cranium.nii.gz",
        "pelvis_totalsegmentator_3mm.nii.gz",
        "knee_ibsi_sts051.nii.gz",
    ],
)
def test_real_anatomy(
    xrayed: Callable[[str], tuple[Path, Path]], tmp_path: Path, name: str, views: tuple[int, ...]
) -> None:
    """One view within 1 mm (most of it depth), two within 0.3 mm, from 10 mm and 5 degrees."""
    path, folder = xrayed(name)
    out = tmp_path / "result.json"
    arguments = ["register", "--ct", str(path), "--image-kind", "intensity", "--out", str(out)]
    for view in views:
        arguments += ["--image", str(folder / f"image_{view:03d}.png")]
        arguments += ["--camera", str(folder / f"camera_{view:03d}.json")]
    code = main([*arguments, "--initial-pose", str(folder / "start.json")])
    result = json.loads(out.read_text())
    assert code == 0, result["reason_text"]
    truth, _ = read_pose(folder / "truth.json")
    ct = load_ct(path)
    targets = ct.lps_of_index(np.argwhere(ct.hu > 250)[::499, ::-1])
    _, camera_from_rig = read_camera(folder / f"camera_{views[0]:03d}.json")
    errors = pose_errors(
        camera_from_rig @ read_pose(out)[0],
        camera_from_rig @ truth,
        targets,
        np.array(result["isocentre"]),
    )
    assert errors.mtre_mm < (1.0 if len(views) == 1 else 0.3), errors
    assert errors.rotation_deg < 0.5
    assert errors.in_plane_mm < 0.3
