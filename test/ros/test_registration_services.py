"""~/reset, ~/register_now and ~/load_ct, and what is drawn for those who listen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from xray_registration.ros.registration_node import RegistrationNode

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]


def test_images_that_are_registered_on_demand(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node(register_every_image=False)
    peer.wait_for_subscribers()
    assert peer.trigger("register_now") == (False, "no image has been received")
    peer.send_scene(scene)
    peer.spin_until(lambda: "register_now" in peer.statuses[-1].message, "a kept image")
    success, message = peer.trigger("register_now")
    assert not success
    assert message.startswith("waiting_for_start_pose")
    # The same image once more, now that there is a start.
    peer.send_initialpose(scene.start())
    success, message = peer.trigger("register_now")
    assert success, message
    assert message.startswith("registered: similarity")
    peer.spin_until(lambda: len(peer.transforms) == 1, "a transform")
    peer.spin_for(0.3)
    assert len(peer.transforms) == 1
    assert peer.values()["images_received"] == "1"


def test_reset_forgets_the_pose(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_until(lambda: len(peer.poses) == 1, "a pose")
    assert peer.trigger("reset") == (True, "all poses are forgotten")
    values = peer.wait_for_state("waiting_for_image")
    assert "pose_stamp" not in values
    # A late subscriber is not told the pose of before.
    late = peer.hear(PoseWithCovarianceStamped, "/registration_node/pose", latched=True)
    peer.spin_for(0.5)
    assert late == []
    # The next image does not start from it, and one that is accepted then is heard by both.
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "waiting_for_start_pose"
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_until(lambda: len(peer.poses) == 2 and len(late) == 1, "the new pose")


def test_another_ct_is_loaded(scene: Any, peer: Any, make_node: MakeNode, tmp_path: Any) -> None:
    node = make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    copy = tmp_path / "other.nii"
    copy.write_bytes(scene.ct_path.read_bytes())

    # A CT that is not there: no pose of the former patient gets out any more.
    missing = str(tmp_path / "missing.nii")
    assert node.set_parameters([Parameter("ct_path", value=missing)])[0].successful
    success, message = peer.trigger("load_ct")
    assert not success
    assert missing in message
    peer.wait_for_state("error")
    assert peer.statuses[-1].level == DiagnosticStatus.ERROR
    before = len(peer.transforms)
    peer.send_initialpose(scene.start())
    peer.send_scene(scene)
    peer.spin_until(lambda: peer.values().get("images_failed") == "1", "a failed image")
    assert len(peer.transforms) == before

    assert node.set_parameters([Parameter("ct_path", value=str(copy))])[0].successful
    assert peer.trigger("load_ct") == (True, f"loaded {copy}")
    # The pose of before belonged to another patient.
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "waiting_for_start_pose"
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_until(lambda: peer.results[-1]["state"] == "registered", "a result")
    assert peer.results[-1]["result"]["ct"]["path"] == "other.nii"


def test_load_ct_needs_a_configured_node(peer: Any, make_node: MakeNode) -> None:
    make_node(autostart=False)
    success, message = peer.trigger("load_ct")
    assert not success
    assert "not configured" in message
    assert peer.trigger("register_now") == (False, "the node is not active")


def test_drr_and_markers(scene: Any, peer: Any, make_node: MakeNode) -> None:
    pytest.importorskip("skimage")
    make_node(markers__surface=True, markers__max_triangles=3000, overlay__labels="vertebrae_T?")
    peer.wait_for_subscribers()
    drrs = peer.hear(Image, "/registration_node/drr")
    markers = peer.hear(MarkerArray, "/registration_node/markers", latched=True)
    first = peer.spin_until(lambda: markers and markers[-1], "markers")
    by_space: dict[str, list[Marker]] = {}
    for marker in first.markers:
        by_space.setdefault(marker.ns, []).append(marker)
        assert marker.header.frame_id == "patient"
    [bone] = by_space["bone"]
    assert bone.type == Marker.TRIANGLE_LIST
    assert 300 < len(bone.points) / 3 <= 3000
    metres = np.array([[p.x, p.y, p.z] for p in bone.points])
    assert np.linalg.norm(metres - 1e-3 * scene.isocentre_lps_mm, axis=1).min() < 0.03
    names = {m.text: m.pose.position for m in by_space["names"]}
    assert {"T7", "T8", "T9"} <= set(names)
    place = names["T8"]
    np.testing.assert_allclose(
        [place.x, place.y, place.z], 1e-3 * scene.targets_lps_mm[1], atol=1e-6
    )

    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    # With the first image the C-arm is known: a beam as long as the source-detector distance.
    beam = peer.spin_until(
        lambda: [m for m in markers[-1].markers if m.ns == "carm"], "the C-arm's beam"
    )
    assert {m.header.frame_id for m in beam} == {"carm_source_optical_frame"}
    depth = max(p.z for m in beam for p in m.points)
    assert depth == pytest.approx(1e-3 * scene.camera.sdd_mm)
    [drr] = peer.spin_until(lambda: drrs, "a DRR")
    assert drr.encoding == "mono8"
    picture = np.frombuffer(drr.data, np.uint8).reshape(drr.height, drr.width)
    assert picture.shape == scene.raw.shape
    lines = -np.log(scene.raw / 40000.0)
    assert np.corrcoef(picture.ravel(), lines.ravel())[0, 1] > 0.95
    # They are not sent again for each image.
    heard = len(markers)
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_until(lambda: len(drrs) == 2, "the next DRR")
    peer.spin_for(0.3)
    assert len(markers) == heard
