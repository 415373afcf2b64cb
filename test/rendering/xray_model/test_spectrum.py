from __future__ import annotations

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.rendering.xray_model.mass_attenuation import (
    MATERIALS,
    linear_attenuation_per_mm,
    mass_attenuation_cm2_per_g,
)
from xray_registration.rendering.xray_model.spectrum import BeamConfig, make_spectrum


@pytest.mark.parametrize(
    ("material", "energy", "value"),
    [
        ("water", 60.0, 0.2059),
        ("cortical_bone", 40.0, 0.6655),
        ("titanium", 80.0, 0.4052),
        ("steel", 100.0, 0.3717),
        ("iodine", 33.17, 35.82),  # upper side of the K edge
        ("cesium_iodide", 35.98, 30.27),
    ],
)
def test_tabulated_energies_give_the_tabulated_values(
    material: str, energy: float, value: float
) -> None:
    assert mass_attenuation_cm2_per_g(material, energy) == pytest.approx(value, rel=1e-9)


def test_between_the_table_rows_the_interpolation_is_close() -> None:
    # XCOM (NIST SRD 8) at energies that the table lacks: water 0.1929 and bone 0.2592 at 70 keV
    assert mass_attenuation_cm2_per_g("water", 70.0) == pytest.approx(0.1929, rel=0.01)
    assert mass_attenuation_cm2_per_g("cortical_bone", 70.0) == pytest.approx(0.2592, rel=0.015)


def test_an_edge_is_a_jump_and_nothing_else_rises() -> None:
    energy = np.linspace(10.0, 150.0, 1401)
    for material in MATERIALS:
        rising = energy[1:][np.diff(mass_attenuation_cm2_per_g(material, energy)) > 0]
        near_edge = (np.abs(rising - 33.2) < 0.2) | (np.abs(rising - 36.0) < 0.2)
        if material == "cesium_iodide":  # its table rises between the two edges at no energy
            assert near_edge.all()
        elif material == "iodine":
            assert near_edge.all()
            assert rising.size
        else:
            assert not rising.size


def test_linear_attenuation_of_water() -> None:
    assert linear_attenuation_per_mm("water", 60.0) == pytest.approx(0.02059)


@pytest.mark.parametrize("energy", [9.9, 150.1, np.nan])
def test_energy_outside_the_table_is_refused(energy: float) -> None:
    with pytest.raises(InputError, match="outside"):
        mass_attenuation_cm2_per_g("water", energy)


def test_unknown_material_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"unobtainium.*titanium"):
        mass_attenuation_cm2_per_g("unobtainium", 60.0)


@pytest.mark.parametrize(("kv", "hvl_mm"), [(60, 2.2), (80, 2.9), (100, 3.6), (120, 4.3)])
def test_beam_quality_of_a_tube_with_2_5_mm_aluminium(kv: float, hvl_mm: float) -> None:
    spectrum = make_spectrum(BeamConfig(kv, 2.5, 0.0))
    assert spectrum.half_value_layer_mm_aluminium() == pytest.approx(hvl_mm, rel=0.06)


def test_shares_sum_to_one_and_end_at_the_peak_voltage() -> None:
    spectrum = make_spectrum(BeamConfig(tube_voltage_kv=90.0))
    for shares in (spectrum.fluence, spectrum.detected, spectrum.signal_weights):
        assert shares.sum() == pytest.approx(1.0)
        assert (shares >= 0.0).all()
    assert spectrum.energy_kev.max() < 90.0
    assert np.diff(spectrum.energy_kev).max() <= BeamConfig().energy_bin_kev


def test_more_filter_and_more_voltage_harden() -> None:
    soft = make_spectrum(BeamConfig(70.0, 2.5, 0.0)).effective_energy_kev()
    filtered = make_spectrum(BeamConfig(70.0, 2.5, 0.2)).effective_energy_kev()
    hard = make_spectrum(BeamConfig(110.0, 2.5, 0.2)).effective_energy_kev()
    assert soft < filtered < hard


def test_tungsten_lines_appear_above_the_k_edge() -> None:
    below = make_spectrum(BeamConfig(69.0, energy_bin_kev=1.0))
    above = make_spectrum(BeamConfig(100.0, energy_bin_kev=1.0))

    def peak(spectrum: object) -> float:
        energy, fluence = spectrum.energy_kev, spectrum.fluence  # type: ignore[attr-defined]
        line = fluence[np.argmin(np.abs(energy - 59.32))]
        return float(line / fluence[np.argmin(np.abs(energy - 62.5))])

    assert peak(below) < 2.0
    assert peak(above) > 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tube_voltage_kv", 30.0),
        ("filter_aluminium_mm", float("nan")),
        ("energy_bin_kev", 0.0),
        ("filter_copper_mm", "thick"),
    ],
)
def test_bad_settings_name_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        BeamConfig(**{field: value})  # type: ignore[arg-type]


def test_a_filter_that_stops_the_beam_is_refused() -> None:
    with pytest.raises(InputError, match="thinner"):
        make_spectrum(BeamConfig(40.0, 40.0, 3.0))
