"""A protocol: everything that decides the cases of an evaluation, as data. See `protocols/`.

A protocol's name, version and seed fix its cases to the last digit. Change anything that changes a
case, and raise the version: figures of different versions are not comparable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from xray_registration.errors import InputError
from xray_registration.evaluation.datasets import check_name
from xray_registration.evaluation.protocol_parts import (
    AcquisitionSpec,
    CameraSpec,
    CollimatorSpec,
    PoseRanges,
    RejectSpec,
    StartSpec,
    TargetSpec,
    VariantSpec,
    whole,
)


@dataclass(frozen=True)
class Protocol:
    """See the module. ``truth`` says in words whose pose is the true one.

    ``structures``: bones of the label map that our method is told to register; none = the whole CT.
    """

    name: str
    version: int
    seed: int
    description: str
    truth: str
    patient: str
    targets: TargetSpec
    cameras: tuple[CameraSpec, ...]
    pose: PoseRanges
    starts: StartSpec
    variants: tuple[VariantSpec, ...]
    acquisitions: tuple[AcquisitionSpec, ...]
    cases_per_bin: int = 24
    quick_per_bin: int = 4
    structures: tuple[str, ...] = ()
    reject: RejectSpec | None = None

    def __post_init__(self) -> None:
        whole(self.version, "version", 1)
        whole(self.seed, "seed", 0)
        whole(self.cases_per_bin, "cases_per_bin", 1)
        whole(self.quick_per_bin, "quick_per_bin", 1)
        check_name(self.patient)
        for name in ("cameras", "variants", "acquisitions"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; expected one or more.")
        if self.cameras[0].orbit_deg != 0:
            raise InputError("the first camera's orbit_deg must be 0: it is the rig.")
        for name in ("variants", "acquisitions"):
            names = [part.name for part in getattr(self, name)]
            if len(set(names)) != len(names):
                raise InputError(f"{name}: two have the same name: {names}.")

    def patients(self) -> tuple[str, ...]:
        """Every data set that it needs."""
        others = self.reject.other_patients if self.reject is not None else ()
        return tuple(dict.fromkeys((self.patient, *others)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def protocol_names() -> list[str]:
    """The protocols that come with the package."""
    folder = resources.files("xray_registration.evaluation") / "protocols"
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def load_protocol(name_or_path: str | Path) -> Protocol:
    """One of :func:`protocol_names`, or a YAML file of the same form.

    Raises:
        InputError: no such protocol; a key that is unknown or missing, or a value out of range; the
            message names the file and the place in it.
    """
    import yaml

    text, source = _text(name_or_path)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {error}") from error
    return protocol_from_dict(data, source)


def protocol_from_dict(data: Any, source: str = "protocol") -> Protocol:
    """From plain values; errors as :func:`load_protocol`."""
    made: Protocol = _made(Protocol, data, source)
    return made


def _text(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name in protocol_names():
        file = resources.files("xray_registration.evaluation") / "protocols" / f"{name}.yaml"
        return file.read_text(encoding="utf-8"), f"{name}.yaml"
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(
            f"protocol {name!r} is not known; expected {', '.join(protocol_names())}, or a .yaml "
            "file."
        )
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


_NESTED: dict[str, type] = {
    "targets": TargetSpec,
    "pose": PoseRanges,
    "starts": StartSpec,
    "collimator": CollimatorSpec,
    "reject": RejectSpec,
}
_NESTED_LISTS: dict[str, type] = {
    "cameras": CameraSpec,
    "variants": VariantSpec,
    "acquisitions": AcquisitionSpec,
    "warped": VariantSpec,
}


def _made(kind: Any, data: Any, source: str) -> Any:
    if not isinstance(data, Mapping):
        raise InputError(f"{source} is {data!r}; expected a mapping.")
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(data) - set(known), key=str)
    if unknown:
        raise InputError(f"{source}: unknown {unknown}; expected some of {sorted(known)}.")
    values = {key: _value(key, value, f"{source}: {key}") for key, value in data.items()}
    missing = [
        name
        for name, item in known.items()
        if name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{source}: {missing} is missing.")
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: a value has the wrong type: {error}") from error


def _value(key: str, value: Any, source: str) -> Any:
    if value is None:
        return None
    if key in _NESTED:
        return _made(_NESTED[key], value, source)
    if key in _NESTED_LISTS:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{source} is {value!r}; expected a list.")
        return tuple(
            _made(_NESTED_LISTS[key], part, f"{source}[{n}]") for n, part in enumerate(value)
        )
    return tuple(value) if isinstance(value, list) else value
