"""One vertebra off: known, tried, and told apart or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xray_registration.geometry import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.registration import Reason, Registrar, RegistrationConfig, View
from xray_registration.registration.wrong_level import level_shifts
from xray_registration.rendering import AttenuationVolume, JosephProjector

NAMES = {n + 1: f"vertebrae_T{n + 4}" for n in range(7)}
HEIGHT_VOXELS, SPACING_MM = 12, 2.0


def column(marked: int | None = None) -> tuple[CTVolume, LabelMap]:
    """Seven equal vertebrae in soft tissue, 24 mm high; one may carry a spur."""
    depth, side = 7 * HEIGHT_VOXELS, 48
    k, j, i = np.mgrid[:depth, :side, :side].astype(float)
    phase = k % HEIGHT_VOXELS
    body = (np.hypot(i - 24, j - 20) < 9) & (phase > 1)
    process = (np.abs(i - 24) < 2) & (np.abs(j - 34) < 7) & (phase > 3) & (phase < 8)
    wings = (np.abs(i - 24) < 15) & (np.abs(j - 30) < 2) & (phase > 4) & (phase < 7)
    bone = body | process | wings
    if marked is not None:
        bone |= (k // HEIGHT_VOXELS == marked) & (np.hypot(i - 40, phase - 6) < 5) & (j < 30)
    skin = np.hypot(i - 24, j - 24) < 22
    hu = np.where(bone, 600, np.where(skin, 20, -1000)).astype(np.int16)
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    labels = np.where(bone, k // HEIGHT_VOXELS + 1, 0).astype(np.uint8)
    return CTVolume(hu, affine, path="column"), LabelMap(labels, affine, NAMES)


def picture(ct: CTVolume, pose: np.ndarray, camera: Camera, height_mm: float) -> View:
    """The middle ``height_mm`` of the column, through blades."""
    volume = AttenuationVolume.from_ct(ct)
    image = JosephProjector(volume).image(torch.from_numpy(pose)[None], camera)[0].numpy()
    noise = np.random.default_rng(3).normal(0.0, 0.01, image.shape)
    rows = np.abs(np.arange(camera.height) - camera.cy) * 700 / camera.fy < height_mm / 2
    mask = np.broadcast_to(rows[:, None], image.shape)
    return View(Radiograph((image + noise).astype(np.float32), mask, "attenuation"), camera)


def registered(marked: int | None) -> Any:
    ct, labels = column(marked)
    camera = Camera.from_detector(256, 256, 1.0, 1020.0)
    pose = np.eye(4)  # seen from the front: x to the left of the patient, y down the spine
    pose[:3, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    centre = ct.bone_box_lps().mean(0)
    pose[:3, 3] = np.array([0, 0, 700.0]) - pose[:3, :3] @ centre
    registrar = Registrar(ct, RegistrationConfig(), label_map=labels)
    return registrar.register([picture(ct, pose, camera, 60.0)], pose)


def test_neighbours_are_those_of_the_vertebra_at_the_isocentre() -> None:
    ct, labels = column()
    up, down = level_shifts(labels, ct.bone_box_lps().mean(0))
    assert (up.level, up.taken_for) == ("vertebrae_T7", "vertebrae_T6")
    assert (down.level, down.taken_for) == ("vertebrae_T7", "vertebrae_T8")
    np.testing.assert_allclose(up.ct_from_ct[:3, 3], [0, 0, HEIGHT_VOXELS * SPACING_MM], atol=1e-6)
    np.testing.assert_allclose(down.ct_from_ct[:3, 3], -up.ct_from_ct[:3, 3], atol=1e-6)


def test_without_two_vertebrae_there_is_nothing_to_confuse() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1], labels[2, 2, 2] = 1, 2
    bones = LabelMap(labels, np.eye(4), {1: "vertebrae_T7", 2: "sternum"})
    assert level_shifts(bones, np.zeros(3)) == []


def test_equal_vertebrae_are_refused_and_both_are_named() -> None:
    result = registered(marked=None)
    assert result.reason is Reason.AMBIGUOUS, result.reason_text
    assert not result.accepted
    assert "vertebrae_T7" in result.reason_text
    assert any(name in result.reason_text for name in ("vertebrae_T6", "vertebrae_T8"))


def test_a_mark_on_one_of_them_tells_them_apart() -> None:
    result = registered(marked=3)
    assert result.accepted, result.reason_text
