"""~/markers: the patient and the C-arm as RViz shows them. Latched; made anew only on a change.

Namespaces: ``bone`` (surface), ``names`` (of structures, at their centroids), ``plan`` (lines and
names of trajectories), all in the patient frame, and ``carm/...`` (the beam of every view) in the
frame of the pose. Stamps are zero: RViz takes the newest transform it has.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from xray_registration.errors import XrayRegistrationError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.frames import lps_from_ct_axes
from xray_registration.imaging.surface import bone_surface
from xray_registration.ros.frame_processor import FrameProcessor
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.output_settings import MarkerSettings

Matrix = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)

_BONE = (0.93, 0.89, 0.78, 1.0)
_NAME = (1.0, 1.0, 1.0, 1.0)
_PLAN = (1.0, 0.86, 0.0, 1.0)
_EDGE = (0.3, 0.7, 1.0, 0.9)
_BEAM = (0.3, 0.7, 1.0, 0.12)
_NAME_M, _LINE_M, _EDGE_M = 0.012, 0.003, 0.002
# Length of the beam when the source-detector distance is not known.
_BEAM_MM = 1000.0


@dataclass(frozen=True, eq=False)
class Beam:
    """One view's beam: name, camera and ``rig_from_camera`` (4, 4) mm."""

    name: str
    camera: Camera
    rig_from_camera: Matrix


@dataclass(frozen=True, eq=False)
class MarkerOrder:
    """What to show; beams need the parent frame, which is known with the first image."""

    ct_axes: str
    child_frame_id: str
    label_patterns: tuple[str, ...]
    trajectories: tuple[Trajectory, ...]
    parent_frame_id: str = ""
    beams: tuple[Beam, ...] = ()


class Scene:
    """Markers of one patient. The bone surface is computed once, when it is first shown."""

    def __init__(self, processor: FrameProcessor, settings: MarkerSettings) -> None:
        self._ct, self._labels = processor.ct, processor.labels
        self._settings = settings
        self._corners_lps_mm: Matrix | None = None

    def markers(self, order: MarkerOrder) -> bytes:
        """A serialised MarkerArray; without the surface when that cannot be made."""
        return bytes(serialize_message(MarkerArray(markers=self._markers(order))))

    def _markers(self, order: MarkerOrder) -> list[Marker]:
        axes_from_lps = lps_from_ct_axes(order.ct_axes)[:3, :3].T
        frame = order.child_frame_id
        made = []
        corners = self._surface()
        if len(corners):
            bone = _marker(frame, "bone", 0, Marker.TRIANGLE_LIST, _BONE, 1.0)
            bone.points = _points(corners @ axes_from_lps.T)
            made.append(bone)
        for number, (name, centre) in enumerate(self._named(order.label_patterns)):
            made.append(_text(frame, "names", number, short_name(name), axes_from_lps @ centre))
        for number, trajectory in enumerate(order.trajectories):
            ends = np.stack([trajectory.entry_lps_mm, trajectory.target_lps_mm]) @ axes_from_lps.T
            arrow = _marker(frame, "plan", number, Marker.ARROW, _PLAN, _LINE_M)
            arrow.scale.y = arrow.scale.z = 3 * _LINE_M
            arrow.points = _points(ends)
            made += [arrow, _text(frame, "plan names", number, trajectory.name, ends[0])]
        for beam in order.beams:
            made += _beam(order.parent_frame_id, beam)
        return made

    def _surface(self) -> Matrix:
        """(3 m, 3) LPS mm: the corners of the triangles one after the other; none without."""
        wanted = self._settings
        if self._corners_lps_mm is None:
            self._corners_lps_mm = np.empty((0, 3))
            try:
                if wanted.surface:
                    surface = bone_surface(
                        self._ct, wanted.bone_hu, wanted.max_triangles, self._labels
                    )
                    self._corners_lps_mm = surface.vertices_lps_mm[surface.triangles.ravel()]
            except XrayRegistrationError as error:  # no bone, or no scikit-image
                _log.warning("markers without the bone's surface: %s", error)
        return self._corners_lps_mm

    def _named(self, patterns: tuple[str, ...]) -> list[tuple[str, Matrix]]:
        if self._labels is None:
            return []
        centroids = self._labels.centroids_lps_mm().items()
        return [(n, c) for n, c in centroids if any(fnmatchcase(n, p) for p in patterns)]


def short_name(name: str) -> str:
    """``T8`` of ``vertebrae_T8``; other names as they are."""
    return name.removeprefix("vertebrae_").removeprefix("vertebra_")


def _beam(frame: str, beam: Beam) -> list[Marker]:
    camera = beam.camera
    right, bottom = camera.width - 0.5, camera.height - 0.5
    pixels = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
    rays = np.c_[pixels, np.ones(4)] @ np.linalg.inv(camera.K).T
    corners = rays * (camera.sdd_mm or _BEAM_MM)
    points = np.vstack([np.zeros((1, 3)), corners])
    points = points @ beam.rig_from_camera[:3, :3].T + beam.rig_from_camera[:3, 3]
    space = f"carm/{beam.name}" if beam.name else "carm"
    edges = _marker(frame, space, 0, Marker.LINE_LIST, _EDGE, _EDGE_M)
    edges.points = _points(points[[0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1]])
    sides = _marker(frame, space, 1, Marker.TRIANGLE_LIST, _BEAM, 1.0)
    sides.points = _points(points[[0, 1, 2, 0, 2, 3, 0, 3, 4, 0, 4, 1]])
    return [edges, sides]


def _marker(
    frame: str, space: str, number: int, kind: int, colour: tuple[float, ...], scale_m: float
) -> Marker:
    marker = Marker(header=Header(frame_id=frame), ns=space, id=number, type=kind)
    marker.action = Marker.ADD
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = scale_m
    marker.color = ColorRGBA(**dict(zip("rgba", colour, strict=True)))
    marker.frame_locked = True  # moves on with every new transform
    return marker


def _text(frame: str, space: str, number: int, text: str, at_mm: Matrix) -> Marker:
    marker = _marker(frame, space, number, Marker.TEXT_VIEW_FACING, _NAME, _NAME_M)
    marker.text = text
    [marker.pose.position] = _points(at_mm[None])
    return marker


def _points(points_mm: Matrix) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in (1e-3 * points_mm).tolist()]
