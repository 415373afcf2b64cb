"""Where a C-arm's source and detector are, given the positions of its joints: URDF kinematics.

The description is any URDF whose frame ``<prefix>source_optical_frame`` is the frame of the
published image (z to the detector, x along growing columns, y along growing rows) and whose
``<prefix>detector_frame`` lies on that z at the detector's surface; ``urdf/carm.urdf.xacro`` is
one. A URDF is in metres; everything that leaves this module is in mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.checks import finite_numbers, vector3
from xray_registration.geometry.frames import mm_from_metres
from xray_registration.optional import require

Array = NDArray[np.float64]

#: directions in which a patient's head may lie, in the root frame
HEADS = ("+x", "-x", "+y", "-y")
LIES = ("supine", "prone")

_MOVABLE = ("revolute", "prismatic")
# A joint may overshoot its end a little; more than that is another machine's joint or a wrong unit.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class ArmJoint:
    """A movable joint: ``revolute`` (rad) or ``prismatic`` (m), and its range."""

    name: str
    kind: str
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Edge:
    """One link in its parent: ``parent_from_child`` (4, 4) mm."""

    parent: str
    child: str
    parent_from_child: Array
    is_fixed: bool


class CArmKinematics:
    """The kinematics of one C-arm in a robot description."""

    def __init__(self, urdf: str, prefix: str = "carm_", name: str = "robot_description") -> None:
        """Read the description.

        Args:
            urdf: the XML.
            prefix: with which all links and joints of this arm begin.
            name: of the description, for errors.

        Raises:
            InputError: no URDF, or one without this arm's frames.
            MissingDependencyError: pytransform3d is not installed.
        """
        parser = require("pytransform3d.urdf")
        try:
            robot, links, joints = parser.parse_urdf(urdf, strict_check=True)
        except Exception as error:  # UrdfException, or what the XML parser raises
            raise InputError(f"{name} cannot be read as URDF: {error}") from error
        self._tree: Any = parser.UrdfTransformManager(check=False)
        parser.initialize_urdf_transform_manager(self._tree, robot, links, joints)
        self.prefix, self.name = prefix, name
        self.optical_frame = f"{prefix}source_optical_frame"
        self.detector_frame = f"{prefix}detector_frame"
        self._parents = {joint.child: joint for joint in joints}
        frames = {link.name for link in links}
        for frame in (self.optical_frame, self.detector_frame):
            if frame not in frames:
                raise InputError(
                    f"{name} has no link '{frame}'; with the prefix '{prefix}' it must. Its links: "
                    f"{', '.join(sorted(frames))}"
                )
        chain = self._chain(self.optical_frame)
        self.root = chain[0].parent if chain else self.optical_frame
        self.joints = tuple(
            ArmJoint(joint.joint_name, joint.joint_type, *map(float, joint.limits))
            for joint in chain
            if joint.joint_type in _MOVABLE
        )
        self._at_zero = {joint.name: 0.0 for joint in self.joints}
        self.sdd_mm = self._source_detector_mm()

    def check(self, positions: Mapping[str, float], topic: str = "joint_states") -> None:
        """See that positions of this arm's joints can be true.

        Args:
            positions: by joint name, m or rad; joints of others are not looked at.
            topic: for errors.

        Raises:
            InputError: not finite, or outside of the joint's range by more than 0.02.
        """
        for joint in self.joints:
            value = positions.get(joint.name, 0.0)
            lower, upper = joint.lower - _TOLERANCE, joint.upper + _TOLERANCE
            if not lower <= value <= upper:
                unit = "rad" if joint.kind == "revolute" else "m"
                raise InputError(
                    f"topic '{topic}': joint '{joint.name}' is at {value:g} {unit}; expected "
                    f"{joint.lower:g} to {joint.upper:g}"
                )

    def root_from(self, frame: str, positions: Mapping[str, float]) -> Array:
        """(4, 4) mm: a frame of the arm in the root frame; joints not named are at 0.

        Positions beyond the end of a joint count as at its end.
        """
        self._set(positions)
        return mm_from_metres(self._tree.get_transform(frame, self.root))

    def camera_from_root(self, positions: Mapping[str, float]) -> Array:
        """(4, 4) mm: the root frame in the optical frame of the X-ray."""
        return np.asarray(np.linalg.inv(self.root_from(self.optical_frame, positions)))

    @property
    def source_isocentre_mm(self) -> float:
        """From the focal spot along the beam to where it passes the last turning joint's origin.

        With an arm whose last joint is the orbital one that is the isocentre.
        """
        camera_from_root = self.camera_from_root({})
        turning = [joint.name for joint in self.joints if joint.kind == "revolute"]
        if not turning:
            return self.sdd_mm / 2.0
        child = next(j.child for j in self._parents.values() if j.joint_name == turning[-1])
        centre = self.root_from(child, {})[:, 3]
        return float((camera_from_root @ centre)[2])

    def isocentre_mm(self) -> Array:
        """(3,) mm in the root frame: the isocentre with all joints at 0."""
        root_from_camera = self.root_from(self.optical_frame, {})
        return np.asarray((root_from_camera @ (0.0, 0.0, self.source_isocentre_mm, 1.0))[:3])

    def edges(self, positions: Mapping[str, float]) -> list[Edge]:
        """Every link of this arm in its parent, and what connects the arm with the root."""
        self._set(positions)
        wanted = {joint.child for joint in self._chain(self.optical_frame)}
        wanted |= {child for child in self._parents if child.startswith(self.prefix)}
        return [
            Edge(
                joint.parent,
                child,
                mm_from_metres(self._tree.get_transform(child, joint.parent)),
                joint.joint_type not in _MOVABLE,
            )
            for child, joint in self._parents.items()
            if child in wanted
        ]

    def _set(self, positions: Mapping[str, float]) -> None:
        for name in self._at_zero:
            self._tree.set_joint(name, float(positions.get(name, 0.0)))

    def _chain(self, frame: str) -> list[Any]:
        """The joints from the root to a frame."""
        chain: list[Any] = []
        while frame in self._parents:
            chain.insert(0, self._parents[frame])
            frame = chain[0].parent
        return chain

    def _source_detector_mm(self) -> float:
        transform = self._tree.get_transform(self.detector_frame, self.optical_frame)
        detector = mm_from_metres(transform)
        x, y, distance = detector[:3, 3]
        is_turned = np.abs(detector[:3, :3] - np.eye(3)).max() > 1e-6
        if is_turned or max(abs(x), abs(y)) > 0.1 or distance <= 0.0:
            raise InputError(
                f"{self.name}: '{self.detector_frame}' is not straight before "
                f"'{self.optical_frame}': {np.round(detector, 4).tolist()} mm; expected it on +z, "
                "with the same axes"
            )
        return float(distance)


def root_from_patient(
    position_mm: ArrayLike, isocentre_lps_mm: ArrayLike, head: str = "+y", lie: str = "supine"
) -> Array:
    """(4, 4) mm: root_from_ct of a patient (LPS) who lies on a table.

    Args:
        position_mm: (3,) where the anatomical isocentre is, in a root frame whose z is up.
        isocentre_lps_mm: (3,) the isocentre in the CT.
        head: direction of the head in the root frame, one of ``HEADS``.
        lie: ``supine`` (on the back) or ``prone``.

    Raises:
        InputError: another word, or numbers that are not finite.
    """
    if head not in HEADS or lie not in LIES:
        raise InputError(
            f"a patient lies '{lie}' with the head at '{head}'; expected one of {', '.join(LIES)} "
            f"and one of {', '.join(HEADS)}"
        )
    superior = np.zeros(3)
    superior["xy".index(head[1])] = 1.0 if head[0] == "+" else -1.0
    posterior = np.array([0.0, 0.0, -1.0 if lie == "supine" else 1.0])
    result = np.eye(4)
    result[:3, :3] = np.column_stack([np.cross(posterior, superior), posterior, superior])
    isocentre = vector3(isocentre_lps_mm, "isocentre_lps_mm")
    result[:3, 3] = vector3(position_mm, "position_mm") - result[:3, :3] @ isocentre
    return result


def second_view_from_first(angle_deg: float, source_isocentre_mm: float) -> Array:
    """(4, 4) mm: camera 0 in camera 1, which is camera 0 turned about the isocentre.

    The turn is one of the primary angle (about the y axis of the picture, which points to the feet
    in an AP view): camera 1 is at ``primary_deg + angle_deg``.
    """
    angle = -np.radians(float(finite_numbers(angle_deg, "angle_deg")))
    c, s = np.cos(angle), np.sin(angle)
    first_from_second = np.eye(4)
    first_from_second[:3, :3] = [[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]
    centre = np.array([0.0, 0.0, source_isocentre_mm])
    first_from_second[:3, 3] = centre - first_from_second[:3, :3] @ centre
    return np.asarray(np.linalg.inv(first_from_second))
