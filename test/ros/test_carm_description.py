"""The C-arm's model: valid for readers of URDF and SDF, with masses that belong to its bodies."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml

from xray_registration.errors import InputError
from xray_registration.ros.carm_description import JOINTS, carm_description

pytest.importorskip("xacro")

WORLD = Path(__file__).resolve().parents[2] / "worlds" / "carm_room.sdf"
CONFIG = WORLD.parents[1] / "config"
VARIANTS = (
    {},
    {"prefix": "left_", "x": "-2.0", "yaw": "0.5"},
    {"gazebo": "ros_gz", "prefix": "right_"},
    {"gazebo": "ros2_control", "hardware": "gz_ros2_control/GazeboSimSystem",
     "controllers_file": "controllers.yaml", "namespace": "/left"},
    {"hardware": "none", "parent": "table", "sdd": "1.2", "source_isocentre": "0.6"},
)  # fmt: skip


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.parametrize("arguments", VARIANTS, ids=str)
def test_check_urdf(arguments: dict[str, str], tmp_path: Path) -> None:
    urdf = tmp_path / "carm.urdf"
    text = carm_description(arguments)
    if arguments.get("parent"):
        text = text.replace("<link name", '<link name="table"/><link name', 1)
    urdf.write_text(text)
    done = subprocess.run([tool("check_urdf"), urdf], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully Parsed XML" in done.stdout
    assert "rror" not in done.stdout + done.stderr


def gazebo_check(path: Path) -> None:
    """``ign sdf -k`` says that it is valid, and nothing else."""
    done = subprocess.run(
        [tool("ign"), "sdf", "-k", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "Valid."
    assert "Warning" not in done.stderr, done.stderr


def test_the_room_is_valid() -> None:
    gazebo_check(WORLD)


def test_two_arms_stand_in_the_room(tmp_path: Path) -> None:
    """As Gazebo has them once both are spawned."""
    world = ElementTree.parse(WORLD)
    room = world.find("world")
    assert room is not None
    for prefix, place in (("left_", {}), ("right_", {"x": "1.3", "yaw": "3.14159"})):
        urdf = tmp_path / f"{prefix}.urdf"
        urdf.write_text(carm_description({"prefix": prefix, "gazebo": "ros_gz", **place}))
        done = subprocess.run(
            [tool("ign"), "sdf", "-p", urdf], capture_output=True, text=True, check=True
        )
        model = ElementTree.fromstring(done.stdout).find("model")
        assert model is not None
        model.set("name", f"{prefix}arm")
        joints = {joint.get("name") for joint in model.iter("joint")}
        assert joints >= {f"{prefix}{name}" for name in JOINTS}
        room.append(model)
    path = tmp_path / "world.sdf"
    world.write(path)
    gazebo_check(path)


def test_every_name_has_the_prefix() -> None:
    root = ElementTree.fromstring(carm_description({"prefix": "left_", "gazebo": "ros_gz"}))
    names = [e.get("name", "") for kind in ("link", "joint") for e in root.findall(kind)]
    assert [name for name in names if not name.startswith("left_")] == ["world"]
    assert len(names) == len(set(names))
    topics = [e.text or "" for e in root.iter("topic")]
    assert len(topics) == 1 + len(JOINTS)
    assert all(topic.startswith("/left_") for topic in topics)


def samples(visual: ElementTree.Element) -> tuple[np.ndarray, float]:
    """Points (N, 3) that fill a visual body evenly, in its link's frame, and its volume."""
    box, cylinder = visual.find("geometry/box"), visual.find("geometry/cylinder")
    origin = visual.find("origin")
    assert origin is not None
    unit = np.array(list(itertools.product((np.arange(24) + 0.5) / 24 - 0.5, repeat=3)))
    if box is not None:
        size = np.array([float(s) for s in box.get("size", "").split()])
        points, volume = unit * size, float(size.prod())
    else:
        assert cylinder is not None
        radius, length = (float(cylinder.get(name, "")) for name in ("radius", "length"))
        inside = np.hypot(unit[:, 0], unit[:, 1]) <= 0.5
        points = unit[inside] * (2 * radius, 2 * radius, length)
        volume = np.pi * radius**2 * length
    pitch = [float(v) for v in origin.get("rpy", "").split()][1]
    c, s = np.cos(pitch), np.sin(pitch)
    rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return points @ rotation.T + [float(v) for v in origin.get("xyz", "").split()], volume


def test_inertias_are_those_of_the_bodies() -> None:
    """Mass, centre and moments against a sum over small cubes of the visible bodies."""
    root = ElementTree.fromstring(carm_description({}))
    checked = []
    for link in root.findall("link"):
        inertial, visuals = link.find("inertial"), link.findall("visual")
        assert (inertial is None) == (not visuals), link.get("name")
        if inertial is None:
            continue
        mass_element, moments = inertial.find("mass"), inertial.find("inertia")
        origin = inertial.find("origin")
        assert mass_element is not None
        assert moments is not None
        assert origin is not None
        bodies = [samples(visual) for visual in visuals]
        weights = np.concatenate([np.full(len(p), v / len(p)) for p, v in bodies])
        points = np.concatenate([p for p, _ in bodies])
        mass = float(mass_element.get("value", ""))
        weights *= mass / weights.sum()
        centre = weights @ points / mass
        # The C is a sum of straight pieces: its moments are those of an arc within two per cent.
        given = [float(v) for v in origin.get("xyz", "").split()]
        np.testing.assert_allclose(given, centre, atol=0.01, err_msg=str(link.get("name")))
        x, y, z = (points - centre).T
        expected = [weights @ (y * y + z * z), weights @ (x * x + z * z), weights @ (x * x + y * y)]
        found = [float(moments.get(name, "")) for name in ("ixx", "iyy", "izz")]
        np.testing.assert_allclose(found, expected, rtol=0.02, err_msg=str(link.get("name")))
        assert all(float(moments.get(name, "")) == 0.0 for name in ("ixy", "ixz", "iyz"))
        checked.append(link.get("name"))
    assert len(checked) == 11


def test_joints_have_ranges_and_ros2_control_has_the_same() -> None:
    root = ElementTree.fromstring(carm_description({}))
    ranges = {}
    for joint in root.findall("joint"):
        if joint.get("type") == "fixed":
            continue
        limit = joint.find("limit")
        assert limit is not None
        lower, upper, speed, effort = (
            float(limit.get(name, "nan")) for name in ("lower", "upper", "velocity", "effort")
        )
        assert lower <= 0.0 < upper
        assert speed > 0.0
        assert effort > 0.0
        ranges[joint.get("name")] = (lower, upper)
    assert list(ranges) == [f"carm_{name}" for name in JOINTS]
    control = root.find("ros2_control")
    assert control is not None
    commanded = {
        joint.get("name"): tuple(
            float(p.text or "") for p in joint.findall("command_interface/param")
        )
        for joint in control.findall("joint")
    }
    assert commanded == ranges


def test_controllers_and_bridge_name_the_joints() -> None:
    controllers = yaml.safe_load((CONFIG / "carm_controllers.yaml").read_text())
    names = [f"carm_{name}" for name in JOINTS]
    parameters = controllers["/**/carm_controller"]["ros__parameters"]
    assert parameters["joints"] == names
    bridge = yaml.safe_load((CONFIG / "gazebo_joint_bridge.yaml").read_text())
    assert [entry["gz_topic_name"] for entry in bridge] == [
        "/carm_joint_states",
        *(f"/{name}/position" for name in names),
    ]
    model = ElementTree.fromstring(carm_description({"gazebo": "ros_gz"}))
    assert {e.text for e in model.iter("topic")} == {entry["gz_topic_name"] for entry in bridge}
    for entry in (*bridge, *yaml.safe_load((CONFIG / "gazebo_clock_bridge.yaml").read_text())):
        assert set(entry) == {
            "ros_topic_name", "gz_topic_name", "ros_type_name", "gz_type_name", "direction",
        }  # fmt: skip
        assert entry["direction"] in ("GZ_TO_ROS", "ROS_TO_GZ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"prefix": "no good/"}, "letters, digits"), ({"sdd": "far"}, "cannot be expanded")],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        carm_description(arguments)
