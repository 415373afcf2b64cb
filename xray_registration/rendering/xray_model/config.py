"""Every setting of the X-ray model, checked when it is made; presets; to and from plain
dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from xray_registration.errors import InputError
from xray_registration.rendering.xray_model.checks import require_ordered, require_range
from xray_registration.rendering.xray_model.deformation import DeformationConfig
from xray_registration.rendering.xray_model.materials import MaterialConfig
from xray_registration.rendering.xray_model.spectrum import BeamConfig

PRESETS = ("standard", "low_dose", "hard")


@dataclass(frozen=True)
class ScatterConfig:
    """Radiation scattered in the patient that passes the grid, spread over the whole field.

    Attributes:
        scatter_to_primary_ratio: behind a broad uniform object of ``reference_attenuation``; it
            grows in proportion to the attenuation. 0 = no scatter.
        reference_attenuation: -log of the transmission that the ratio is given for.
        spread_sigma_mm: width of the scatter kernel on the detector.

    Raises:
        InputError: a value outside its range.
    """

    scatter_to_primary_ratio: float = 0.3
    reference_attenuation: float = 4.0
    spread_sigma_mm: float = 30.0

    def __post_init__(self) -> None:
        require_range("scatter_to_primary_ratio", self.scatter_to_primary_ratio, 0.0, 20.0)
        require_range("reference_attenuation", self.reference_attenuation, 0.1, 20.0)
        require_range("spread_sigma_mm", self.spread_sigma_mm, 1.0, 300.0)


@dataclass(frozen=True)
class DetectorConfig:
    """From photons to pixel values.

    Attributes:
        photons_per_pixel: detected photons in a pixel of the open beam: the dose.
        focal_spot_mm: full width of the tube's focal spot.
        blur_fwhm_mm: full width at half maximum of the detector's point spread (light in the CsI).
        electrons_per_photon: signal that one detected photon of mean energy makes.
        electronic_noise_electrons: standard deviation of the read-out noise.
        i0_dn: pixel value of the open beam without scatter; above ``full_well_dn`` it saturates.
        full_well_dn: largest pixel value (65535: 16 bits; 4095: a 12-bit converter).

    Raises:
        InputError: a value outside its range.
    """

    photons_per_pixel: float = 2.0e5
    focal_spot_mm: float = 0.6
    blur_fwhm_mm: float = 0.35
    electrons_per_photon: float = 1200.0
    electronic_noise_electrons: float = 1500.0
    i0_dn: float = 60000.0
    full_well_dn: int = 65535

    def __post_init__(self) -> None:
        require_range("photons_per_pixel", self.photons_per_pixel, 1.0, 1e12)
        require_range("focal_spot_mm", self.focal_spot_mm, 0.0, 5.0)
        require_range("blur_fwhm_mm", self.blur_fwhm_mm, 0.0, 10.0)
        require_range("electrons_per_photon", self.electrons_per_photon, 1.0, 1e6)
        require_range("electronic_noise_electrons", self.electronic_noise_electrons, 0.0, 1e6)
        require_range("i0_dn", self.i0_dn, 10.0, 1e7)
        require_range("full_well_dn", self.full_well_dn, 15, 65535)
        if int(self.full_well_dn) != self.full_well_dn:
            raise InputError(f"full_well_dn is {self.full_well_dn!r}; expected a whole number")


@dataclass(frozen=True)
class CollimatorConfig:
    """Four blades that leave a rectangle open, described where their shadow falls: on the detector.

    Attributes:
        half_width_mm, half_height_mm: of the open rectangle on the detector.
        centre_mm: its centre on the detector, from the image's centre, along columns and rows.
        rotation_deg: of the rectangle in the image, from +column towards +row.
        leak: share of the beam that the blades let through.
        source_to_blades_mm: gives the penumbra: focal spot times (SDD - this) / this.

    Raises:
        InputError: a value outside its range.
    """

    half_width_mm: float
    half_height_mm: float
    centre_mm: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0
    leak: float = 0.003
    source_to_blades_mm: float = 250.0

    def __post_init__(self) -> None:
        require_range("half_width_mm", self.half_width_mm, 1.0, 1000.0)
        require_range("half_height_mm", self.half_height_mm, 1.0, 1000.0)
        object.__setattr__(self, "centre_mm", tuple(self.centre_mm))
        if len(self.centre_mm) != 2:
            raise InputError(f"centre_mm is {self.centre_mm!r}; expected two numbers")
        for value in self.centre_mm:
            require_range("centre_mm", value, -1000.0, 1000.0)
        require_range("rotation_deg", self.rotation_deg, -360.0, 360.0)
        require_range("leak", self.leak, 0.0, 0.5)
        require_range("source_to_blades_mm", self.source_to_blades_mm, 50.0, 1000.0)


@dataclass(frozen=True)
class DisplayConfig:
    """An 8-bit picture as a video output shows it: a monotone curve that the receiver does not
    know.

    What is given as a range is drawn from it, evenly, by the rendering's seed.

    Attributes:
        low_percentile, high_percentile: of the values in the open field that become black and
            white.
        gamma: exponent of the curve.
        sigmoid_steepness: of the S curve laid over it; (0, 0) = none.
        scales: quantity that is windowed, one is drawn: "log" (attenuation), "linear", "sqrt".
        polarity: "bone_dark", "bone_bright" or "random".

    Raises:
        InputError: a value outside its range, an unknown word.
    """

    low_percentile: tuple[float, float] = (0.2, 3.0)
    high_percentile: tuple[float, float] = (97.0, 99.8)
    gamma: tuple[float, float] = (0.6, 1.6)
    sigmoid_steepness: tuple[float, float] = (0.0, 6.0)
    scales: tuple[Literal["log", "linear", "sqrt"], ...] = ("log", "sqrt")
    polarity: Literal["bone_dark", "bone_bright", "random"] = "random"

    def __post_init__(self) -> None:
        for name in ("low_percentile", "high_percentile", "gamma", "sigmoid_steepness", "scales"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require_ordered("low_percentile", self.low_percentile, 0.0, 45.0)
        require_ordered("high_percentile", self.high_percentile, 55.0, 100.0)
        require_ordered("gamma", self.gamma, 0.1, 10.0)
        require_ordered("sigmoid_steepness", self.sigmoid_steepness, 0.0, 30.0)
        if not self.scales or not set(self.scales) <= {"log", "linear", "sqrt"}:
            raise InputError(f"scales is {self.scales!r}; accepted: some of log, linear, sqrt")
        if self.polarity not in ("bone_dark", "bone_bright", "random"):
            raise InputError(
                f"polarity is {self.polarity!r}; accepted: bone_dark, bone_bright, random"
            )


@dataclass(frozen=True)
class XrayModelConfig:
    """All settings of the model. The parts above the line shape the patient, the rest each picture.

    Attributes:
        material: HU to densities, couch removal.
        remove_contrast: take IV contrast out of the vessels (needs labels).
        deformation: move everything but ``fixed_structures`` (needs labels); None = as in the CT.
        deformation_seed: of that motion.
        fixed_structures: names of labels that stay; empty = every vertebra and the sacrum.
        -----
        beam, scatter, detector: see there.
        collimator: None = open to the detector's edge.
        intensifier_diameter_mm: of a round image intensifier, centred; None = flat panel.
        display: None = 16-bit intensity; else 8-bit pictures of an unknown window.
        step_mm: sampling distance along the rays; None = half the smallest voxel edge, at most 0.5.
        oversampling: rays per pixel along each axis, averaged as intensities.
        backend, threads, device: of the ray marcher, see ray_marcher.path_integrals_g_per_cm2.

    Raises:
        InputError: a value outside its range.
    """

    material: MaterialConfig = field(default_factory=MaterialConfig)
    remove_contrast: bool = False
    deformation: DeformationConfig | None = None
    deformation_seed: int = 0
    fixed_structures: tuple[str, ...] = ()
    beam: BeamConfig = field(default_factory=BeamConfig)
    scatter: ScatterConfig = field(default_factory=ScatterConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    collimator: CollimatorConfig | None = None
    intensifier_diameter_mm: float | None = None
    display: DisplayConfig | None = None
    step_mm: float | None = None
    oversampling: int = 1
    backend: Literal["auto", "numba", "torch"] = "auto"
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fixed_structures", tuple(self.fixed_structures))
        if self.intensifier_diameter_mm is not None:
            require_range("intensifier_diameter_mm", self.intensifier_diameter_mm, 10.0, 1000.0)
        if self.step_mm is not None:
            require_range("step_mm", self.step_mm, 0.01, 10.0)
        if self.oversampling not in (1, 2, 3, 4, 5, 6, 7, 8):
            raise InputError(f"oversampling is {self.oversampling!r}; accepted: 1 to 8")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads!r}; accepted: 1 or more, or None")
        if self.deformation_seed < 0:
            raise InputError(f"deformation_seed is {self.deformation_seed!r}; accepted: 0 or more")

    def same_patient(self, other: XrayModelConfig) -> bool:
        """Whether both make the same densities of a CT."""
        names = (
            "material", "remove_contrast", "deformation", "deformation_seed", "fixed_structures",
        )  # fmt: skip
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @classmethod
    def preset(cls, name: str) -> XrayModelConfig:
        """One of PRESETS.

        "standard": a single shot of a flat-panel C-arm. "low_dose": a frame of pulsed fluoroscopy.
        "hard": low dose, much scatter, blades on all sides, a saturated background, IV contrast
        gone and all but the spine moved by up to 8 mm (needs labels).

        Raises:
            InputError: an unknown name.
        """
        if name == "standard":
            return cls()
        low_dose = cls(
            detector=DetectorConfig(photons_per_pixel=1.5e4, i0_dn=60000.0, blur_fwhm_mm=0.4),
            scatter=ScatterConfig(scatter_to_primary_ratio=0.4),
        )
        if name == "low_dose":
            return low_dose
        if name == "hard":
            return replace(
                low_dose,
                remove_contrast=True,
                deformation=DeformationConfig(),
                detector=replace(low_dose.detector, i0_dn=400000.0, focal_spot_mm=0.8),
                scatter=ScatterConfig(scatter_to_primary_ratio=0.8),
                collimator=CollimatorConfig(
                    half_width_mm=75.0,
                    half_height_mm=105.0,
                    centre_mm=(4.0, -6.0),
                    rotation_deg=4.0,
                ),
            )
        raise InputError(f"X-ray model preset {name!r}; accepted: {', '.join(PRESETS)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, for reports and YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "X-ray model") -> XrayModelConfig:
        """From a nested dictionary, as to_dict gives it; absent keys keep the preset's value.

        A key "preset" names the starting point (default "standard").

        Raises:
            InputError: an unknown key (the message names it with its path and lists the known
                ones), or a value that the classes above refuse.
        """
        values = dict(data)
        start = cls.preset(str(values.pop("preset", "standard")))
        return _updated(start, values, name)


_OPTIONAL_PARTS: dict[str, type] = {
    "deformation": DeformationConfig,
    "collimator": CollimatorConfig,
    "display": DisplayConfig,
}


def _updated(start: Any, values: Mapping[str, Any], name: str) -> Any:
    known = [item.name for item in fields(start)]
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{name}: unknown key {key!r}; known: {', '.join(known)}")
        current = getattr(start, key)
        if is_dataclass(current) and isinstance(value, Mapping):
            value = _updated(current, value, f"{name}.{key}")
        elif key in _OPTIONAL_PARTS and isinstance(value, Mapping):
            value = _made(_OPTIONAL_PARTS[key], value, f"{name}.{key}")
        elif is_dataclass(current) and value is not None:
            raise InputError(f"{name}.{key} is {value!r}; expected a table of settings")
        changes[key] = value
    try:
        return replace(start, **changes)
    except (InputError, TypeError) as error:
        raise InputError(f"{name}: {error}") from error


def _made(kind: type, values: Mapping[str, Any], name: str) -> Any:
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{name}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    try:
        return kind(**values)
    except (InputError, TypeError) as error:
        raise InputError(f"{name}: {error}") from error
