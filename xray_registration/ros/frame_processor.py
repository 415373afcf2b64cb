"""One X-ray shot through the library: messages in, a registration result or a reason out.

No node, no topics, no threads: `solver_process` runs what is here in another process.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sensor_msgs.msg import CameraInfo, Image

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.undistort import undistort
from xray_registration.registration import Registrar, RegistrationResult, View
from xray_registration.registration.regressor_start import RegressorStart
from xray_registration.registration.tracker import TrackedFrame, Tracker
from xray_registration.ros.conversions import camera_from_message, image_to_array
from xray_registration.ros.image_bridge import image_bridge
from xray_registration.ros.patient import given_isocentre_lps_mm, load_patient
from xray_registration.ros.registration_settings import NetworkStart, RegistrationSettings
from xray_registration.ros.view_settings import ViewSettings

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ViewMessages:
    """One view's image, with its camera_info when that is used."""

    image: Image
    info: CameraInfo | None


@dataclass(frozen=True, eq=False)
class Frame:
    """The images of one moment as they arrived: one, or one of every view.

    Attributes:
        views: in the order of the settings.
        stamp_ns: of the first view's image.
        received_s: time.monotonic() at the last one's arrival.
    """

    views: tuple[ViewMessages, ...]
    stamp_ns: int
    received_s: float

    @classmethod
    def single(
        cls, image: Image, info: CameraInfo | None, stamp_ns: int, received_s: float
    ) -> Frame:
        """A frame of one view."""
        return cls((ViewMessages(image, info),), stamp_ns, received_s)

    @property
    def image(self) -> Image:
        """The first view's image."""
        return self.views[0].image


@dataclass(frozen=True, eq=False)
class Shot:
    """One view as the library wants it."""

    radiograph: Radiograph
    camera: Camera


class FrameProcessor:
    """Holds the registrar of one patient; built at configure."""

    def __init__(self, settings: RegistrationSettings) -> None:
        """Load the patient and build the registrar.

        Raises:
            InputError: see ``load_patient``; a device that is not there; no start-pose weights for
                this CT where they are asked for.
        """
        image_bridge()  # now, not with the first image
        self.ct, self.labels = load_patient(settings.patient)
        self.registrar = Registrar(
            self.ct,
            config=settings.config,
            label_map=self.labels,
            device=settings.device,
            isocentre_lps_mm=given_isocentre_lps_mm(settings.patient, self.labels),
        )
        self._threads = settings.threads
        self._proposer: RegressorStart | None = None
        if isinstance(settings.start, NetworkStart):
            path = settings.start.checkpoint
            self._proposer = RegressorStart.for_ct(self.ct, Path(path) if path else None)
        self._tracker = Tracker(self.registrar, settings.tracking, self._proposer)

    @property
    def isocentre_lps_mm(self) -> Matrix:
        """(3,) the point about which poses are perturbed."""
        return np.asarray(self.registrar.isocentre_lps_mm, dtype=np.float64)

    def shots(self, frame: Frame, settings: RegistrationSettings) -> tuple[Shot, ...]:
        """Radiograph and camera of every view.

        Raises:
            InputError: unusable image or camera_info, naming the topic and the value.
        """
        return tuple(
            self._shot(messages, view, settings)
            for messages, view in zip(frame.views, settings.views, strict=True)
        )

    def _shot(
        self, messages: ViewMessages, view: ViewSettings, settings: RegistrationSettings
    ) -> Shot:
        topic = view.topic("image")
        samples = image_to_array(messages.image, topic)
        info, known = messages.info, None
        if info is not None and settings.undistort and not settings.rectified and any(info.d):
            camera = _camera_from_info(_without_distortion(info), view, settings, samples)
            samples, camera, known = undistort(samples, camera, info.d, info.distortion_model)
        elif info is not None:
            camera = _camera_from_info(info, view, settings, samples)
        else:
            camera = _camera_from_parameters(view, settings, samples)
        radiograph = make_radiograph(
            samples,
            kind=settings.image_kind,
            i0=view.image_i0 or settings.image_i0,
            polarity=settings.image_polarity,
            mask=known,
            auto_mask=settings.auto_mask,
            saturation_level=settings.saturation_level,
            source=f"topic '{topic}'",
        )
        if settings.flip_horizontal:
            return Shot(radiograph.flipped_horizontally(), camera.flipped_horizontally())
        return Shot(radiograph, camera)

    def register(
        self,
        shots: tuple[Shot, ...],
        camera_from_rig: tuple[Matrix, ...],
        rig_from_ct: Matrix | None,
    ) -> RegistrationResult:
        """The library's result (LPS mm) from the start ``rig_from_ct`` (4, 4); None = proposed from
        the pictures.

        With one view the rig is the camera and ``camera_from_rig`` the identity.

        Raises:
            InputError: a start with which the CT is not in the picture; a start is to be proposed,
                but ``start.source`` was another one at configure.
        """
        views = self._views(shots, camera_from_rig, rig_from_ct)
        if rig_from_ct is not None:
            return self.registrar.register(views, rig_from_ct)
        assert self._proposer is not None  # looked at by _views
        return self.registrar.register(views, self._proposer.propose(views)[0])

    def track(
        self,
        shots: tuple[Shot, ...],
        camera_from_rig: tuple[Matrix, ...],
        rig_from_ct: Matrix | None,
        stamp_s: float,
        follows: bool,
    ) -> TrackedFrame:
        """As ``register``, of a stream; ``follows``: the start is the last accepted frame's pose.

        A start that is not the pose that the tracker has accepted last begins a new track: then the
        node has forgotten that one, or this solver is new.

        Raises:
            InputError: as ``register``.
        """
        views = self._views(shots, camera_from_rig, rig_from_ct)
        last = self._tracker.rig_from_ct
        if (
            last is None
            or rig_from_ct is None
            or not (follows and np.array_equal(last, rig_from_ct))
        ):
            self._tracker.reset()
        return self._tracker.track(views, stamp_s, rig_from_ct)

    def _views(
        self,
        shots: tuple[Shot, ...],
        camera_from_rig: tuple[Matrix, ...],
        rig_from_ct: Matrix | None,
    ) -> list[View]:
        if self._threads:
            # Here and not in the constructor: OpenMP keeps the number per calling thread.
            torch.set_num_threads(self._threads)
        if rig_from_ct is None and self._proposer is None:
            raise InputError("start.source 'network' is taken up when the node is configured")
        return [
            View(shot.radiograph, shot.camera, matrix)
            for shot, matrix in zip(shots, camera_from_rig, strict=True)
        ]


def _camera_from_info(
    info: CameraInfo,
    view: ViewSettings,
    settings: RegistrationSettings,
    samples: npt.NDArray[Any],
) -> Camera:
    return camera_from_message(
        info,
        image_size=(samples.shape[1], samples.shape[0]),
        sdd_mm=view.sdd_mm or settings.sdd_mm,
        pixel_pitch_mm=view.pixel_pitch_mm or settings.pixel_pitch_mm,
        rectified=settings.rectified,
        topic=view.topic("camera_info"),
    )


def _without_distortion(info: CameraInfo) -> CameraInfo:
    ideal = copy.deepcopy(info)
    ideal.d = []
    return ideal


def _camera_from_parameters(
    view: ViewSettings, settings: RegistrationSettings, samples: npt.NDArray[Any]
) -> Camera:
    pitch = view.pixel_pitch_mm or settings.pixel_pitch_mm
    sdd_mm = view.sdd_mm or settings.sdd_mm
    if pitch is None or sdd_mm is None:
        raise InputError(
            "parameters 'camera.sdd_mm' and 'camera.pixel_pitch_mm' are needed without camera_info"
        )
    height, width = samples.shape
    cx, cy = view.principal_point_px or settings.principal_point_px or (None, None)
    return Camera.from_detector(width, height, pitch, sdd_mm, cx=cx, cy=cy)


def is_finite(result: RegistrationResult) -> bool:
    """Pose and covariance of a result are all finite."""
    return bool(np.isfinite(result.rig_from_ct).all() and np.isfinite(result.covariance).all())
