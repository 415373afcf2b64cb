from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model.config import (
    PRESETS,
    CollimatorConfig,
    DetectorConfig,
    DisplayConfig,
    ScatterConfig,
    XrayModelConfig,
)
from xray_registration.rendering.xray_model.deformation import DeformationConfig
from xray_registration.rendering.xray_model.instruments import rod, table_slab
from xray_registration.rendering.xray_model.mass_attenuation import mass_attenuation_cm2_per_g
from xray_registration.rendering.xray_model.materials import MaterialConfig
from xray_registration.rendering.xray_model.model import SimulatedXray, XrayModel
from xray_registration.rendering.xray_model.spectrum import make_spectrum

Build = Callable[..., CTVolume]
Look = Callable[..., NDArray[np.float64]]

PLAIN = XrayModelConfig(
    scatter=ScatterConfig(0.0),
    detector=DetectorConfig(
        photons_per_pixel=1e9, focal_spot_mm=0.0, blur_fwhm_mm=0.0, electronic_noise_electrons=0.0
    ),
)


@pytest.fixture
def bead(make_ct: Build) -> CTVolume:
    """Air, and a bead of 3000 HU, 4 mm wide, at LPS (12, -8, 15); 1 x 1 x 2 mm voxels."""
    grid = make_ct(np.full((40, 80, 80), -1000), (1.0, 1.0, 2.0))
    k, j, i = np.meshgrid(*[np.arange(n) for n in grid.hu.shape], indexing="ij")
    distance = np.linalg.norm(
        grid.lps_of_index(np.stack((i, j, k), -1)) - (12.0, -8.0, 15.0), axis=-1
    )
    hu = -1000.0 + 4000.0 * np.clip(3.0 - distance, 0.0, 1.0)
    return CTVolume(hu.astype(np.int16), grid.lps_from_index)


def test_water_cube_follows_the_spectrum(water_cube: CTVolume, look: Look) -> None:
    camera = Camera.from_detector(5, 5, 1.0, 1020.0)
    picture = XrayModel(water_cube, PLAIN).render(look(), camera, 0)
    spectrum = make_spectrum(PLAIN.beam)
    centimetres = 10.0  # through the middle
    mu = mass_attenuation_cm2_per_g("water", spectrum.energy_kev)
    expected = spectrum.signal_weights @ np.exp(-mu * centimetres)
    assert np.exp(-picture.primary_attenuation[2, 2]) == pytest.approx(expected, rel=1e-4)
    assert picture.image[2, 2] / picture.i0 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("direction", [(0, 1, 0), (1, 0.3, 0.2), (-0.6, -1, 0.4)])
def test_a_bead_appears_where_the_camera_projects_it(
    direction: tuple[float, ...], bead: CTVolume, look: Look
) -> None:
    k = np.array([[1900.0, 15.0, 140.0], [0.0, 2000.0, 110.0], [0.0, 0.0, 1.0]])
    camera = Camera(k, 301, 241, 1020.0)
    pose = look(direction)
    config = replace(PLAIN, material=MaterialConfig(isolate_patient=False))
    attenuation = XrayModel(bead, config).render(pose, camera, 0).primary_attenuation
    v, u = np.mgrid[: camera.height, : camera.width]
    centre = np.array([(attenuation * u).sum(), (attenuation * v).sum()]) / attenuation.sum()
    expected = camera.project((pose @ [12.0, -8.0, 15.0, 1.0])[:3])
    np.testing.assert_allclose(centre, expected, atol=0.1)


def test_voxel_axes_do_not_matter(bead: CTVolume, look: Look) -> None:
    """LAS, RAS and permuted copies of one patient give the same picture."""
    hu = np.full_like(bead.hu, -1000)
    hu[5:30, 20:60, 10:70] = 50
    hu[8:20, 30:40, 20:45] = 900
    ct = CTVolume(hu, bead.lps_from_index)
    camera = Camera.from_detector(60, 50, 2.0, 1020.0)
    pose = look((0.4, 1.0, 0.3))
    reference = XrayModel(ct, PLAIN).render(pose, camera, 3)
    for axis, column in ((0, 2), (1, 1), (2, 0)):  # array axis and affine column
        affine = ct.lps_from_index.copy()
        affine[:3, 3] += affine[:3, column] * (hu.shape[axis] - 1)
        affine[:3, column] *= -1.0
        flipped = CTVolume(np.ascontiguousarray(np.flip(hu, axis)), affine)
        picture = XrayModel(flipped, PLAIN).render(pose, camera, 3)
        np.testing.assert_allclose(
            picture.primary_attenuation, reference.primary_attenuation, atol=2e-4
        )
    permuted = CTVolume(
        np.ascontiguousarray(hu.transpose(1, 2, 0)), ct.lps_from_index[:, [2, 0, 1, 3]]
    )
    picture = XrayModel(permuted, PLAIN).render(pose, camera, 3)
    np.testing.assert_allclose(
        picture.primary_attenuation, reference.primary_attenuation, atol=2e-4
    )


def test_seed_and_threads(water_cube: CTVolume, look: Look, camera: Camera) -> None:
    model = XrayModel(water_cube, XrayModelConfig.preset("low_dose"))
    first = model.render(look(), camera, 7).image
    np.testing.assert_array_equal(first, model.render(look(), camera, 7).image)
    assert (first != model.render(look(), camera, 8).image).any()
    single = model.with_config(replace(model.config, threads=1))
    np.testing.assert_array_equal(first, single.render(look(), camera, 7).image)


def test_more_dose_less_noise(water_cube: CTVolume, look: Look) -> None:
    camera = Camera.from_detector(64, 64, 0.2, 1020.0)  # all pixels see the same water

    def relative_variance(photons: float) -> float:
        detector = replace(PLAIN.detector, photons_per_pixel=photons)
        picture = XrayModel(water_cube, replace(PLAIN, detector=detector)).render(look(), camera, 1)
        values = picture.image.astype(float)
        return float(values.var() / values.mean() ** 2)

    picture = XrayModel(water_cube, PLAIN).render(look(), camera, 1)
    transmission = float(np.exp(-picture.primary_attenuation).mean())
    for photons in (2000.0, 20000.0):
        expected = 1.0 / (photons * transmission)
        # energy weighting adds some percent to the pure count
        assert 0.95 * expected < relative_variance(photons) < 1.25 * expected


def test_sixteen_bits_and_the_full_well(water_cube: CTVolume, look: Look, camera: Camera) -> None:
    detector = replace(PLAIN.detector, i0_dn=200000.0, full_well_dn=4095)
    picture = XrayModel(water_cube, replace(PLAIN, detector=detector)).render(look(), camera, 1)
    assert picture.image.dtype == np.uint16
    assert picture.image.max() == 4095
    assert picture.i0 == 200000.0
    assert picture.kind == "intensity"


def test_collimator_mask_and_scatter_behind_the_blades(
    water_cube: CTVolume, look: Look, camera: Camera
) -> None:
    config = XrayModelConfig(collimator=CollimatorConfig(30.0, 20.0, leak=0.0))
    picture = XrayModel(water_cube, config).render(look(), camera, 1)
    v, u = np.mgrid[:49, :65]
    inside = (np.abs(u - 32) * 2.0 < 28.0) & (np.abs(v - 24) * 2.0 < 18.0)
    outside = (np.abs(u - 32) * 2.0 > 32.0) | (np.abs(v - 24) * 2.0 > 22.0)
    assert picture.mask[inside].all()
    assert not picture.mask[outside].any()
    shadow = picture.image[outside].astype(float)
    assert 0.0 < shadow.mean() < 0.2 * picture.image[inside].mean()


def test_round_intensifier(water_cube: CTVolume, look: Look, camera: Camera) -> None:
    config = replace(XrayModelConfig(), intensifier_diameter_mm=80.0)
    picture = XrayModel(water_cube, config).render(look(), camera, 1)
    assert not picture.mask[0, 0]
    assert picture.mask[24, 32]
    assert picture.image[0, 0] == 0
    shown = replace(config, display=DisplayConfig(polarity="bone_bright"))
    assert XrayModel(water_cube, shown).render(look(), camera, 1).image[0, 0] == 0


def test_instruments_darken_and_overlap_by_material(
    water_cube: CTVolume, look: Look, camera: Camera
) -> None:
    model = XrayModel(water_cube, PLAIN)
    things = (
        rod([(-30.0, 0.0, 0.0), (30.0, 0.0, 0.0)], 6.0),
        rod([(-30.0, 20.0, 0.0), (30.0, 20.0, 0.0)], 6.0),
        table_slab((0.0, 60.0, 0.0)),
    )
    integrals = model.with_instruments(things).density_integrals(look(), camera)
    assert integrals["titanium"][24, 32] == pytest.approx(1.2 * 4.54, rel=1e-3)
    assert integrals["carbon"][24, 32] == pytest.approx(4.0 * 0.2, rel=1e-3)
    bare = model.render(look(), camera, 1).image
    with_metal = model.with_instruments(things[:2]).render(look(), camera, 1).image
    assert with_metal[24, 32] < 0.4 * bare[24, 32]
    np.testing.assert_array_equal(with_metal[0], bare[0])


def test_display_picture_and_both_to_radiograph(
    labelled: tuple[CTVolume, LabelMap], look: Look, camera: Camera
) -> None:
    ct = labelled[0]
    config = replace(XrayModelConfig(), display=DisplayConfig(polarity="bone_bright"))
    picture = XrayModel(ct, config).render(look(), camera, 1)
    assert picture.image.dtype == np.uint8
    assert picture.i0 is None
    assert (picture.kind, picture.polarity) == ("display", "bone_bright")
    shown = picture.to_radiograph()
    counted = XrayModel(ct).render(look(), camera, 1).to_radiograph(use_true_mask=True)
    assert counted.kind == "intensity"
    for radiograph in (shown, counted):
        assert radiograph.attenuation[24, 32] > radiograph.attenuation[24, 5]  # bone is bright


def test_oversampling_averages_intensities(water_cube: CTVolume, look: Look) -> None:
    camera = Camera.from_detector(40, 40, 4.0, 1020.0)
    fine = Camera.from_detector(160, 160, 1.0, 1020.0)
    binned = XrayModel(water_cube, replace(PLAIN, oversampling=4)).render(look(), camera, 0)
    single = XrayModel(water_cube, PLAIN).render(look(), fine, 0)
    expected = np.exp(-single.primary_attenuation).reshape(40, 4, 40, 4).mean((1, 3))
    np.testing.assert_allclose(np.exp(-binned.primary_attenuation), expected, rtol=1e-3)


def test_the_torch_back_end_gives_the_same_picture(
    water_cube: CTVolume, look: Look, camera: Camera
) -> None:
    pictures = [
        XrayModel(water_cube, replace(PLAIN, backend=backend)).render(look(), camera, 0)
        for backend in ("numba", "torch")
    ]
    np.testing.assert_allclose(
        pictures[0].primary_attenuation, pictures[1].primary_attenuation, atol=1e-4
    )


@pytest.fixture
def labelled(make_ct: Build) -> tuple[CTVolume, LabelMap]:
    hu = np.full((40, 60, 60), -1000)
    hu[:, 5:55, 5:55] = 40
    hu[:, 35:45, 25:35] = 600
    hu[:, 20:26, 28:34] = 300
    labels = np.where(hu == 600, 1, np.where(hu == 300, 2, 0))
    ct = make_ct(hu, (2.0, 2.0, 2.0))
    return ct, LabelMap(labels, ct.lps_from_index, {1: "vertebrae_L1", 2: "aorta"})


def test_the_hard_patient_differs_from_the_ct(
    labelled: tuple[CTVolume, LabelMap], look: Look, camera: Camera
) -> None:
    ct, labels = labelled
    same = XrayModel(ct, PLAIN, labels)
    plain = same.with_config(replace(PLAIN, remove_contrast=True))
    moved = same.with_config(replace(PLAIN, deformation=DeformationConfig()))

    def attenuation(model: XrayModel) -> NDArray[np.float32]:
        return model.render(look(), camera, 0).primary_attenuation

    assert attenuation(plain).max() < attenuation(same).max() - 0.05
    assert np.abs(attenuation(moved) - attenuation(same)).max() > 0.05


def test_what_needs_labels_says_so(labelled: tuple[CTVolume, LabelMap]) -> None:
    with pytest.raises(InputError, match="needs a label map"):
        XrayModel(labelled[0], XrayModelConfig.preset("hard"))
    nameless = LabelMap(labelled[1].labels, labelled[1].lps_from_index, {1: "rib_left_1"})
    with pytest.raises(InputError, match="fixed_structures"):
        XrayModel(labelled[0], replace(PLAIN, deformation=DeformationConfig()), nameless)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_render_and_survive_a_dictionary(
    name: str, labelled: tuple[CTVolume, LabelMap], look: Look, camera: Camera
) -> None:
    config = XrayModelConfig.preset(name)
    assert XrayModelConfig.from_dict(config.to_dict()) == config
    assert XrayModelConfig.from_dict({"preset": name}) == config
    picture = XrayModel(*[labelled[0], config, labelled[1]]).render(look(), camera, 0)
    assert isinstance(picture, SimulatedXray)
    assert 0 < np.median(picture.image[picture.mask]) <= 65535


def test_dictionaries_change_what_they_name() -> None:
    config = XrayModelConfig.from_dict(
        {
            "preset": "low_dose",
            "beam": {"tube_voltage_kv": 95.0},
            "collimator": {"half_width_mm": 60.0, "half_height_mm": 70.0, "centre_mm": [1, 2]},
            "display": {"scales": ["log"], "polarity": "bone_dark"},
        }
    )
    assert config.beam.tube_voltage_kv == 95.0
    assert config.beam.filter_aluminium_mm == 3.0
    assert config.collimator == CollimatorConfig(60.0, 70.0, (1, 2))
    assert config.display == DisplayConfig(scales=("log",), polarity="bone_dark")
    assert config.detector == XrayModelConfig.preset("low_dose").detector


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"preset": "soft"}, "standard"),
        ({"beem": {}}, "beem"),
        ({"beam": {"volts": 3}}, r"X-ray model\.beam.*volts.*tube_voltage_kv"),
        ({"beam": {"tube_voltage_kv": 400}}, "tube_voltage_kv is 400"),
        ({"beam": 5}, "table of settings"),
        ({"collimator": {"half_width_mm": 60.0}}, "half_height_mm"),
        ({"collimator": {"width": 60.0}}, "width"),
        ({"oversampling": 0}, "oversampling"),
        ({"threads": 0}, "threads"),
        ({"step_mm": -1}, "step_mm"),
        ({"detector": {"full_well_dn": 4095.5}}, "whole number"),
        ({"display": {"scales": ["cubic"]}}, "scales"),
        ({"display": {"gamma": [2.0, 1.0]}}, "gamma"),
    ],
)
def test_bad_dictionaries_name_the_key(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        XrayModelConfig.from_dict(data)


def test_bad_requests(water_cube: CTVolume, look: Look, camera: Camera) -> None:
    model = XrayModel(water_cube, PLAIN)
    with pytest.raises(InputError, match="sdd_mm"):
        model.render(look(), Camera(camera.K, camera.width, camera.height), 0)
    for seed in (-1, 1.5, True, None):
        with pytest.raises(InputError, match="seed"):
            model.render(look(), camera, seed)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="camera_from_ct"):
        model.render(np.eye(3), camera, 0)


@pytest.mark.slow
def test_example_thorax_looks_like_a_thorax(example_ct: CTVolume, look: Look) -> None:
    """Lungs pass far more than the spine, nothing saturates, the air beside the body is I0."""
    camera = Camera.from_detector(128, 128, 2.4, 1020.0)
    spine = (0.3, 90.4, -163.9)  # near T8
    model = XrayModel(example_ct, XrayModelConfig())
    frontal = model.render(look((0, 1, 0), 650.0, spine), camera, 1)
    middle = frontal.image[40:90, 60:72].astype(float)
    lung = frontal.image[20:60, 10:25].astype(float)
    assert np.median(lung) > 5.0 * np.median(middle)
    assert 3.0 < np.median(frontal.primary_attenuation[40:90, 60:72]) < 8.0
    lateral = model.render(look((1, 0, 0), 650.0, spine), camera, 1)
    open_beam = lateral.image[lateral.primary_attenuation < 1e-3]
    assert open_beam.size > 100
    assert np.median(open_beam) == pytest.approx(lateral.i0, rel=0.06)
