"""The frozen settings that registration_node makes of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.geometry.converters import matrix_from_transform
from xray_registration.geometry.frames import lps_from_ct_axes, to_lps
from xray_registration.geometry.positioner import PositionerPose
from xray_registration.imaging.radiograph import Kind, Polarity
from xray_registration.registration import GateConfig, RegistrationConfig
from xray_registration.registration.start_pose import PositionerStart
from xray_registration.registration.tracker import TrackerConfig
from xray_registration.ros.output_settings import (
    GuardSettings,
    GuidanceSettings,
    MarkerSettings,
    build_guard,
    build_guidance,
    build_markers,
)
from xray_registration.ros.parameters import (
    Value,
    integer,
    names,
    number,
    numbers,
    positive_or_none,
    yaml_mapping,
)
from xray_registration.ros.patient import PatientSettings
from xray_registration.ros.tracking_parameters import build_tracking
from xray_registration.ros.view_settings import (
    ViewSettings,
    build_views,
    pair,
    pitch,
    sync_tolerance_ns,
)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CArmStart:
    """Start pose as C-arm angles; the isocentre may still be open."""

    primary_deg: float
    secondary_deg: float
    roll_deg: float
    source_isocentre_mm: float
    isocentre_lps_mm: Matrix | None

    def start(self, isocentre_lps_mm: Matrix) -> PositionerStart:
        """For the first view; the argument is used when no isocentre was given."""
        centre = isocentre_lps_mm if self.isocentre_lps_mm is None else self.isocentre_lps_mm
        return PositionerStart(
            PositionerPose(
                primary_deg=self.primary_deg,
                secondary_deg=self.secondary_deg,
                roll_deg=self.roll_deg,
                source_isocentre_mm=self.source_isocentre_mm,
                isocentre_lps_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
            )
        )


@dataclass(frozen=True)
class NetworkStart:
    """Start poses proposed from the image; ``checkpoint`` empty: the weights in the package."""

    checkpoint: str = ""


@dataclass(frozen=True, eq=False)
class RegistrationSettings:
    """All parameters of the node, checked; lengths in mm, CT coordinates in LPS."""

    autostart: bool
    patient: PatientSettings
    ct_axes: str
    device: str
    config: RegistrationConfig
    threads: int
    solver_process: bool
    solver_timeout_s: float | None
    register_every_image: bool
    views: tuple[ViewSettings, ...]
    sync_tolerance_ns: int
    image_kind: Kind
    image_i0: float | None
    image_polarity: Polarity | None
    auto_mask: bool
    saturation_level: float | None
    flip_horizontal: bool
    use_camera_info: bool
    rectified: bool
    undistort: bool
    sdd_mm: float | None
    pixel_pitch_mm: tuple[float, float] | None
    principal_point_px: tuple[float, float] | None
    start: Matrix | CArmStart | NetworkStart | None
    use_previous: bool
    max_rejects: int
    tracks: bool
    tracking: TrackerConfig
    stale_after_s: float | None
    guard: GuardSettings
    guidance: GuidanceSettings
    markers: MarkerSettings
    child_frame_id: str
    parent_frame_id: str
    tf_broadcast: bool
    overlay_always: bool
    overlay_labels: tuple[str, ...]
    diagnostics_period_s: float
    qos_reliability: str
    qos_depth: int

    def parameter_start(
        self, isocentre_lps_mm: Matrix, first_camera_from_rig: Matrix | None = None
    ) -> Matrix | None:
        """rig_from_ct (LPS mm) of the ``start.*`` parameters; None without one.

        The angles of a C-arm are those of the first view's; None: its camera is the rig.
        """
        if isinstance(self.start, CArmStart):
            first = np.eye(4) if first_camera_from_rig is None else first_camera_from_rig
            return self.start.start(isocentre_lps_mm).rig_from_ct(first)
        return None if isinstance(self.start, NetworkStart) else self.start


def build_settings(values: Mapping[str, Value]) -> RegistrationSettings:
    """Settings of the values of ``registration_parameters.SPECS``.

    Raises:
        InputError: values that are wrong or do not fit together, naming the parameter.
    """
    ct_axes = str(values["ct_axes"])
    kind, polarity = str(values["image.kind"]), str(values["image.polarity"])
    if kind == "display" and not polarity:
        raise InputError(
            "parameter 'image.polarity' is empty; with image.kind 'display' it must be bone_dark "
            "or bone_bright"
        )
    if kind != "display" and polarity:
        raise InputError(
            f"parameter 'image.polarity' is '{polarity}', but image.kind is '{kind}', which has "
            "its own; leave it empty"
        )
    i0 = positive_or_none(values, "image.i0")
    if kind != "intensity" and i0 is not None:
        raise InputError(
            f"parameter 'image.i0' is {i0:g}, but image.kind is '{kind}'; it belongs to intensity"
        )
    if not str(values["child_frame_id"]):
        raise InputError("parameter 'child_frame_id' is empty; expected a frame name")
    sdd_mm = positive_or_none(values, "camera.sdd_mm")
    pixel_pitch_mm = pitch(values, "camera.pixel_pitch_mm")
    views = build_views(values)
    if not values["use_camera_info"]:
        for view in views:
            if None in (sdd_mm or view.sdd_mm, pixel_pitch_mm or view.pixel_pitch_mm):
                raise InputError(
                    "without camera_info (use_camera_info: false) the parameters 'camera.sdd_mm' "
                    "and 'camera.pixel_pitch_mm' must be given, for all views or for each of them"
                )
    return RegistrationSettings(
        autostart=bool(values["autostart"]),
        patient=patient_settings(values, ct_axes),
        ct_axes=ct_axes,
        device=str(values["device"]),
        config=_config(values),
        threads=integer(values, "threads"),
        solver_process=bool(values["solver.process"]),
        solver_timeout_s=positive_or_none(values, "solver.timeout_s"),
        register_every_image=bool(values["register_every_image"]),
        views=views,
        sync_tolerance_ns=sync_tolerance_ns(values),
        image_kind=cast(Kind, kind),
        image_i0=i0,
        image_polarity=cast(Polarity, polarity) if polarity else None,
        auto_mask=bool(values["image.auto_mask"]),
        saturation_level=positive_or_none(values, "image.saturation_level"),
        flip_horizontal=bool(values["image.flip_horizontal"]),
        use_camera_info=bool(values["use_camera_info"]),
        rectified=bool(values["camera.rectified"]),
        undistort=bool(values["camera.undistort"]),
        sdd_mm=sdd_mm,
        pixel_pitch_mm=pixel_pitch_mm,
        principal_point_px=pair(values, "camera.principal_point_px"),
        start=_start(values, ct_axes),
        use_previous=bool(values["start.use_previous"]),
        max_rejects=integer(values, "start.max_rejects"),
        tracks=bool(values["tracking.enabled"]),
        tracking=build_tracking(values),
        stale_after_s=positive_or_none(values, "stale_after_s"),
        guard=build_guard(values),
        guidance=build_guidance(values, ct_axes),
        markers=build_markers(values),
        child_frame_id=str(values["child_frame_id"]),
        parent_frame_id=str(values["parent_frame_id"]),
        tf_broadcast=bool(values["tf_broadcast"]),
        overlay_always=bool(values["overlay.always"]),
        overlay_labels=names(values, "overlay.labels"),
        diagnostics_period_s=number(values, "diagnostics.period_s"),
        qos_reliability=str(values["qos.reliability"]),
        qos_depth=integer(values, "qos.depth"),
    )


def patient_settings(values: Mapping[str, Value], ct_axes: str) -> PatientSettings:
    """The parameters that name the patient, the same for both nodes.

    Raises:
        InputError: see ``PatientSettings``.
    """
    return PatientSettings(
        ct_path=str(values["ct_path"]),
        label_map_path=str(values["label_map_path"]),
        isocentre_labels=names(values, "isocentre.labels"),
        isocentre_lps_mm=point_lps(values, "isocentre.point_mm", ct_axes),
    )


def point_lps(values: Mapping[str, Value], name: str, ct_axes: str) -> Matrix | None:
    """A point parameter in CT coordinates as LPS mm; None when it is not given."""
    point = numbers(values, name, 3)
    if point is None:
        return None
    return np.asarray(lps_from_ct_axes(ct_axes)[:3, :3] @ point)


def _config(values: Mapping[str, Value]) -> RegistrationConfig:
    path = str(values["registration_config_path"])
    data = yaml_mapping(values, "registration_config_path")
    if "gate" in data:
        raise InputError(
            f"{path}: has a section 'gate'; a node takes that from the parameters gate.*"
        )
    config = RegistrationConfig.from_dict(data, source=path or "default")
    gate = GateConfig(
        **{field.name: number(values, f"gate.{field.name}") for field in fields(GateConfig)}
    )
    return replace(config, gate=gate)


def _start(values: Mapping[str, Value], ct_axes: str) -> Matrix | CArmStart | NetworkStart | None:
    # What is given is checked even when it is not the chosen source.
    starts = {"matrix": _start_matrix(values), "pose": _start_pose(values)}
    source = str(values["start.source"])
    if source in starts:
        start = starts[source]
        if start is None:
            needed = {"matrix": "'start.matrix'", "pose": "'start.pose.*' (both)"}[source]
            raise InputError(f"parameter {needed} is not given; start.source '{source}' needs it")
        return to_lps(start, ct_axes)
    if source == "network":
        return NetworkStart(str(values["start.checkpoint_path"]))
    if source == "carm":
        return CArmStart(
            primary_deg=number(values, "start.carm.primary_deg"),
            secondary_deg=number(values, "start.carm.secondary_deg"),
            roll_deg=number(values, "start.carm.roll_deg"),
            source_isocentre_mm=number(values, "start.carm.source_isocentre_mm"),
            isocentre_lps_mm=point_lps(values, "start.carm.isocentre_mm", ct_axes),
        )
    return None


def _start_matrix(values: Mapping[str, Value]) -> Matrix | None:
    matrix = numbers(values, "start.matrix", 16)
    if matrix is None:
        return None
    return se3.check_rigid(matrix.reshape(4, 4), "parameter 'start.matrix'")


def _start_pose(values: Mapping[str, Value]) -> Matrix | None:
    translation_m = numbers(values, "start.pose.translation_m", 3)
    quaternion = numbers(values, "start.pose.quaternion_xyzw", 4)
    if translation_m is None or quaternion is None:
        return None
    return matrix_from_transform(translation_m, quaternion, "parameters 'start.pose'")
