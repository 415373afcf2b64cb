"""The robot description (URDF) of the C-arm, expanded from the xacro files in urdf/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xray_registration.errors import InputError
from xray_registration.files import shared_file
from xray_registration.optional import require

MODEL = "urdf/carm.urdf.xacro"
#: of the arm's movable joints, from the floor to the X-ray tube, without the prefix
JOINTS = ("lift_joint", "wigwag_joint", "horizontal_joint", "angular_joint", "orbital_joint")


def carm_description(arguments: Mapping[str, str], path: Path | None = None) -> str:
    """URDF of the C-arm.

    Args:
        arguments: of the xacro file (prefix, x, y, yaw, sdd, ...); see urdf/carm.urdf.xacro.
        path: another xacro or URDF file; None = the shipped model.

    Raises:
        InputError: the file is missing or cannot be expanded.
        MissingDependencyError: xacro is not installed.
    """
    xacro = require("xacro")
    source = shared_file(MODEL) if path is None else path
    prefix = arguments.get("prefix", "carm_")
    if not prefix.replace("_", "a").isalnum():
        raise InputError(
            f"the prefix of a C-arm is '{prefix}'; expected letters, digits and underscores, e.g. "
            "'left_'"
        )
    try:
        text: str = xacro.process_file(str(source), mappings=dict(arguments)).toxml()
    except Exception as error:  # xacro raises its own, the XML parser's and the expressions' errors
        raise InputError(f"{source} cannot be expanded by xacro: {error}") from error
    return text
