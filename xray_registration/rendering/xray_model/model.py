"""A realistic radiograph of a CT from a C-arm's pose: the X-ray model that simulation and
evaluation use.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.se3 import check_rigid
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.rendering.xray_model import detector
from xray_registration.rendering.xray_model.config import XrayModelConfig
from xray_registration.rendering.xray_model.contrast import remove_contrast
from xray_registration.rendering.xray_model.deformation import deform_ct
from xray_registration.rendering.xray_model.display import display_picture
from xray_registration.rendering.xray_model.instruments import Instrument
from xray_registration.rendering.xray_model.materials import MATERIAL_NAMES, material_densities
from xray_registration.rendering.xray_model.ray_marcher import (
    MarchVolume,
    path_integrals_g_per_cm2,
)
from xray_registration.rendering.xray_model.spectrum import make_spectrum

_LARGEST_STEP_MM = 0.5
_OPEN = 0.95  # a pixel belongs to the field when the blades pass this share of the beam


@dataclass(frozen=True, eq=False)
class SimulatedXray:
    """One picture.

    Attributes:
        image: (H, W) uint16 (kind "intensity") or uint8 (kind "display").
        kind: what the values are, in the words of imaging.radiograph.
        i0: pixel value of the open beam without scatter (may exceed the largest value); None for
            "display".
        polarity: "bone_dark" for intensity.
        mask: (H, W) bool, True inside the open field (blades, intensifier): the truth, not found
            from the picture.
        primary_attenuation: (H, W) float32, -log of the noise-free primary's share of the open
            beam, before blur, scatter and blades.
        metadata: settings, seed, what the display drew: plain values.
    """

    image: NDArray[Any]
    kind: Literal["intensity", "display"]
    i0: float | None
    polarity: Literal["bone_dark", "bone_bright"]
    mask: NDArray[np.bool_]
    primary_attenuation: NDArray[np.float32]
    metadata: dict[str, Any]

    def to_radiograph(self, use_true_mask: bool = False, source: str = "simulated") -> Radiograph:
        """As a receiver would make it; with the true field mask only when asked for."""
        return make_radiograph(
            self.image,
            self.kind,
            i0=self.i0,
            polarity=self.polarity,
            mask=self.mask if use_true_mask else None,
            source=source,
        )


class XrayModel:
    """The patient, ready to be X-rayed from anywhere. Immutable; safe to use from several
    threads.
    """

    def __init__(
        self,
        ct: CTVolume,
        config: XrayModelConfig | None = None,
        labels: LabelMap | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        """Prepare the densities (a few seconds for a full CT).

        Args:
            ct: Hounsfield units with their full affine.
            config: settings; None = the preset "standard".
            labels: on the CT's grid; needed by ``remove_contrast`` and ``deformation``.
            instruments: metal and table, in CT LPS mm.

        Raises:
            InputError: a CT of nothing but air; labels missing or on another grid.
        """
        self._config = config if config is not None else XrayModelConfig()
        self._instruments = tuple(instruments)
        self._ct = ct
        self._labels = labels
        self._volume = _prepare(ct, self._config, labels)
        self._spectrum = make_spectrum(self._config.beam)
        self._centre_lps_mm = ct.corners_lps_mm.mean(axis=0)

    @property
    def config(self) -> XrayModelConfig:
        """The settings."""
        return self._config

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Objects beside the patient."""
        return self._instruments

    @property
    def step_mm(self) -> float:
        """Distance between samples along a ray."""
        if self._config.step_mm is not None:
            return self._config.step_mm
        return min(_LARGEST_STEP_MM, 0.5 * self._volume.smallest_voxel_mm)

    def with_config(self, config: XrayModelConfig) -> XrayModel:
        """Other settings on the same CT; cheap when only the picture's settings differ."""
        other = copy.copy(self)
        other._config = config
        other._spectrum = make_spectrum(config.beam)
        if not config.same_patient(self._config):
            other._volume = _prepare(self._ct, config, self._labels)
        return other

    def with_instruments(self, instruments: Iterable[Instrument]) -> XrayModel:
        """Other instruments in the same patient; cheap."""
        other = copy.copy(self)
        other._instruments = tuple(instruments)
        return other

    def density_integrals(
        self, camera_from_ct: ArrayLike, camera: Camera
    ) -> dict[str, NDArray[np.float32]]:
        """Material name to (H, W) integral of density along each ray in g/cm^2, instruments
        included.

        Args:
            camera_from_ct: (4, 4) rigid, mm, from CT LPS to the camera.
            camera: pinhole; pixel centres at integers.
        """
        pose = check_rigid(np.asarray(camera_from_ct), "camera_from_ct")
        pairs = path_integrals_g_per_cm2(
            self._volume,
            pose,
            camera,
            self.step_mm,
            backend=self._config.backend,
            threads=self._config.threads,
            device=self._config.device,
        )
        result = {name: pairs[..., i] for i, name in enumerate(MATERIAL_NAMES)}
        for instrument in self._instruments:
            grams = 0.1 * instrument.density * instrument.path_length_mm(pose, camera)
            result[instrument.material] = result.get(instrument.material, 0.0) + grams
        return result

    def render(self, camera_from_ct: ArrayLike, camera: Camera, seed: int) -> SimulatedXray:
        """One picture. The same arguments give the same pixels, on any number of threads.

        Args:
            camera_from_ct: (4, 4) rigid, mm, from CT LPS to the camera.
            camera: must know sdd_mm: blur, scatter and blades are in mm on the detector.
            seed: whole number >= 0, of noise and display window.

        Raises:
            InputError: a pose that is not rigid, a camera without sdd_mm, a bad seed.
        """
        pose = check_rigid(np.asarray(camera_from_ct), "camera_from_ct")
        if camera.sdd_mm is None:
            raise InputError(
                "camera: sdd_mm is None; the X-ray model needs the source-to-detector distance "
                "(blur, scatter and collimation are in mm on the detector)"
            )
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"seed is {seed!r}; accepted: a whole number, 0 or more")
        config = self._config
        pitch = camera.pixel_pitch_mm
        noise_stream, display_stream = np.random.SeedSequence(int(seed)).spawn(2)

        transmission, quantum = self._transmission(pose, camera)
        attenuation = -np.log(np.maximum(transmission, np.float32(1e-30)))
        depth = float(pose[2, :3] @ self._centre_lps_mm + pose[2, 3])
        sigma = detector.focal_blur_sigma_mm(config.detector, camera.sdd_mm, depth)
        primary = detector.gaussian_blur(transmission, (sigma / pitch[0], sigma / pitch[1]))
        blades, circle = self._field(camera, pitch, camera.sdd_mm)
        primary = primary * blades
        scattered = detector.scatter_image(primary, attenuation, config.scatter, pitch)
        read_out = circle * detector.detect(
            circle * (primary + scattered),
            quantum,
            config.detector,
            pitch,
            np.random.default_rng(noise_stream),
        )
        mask = (blades >= _OPEN) & (circle >= 1.0)
        metadata: dict[str, Any] = {
            "seed": int(seed),
            "config": config.to_dict(),
            "step_mm": self.step_mm,
            "isocentre_depth_mm": depth,
            "mean_energy_kev": self._spectrum.mean_detected_energy_kev,
            "instruments": [instrument.name for instrument in self._instruments],
        }
        full_well = int(config.detector.full_well_dn)
        counts = np.clip(np.rint(read_out), 0, full_well)
        if config.display is None:
            return SimulatedXray(
                counts.astype(np.uint16),
                "intensity",
                float(config.detector.i0_dn),
                "bone_dark",
                mask,
                attenuation,
                metadata,
            )
        picture, polarity, drawn = display_picture(
            counts, mask, circle, config.display, np.random.default_rng(display_stream)
        )
        metadata["display"] = drawn
        return SimulatedXray(picture, "display", None, polarity, mask, attenuation, metadata)

    def _transmission(
        self, pose: NDArray[np.float64], camera: Camera
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Noise-free primary and quantum factor, rays averaged over each pixel."""
        n = self._config.oversampling
        if n == 1:
            return detector.polychromatic_signal(
                self.density_integrals(pose, camera), self._spectrum
            )
        fine = camera.resized(n * camera.width, n * camera.height)
        signal, quantum = detector.polychromatic_signal(
            self.density_integrals(pose, fine), self._spectrum
        )
        shape = (camera.height, n, camera.width, n)
        return signal.reshape(shape).mean(axis=(1, 3)), quantum.reshape(shape).mean(axis=(1, 3))

    def _field(
        self, camera: Camera, pitch: tuple[float, float], sdd_mm: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(H, W) shares passed by the blades (tube side) and by the intensifier's round edge."""
        size = (camera.width, camera.height)
        blades: NDArray[np.float32] = np.ones((camera.height, camera.width), dtype=np.float32)
        circle = blades
        if self._config.collimator is not None:
            blades = detector.collimator_transmission(
                self._config.collimator, size, pitch, sdd_mm, self._config.detector.focal_spot_mm
            )
        if self._config.intensifier_diameter_mm is not None:
            circle = detector.circle_transmission(self._config.intensifier_diameter_mm, size, pitch)
        return blades, circle


def _prepare(ct: CTVolume, config: XrayModelConfig, labels: LabelMap | None) -> MarchVolume:
    """The CT of the patient as he lies on the table, as densities."""
    if config.remove_contrast or config.deformation is not None:
        if labels is None:
            wanted = "remove_contrast" if config.remove_contrast else "deformation"
            raise InputError(
                f"X-ray model: {wanted} needs a label map of the bones; none was given"
            )
        if config.remove_contrast:
            ct = remove_contrast(ct, labels)
        if config.deformation is not None:
            fixed = config.fixed_structures or spine_names(labels)
            ct = deform_ct(ct, labels, fixed, config.deformation, config.deformation_seed)
    return MarchVolume.from_density(material_densities(ct, config.material), ct.lps_from_index)


def spine_names(labels: LabelMap) -> tuple[str, ...]:
    """The vertebrae and the sacrum among the labels.

    Raises:
        InputError: there are none.
    """
    names = tuple(n for n in labels.names.values() if "vertebra" in n.lower() or n == "sacrum")
    if not names:
        raise InputError(
            f"{labels.path or 'label map'}: no vertebra among "
            f"{', '.join(sorted(labels.names.values()))}; name in fixed_structures what must not "
            "move"
        )
    return names
