"""Messages to radiograph and camera, as the parameters say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.frame_processor import Frame, FrameProcessor
from xray_registration.ros.patient import PatientSettings, given_isocentre_lps_mm, load_patient
from xray_registration.ros.registration_parameters import SPECS
from xray_registration.ros.registration_settings import RegistrationSettings, build_settings

HEADER = Header(frame_id="carm")


def _settings(scene: Any, **changes: Any) -> RegistrationSettings:
    values: dict[str, Any] = {spec.name: spec.default for spec in SPECS}
    values.update({"ct_path": str(scene.ct_path), "camera.sdd_mm": 1020.0, "image.i0": 40000.0})
    values.update({name.replace("__", "."): value for name, value in changes.items()})
    return build_settings(values)


@pytest.fixture(scope="module")
def processor(scene: Any) -> FrameProcessor:
    return FrameProcessor(_settings(scene))


def _frame(scene: Any, raw: np.ndarray, **fields: Any) -> Frame:
    info = camera_to_message(scene.camera, HEADER)
    for name, value in fields.items():
        setattr(info, name, value)
    return Frame.single(array_to_image(raw, HEADER), info, 0, 0.0)


def test_intensity_and_camera(scene: Any, processor: FrameProcessor) -> None:
    [shot] = processor.shots(_frame(scene, scene.raw), _settings(scene))
    assert shot.camera == scene.camera
    expected = -np.log(scene.raw / 40000.0)
    np.testing.assert_allclose(shot.radiograph.attenuation, expected, atol=1e-5)
    assert shot.radiograph.i0 == 40000.0


def test_a_mirrored_image_is_mirrored_back_with_its_camera(
    scene: Any, processor: FrameProcessor
) -> None:
    k = scene.camera.K.copy()
    k[0, 2] = 100.0
    published = np.ascontiguousarray(scene.raw[:, ::-1])
    [shot] = processor.shots(
        _frame(scene, published, k=k.ravel()), _settings(scene, image__flip_horizontal=True)
    )
    np.testing.assert_allclose(shot.radiograph.attenuation, -np.log(scene.raw / 40000.0), atol=1e-5)
    assert shot.camera.cx == pytest.approx(155.0)


def test_distortion_is_undone_when_asked_for(scene: Any, processor: FrameProcessor) -> None:
    frame = _frame(scene, scene.raw, d=[5.0, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(InputError, match="camera_info"):
        processor.shots(frame, _settings(scene))
    [shot] = processor.shots(frame, _settings(scene, camera__undistort=True))
    assert shot.camera == scene.camera
    straight = -np.log(scene.raw / 40000.0)
    # The centre stays, the edges move.
    near = np.abs(shot.radiograph.attenuation - straight)
    assert near[118:138, 118:138].mean() < 0.02
    assert near[:20, :20].mean() > 0.04
    # Rectified: K and D describe another image; P counts.
    [shot] = processor.shots(frame, _settings(scene, camera__rectified=True))
    np.testing.assert_allclose(shot.radiograph.attenuation, straight, atol=1e-5)


def test_region_of_interest_and_size(scene: Any, processor: FrameProcessor) -> None:
    roi = RegionOfInterest(x_offset=64, y_offset=32, width=128, height=160)
    part = np.ascontiguousarray(scene.raw[32:192, 64:192])
    [shot] = processor.shots(_frame(scene, part, roi=roi), _settings(scene))
    assert (shot.camera.width, shot.camera.height) == (128, 160)
    assert shot.camera.cx == pytest.approx(127.5 - 64)
    with pytest.raises(InputError, match="256x256"):
        processor.shots(_frame(scene, part), _settings(scene))


def test_camera_from_parameters(scene: Any, processor: FrameProcessor) -> None:
    settings = _settings(scene, use_camera_info=False, camera__pixel_pitch_mm=(1.0, 1.0))
    frame = Frame.single(array_to_image(scene.raw, HEADER), None, 0, 0.0)
    assert processor.shots(frame, settings)[0].camera == scene.camera


def test_patients_that_cannot_be_used(scene: Any, tmp_path: Any) -> None:
    empty = tmp_path / "empty.nii.gz"
    empty.touch()
    for ct_path, words in [("", "ct_path"), (str(empty), "empty.nii.gz"), ("/no/ct.mha", "ct.mha")]:
        with pytest.raises(InputError, match=words):
            load_patient(PatientSettings(ct_path, "", (), None))
    with pytest.raises(InputError, match="another grid"):
        load_patient(PatientSettings("example", str(scene.label_path), (), None))
    settings = PatientSettings(str(scene.ct_path), str(scene.label_path), ("vertebrae_T99",), None)
    _, labels = load_patient(settings)
    with pytest.raises(InputError, match="vertebrae_T99 not in the label map"):
        given_isocentre_lps_mm(settings, labels)
