"""Parameters and settings of what the node gives beyond the pose: guard, guidance, markers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.ros.guidance_plan import Trajectory, read_plan
from xray_registration.ros.parameters import (
    NOT_GIVEN,
    ParameterSpec,
    Value,
    When,
    integer,
    names,
    number,
    numbers,
)

Matrix = npt.NDArray[np.float64]

OUTPUT_SPECS = (
    ParameterSpec(
        "stale_after_s",
        10.0,
        "After this time without an accepted pose the state is 'stale' and there is no guidance; "
        "0 = never.",
        minimum=0.0,
        maximum=86400.0,
    ),
    # --- wrong level ---
    ParameterSpec(
        "planned_levels",
        "",
        "Structures of the label map that are operated on, comma-separated, e.g. vertebrae_T8: "
        "/diagnostics is at ERROR while one of them is not in view, or the level is ambiguous.",
    ),
    ParameterSpec(
        "guard.min_visible",
        0.5,
        "Share of a planned level's surface that must be seen in every view.",
        minimum=0.0,
        maximum=1.0,
    ),
    # --- instrument guidance ---
    ParameterSpec(
        "guidance.plan_path",
        "",
        "YAML with planned trajectories: name, entry_mm and target_mm in CT coordinates (ct_axes); "
        "empty = none.",
        When.LOAD,
    ),
    ParameterSpec(
        "guidance.frame_id",
        "",
        "Frame in which trajectories are published, e.g. the robot's base; empty = that of the "
        "pose.",
    ),
    ParameterSpec(
        "guidance.frame_from_carm",
        NOT_GIVEN,
        "guidance.frame_id from the pose's frame: 16 numbers row by row, mm. Not given = looked up "
        "on /tf at the image's stamp.",
    ),
    # --- markers ---
    ParameterSpec(
        "markers.surface", True, "The CT's bone surface among ~/markers.", When.CONFIGURE
    ),
    ParameterSpec(
        "markers.bone_hu",
        200.0,
        "HU of that surface without a label map; with one it is that of its named structures.",
        When.CONFIGURE,
        minimum=-1000.0,
        maximum=10000.0,
    ),
    ParameterSpec(
        "markers.max_triangles",
        60000,
        "Triangles of that surface, at most: it is coarsened until they suffice.",
        When.CONFIGURE,
        minimum=100,
        maximum=10000000,
    ),
)


@dataclass(frozen=True, eq=False)
class GuardSettings:
    """What must be seen."""

    planned_levels: tuple[str, ...]
    min_visible: float


@dataclass(frozen=True, eq=False)
class GuidanceSettings:
    """What is published of a plan, and where; ``frame_from_carm`` (4, 4) mm, None = on /tf."""

    trajectories: tuple[Trajectory, ...]
    frame_id: str
    frame_from_carm: Matrix | None


@dataclass(frozen=True)
class MarkerSettings:
    """The bone surface."""

    surface: bool
    bone_hu: float
    max_triangles: int


def build_guard(values: Mapping[str, Value]) -> GuardSettings:
    """Settings of the wrong-level guard.

    Raises:
        InputError: planned levels without a label map.
    """
    planned = names(values, "planned_levels")
    if planned and not values["label_map_path"]:
        raise InputError(
            f"parameter 'planned_levels' is '{values['planned_levels']}', but 'label_map_path' is "
            "empty; expected the label map that has these structures"
        )
    return GuardSettings(planned, number(values, "guard.min_visible"))


def build_guidance(values: Mapping[str, Value], ct_axes: str) -> GuidanceSettings:
    """Settings of the guidance; the plan is read.

    Raises:
        InputError: a plan that cannot be read or used; a matrix that is not rigid.
    """
    matrix = numbers(values, "guidance.frame_from_carm", 16)
    frame_id = str(values["guidance.frame_id"])
    if matrix is not None:
        matrix = se3.check_rigid(matrix.reshape(4, 4), "parameter 'guidance.frame_from_carm'")
        if not frame_id:
            raise InputError(
                "parameter 'guidance.frame_from_carm' is given but 'guidance.frame_id' is empty; "
                "expected the name of the frame that it leads to"
            )
    path = str(values["guidance.plan_path"])
    return GuidanceSettings(read_plan(path, ct_axes) if path else (), frame_id, matrix)


def build_markers(values: Mapping[str, Value]) -> MarkerSettings:
    """Settings of the markers."""
    return MarkerSettings(
        surface=bool(values["markers.surface"]),
        bone_hu=number(values, "markers.bone_hu"),
        max_triangles=integer(values, "markers.max_triangles"),
    )
