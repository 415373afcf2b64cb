"""The configuration: checked when it is made, and the same after a way through plain values."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from xray_registration.errors import InputError
from xray_registration.registration import (
    GateConfig,
    Level,
    LevenbergMarquardtConfig,
    RegistrationConfig,
)
from xray_registration.similarity import GradientResidual, WeightedGradientResidual

CUSTOM = RegistrationConfig(
    levels=(
        Level(pixel_mm=4.0, spacing_mm=3.0, max_iterations=7),
        Level(pixel_mm=2.0, spacing_mm=1.0, max_iterations=9, residual=GradientResidual(0.0, 3.0)),
    ),
    optimiser=LevenbergMarquardtConfig(huber=0.0, max_step_mm=11.0),
    gate=GateConfig(min_similarity=0.5),
    energy_kev=70.0,
)


@pytest.mark.parametrize("config", [RegistrationConfig(), CUSTOM])
def test_survives_the_way_through_a_file(config: RegistrationConfig) -> None:
    written = json.dumps(config.to_dict())
    assert RegistrationConfig.from_dict(json.loads(written)) == config


def test_the_finest_level_of_structures_weighs_and_those_of_the_whole_ct_must_not() -> None:
    finest = RegistrationConfig().structure_levels[-1]
    assert isinstance(finest.residual, WeightedGradientResidual)
    read = RegistrationConfig.from_dict(
        {
            "structure_levels": [
                {"pixel_mm": 1, "spacing_mm": 1, "max_iterations": 3, "residual": {"clutter": 3.0}},
                {"pixel_mm": 1, "spacing_mm": 1, "max_iterations": 3, "residual": {"floor": 0.2}},
                {"pixel_mm": 1, "spacing_mm": 1, "max_iterations": 3, "min_decrease": 1e-5},
            ]
        }
    )
    assert [level.residual for level in read.structure_levels] == [
        WeightedGradientResidual(clutter=3.0),
        GradientResidual(floor=0.2),
        GradientResidual(),
    ]
    assert [level.min_decrease for level in read.structure_levels] == [None, None, 1e-5]
    with pytest.raises(InputError, match="expected a min_decrease above 0"):
        Level(pixel_mm=1.0, spacing_mm=1.0, max_iterations=1, min_decrease=0.0)
    with pytest.raises(InputError, match=r"levels\[0\]: .*expected it in structure_levels only"):
        RegistrationConfig(levels=(finest,))


def test_what_is_absent_keeps_its_default() -> None:
    config = RegistrationConfig.from_dict({"gate": {"min_similarity": 0.7}})
    assert config.gate.min_similarity == 0.7
    assert config.gate.min_overlap == GateConfig().min_overlap
    assert config.levels == RegistrationConfig().levels
    assert RegistrationConfig.from_dict({}) == RegistrationConfig()


def test_with_levels_keeps_the_rest() -> None:
    level = Level(pixel_mm=3.0, spacing_mm=3.0, max_iterations=1)
    other = CUSTOM.with_levels(level)
    assert other.levels == (level,)
    assert (other.optimiser, other.gate) == (CUSTOM.optimiser, CUSTOM.gate)


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        CUSTOM.energy_kev = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"gates": {}}, r"robot\.yaml: unknown \['gates'\]; expected some of .*'gate'"),
        ({"gate": {"min_simlarity": 1}}, r"unknown \['min_simlarity'\]; .*'min_similarity'"),
        ({"gate": 3}, r"robot\.yaml is 3; expected a mapping"),
        ({"levels": 3}, r"robot\.yaml: levels is 3; expected a list"),
        ({"levels": []}, r"levels is empty"),
        ({"levels": [4.0]}, r"robot\.yaml: levels\[0\] is 4.0; expected a mapping"),
        ({"levels": [{"pixel_mm": 1.0}]}, r"robot\.yaml: levels\[0\]: .*'spacing_mm'"),
        (
            {"levels": [{"pixel_mm": "1", "spacing_mm": 1.0, "max_iterations": 3}]},
            r"robot\.yaml: levels\[0\]",
        ),
        (
            {
                "levels": [
                    {"pixel_mm": 1, "spacing_mm": 1, "max_iterations": 3, "residual": {"x": 1}}
                ]
            },
            r"levels\[0\]: unknown \['x'\]",
        ),
        ([], r"robot\.yaml is \[\]; expected a mapping"),
    ],
)
def test_unusable_values_are_refused_with_their_place(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RegistrationConfig.from_dict(data, source="robot.yaml")


@pytest.mark.parametrize("field", [field.name for field in fields(LevenbergMarquardtConfig)])
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_optimiser_refuses_what_is_not_positive(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} is {value}; expected a positive number"):
        LevenbergMarquardtConfig(**{field: value})


def test_huber_zero_switches_it_off_but_no_other_zero_passes() -> None:
    assert LevenbergMarquardtConfig(huber=0.0).huber == 0
    with pytest.raises(InputError, match="max_step_mm is 0"):
        LevenbergMarquardtConfig(max_step_mm=0.0)


@pytest.mark.parametrize(
    "values", [{"pixel_mm": 0.0}, {"spacing_mm": -1.0}, {"max_iterations": 0}, {"pixel_mm": 1e400}]
)
def test_level_refuses_impossible_values(values: dict[str, Any]) -> None:
    good: dict[str, Any] = {"pixel_mm": 2.0, "spacing_mm": 2.0, "max_iterations": 5}
    with pytest.raises(InputError, match="expected positive lengths and at least one iteration"):
        Level(**{**good, **values})


LEARNED = Level(3.2, 5.0, 10, similarity="spherical", checkpoint="similarity.json")
USUAL = Level(2.5, 2.5, 10)


def test_a_learned_level_survives_the_way_through_a_file() -> None:
    config = RegistrationConfig().with_levels(LEARNED, USUAL)
    written = json.dumps(config.to_dict())
    assert RegistrationConfig.from_dict(json.loads(written)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"similarity": "mutual"}, "similarity is 'mutual'; expected one of gradient, spherical"),
        ({"similarity": "spherical"}, r"checkpoint ''; expected the NAME\.json"),
        ({"checkpoint": "similarity.json"}, "and none with gradient"),
        (
            {
                "similarity": "spherical",
                "checkpoint": "similarity.json",
                "residual": GradientResidual(3.0),
            },
            "residual is given",
        ),
    ],
)
def test_level_refuses_a_similarity_without_its_network(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Level(2.0, 2.0, 5, **values)


@pytest.mark.parametrize("levels", [(LEARNED,), (USUAL, LEARNED), (USUAL, LEARNED, USUAL)])
def test_learned_levels_come_first_and_are_not_all(levels: tuple[Level, ...]) -> None:
    with pytest.raises(InputError, match="expected learned similarities first"):
        RegistrationConfig(levels=levels)
    with pytest.raises(InputError, match="structure_levels: a learned level"):
        RegistrationConfig(structure_levels=(LEARNED, USUAL))


@pytest.mark.parametrize("field", [field.name for field in fields(GateConfig)])
def test_gate_refuses_thresholds_that_would_let_everything_pass(field: str) -> None:
    """Every comparison with NaN is False: such a threshold would be none."""
    with pytest.raises(InputError, match=f"{field} is nan"):
        GateConfig(**{field: float("nan")})
    with pytest.raises(InputError, match=f"{field} is -1"):
        GateConfig(**{field: -1.0})
