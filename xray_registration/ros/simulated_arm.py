"""The simulated C-arm of some settings: what it takes pictures of, and its model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.carm_kinematics import CArmKinematics, root_from_patient
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model import XrayModel
from xray_registration.ros.carm_description import carm_description
from xray_registration.ros.joint_shots import JointShots
from xray_registration.ros.patient import given_isocentre_lps_mm, load_patient
from xray_registration.ros.rendered_sweep import RenderedSweep, SweepPlan
from xray_registration.ros.shots import SweepShots, views_of
from xray_registration.ros.simulator_settings import SimulatorSettings

Matrix = npt.NDArray[np.float64]

# mm; the description and the parameters are written by hand in m and mm.
_SAME_MM = 0.5


@dataclass(frozen=True, eq=False)
class ArmModel:
    """The kinematics of the arm, and the description that they are of."""

    kinematics: CArmKinematics
    description: str


@dataclass(frozen=True, eq=False)
class SimulatedArm:
    """What the node makes of its settings. ``model``: None in the mode sweep."""

    shots: SweepShots | JointShots
    model: ArmModel | None
    text: str


def build_arm(settings: SimulatorSettings) -> SimulatedArm:
    """Load the patient, and start rendering in the mode sweep.

    Raises:
        InputError: files, names or a robot description that cannot be used.
    """
    model = _model(settings) if settings.mode == "joint_states" else None
    ct, labels = load_patient(settings.patient)
    isocentre = given_isocentre_lps_mm(settings.patient, labels)
    if isocentre is None:
        isocentre = ct.bone_box_lps().mean(axis=0)
    renderer = _Renderer(ct, labels, settings)
    size = f"{settings.camera.width} x {settings.camera.height}"
    patient = f"CT {ct.path}; isocentre (LPS mm) {np.round(isocentre, 1).tolist()}"
    if model is None:
        sweep = _sweep(settings, renderer, isocentre)
        return SimulatedArm(sweep, None, f"{patient}; {sweep.counts['frames']} images of {size}")
    arm = settings.arm
    position = model.kinematics.isocentre_mm() if arm.position_mm is None else arm.position_mm
    shots = JointShots(
        arm=model.kinematics,
        root_from_ct=root_from_patient(position, isocentre, arm.head, arm.lie),
        views=settings.views,
        camera=settings.camera,
        render=renderer,
        seed=settings.seed,
        continuous=arm.continuous,
    )
    where = np.round(position / 1000.0, 3).tolist()
    text = f"{patient} at {where} m in '{model.kinematics.root}'; images of {size}"
    return SimulatedArm(shots, model, text)


class _Renderer:
    """The realistic X-ray model, made when the first picture that is not in a cache is wanted."""

    def __init__(self, ct: CTVolume, labels: LabelMap | None, settings: SimulatorSettings) -> None:
        self.ct, self.labels, self._config = ct, labels, settings.xray
        self._model: XrayModel | None = None

    def __call__(self, camera_from_ct: Matrix, camera: Camera, seed: int) -> npt.NDArray[Any]:
        if self._model is None:
            self._model = XrayModel(self.ct, self._config, self.labels)
        return self._model.render(camera_from_ct, camera, seed).image


def _sweep(settings: SimulatorSettings, renderer: _Renderer, isocentre: Matrix) -> SweepShots:
    labels = renderer.labels
    patient = {
        "ct": renderer.ct.sha256,
        "labels": labels and hashlib.sha256(labels.labels.tobytes()).hexdigest(),
        "xray": settings.xray.to_dict(),
    }
    poses = [
        view for pose in settings.sweep.poses(isocentre) for view in views_of(pose, settings.views)
    ]
    plan = SweepPlan(poses, settings.camera, settings.seed, patient)
    cache_dir = Path(settings.cache_dir) if settings.cache_dir else None
    rendered = RenderedSweep(plan, renderer, cache_dir)
    return SweepShots(rendered, poses, len(settings.views), settings.prerender, settings.loop)


def _model(settings: SimulatorSettings) -> ArmModel:
    """The arm of the parameter robot_description, or the shipped one with the camera's distances.

    Raises:
        InputError: it contradicts the camera's parameters or ``frame_id``.
    """
    prefix, camera = settings.arm.prefix, settings.camera
    assert camera.sdd_mm is not None
    size_mm = np.array([camera.width, camera.height]) * camera.pixel_pitch_mm
    description = settings.arm.description or carm_description(
        {
            "prefix": prefix,
            "sdd": _metres(camera.sdd_mm),
            "source_isocentre": _metres(settings.source_isocentre_mm),
            "detector_width": _metres(size_mm[0]),
            "detector_height": _metres(size_mm[1]),
        }
    )
    kinematics = CArmKinematics(description, prefix, "parameter 'robot_description'")
    distances = {
        "camera.sdd_mm": (camera.sdd_mm, kinematics.sdd_mm),
        "camera.source_isocentre_mm": (
            settings.source_isocentre_mm,
            kinematics.source_isocentre_mm,
        ),
    }
    for name, (given, found) in distances.items():
        if abs(given - found) > _SAME_MM:
            raise InputError(
                f"parameter '{name}' is {given:g}, but in the robot description it is {found:g}; "
                "expected the same"
            )
    if settings.frame_ids[0] != kinematics.optical_frame:
        raise InputError(
            f"parameter 'frame_id' is '{settings.frame_ids[0]}', but the optical frame of the "
            f"robot description is '{kinematics.optical_frame}'; expected the same, or empty"
        )
    return ArmModel(kinematics, description)


def _metres(millimetres: float) -> str:
    return f"{millimetres / 1000.0:.9g}"
