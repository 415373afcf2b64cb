"""What the demo shows: which patient, which arc, which start, which parameters of the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xray_registration.evaluation.demo_score import vertebra_targets
from xray_registration.geometry.arc import Arc
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.example import load_example
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume

Matrix = npt.NDArray[np.float64]

CANDIDATES = tuple(f"vertebrae_T{n}" for n in range(1, 13))
ISOCENTRE = tuple(f"vertebrae_T{n}" for n in range(5, 11))
_FIELD_MM = 297.0  # side of the flat detector
_SDD_MM = 1020.0
_SOURCE_ISOCENTRE_MM = 700.0
_PRIMARY_DEG, _SECONDARY_DEG = (-25.0, 25.0), (-4.0, 6.0)


@dataclass(frozen=True)
class Plan:
    """The choices. ``preset`` is that of the X-ray model, ``cache`` a folder or empty."""

    frames: int
    size: int
    preset: str
    seed: int
    device: str
    cache: str

    @property
    def arc(self) -> Arc:
        """From RAO to LAO, from the feet's side to the head's."""
        return Arc(_PRIMARY_DEG, _SECONDARY_DEG, self.frames, _SOURCE_ISOCENTRE_MM)

    @property
    def camera(self) -> Camera:
        """A square flat detector."""
        return Camera.from_detector(self.size, self.size, _FIELD_MM / self.size, _SDD_MM)

    def simulator_parameters(self) -> dict[str, Any]:
        """Of carm_simulator."""
        arc, camera = self.arc, self.camera
        return {
            "ct_path": "example",
            "label_map_path": "example",
            "isocentre.labels": ",".join(ISOCENTRE),
            "camera.width": camera.width,
            "camera.height": camera.height,
            "camera.pixel_pitch_mm": list(camera.pixel_pitch_mm),
            "camera.sdd_mm": _SDD_MM,
            "camera.source_isocentre_mm": arc.source_isocentre_mm,
            "sweep.primary_deg": list(arc.primary_deg),
            "sweep.secondary_deg": list(arc.secondary_deg),
            "sweep.frames": arc.frames,
            "rate_hz": 5.0,
            "lock_step": True,
            "wait_for_subscribers": 2,  # the registration node and the client
            "prerender": True,
            "exit_when_done": True,
            "cache_dir": self.cache,
            "xray.preset": self.preset,
            "xray.seed": self.seed,
        }

    def node_parameters(self) -> dict[str, Any]:
        """Of registration_node. It is told neither where to start nor anything of the truth."""
        return {
            "ct_path": "example",
            "label_map_path": "example",
            "isocentre.labels": ",".join(ISOCENTRE),
            "image.kind": "intensity",
            "device": self.device,
            "start.source": "network",
            "start.use_previous": True,
        }


@dataclass(frozen=True, eq=False)
class Scene:
    """The patient, and what follows from patient and plan.

    Attributes:
        poses: camera_from_ct (4, 4) LPS mm of every frame.
        vertebrae: names of those on which errors are measured.
        targets_lps_mm: (N, 3) their centroids and surface points.
    """

    ct: CTVolume
    labels: LabelMap
    isocentre_lps_mm: Matrix
    poses: list[Matrix]
    vertebrae: list[str]
    targets_lps_mm: Matrix


def make_scene(plan: Plan) -> Scene:
    """Load the example CT and derive the rest."""
    ct, labels = load_example()
    centroids = labels.centroids_lps_mm()
    isocentre = np.mean([centroids[name] for name in ISOCENTRE], axis=0)
    poses = plan.arc.poses(isocentre)
    names, targets = vertebra_targets(labels, CANDIDATES, poses, plan.camera)
    return Scene(ct, labels, isocentre, poses, names, targets)
