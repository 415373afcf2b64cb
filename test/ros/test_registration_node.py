"""The registration node in this process, over real DDS, on a part of a real CT."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter

from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.qos import LATCHED
from xray_registration.ros.registration_node import RegistrationNode
from xray_registration.ros.registration_parameters import SPECS

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]


def test_image_to_transform(scene: Any, peer: Any, make_node: MakeNode) -> None:
    """Everything that an accepted image causes."""
    make_node()
    peer.wait_for_subscribers()
    peer.spin_until(lambda: peer.node.count_publishers("/registration_node/overlay"), "overlay")

    # No start pose is known: reported, and silent on /tf.
    waiting = peer.wait_for_report(peer.send_scene(scene))
    assert waiting["state"] == "waiting_for_start_pose"
    assert "initialpose" in waiting["reason_text"]
    peer.spin_for(0.3)
    assert peer.transforms == []
    assert peer.poses == []

    assert 4.0 < scene.mtre_mm(scene.start()) < 9.0
    peer.send_initialpose(scene.start())
    stamp = peer.send_scene(scene)
    report = peer.wait_for_report(stamp)
    assert report["state"] == "registered", report
    assert report["start_source"] == "initialpose"
    assert float(report["similarity"]) > 0.8
    assert float(report["seconds"]) > 0
    assert peer.statuses[-1].level == DiagnosticStatus.OK
    peer.spin_until(lambda: peer.transforms and peer.poses and len(peer.results) == 2, "outputs")

    edge = peer.transforms[0]
    assert f"{edge.header.stamp.sec}.{edge.header.stamp.nanosec:09d}" == stamp
    assert edge.header.frame_id == "carm_source_optical_frame"
    assert edge.child_frame_id == "patient"
    assert scene.mtre_mm(matrix_from_transform_message(edge.transform, "lps", "/tf")) < 2.0

    pose = peer.poses[0]
    assert pose.header == edge.header
    np.testing.assert_allclose(
        matrix_from_pose(pose.pose.pose, "lps", "pose"),
        matrix_from_transform_message(edge.transform, "lps", "/tf"),
        atol=1e-9,
    )
    covariance = np.array(pose.pose.covariance).reshape(6, 6)
    assert np.linalg.eigvalsh(covariance).min() > 0

    record = peer.results[-1]
    assert record["image_stamp"] == stamp
    assert record["accepted"] is True
    assert scene.mtre_mm(np.array(record["result"]["rig_from_ct"])) < 2.0
    assert record["result"]["ct"]["sha256"]

    # The second image starts from the first one's pose.
    assert peer.wait_for_report(peer.send_scene(scene))["start_source"] == "previous"
    peer.spin_until(lambda: len(peer.transforms) == 2 and len(peer.overlays) >= 2, "second image")
    overlay = peer.overlays[-1]
    assert overlay.encoding == "rgb8"
    picture = np.frombuffer(overlay.data, np.uint8).reshape(overlay.height, overlay.width, 3)
    assert picture.shape[:2] == scene.raw.shape
    # Green lines and names on a grey picture.
    coloured = (picture.max(2).astype(int) - picture.min(2)) > 60
    assert 200 < coloured.sum() < 0.3 * coloured.size


def test_bad_images_are_reported_and_the_node_lives_on(
    scene: Any, peer: Any, make_node: MakeNode
) -> None:
    make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    good_info = camera_to_message(scene.camera, peer.header())

    def changed(**fields: Any) -> Any:
        info = camera_to_message(scene.camera, peer.header())
        for name, value in fields.items():
            setattr(info, name, value)
        return info

    uncalibrated = changed(k=[0.0] * 9)
    distorted = changed(d=[0.1, 0.0, 0.0, 0.0, 0.0])
    not_a_number = (scene.raw / 40000.0).astype(np.float32)
    not_a_number[3, 4] = np.nan
    constant = np.full_like(scene.raw, 1234)
    cases: list[tuple[np.ndarray, Any, list[str]]] = [
        (constant, good_info, ["topic 'image'", "1234", "constant"]),
        (np.zeros_like(scene.raw), good_info, ["topic 'image'", "constant"]),
        (not_a_number, good_info, ["topic 'image'", "NaN", "row 3, column 4"]),
        (scene.raw[:200, :], good_info, ["camera_info", "256x256", "256x200"]),
        (scene.raw, uncalibrated, ["camera_info", "uncalibrated"]),
        (scene.raw, distorted, ["camera_info", "0.1"]),
    ]
    for samples, info, words in cases:
        header = peer.header()
        info.header = header
        stamp = peer.send(array_to_image(np.ascontiguousarray(samples), header), info)
        report = peer.wait_for_report(stamp)
        assert report["state"] == "bad_input", (words, report)
        assert report["accepted"] == "false"
        for word in words:
            assert word in report["reason_text"]
    colour = array_to_image(np.zeros((256, 256, 3), np.uint8), peer.header())
    good_info.header = colour.header
    assert "'rgb8'" in peer.wait_for_report(peer.send(colour, good_info))["reason_text"]
    nameless = array_to_image(scene.raw, peer.header(frame=""))
    good_info.header = nameless.header
    report = peer.wait_for_report(peer.send(nameless, good_info))
    assert "header.frame_id is empty" in report["reason_text"]
    peer.spin_for(0.3)
    assert peer.transforms == []
    assert peer.poses == []

    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "registered"
    assert report["images_bad_input"] == str(len(cases) + 2)
    for status in peer.statuses:
        assert not any(v.value.lower() in ("nan", "inf", "-inf") for v in status.values)


def test_rejected_images_leave_tf_silent(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node(start__max_rejects=2)
    peer.wait_for_subscribers()
    # Another picture than of this patient: noise.
    noise = np.random.default_rng(2).integers(1000, 30000, scene.raw.shape).astype(np.uint16)
    peer.send_initialpose(scene.start())
    header = peer.header()
    stamp = peer.send(array_to_image(noise, header), camera_to_message(scene.camera, header))
    report = peer.wait_for_report(stamp)
    assert report["state"] == "rejected"
    assert report["reason"] in ("low_similarity", "no_improvement")
    assert report["reason_text"]

    # A start with which the CT is nowhere in the picture.
    far = scene.camera_from_ct.copy()
    far[0, 3] += 2000.0
    peer.send_initialpose(far)
    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "rejected"
    assert "outside the view" in report["reason_text"]
    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "rejected"
    # Two rejects in a row: that start is dropped.
    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "waiting_for_start_pose"
    peer.spin_for(0.3)
    assert peer.transforms == []
    assert peer.poses == []
    assert [r["accepted"] for r in peer.results] == [False] * 4

    # A start pose in some other frame is not taken for one in the image's.
    peer.send_initialpose(scene.start(), frame="robot_base")
    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "waiting_for_start_pose"


def test_geometry_and_start_from_parameters(scene: Any, peer: Any, make_node: MakeNode) -> None:
    """No camera_info, no labels; C-arm angles a little off; attenuation image; RAS; own frames."""
    ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    make_node(
        use_camera_info=False,
        camera__pixel_pitch_mm=[1.0, 1.0],
        camera__principal_point_px=[127.5, 127.5],
        start__source="carm",
        start__carm__primary_deg=12.0,
        start__carm__secondary_deg=4.0,
        start__carm__source_isocentre_mm=725.0,
        start__carm__isocentre_mm=(np.diag(ras)[:3] * scene.isocentre_lps_mm).tolist(),
        image__kind="attenuation",
        image__i0=0.0,
        ct_axes="ras",
        parent_frame_id="carm",
        child_frame_id="ct",
        label_map_path="",
        isocentre__labels="",
    )
    peer.wait_for_subscribers(camera_info=False)
    lines = -np.log(scene.raw / 40000.0).astype(np.float32)
    report = peer.wait_for_report(peer.send(array_to_image(lines, peer.header()), None))
    assert report["state"] == "registered", report
    assert report["start_source"] == "parameter"
    edge = peer.spin_until(lambda: peer.transforms and peer.transforms[0], "a transform")
    assert (edge.header.frame_id, edge.child_frame_id) == ("carm", "ct")
    wire = matrix_from_transform_message(edge.transform, "lps", "/tf")
    assert scene.mtre_mm(wire @ ras) < 2.0
    # Without labels the overlay shows the edges of the CT's bone.
    overlay = peer.spin_until(lambda: peer.overlays and peer.overlays[-1], "an overlay")
    picture = np.frombuffer(overlay.data, np.uint8).reshape(overlay.height, overlay.width, 3)
    coloured = (picture.max(2).astype(int) - picture.min(2)) > 60
    assert 200 < coloured.sum() < 0.3 * coloured.size


def test_newest_image_wins(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node(start__source="matrix", start__matrix=scene.start().ravel().tolist(), qos__depth=20)
    peer.wait_for_subscribers()
    stamps = [peer.send_scene(scene) for _ in range(12)]
    report = peer.wait_for_report(stamps[-1])
    assert report["state"] == "registered"
    peer.spin_until(lambda: peer.values().get("images_received") == "12", "all images")
    values = peer.values()
    assert int(values["images_dropped"]) > 0
    assert int(values["images_accepted"]) + int(values["images_dropped"]) == 12
    sent = [float(f"{t.header.stamp.sec}") for t in peer.transforms]
    assert sent == sorted(sent)


def test_simulated_time(scene: Any, peer: Any, make_node: MakeNode) -> None:
    """Ages are of the clock that the images are stamped with."""
    from rosgraph_msgs.msg import Clock

    make_node(use_sim_time=True)
    clock = peer.node.create_publisher(Clock, "/clock", 1)
    peer.wait_for_subscribers()
    peer.spin_until(clock.get_subscription_count, "a listener to /clock")
    message = Clock()
    message.clock.sec = 2000
    clock.publish(message)
    peer.spin_until(
        lambda: peer.statuses and peer.stamps[-1].sec == 2000, "diagnostics in simulated time"
    )
    peer.send_initialpose(scene.start())
    stamp = peer.send_scene(scene)
    report = peer.wait_for_report(stamp)
    assert report["state"] == "registered"
    assert float(report["image_age_s"]) == pytest.approx(2000 - float(stamp))


def test_images_without_camera_info_are_noticed(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node()
    peer.wait_for_subscribers()
    peer.send(array_to_image(scene.raw, peer.header()), None)
    values = peer.wait_for_state("waiting_for_camera_info")
    assert values["images_received"] == "1"
    assert peer.statuses[-1].level == DiagnosticStatus.WARN


def test_late_subscriber_gets_the_last_pose(scene: Any, peer: Any, make_node: MakeNode) -> None:
    make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    stamp = peer.send_scene(scene)
    assert peer.wait_for_report(stamp)["state"] == "registered"
    heard: list[PoseWithCovarianceStamped] = []
    peer.node.create_subscription(
        PoseWithCovarianceStamped, "/registration_node/pose", heard.append, LATCHED
    )
    peer.spin_until(lambda: heard, "the latched pose")
    assert heard[0].header == peer.poses[0].header


def test_live_parameters_are_validated(peer: Any, make_node: MakeNode) -> None:
    node = make_node()
    peer.wait_for_subscribers()
    cases: list[tuple[str, Any, str]] = [
        ("image.kind", "photo", "photo"),
        ("image.i0", -1.0, "image.i0"),
        ("image.i0", math.nan, "finite"),
        ("start.source", "matrix", "start.matrix"),
        ("start.matrix", [1.0, 2.0], "16 are expected"),
        ("start.carm.primary_deg", 181.0, "181"),
        ("autostart", False, "read-only"),
        ("device", "cuda", "device"),
    ]
    for name, value, words in cases:
        [result] = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful, name
        assert words in result.reason, result.reason
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0]).ravel().tolist()
    result = node.set_parameters_atomically(
        [Parameter("start.source", value="matrix"), Parameter("start.matrix", value=mirrored)]
    )
    assert not result.successful
    assert "determinant" in result.reason
    [result] = node.set_parameters([Parameter("start.use_previous", value=False)])
    assert result.successful
    # All at once, as `ros2 param dump` asks, those without a value included.
    names = [spec.name for spec in SPECS]
    request = GetParameters.Request(names=names)
    given = dict(
        zip(names, peer.call(GetParameters, "get_parameters", request).values, strict=True)
    )
    assert given["isocentre.point_mm"].type == ParameterType.PARAMETER_DOUBLE_ARRAY
    assert list(given["isocentre.point_mm"].double_array_value) == []
    description = node.describe_parameter("gate.min_similarity")
    assert description.description
    assert description.floating_point_range[0].to_value == 1.0
