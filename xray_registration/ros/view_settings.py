"""Several views of one C-arm position: their names, topics, parameters and settings.

With the parameter ``views`` empty there is one view on the topics ``image`` and ``camera_info``.
With ``views: "view_0, view_1"`` there are ``view_0/image``, ``view_0/camera_info``, ... and each
view has parameters under its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.ros.parameters import (
    NOT_GIVEN,
    ParameterSpec,
    Value,
    When,
    names,
    number,
    numbers,
    positive_or_none,
)

Matrix = npt.NDArray[np.float64]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

VIEW_SPECS = (
    ParameterSpec(
        "views",
        "",
        "Names of the views that are registered together, comma-separated, e.g. 'view_0, view_1': "
        "topics <name>/image and <name>/camera_info. Empty = one view on image and camera_info.",
        When.START,
    ),
    ParameterSpec(
        "sync.tolerance_s",
        0.0,
        "Images of several views belong together when their stamps differ by no more; 0 = equal.",
        When.CONFIGURE,
        minimum=0.0,
        maximum=10.0,
    ),
)


@dataclass(frozen=True, eq=False)
class ViewSettings:
    """One view. None = the common parameter of the same name counts, or /tf does.

    ``camera_from_rig``: (4, 4) mm; None = looked up on /tf at the image's stamp.
    """

    name: str = ""
    camera_from_rig: Matrix | None = None
    sdd_mm: float | None = None
    pixel_pitch_mm: tuple[float, float] | None = None
    principal_point_px: tuple[float, float] | None = None
    image_i0: float | None = None

    def topic(self, name: str) -> str:
        """Relative topic ``name`` of this view."""
        return f"{self.name}/{name}" if self.name else name


def view_names(values: Mapping[str, Value]) -> tuple[str, ...]:
    """The names in the parameter ``views``; empty with one view.

    Raises:
        InputError: a name that is not one, twice the same, or only one.
    """
    given = names(values, "views")
    for name in given:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"parameter 'views': '{name}' is no name of a view; expected lower case letters, "
                "digits and single underscores, e.g. view_0"
            )
    if len(set(given)) != len(given):
        raise InputError(f"parameter 'views' is '{values['views']}': a name occurs twice")
    if len(given) == 1:
        raise InputError(
            f"parameter 'views' has the one name '{given[0]}'; expected two or more, or none"
        )
    return given


def specs_of_views(given: tuple[str, ...]) -> tuple[ParameterSpec, ...]:
    """The parameters of each view; the same for every one of them."""
    return tuple(spec for name in given for spec in _specs_of(name))


def _specs_of(name: str) -> tuple[ParameterSpec, ...]:
    return (
        ParameterSpec(
            f"{name}.camera_from_rig",
            NOT_GIVEN,
            "16 numbers row by row, mm: the rig (in which the pose is) in this view's optical "
            "frame. Not given = looked up on /tf; of the first view: the identity, unless "
            "parent_frame_id is given.",
            When.CONFIGURE,
        ),
        ParameterSpec(
            f"{name}.camera.sdd_mm", 0.0, "Of this view; 0 = as camera.sdd_mm.", When.CONFIGURE
        ),
        ParameterSpec(
            f"{name}.camera.pixel_pitch_mm",
            NOT_GIVEN,
            "Of this view; not given = as camera.pixel_pitch_mm.",
            When.CONFIGURE,
        ),
        ParameterSpec(
            f"{name}.camera.principal_point_px",
            NOT_GIVEN,
            "Of this view; not given = as camera.principal_point_px.",
            When.CONFIGURE,
        ),
        ParameterSpec(f"{name}.image.i0", 0.0, "Of this view; 0 = as image.i0.", When.CONFIGURE),
    )


def build_views(values: Mapping[str, Value]) -> tuple[ViewSettings, ...]:
    """The views; one without a name when ``views`` is empty.

    Raises:
        InputError: values that cannot be used, naming the parameter.
    """
    given = view_names(values)
    if not given:
        return (ViewSettings(camera_from_rig=np.eye(4)),)
    views = []
    for index, name in enumerate(given):
        if f"{name}.camera_from_rig" not in values:
            raise InputError(
                f"parameter 'views' names '{name}', which is not declared; views are fixed at start"
            )
        matrix = numbers(values, f"{name}.camera_from_rig", 16)
        if matrix is not None:
            matrix = se3.check_rigid(matrix.reshape(4, 4), f"parameter '{name}.camera_from_rig'")
        elif index == 0 and not values["parent_frame_id"]:
            matrix = np.eye(4)  # the first view is the rig
        if index == 0 and matrix is not None and not values["parent_frame_id"]:
            _need_identity(matrix, name)
        views.append(
            ViewSettings(
                name=name,
                camera_from_rig=matrix,
                sdd_mm=positive_or_none(values, f"{name}.camera.sdd_mm"),
                pixel_pitch_mm=pitch(values, f"{name}.camera.pixel_pitch_mm"),
                principal_point_px=pair(values, f"{name}.camera.principal_point_px"),
                image_i0=positive_or_none(values, f"{name}.image.i0"),
            )
        )
    return tuple(views)


def pair(values: Mapping[str, Value], name: str) -> tuple[float, float] | None:
    """Two numbers; None when they are not given."""
    array = numbers(values, name, 2)
    return None if array is None else (float(array[0]), float(array[1]))


def pitch(values: Mapping[str, Value], name: str) -> tuple[float, float] | None:
    """Two positive numbers; None when they are not given."""
    given = pair(values, name)
    if given is not None and min(given) <= 0.0:
        raise InputError(f"parameter '{name}' is {list(given)}; expected two above 0")
    return given


def sync_tolerance_ns(values: Mapping[str, Value]) -> int:
    """The parameter sync.tolerance_s in ns."""
    return round(number(values, "sync.tolerance_s") * 1e9)


def _need_identity(matrix: Matrix, name: str) -> None:
    if not np.allclose(matrix, np.eye(4), atol=1e-9):
        raise InputError(
            f"parameter '{name}.camera_from_rig' is not the identity, so the rig is none of the "
            "images' frames; give its name in 'parent_frame_id'"
        )
