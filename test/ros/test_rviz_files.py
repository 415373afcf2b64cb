"""The RViz configurations name topics that the nodes publish and frames that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

RVIZ = Path(__file__).resolve().parents[2] / "rviz"
FILES = sorted(RVIZ.glob("*.rviz"))
# Of rviz_default_plugins, with the message type that each display subscribes to.
DISPLAYS = {
    "Grid": None,
    "TF": None,
    "RobotModel": "std_msgs/String",
    "MarkerArray": "visualization_msgs/MarkerArray",
    "PoseWithCovariance": "geometry_msgs/PoseWithCovarianceStamped",
    "Image": "sensor_msgs/Image",
}
OTHERS = {
    "rviz_common/Displays", "rviz_common/Views", "rviz_common/Time",
    "rviz_default_plugins/Interact", "rviz_default_plugins/MoveCamera",
    "rviz_default_plugins/Select", "rviz_default_plugins/FocusCamera",
    "rviz_default_plugins/Measure", "rviz_default_plugins/Orbit",
}  # fmt: skip
LATCHED = {"robot_description", "registration_node/markers", "registration_node/pose"}
TOPICS = LATCHED | {"registration_node/overlay", "image"}
VIEWS = ("view_0", "view_1")
BIPLANE = (
    LATCHED | {f"{v}/image" for v in VIEWS} | {f"registration_node/{v}/overlay" for v in VIEWS}
)


def classes(node: Any) -> list[str]:
    """All plugin classes below a node, displays excepted."""
    if isinstance(node, dict):
        own = [node["Class"]] if node.get("Class") else []
        return own + [c for k, v in node.items() if k != "Displays" for c in classes(v)]
    return [c for item in node for c in classes(item)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_plugins_topics_and_frames(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    assert set(classes(config)) <= OTHERS
    manager = config["Visualization Manager"]
    fixed = manager["Global Options"]["Fixed Frame"]
    assert fixed in ("world", "carm_source_optical_frame")
    topics = []
    for display in manager["Displays"]:
        package, _, kind = display["Class"].partition("/")
        assert package == "rviz_default_plugins"
        assert kind in DISPLAYS
        topic = display.get("Topic", display.get("Description Topic"))
        assert (topic is None) == (DISPLAYS[kind] is None)
        if topic is not None:
            topics.append(topic["Value"])
            durability = "Transient Local" if topic["Value"] in LATCHED else "Volatile"
            assert topic["Durability Policy"] == durability
            assert topic["Reliability Policy"] == "Reliable"
    # Relative, so that the namespace in which RViz is started counts.
    expected = BIPLANE if path.stem == "biplane" else TOPICS
    if fixed != "world":  # no C-arm model
        expected = expected - {"robot_description"}
    assert set(topics) == expected


def test_all_are_there() -> None:
    assert [path.stem for path in FILES] == ["biplane", "registration", "simulation"]
