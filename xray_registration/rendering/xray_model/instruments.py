"""Things of metal (or carbon) between tube and detector, in closed form, beside the CT.

They are added to the patient: the tissue that an implant displaces is not taken away (a 6 mm
titanium screw attenuates by about 2, the water it displaces by 0.12).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.rendering.xray_model.checks import require_point, require_range
from xray_registration.rendering.xray_model.mass_attenuation import DENSITY_G_PER_CM3
from xray_registration.rendering.xray_model.shapes import Box, Capsule, Cylinder, Point, Shape


@dataclass(frozen=True)
class Instrument:
    """One object of one material; where its parts overlap they count once.

    Attributes:
        parts: convex solids in CT LPS mm.
        material: a name in mass_attenuation.MATERIALS ("titanium", "steel", "carbon", "iodine").
        density_g_per_cm3: None = the material's usual density.
        name: for reports.

    Raises:
        InputError: no parts, an unknown material, a density that is not positive.
    """

    parts: tuple[Shape, ...]
    material: str = "titanium"
    density_g_per_cm3: float | None = None
    name: str = "instrument"

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError(f"{self.name}: an instrument needs at least one part")
        if self.material not in DENSITY_G_PER_CM3:
            raise InputError(
                f"{self.name}: material {self.material!r} is not known; accepted: "
                f"{', '.join(sorted(DENSITY_G_PER_CM3))}"
            )
        if self.density_g_per_cm3 is not None:
            require_range("density_g_per_cm3", self.density_g_per_cm3, 1e-4, 25.0)

    @property
    def density(self) -> float:
        """Density in g/cm^3."""
        if self.density_g_per_cm3 is not None:
            return self.density_g_per_cm3
        return DENSITY_G_PER_CM3[self.material]

    def path_length_mm(
        self, camera_from_ct: NDArray[np.float64], camera: Camera
    ) -> NDArray[np.float32]:
        """(H, W) length in mm of the ray through each pixel's centre inside the instrument."""
        result = np.zeros((camera.height, camera.width), dtype=np.float32)
        region = self._region(camera_from_ct, camera)
        if region is None:
            return result
        rows, columns = region
        v, u = np.meshgrid(
            np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop), indexing="ij"
        )
        pixels = np.stack((u.ravel(), v.ravel(), np.ones(u.size)), axis=-1)
        rays_camera = pixels @ np.linalg.inv(camera.K).T
        ct_from_camera = np.linalg.inv(camera_from_ct)
        directions = np.asarray(rays_camera @ ct_from_camera[:3, :3].T, dtype=np.float64)
        source = np.asarray(ct_from_camera[:3, 3], dtype=np.float64)
        intervals = [part.interval(source, directions) for part in self.parts]
        enter = np.stack([np.maximum(near, 0.0) for near, _ in intervals])
        leave = np.stack([far for _, far in intervals])
        length = _union_length(enter, leave) * np.linalg.norm(rays_camera, axis=-1)
        result[rows, columns] = length.reshape(u.shape)
        return result

    def _region(
        self, camera_from_ct: NDArray[np.float64], camera: Camera
    ) -> tuple[slice, slice] | None:
        """Rows and columns that can see the instrument; None where it is out of view."""
        corners = np.concatenate([part.corners_lps_mm() for part in self.parts])
        points = corners @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3]
        if points[:, 2].max() <= 0.0:
            return None
        if points[:, 2].min() <= 1.0:  # reaches behind the focal spot: no bounds, take all pixels
            return slice(0, camera.height), slice(0, camera.width)
        pixels = np.asarray(camera.project(points))
        low = np.floor(pixels.min(axis=0)).astype(int)
        high = np.ceil(pixels.max(axis=0)).astype(int) + 1
        columns = slice(max(low[0], 0), min(high[0], camera.width))
        rows = slice(max(low[1], 0), min(high[1], camera.height))
        if columns.start >= columns.stop or rows.start >= rows.stop:
            return None
        return rows, columns


def _union_length(enter: NDArray[np.float64], leave: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) measure of the union of the intervals [enter, leave] (P, N); leave < enter is empty."""
    leave = np.where(leave > enter, leave, -np.inf)
    enter = np.where(leave > enter, enter, np.inf)
    order = np.argsort(enter, axis=0)
    enter = np.take_along_axis(enter, order, axis=0)
    leave = np.take_along_axis(leave, order, axis=0)
    reached = np.full(enter.shape[1], -np.inf)
    total = np.zeros(enter.shape[1])
    for near, far in zip(enter, leave, strict=True):
        fresh = far > np.maximum(near, reached)
        begin = np.maximum(near, reached)
        total[fresh] += (far - begin)[fresh]
        reached = np.maximum(reached, far)
    return total


def rod(
    points_lps_mm: Sequence[Point], diameter_mm: float = 5.5, material: str = "titanium"
) -> Instrument:
    """A spinal rod, straight (two points) or bent (a chain of capsules through the points)."""
    points = [require_point("points_lps_mm", point) for point in points_lps_mm]
    if len(points) < 2:
        raise InputError(f"rod: {len(points)} point(s); expected at least two (x, y, z) in mm")
    parts = tuple(Capsule(a, b, 0.5 * diameter_mm) for a, b in pairwise(points))
    return Instrument(parts, material, name="rod")


def screw(
    head_lps_mm: Point,
    tip_lps_mm: Point,
    diameter_mm: float = 6.0,
    head_diameter_mm: float = 12.0,
    head_length_mm: float = 12.0,
    material: str = "titanium",
) -> Instrument:
    """A pedicle screw: a rounded shaft from head to tip and a cylindrical head that stands back
    from it.

    Raises:
        InputError: head and tip coincide, or a size outside its range.
    """
    head = np.array(require_point("head_lps_mm", head_lps_mm))
    tip = np.array(require_point("tip_lps_mm", tip_lps_mm))
    length = float(np.linalg.norm(tip - head))
    if length == 0.0:
        raise InputError(f"screw: head and tip are both {head_lps_mm}; they give no direction")
    back = head - (tip - head) / length * head_length_mm
    shaft = Capsule(_point(head), _point(tip), 0.5 * diameter_mm)
    return Instrument(
        (shaft, Cylinder(_point(back), _point(head), 0.5 * head_diameter_mm)),
        material,
        name="screw",
    )


def kirschner_wire(start_lps_mm: Point, end_lps_mm: Point, diameter_mm: float = 1.8) -> Instrument:
    """A steel wire."""
    return Instrument((Capsule(start_lps_mm, end_lps_mm, 0.5 * diameter_mm),), "steel", name="wire")


def table_slab(
    top_centre_lps_mm: Point,
    *,
    width_mm: float = 540.0,
    length_mm: float = 2000.0,
    thickness_mm: float = 40.0,
    density_g_per_cm3: float = 0.2,
) -> Instrument:
    """A carbon table under a supine patient: wide along L, long along S, below (posterior of) its
    top.

    The default density is that of carbon shells around a foam core, about 1 mm of aluminium in all.
    """
    x, y, z = require_point("top_centre_lps_mm", top_centre_lps_mm)
    box = Box(
        (x, y + 0.5 * thickness_mm, z),
        (0.5 * width_mm, 0.5 * thickness_mm, 0.5 * length_mm),
    )
    return Instrument((box,), "carbon", density_g_per_cm3, name="table")


def spinal_fixation(
    vertebrae_lps_mm: Iterable[ArrayLike], seed: int, material: str = "titanium"
) -> tuple[Instrument, ...]:
    """Two rods and a pair of pedicle screws per vertebra, as after a dorsal fixation.

    Args:
        vertebrae_lps_mm: centroids of whole vertebrae, at least two, in order along the spine.
        seed: of the small differences between screws.
        material: of screws and rods.

    Raises:
        InputError: fewer than two vertebrae.
    """
    centroids = np.array([require_point("vertebrae_lps_mm", point) for point in vertebrae_lps_mm])
    if len(centroids) < 2:
        raise InputError(
            f"spinal_fixation: {len(centroids)} vertebra(e) given; expected at least two"
        )
    random = np.random.default_rng(seed)
    result = []
    for side in (-1.0, 1.0):
        # A vertebra's centroid lies at the back of its body; pedicles 15 mm aside of it, heads
        # dorsal.
        heads = centroids + np.array([side * 19.0, 26.0, 0.0])
        tips = centroids + np.array([side * 7.0, -14.0, 0.0])
        heads += random.normal(0.0, (1.0, 1.5, 1.5), heads.shape)
        tips += random.normal(0.0, (1.5, 2.0, 2.5), tips.shape)
        result += [
            screw(_point(h), _point(t), material=material) for h, t in zip(heads, tips, strict=True)
        ]
        saddles = heads + np.array([0.0, 7.0, 0.0])
        overhang = 8.0 * (saddles[-1] - saddles[0]) / np.linalg.norm(saddles[-1] - saddles[0])
        chain = [saddles[0] - overhang, *saddles, saddles[-1] + overhang]
        result.append(rod([_point(point) for point in chain], material=material))
    return tuple(result)


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])
