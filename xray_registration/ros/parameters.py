"""Declared, described and validated node parameters.

A node lists its parameters as ``ParameterSpec`` and turns the values into one frozen settings
object. The same builder runs at start-up and whenever a parameter is about to be set, so a value
that the node could not use is refused with the reason, and no callback ever reads a parameter.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from xray_registration.errors import InputError

Value = bool | int | float | str | tuple[float, ...]

#: default of a list that is not given
NOT_GIVEN: tuple[float, ...] = ()


class When(Enum):
    """When a change of a parameter is taken up."""

    LIVE = "Changes take effect with the next image."
    LOAD = "Changes take effect when the node is configured, or with ~/load_ct."
    CONFIGURE = "Fixed while configured: clean up the node before changing it."
    START = "Read-only: given at start-up."


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: what it is called, means and may be."""

    name: str
    default: Value
    description: str
    when: When = When.LIVE
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """What ``ros2 param describe`` shows and rclpy enforces."""
        constraints = [f"One of: {', '.join(map(repr, self.choices))}."] if self.choices else []
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints=" ".join([*constraints, self.when.value]),
            read_only=self.when is When.START,
        )
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                ]
            elif isinstance(self.default, int):
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=1)
                ]
        return descriptor

    def check(self, value: Any) -> Value:
        """The value with lists as tuples.

        Raises:
            InputError: not one of the choices, or not finite.
        """
        if value is None:
            value = NOT_GIVEN
        if isinstance(value, (list, tuple, array.array, np.ndarray)):
            value = tuple(float(v) for v in value)
        if self.choices and value not in self.choices:
            raise InputError(
                f"parameter '{self.name}' is '{value}'; expected one of {', '.join(self.choices)}"
            )
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(v, float) and not np.isfinite(v) for v in numbers):
            raise InputError(f"parameter '{self.name}' is {value}; finite numbers are expected")
        checked: Value = value
        return checked


def declare(node: Node, specs: Sequence[ParameterSpec]) -> dict[str, Value]:
    """Declare all parameters and return their checked values.

    Raises:
        InputError: a value given on the command line or in a file cannot be used.
    """
    values: dict[str, Value] = {}
    for spec in specs:
        default: Any = spec.default
        if default == NOT_GIVEN and isinstance(default, tuple):
            values[spec.name] = _declare_list(node, spec)
            continue
        if isinstance(default, tuple):
            default = array.array("d", default)
        parameter = node.declare_parameter(spec.name, default, spec.descriptor())
        values[spec.name] = spec.check(parameter.value)
    return values


def _declare_list(node: Node, spec: ParameterSpec) -> Value:
    """A list of numbers that is empty when it is not given.

    rclpy takes an empty default for a list of bytes, so the type is declared and the value set. It
    must not stay without one: asked for such a parameter, get_parameters answers for none at all,
    and ``ros2 param dump`` shows nothing.
    """
    kind, writable = Parameter.Type.DOUBLE_ARRAY, spec.descriptor()
    writable.read_only = False
    value = node.declare_parameter(spec.name, kind, writable).value
    if value is None:
        value = array.array("d")
        node.set_parameters([Parameter(spec.name, kind, value)])
    final = spec.descriptor()
    final.type = kind.value
    node.set_descriptor(spec.name, final)
    return spec.check(value)


class ParameterGuard:
    """Decides whether a set of new values may be taken; install with ``node.add_on_set...``."""

    def __init__(
        self,
        specs: Sequence[ParameterSpec],
        values: Mapping[str, Value],
        build: Callable[[Mapping[str, Value]], Any],
        is_configured: Callable[[], bool],
        apply: Callable[[Any], None],
    ) -> None:
        """Guard.

        Args:
            specs: of the node's own parameters; others (use_sim_time, ...) pass.
            values: current ones.
            build: makes the settings of values, raising InputError.
            is_configured: true while ``When.CONFIGURE`` parameters are fixed.
            apply: takes the new settings.
        """
        self._specs = {spec.name: spec for spec in specs}
        self._values = dict(values)
        self._build = build
        self._is_configured = is_configured
        self._apply = apply

    def __call__(self, parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        """The on-set-parameters callback."""
        changed = dict(self._values)
        try:
            for parameter in parameters:
                spec = self._specs.get(parameter.name)
                if spec is None:
                    continue
                value = spec.check(parameter.value)
                if (
                    spec.when is When.CONFIGURE
                    and self._is_configured()
                    and value != changed[spec.name]
                ):
                    raise InputError(
                        f"parameter '{spec.name}' is fixed while the node is configured; "
                        f"deactivate and clean up the node first"
                    )
                changed[spec.name] = value
            settings = self._build(changed)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = changed
        self._apply(settings)
        return SetParametersResult(successful=True)


def number(values: Mapping[str, Value], name: str) -> float:
    """A float parameter."""
    return float(values[name])  # type: ignore[arg-type]


def integer(values: Mapping[str, Value], name: str) -> int:
    """An integer parameter."""
    return int(values[name])  # type: ignore[arg-type]


def numbers(values: Mapping[str, Value], name: str, count: int) -> npt.NDArray[np.float64] | None:
    """A list parameter as an array, None when it is not given.

    Raises:
        InputError: it has another length than ``count``.
    """
    given = values[name]
    if not isinstance(given, tuple):
        raise InputError(f"parameter '{name}' is {given!r}; a list of {count} numbers is expected")
    if len(given) == 0:
        return None
    if len(given) != count:
        raise InputError(
            f"parameter '{name}' has {len(given)} numbers {list(given)}; {count} are expected"
        )
    return np.array(given, dtype=np.float64)


def positive_or_none(values: Mapping[str, Value], name: str) -> float | None:
    """A number where 0 says "not given".

    Raises:
        InputError: negative.
    """
    value = number(values, name)
    if value < 0.0:
        raise InputError(f"parameter '{name}' is {value}; a positive number, or 0 for not given")
    return value or None


def names(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    """A comma-separated string parameter as a tuple of stripped, non-empty names."""
    return tuple(part.strip() for part in str(values[name]).split(",") if part.strip())


def yaml_mapping(values: Mapping[str, Value], name: str) -> dict[str, Any]:
    """The content of the YAML file that a string parameter names; {} when it is empty.

    Raises:
        InputError: the file cannot be read, or holds no mapping.
    """
    if not values[name]:
        return {}
    path = Path(str(values[name])).expanduser()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"parameter '{name}': {path} cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"parameter '{name}': {path} holds {data!r}; expected a mapping")
    return data
