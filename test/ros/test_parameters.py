"""Declared parameters, their settings, and the YAML files that list them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from xray_registration.errors import InputError
from xray_registration.registration import GateConfig
from xray_registration.registration.tracker import TrackerConfig
from xray_registration.ros import (
    registration_parameters,
    registration_settings,
    simulator_parameters,
    simulator_settings,
)
from xray_registration.ros.parameters import ParameterSpec, Value, When

FILES = {
    "registration.yaml": registration_parameters.SPECS,
    "carm_simulator.yaml": simulator_parameters.SPECS,
}
#: in the YAML for a newcomer, not a default of the node
SHOWN = {
    "registration.yaml": set(),
    "carm_simulator.yaml": {"label_map_path", "isocentre.labels"},
}


def _defaults(specs: Sequence[ParameterSpec], **changes: Value) -> dict[str, Value]:
    values = {spec.name: spec.default for spec in specs}
    for name, value in changes.items():
        assert name.replace("__", ".") in values
        values[name.replace("__", ".")] = value
    return values


def _registration(**changes: Value) -> registration_settings.RegistrationSettings:
    return registration_settings.build_settings(_defaults(registration_parameters.SPECS, **changes))


@pytest.mark.parametrize("name", list(FILES))
def test_yaml_lists_every_parameter_with_its_default(repository: Path, name: str) -> None:
    text = (repository / "config" / name).read_text()
    given = yaml.safe_load(text)["/**"]["ros__parameters"]
    commented = set(re.findall(r"^    # ([a-z_.0-9]+): \[", text, flags=re.MULTILINE))
    specs = {spec.name: spec for spec in FILES[name]}
    assert set(given) | commented == set(specs)
    assert not set(given) & commented
    for parameter, value in given.items():
        default = specs[parameter].default
        value = tuple(value) if isinstance(value, list) else value
        assert type(value) is type(default), parameter
        if parameter not in SHOWN[name]:
            assert value == default, parameter
    assert all(specs[parameter].default == () for parameter in commented)


@pytest.mark.parametrize("specs", FILES.values())
def test_every_parameter_is_described(specs: Sequence[ParameterSpec]) -> None:
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        descriptor = spec.descriptor()
        assert descriptor.description.endswith("."), spec.name
        assert spec.when.value in descriptor.additional_constraints
        assert descriptor.read_only == (spec.when is When.START)
        if spec.choices:
            assert spec.default in spec.choices
            assert all(repr(c) in descriptor.additional_constraints for c in spec.choices)


def test_gate_parameters_are_the_gate() -> None:
    gate = {s.name: s.default for s in registration_parameters.SPECS if s.name.startswith("gate.")}
    assert gate == {f"gate.{f.name}": getattr(GateConfig(), f.name) for f in fields(GateConfig)}
    assert _registration().config.gate == GateConfig()
    assert _registration(gate__min_similarity=0.5).config.gate.min_similarity == 0.5


def test_tracking_parameters_are_the_tracker() -> None:
    assert _registration().tracks
    assert _registration().tracking == TrackerConfig()
    settings = _registration(tracking__max_gap_s=3.0, tracking__max_innovation_mm=6.0)
    assert settings.tracking.max_gap_s == 3.0
    assert settings.tracking.quick.max_innovation_mm == 6.0


def test_registration_config_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("energy_kev: 60.0\n")
    assert _registration(registration_config_path=str(path)).config.energy_kev == 60.0
    for text, words in [
        ("energy: 60.0\n", "energy"),
        ("gate: {min_overlap: 0.2}\n", r"gate\.\*"),
        ("- 1\n", "mapping"),
        ("a: [\n", "YAML"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=words) as error:
            _registration(registration_config_path=str(path))
        assert str(path) in str(error.value)


def test_starts_are_converted_to_lps_mm() -> None:
    assert _registration().parameter_start(np.zeros(3)) is None
    ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, 3] = [1.0, 2.0, 700.0]
    flat = tuple((matrix @ ras).ravel())
    settings = _registration(start__source="matrix", start__matrix=flat, ct_axes="ras")
    np.testing.assert_allclose(settings.parameter_start(np.zeros(3)), matrix)
    settings = _registration(
        start__source="pose",
        start__pose__translation_m=(0.001, 0.002, 0.7),
        start__pose__quaternion_xyzw=(0.0, 0.0, 0.0, 1.0),
    )
    np.testing.assert_allclose(settings.parameter_start(np.zeros(3)), matrix)
    # C-arm: the isocentre lies on the axis, wherever it comes from.
    centre = np.array([3.0, -4.0, 5.0])
    for settings, isocentre in [
        (_registration(start__source="carm"), centre),
        (
            _registration(
                start__source="carm", start__carm__isocentre_mm=(-3.0, 4.0, 5.0), ct_axes="ras"
            ),
            np.zeros(3),
        ),
    ]:
        pose = settings.parameter_start(isocentre)
        assert pose is not None
        np.testing.assert_allclose(pose[:3, :3] @ centre + pose[:3, 3], [0, 0, 700.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"isocentre__labels": "vertebrae_T8"}, "label_map_path"),
        ({"isocentre__point_mm": (1.0, 2.0)}, "3 are expected"),
        ({"image__kind": "display"}, "image.polarity"),
        ({"image__polarity": "bone_dark"}, "image.polarity"),
        ({"image__kind": "attenuation", "image__i0": 5.0}, "image.i0"),
        ({"image__i0": -1.0}, "image.i0"),
        ({"use_camera_info": False}, "camera.sdd_mm"),
        ({"camera__pixel_pitch_mm": (1.0, 0.0)}, "camera.pixel_pitch_mm"),
        ({"camera__sdd_mm": -5.0}, "camera.sdd_mm"),
        ({"start__source": "matrix"}, "start.matrix"),
        ({"start__source": "pose", "start__pose__translation_m": (0.0, 0.0, 1.0)}, "start.pose"),
        ({"start__matrix": (1.0,) * 16}, "start.matrix"),
        ({"child_frame_id": ""}, "child_frame_id"),
    ],
)
def test_contradictions_name_the_parameter(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        _registration(**changes)
    assert words in str(error.value)


def test_a_value_outside_the_choices_says_what_is_accepted() -> None:
    [spec] = [s for s in registration_parameters.SPECS if s.name == "image.kind"]
    with pytest.raises(InputError, match=r"'photo'.*intensity, attenuation, display"):
        spec.check("photo")


def test_simulator_settings(tmp_path: Path) -> None:
    build: Callable[..., Any] = simulator_settings.build_settings
    specs = simulator_parameters.SPECS
    settings = build(_defaults(specs))
    assert settings.camera.width == 1024
    assert settings.period_s == 0.5
    path = tmp_path / "xray.yaml"
    path.write_text("detector: {photons_per_pixel: 1000.0}\n")
    changed = build(_defaults(specs, xray__config_path=str(path), xray__threads=1))
    assert changed.xray.detector.photons_per_pixel == 1000.0
    assert changed.xray.threads == 1
    path.write_text("photons: 3\n")
    with pytest.raises(InputError, match="photons"):
        build(_defaults(specs, xray__config_path=str(path)))
