"""registration_node's parameters without a node: from a ROS parameter file and from options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from xray_registration.errors import InputError
from xray_registration.ros.registration_parameters import SPECS
from xray_registration.ros.registration_settings import RegistrationSettings, build_settings
from xray_registration.ros.view_settings import specs_of_views, view_names


def node_settings(values: dict[str, Any]) -> RegistrationSettings:
    """Settings of some of the node's parameters, the others at their defaults.

    Raises:
        InputError: a name that is none of the node's; a value that it would refuse.
    """
    specs = (*SPECS, *specs_of_views(view_names({"views": values.get("views") or ""})))
    unknown = sorted(set(values) - {spec.name for spec in specs} - {"use_sim_time"})
    if unknown:
        raise InputError(
            f"parameters {', '.join(map(repr, unknown))} are none of registration_node's."
        )
    complete = {spec.name: spec.check(values.get(spec.name, spec.default)) for spec in specs}
    for spec in specs:
        value = complete[spec.name]
        if isinstance(spec.default, float) and isinstance(value, int):
            value = complete[spec.name] = float(value)
        if type(value) is not type(spec.default):
            raise InputError(
                f"parameter '{spec.name}' is {value!r}; expected a {type(spec.default).__name__}."
            )
        if spec.minimum is None or not isinstance(value, (int, float)):
            continue
        if not spec.minimum <= value <= cast(float, spec.maximum):
            raise InputError(
                f"parameter '{spec.name}' is {value}; expected {spec.minimum:g} to "
                f"{spec.maximum:g}."
            )
    return build_settings(complete)


def parameters_from_yaml(path: Path, node: str = "registration_node") -> dict[str, Any]:
    """The node's parameters in a ROS parameter file (``/**`` or the node's name), flattened.

    Raises:
        InputError: not readable, not YAML, no section for the node.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as a parameter file: {error}.") from error
    found: dict[str, Any] = {}
    matched = False
    for section in ("/**", node, f"/{node}"):
        content = data.get(section) if isinstance(data, dict) else None
        if isinstance(content, dict) and isinstance(content.get("ros__parameters"), dict):
            matched = True
            found.update(_flat(content["ros__parameters"]))
    if not matched:
        raise InputError(
            f"{path}: no section '/**' or '{node}' with 'ros__parameters'; expected a ROS "
            "parameter file as config/registration.yaml."
        )
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
