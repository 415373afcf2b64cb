"""The C-arm's kinematics against poses worked out by hand, and against the DICOM angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.geometry.carm_kinematics import (
    HEADS,
    CArmKinematics,
    root_from_patient,
    second_view_from_first,
)
from xray_registration.geometry.positioner import (
    PositionerPose,
    camera_from_positioner,
    positioner_from_camera,
)

pytest.importorskip("pytransform3d")
pytest.importorskip("xacro")

# Of the shipped model, mm: the isocentre with all joints at 0, the column's foot, the focal spot.
ISOCENTRE = np.array([0.0, 0.0, 950.0])
COLUMN = np.array([-1300.0, 0.0, 0.0])
SOURCE_ISOCENTRE, SDD = 700.0, 1020.0


@pytest.fixture(scope="module")
def arm() -> CArmKinematics:
    from xray_registration.ros.carm_description import carm_description

    return CArmKinematics(carm_description({}))


def joints(**degrees_or_metres: float) -> dict[str, float]:
    """Positions by short name; angles in degrees."""
    return {
        f"carm_{name}_joint": value if name in ("lift", "horizontal") else np.radians(value)
        for name, value in degrees_or_metres.items()
    }


def test_the_model_is_what_it_says(arm: CArmKinematics) -> None:
    names = ["lift", "wigwag", "horizontal", "angular", "orbital"]
    assert [joint.name for joint in arm.joints] == [f"carm_{name}_joint" for name in names]
    assert [joint.kind[0] for joint in arm.joints] == list("prprr")
    assert arm.root == "world"
    assert arm.sdd_mm == pytest.approx(SDD)
    assert arm.source_isocentre_mm == pytest.approx(SOURCE_ISOCENTRE)
    np.testing.assert_allclose(arm.isocentre_mm(), ISOCENTRE, atol=1e-9)


# Columns: the source's place relative to the isocentre, and the directions of the picture's
# columns (x), rows (y) and beam (z), all in the room.
@pytest.mark.parametrize(
    ("positions", "source", "x", "y", "z"),
    [
        # upright: tube below, picture with the patient's right on growing columns, feet down
        ({}, (0, 0, -700), (-1, 0, 0), (0, -1, 0), (0, 0, 1)),
        # lateral: the detector has gone to +x, the tube to the cart's side
        ({"orbital": 90.0}, (-700, 0, 0), (0, 0, 1), (0, -1, 0), (1, 0, 0)),
        ({"orbital": -30.0}, (350, 0, -606.21778), (-0.8660254, 0, -0.5), (0, -1, 0),
         (-0.5, 0, 0.8660254)),
        # from the feet: the detector has gone to +y, where the head is
        ({"angular": 90.0}, (0, -700, 0), (-1, 0, 0), (0, 0, 1), (0, 1, 0)),
        # upside down
        ({"angular": 180.0}, (0, 0, 700), (-1, 0, 0), (0, 1, 0), (0, 0, -1)),
        # the angulation carries the orbital axis: both by 90 degrees end where the orbit alone does
        ({"angular": 90.0, "orbital": 90.0}, (-700, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ],
)  # fmt: skip
def test_orbit_and_angulation(
    arm: CArmKinematics, positions: dict[str, float], source: Any, x: Any, y: Any, z: Any
) -> None:
    pose = arm.root_from(arm.optical_frame, joints(**positions))
    np.testing.assert_allclose(pose[:3, 3] - ISOCENTRE, source, atol=1e-4)
    np.testing.assert_allclose(pose[:3, :3], np.column_stack([x, y, z]), atol=1e-6)
    # The detector is straight ahead, with the same axes.
    detector = arm.root_from(arm.detector_frame, joints(**positions))
    np.testing.assert_allclose(detector[:3, 3], pose[:3, 3] + SDD * pose[:3, 2], atol=1e-9)
    np.testing.assert_allclose(detector[:3, :3], pose[:3, :3], atol=1e-12)


def test_the_cart_side_joints_carry_the_c_along(arm: CArmKinematics) -> None:
    still = arm.root_from(arm.optical_frame, {})
    moved = arm.root_from(arm.optical_frame, joints(lift=0.2, horizontal=0.1))
    np.testing.assert_allclose(moved[:3, 3] - still[:3, 3], [100.0, 0.0, 200.0], atol=1e-9)
    # The wig-wag turns about the column, 1.3 m (and the extended 0.1 m) behind the isocentre.
    turned = arm.root_from("carm_orbital_link", joints(wigwag=10.0, horizontal=0.1))
    angle = np.radians(10.0)
    arm_mm = np.array([1400.0 * np.cos(angle), 1400.0 * np.sin(angle), 950.0])
    np.testing.assert_allclose(turned[:3, 3], COLUMN + arm_mm, atol=1e-9)


@pytest.mark.parametrize(
    ("positions", "primary_deg", "secondary_deg"),
    [({}, 0, 0), ({"orbital": 35}, 35, 0), ({"orbital": 90}, 90, 0), ({"orbital": -20}, -20, 0),
     ({"angular": 25}, 0, 25), ({"angular": -10}, 0, -10)],
)  # fmt: skip
def test_orbit_is_lao_and_angulation_is_cran(
    arm: CArmKinematics, positions: dict[str, float], primary_deg: float, secondary_deg: float
) -> None:
    isocentre = (4.0, 80.0, -160.0)
    root_from_ct = root_from_patient(arm.isocentre_mm(), isocentre)
    camera_from_ct = arm.camera_from_root(joints(**positions)) @ root_from_ct
    pose = PositionerPose(primary_deg, secondary_deg, SOURCE_ISOCENTRE, isocentre)
    np.testing.assert_allclose(camera_from_ct, camera_from_positioner(pose), atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lie", ["supine", "prone"])
def test_a_patient_lies_with_head_and_face_where_they_are_said_to_be(head: str, lie: str) -> None:
    isocentre, position = np.array([4.0, 80.0, -160.0]), np.array([10.0, 20.0, 900.0])
    root_from_ct = root_from_patient(position, isocentre, head, lie)
    rotation = root_from_ct[:3, :3]
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    superior = {"+x": [1, 0, 0], "-x": [-1, 0, 0], "+y": [0, 1, 0], "-y": [0, -1, 0]}[head]
    np.testing.assert_allclose(rotation @ [0, 0, 1], superior, atol=1e-12)
    face = rotation @ [0, -1, 0]  # anterior
    np.testing.assert_allclose(face, [0, 0, 1 if lie == "supine" else -1], atol=1e-12)
    np.testing.assert_allclose(rotation @ isocentre + root_from_ct[:3, 3], position, atol=1e-9)


def test_second_view_is_the_first_at_another_primary_angle() -> None:
    isocentre = (4.0, 80.0, -160.0)
    first, second = (
        camera_from_positioner(PositionerPose(a, 0.0, SOURCE_ISOCENTRE, isocentre))
        for a in (-15.0, 65.0)
    )
    turned = second_view_from_first(80.0, SOURCE_ISOCENTRE) @ first
    np.testing.assert_allclose(turned, second, atol=1e-9)


def test_another_prefix_another_place() -> None:
    from xray_registration.ros.carm_description import carm_description

    description = carm_description({"prefix": "left_", "x": "2.0", "y": "0.5", "yaw": "3.14159265"})
    arm = CArmKinematics(description, "left_")
    assert all(joint.name.startswith("left_") for joint in arm.joints)
    np.testing.assert_allclose(arm.isocentre_mm(), [700.0, 500.0, 950.0], atol=1e-4)
    children = {edge.child for edge in arm.edges({})}
    assert all(child.startswith("left_") for child in children)


def test_a_cart_on_the_other_side_mirrors_the_orbit_and_turns_the_picture() -> None:
    from xray_registration.ros.carm_description import carm_description

    arm = CArmKinematics(carm_description({"x": "1.3", "yaw": repr(np.pi)}))
    root_from_ct = root_from_patient(arm.isocentre_mm(), (4.0, 80.0, -160.0))
    camera_from_ct = arm.camera_from_root(joints(orbital=20.0)) @ root_from_ct
    angles = positioner_from_camera(camera_from_ct, SOURCE_ISOCENTRE)
    assert angles.primary_deg == pytest.approx(-20.0, abs=1e-6)
    assert angles.secondary_deg == pytest.approx(0.0, abs=1e-6)
    assert abs(angles.roll_deg) == pytest.approx(180.0, abs=1e-6)


def test_edges_chain_from_the_root_to_the_camera(arm: CArmKinematics) -> None:
    positions = joints(lift=0.1, wigwag=5.0, horizontal=0.05, angular=-20.0, orbital=40.0)
    edges = {edge.child: edge for edge in arm.edges(positions)}
    frame, chain = arm.optical_frame, np.eye(4)
    while frame in edges:
        chain = edges[frame].parent_from_child @ chain
        frame = edges[frame].parent
    assert frame == "world"
    np.testing.assert_allclose(chain, arm.root_from(arm.optical_frame, positions), atol=1e-9)
    moving = {edge.child for edge in edges.values() if not edge.is_fixed}
    names = ("lift", "wigwag", "horizontal", "angular", "orbital")
    assert moving == {f"carm_{name}_link" for name in names}


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ({"carm_orbital_joint": 2.0}, "carm_orbital_joint' is at 2 rad; expected -0.69"),
        ({"carm_lift_joint": -0.1}, "-0.1 m; expected 0 to 0.43"),
        ({"carm_angular_joint": float("nan")}, "nan"),
    ],
)
def test_impossible_positions_are_refused(
    arm: CArmKinematics, positions: dict[str, float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        arm.check(positions)


def test_overshoot_and_foreign_joints_are_fine(arm: CArmKinematics) -> None:
    arm.check({"carm_lift_joint": -0.01, "robot_elbow_joint": 77.0})
    at_end = arm.root_from(arm.optical_frame, {"carm_lift_joint": -0.01})
    np.testing.assert_allclose(at_end, arm.root_from(arm.optical_frame, {}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("carm_detector_frame", "carm_panel"), "no link 'carm_detector_frame'"),
        (("robot ", "rabbit "), "cannot be read as URDF"),
        (('xyz="0 0 1.02"', 'xyz="0.1 0 1.02"'), "not straight before"),
        (('xyz="0 0 1.02"', 'xyz="0 0 -1.02"'), "not straight before"),
    ],
)
def test_descriptions_that_cannot_be_used(change: tuple[str, str], words: str) -> None:
    from xray_registration.ros.carm_description import carm_description

    description = carm_description({})
    assert change[0] in description
    with pytest.raises(InputError, match=words):
        CArmKinematics(description.replace(*change))
