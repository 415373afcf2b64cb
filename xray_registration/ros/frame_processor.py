"""One X-ray image through the library: messages in, a registration result or a reason out.

No node, no topics, no threads: what is here could as well run in another process.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sensor_msgs.msg import CameraInfo, Image

from xray_registration.errors import InputError
from xray_registration.evaluation.bone_edges import BoneRenderer
from xray_registration.evaluation.overlay import Structures, draw
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.undistort import undistort
from xray_registration.registration import Registrar, RegistrationResult, View
from xray_registration.ros.conversions import camera_from_message, image_to_array
from xray_registration.ros.patient import given_isocentre_lps_mm, load_patient
from xray_registration.ros.registration_settings import RegistrationSettings

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image as it arrived, with its camera_info when that is used."""

    image: Image
    info: CameraInfo | None
    stamp_ns: int
    received_s: float
    """time.monotonic() at arrival."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame as the library wants it."""

    radiograph: Radiograph
    camera: Camera


class FrameProcessor:
    """Holds the registrar of one patient; built at configure."""

    def __init__(self, settings: RegistrationSettings) -> None:
        """Load the patient and build the registrar.

        Raises:
            InputError: see ``load_patient``; or a device that is not there.
        """
        self.ct, self.labels = load_patient(settings.patient)
        self.registrar = Registrar(
            self.ct,
            config=settings.config,
            label_map=self.labels,
            device=settings.device,
            isocentre_lps_mm=given_isocentre_lps_mm(settings.patient, self.labels),
        )
        self._threads = settings.threads
        self._device = settings.device
        self._structures = (
            None if self.labels is None else Structures(self.labels, settings.overlay_labels)
        )
        # Only drawn without a label map; made by the first overlay.
        self._bones: BoneRenderer | None = None

    @property
    def isocentre_lps_mm(self) -> Matrix:
        """(3,) the point about which poses are perturbed."""
        return np.asarray(self.registrar.isocentre_lps_mm, dtype=np.float64)

    def shot(self, frame: Frame, settings: RegistrationSettings) -> Shot:
        """Radiograph and camera of a frame.

        Raises:
            InputError: unusable image or camera_info, naming the topic and the value.
        """
        samples = image_to_array(frame.image)
        info, known = frame.info, None
        if info is not None and settings.undistort and not settings.rectified and any(info.d):
            camera = _camera_from_info(_without_distortion(info), settings, samples)
            samples, camera, known = undistort(samples, camera, info.d, info.distortion_model)
        elif info is not None:
            camera = _camera_from_info(info, settings, samples)
        else:
            camera = _camera_from_parameters(settings, samples)
        radiograph = make_radiograph(
            samples,
            kind=settings.image_kind,
            i0=settings.image_i0,
            polarity=settings.image_polarity,
            mask=known,
            auto_mask=settings.auto_mask,
            saturation_level=settings.saturation_level,
            source="topic 'image'",
        )
        if settings.flip_horizontal:
            return Shot(radiograph.flipped_horizontally(), camera.flipped_horizontally())
        return Shot(radiograph, camera)

    def register(self, shot: Shot, camera_from_ct_start: Matrix) -> RegistrationResult:
        """The library's result (LPS mm); for one view the rig is the camera.

        Raises:
            InputError: a start with which the CT is not in the picture.
        """
        if self._threads:
            # Here and not in the constructor: OpenMP keeps the number per calling thread.
            torch.set_num_threads(self._threads)
        views = [View(shot.radiograph, shot.camera)]
        return self.registrar.register(views, camera_from_ct_start)

    def overlay(
        self, shot: Shot, camera_from_ct: Matrix | None, accepted: bool, caption: str
    ) -> npt.NDArray[np.uint8]:
        """(H, W, 3) RGB: named structures on the radiograph; without labels the bone's edges."""
        edges = None
        if camera_from_ct is not None and self._structures is None:
            if self._bones is None:
                self._bones = BoneRenderer(self.ct, device=self._device)
            edges = self._bones.edges(camera_from_ct, shot.camera)
        return draw(
            shot.radiograph,
            shot.camera,
            camera_from_ct,
            self._structures,
            accepted=accepted,
            caption=caption,
            edges=edges,
        )


def _camera_from_info(
    info: CameraInfo, settings: RegistrationSettings, samples: npt.NDArray[Any]
) -> Camera:
    return camera_from_message(
        info,
        image_size=(samples.shape[1], samples.shape[0]),
        sdd_mm=settings.sdd_mm,
        pixel_pitch_mm=settings.pixel_pitch_mm,
        rectified=settings.rectified,
    )


def _without_distortion(info: CameraInfo) -> CameraInfo:
    ideal = copy.deepcopy(info)
    ideal.d = []
    return ideal


def _camera_from_parameters(settings: RegistrationSettings, samples: npt.NDArray[Any]) -> Camera:
    if settings.pixel_pitch_mm is None or settings.sdd_mm is None:
        raise InputError(
            "parameters 'camera.sdd_mm' and 'camera.pixel_pitch_mm' are needed without camera_info"
        )
    height, width = samples.shape
    cx, cy = settings.principal_point_px or (None, None)
    return Camera.from_detector(
        width, height, settings.pixel_pitch_mm, settings.sdd_mm, cx=cx, cy=cy
    )


def is_finite(result: RegistrationResult) -> bool:
    """Pose and covariance of a result are all finite."""
    return bool(np.isfinite(result.rig_from_ct).all() and np.isfinite(result.covariance).all())
