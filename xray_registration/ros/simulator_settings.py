"""The frozen settings that carm_simulator makes of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.carm_kinematics import second_view_from_first
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner
from xray_registration.rendering.xray_model import XrayModelConfig
from xray_registration.ros.parameters import Value, integer, number, numbers, yaml_mapping
from xray_registration.ros.patient import PatientSettings
from xray_registration.ros.registration_settings import patient_settings

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sweep:
    """An arc of the C-arm: equal steps from the first to the last angles."""

    primary_deg: tuple[float, float]
    secondary_deg: tuple[float, float]
    frames: int
    source_isocentre_mm: float

    def poses(self, isocentre_lps_mm: npt.ArrayLike) -> list[Matrix]:
        """camera_from_ct (4, 4) LPS mm of every frame; the beam axis meets the isocentre.

        Raises:
            InputError: an angle out of range.
        """
        x, y, z = np.asarray(isocentre_lps_mm, dtype=np.float64).tolist()
        primary = np.linspace(*self.primary_deg, self.frames)
        secondary = np.linspace(*self.secondary_deg, self.frames)
        return [
            camera_from_positioner(
                PositionerPose(float(a), float(b), self.source_isocentre_mm, (x, y, z))
            )
            for a, b in zip(primary, secondary, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class ArmSettings:
    """The arm that follows joint_states, and where the patient lies in its root frame.

    ``position_mm``: None = at the C-arm's isocentre with all joints at 0.
    """

    prefix: str
    description: str
    publish_tf: bool
    continuous: bool
    position_mm: npt.NDArray[np.float64] | None
    head: str
    lie: str


@dataclass(frozen=True, eq=False)
class SimulatorSettings:
    """All parameters of the node, checked; lengths in mm, CT coordinates in LPS.

    ``frame_ids`` and ``views`` (camera_from_rig, (4, 4) mm) have an entry for each view; the first
    view is the rig.
    """

    patient: PatientSettings
    ct_axes: str
    mode: str
    arm: ArmSettings
    frame_ids: tuple[str, ...]
    views: tuple[Matrix, ...]
    source_isocentre_mm: float
    camera: Camera
    sweep: Sweep
    loop: bool
    period_s: float
    lock_step: bool
    lock_step_timeout_s: float
    wait_for_subscribers: int
    prerender: bool
    cache_dir: str
    exit_when_done: bool
    xray: XrayModelConfig
    seed: int
    qos_reliability: str
    qos_depth: int


def build_settings(values: Mapping[str, Value]) -> SimulatorSettings:
    """Settings of the values of ``simulator_parameters.SPECS``.

    Raises:
        InputError: values that are wrong or do not fit together, naming the parameter.
    """
    ct_axes = str(values["ct_axes"])
    source_isocentre_mm = number(values, "camera.source_isocentre_mm")
    sweep = Sweep(
        primary_deg=_pair(values, "sweep.primary_deg"),
        secondary_deg=_pair(values, "sweep.secondary_deg"),
        frames=integer(values, "sweep.frames"),
        source_isocentre_mm=source_isocentre_mm,
    )
    try:
        sweep.poses(np.zeros(3))
    except InputError as error:
        raise InputError(f"parameters 'sweep': {error}") from error
    camera = Camera.from_detector(
        integer(values, "camera.width"),
        integer(values, "camera.height"),
        _pair(values, "camera.pixel_pitch_mm"),
        number(values, "camera.sdd_mm"),
    )
    return SimulatorSettings(
        patient=patient_settings(values, ct_axes),
        ct_axes=ct_axes,
        mode=str(values["mode"]),
        arm=_arm(values),
        frame_ids=_frame_ids(values),
        views=_views(values, source_isocentre_mm),
        source_isocentre_mm=source_isocentre_mm,
        camera=camera,
        sweep=sweep,
        loop=bool(values["sweep.loop"]),
        period_s=1.0 / number(values, "rate_hz"),
        lock_step=bool(values["lock_step"]),
        lock_step_timeout_s=number(values, "lock_step_timeout_s"),
        wait_for_subscribers=integer(values, "wait_for_subscribers"),
        prerender=bool(values["prerender"]),
        cache_dir=str(values["cache_dir"]),
        exit_when_done=bool(values["exit_when_done"]),
        xray=_xray(values),
        seed=integer(values, "xray.seed"),
        qos_reliability=str(values["qos.reliability"]),
        qos_depth=integer(values, "qos.depth"),
    )


def _arm(values: Mapping[str, Value]) -> ArmSettings:
    position = numbers(values, "patient.position_m", 3)
    return ArmSettings(
        prefix=str(values["arm.prefix"]),
        description=str(values["robot_description"]),
        publish_tf=bool(values["arm.publish_tf"]),
        continuous=bool(values["arm.continuous"]),
        position_mm=None if position is None else 1000.0 * position,
        head=str(values["patient.head"]),
        lie=str(values["patient.lie"]),
    )


def _frame_ids(values: Mapping[str, Value]) -> tuple[str, ...]:
    prefix = values["arm.prefix"]
    first = str(values["frame_id"]) or f"{prefix}source_optical_frame"
    second = str(values["biplane.frame_id"]) or f"{prefix}view_1_optical_frame"
    if not values["biplane.angle_deg"]:
        return (first,)
    if first == second:
        raise InputError(
            f"parameters 'frame_id' and 'biplane.frame_id' are both '{first}'; two views have two "
            "frames"
        )
    return first, second


def _views(values: Mapping[str, Value], source_isocentre_mm: float) -> tuple[Matrix, ...]:
    angle_deg = number(values, "biplane.angle_deg")
    if not angle_deg:
        return (np.eye(4),)
    return np.eye(4), second_view_from_first(angle_deg, source_isocentre_mm)


def _xray(values: Mapping[str, Value]) -> XrayModelConfig:
    path = str(values["xray.config_path"])
    data = {"preset": values["xray.preset"], **yaml_mapping(values, "xray.config_path")}
    config = XrayModelConfig.from_dict(data, name=path or "X-ray model")
    threads = integer(values, "xray.threads")
    return replace(config, threads=threads) if threads else config


def _pair(values: Mapping[str, Value], name: str) -> tuple[float, float]:
    pair = numbers(values, name, 2)
    if pair is None:
        raise InputError(f"parameter '{name}' is empty; 2 numbers are expected")
    return float(pair[0]), float(pair[1])
