"""What the node says when a pose must not be used: stale, wrong level, guidance refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from xray_registration.ros.pose_messages import matrix_from_pose, matrix_from_transform_message
from xray_registration.ros.registration_node import RegistrationNode

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]


def _plan(scene: Any, folder: Path) -> Path:
    path = folder / "plan.yaml"
    target = scene.isocentre_lps_mm
    entry = target + np.array([25.0, 60.0, 5.0])
    path.write_text(
        "trajectories:\n"
        f"  - {{name: t8_left, entry_mm: {entry.tolist()}, target_mm: {target.tolist()}}}\n"
    )
    return path


def test_a_pose_grows_stale(scene: Any, peer: Any, make_node: MakeNode) -> None:
    node = make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    assert node.set_parameters([Parameter("stale_after_s", value=0.05)])[0].successful
    values = peer.wait_for_state("stale")
    assert peer.statuses[-1].level == DiagnosticStatus.WARN
    assert "no accepted pose for more than 0.05 s" in peer.statuses[-1].message
    assert float(values["pose_age_s"]) > 0.05
    assert values["pose_stamp"] == values["image_stamp"]
    # Nothing more came on /tf, and the next image is not held up.
    assert len(peer.transforms) == 1
    assert node.set_parameters([Parameter("stale_after_s", value=0.0)])[0].successful
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"


def test_planned_level_and_guidance(
    scene: Any, peer: Any, make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node(
        planned_levels="vertebrae_T8",
        guidance__plan_path=str(_plan(scene, tmp_path)),
        guidance__frame_id="robot_base",
    )
    entries = peer.hear(PoseWithCovarianceStamped, "/registration_node/guidance/t8_left/entry")
    targets = peer.hear(PoseWithCovarianceStamped, "/registration_node/guidance/t8_left/target")
    peer.wait_for_subscribers()
    peer.spin_until(
        lambda: peer.node.count_publishers("/registration_node/guidance/t8_left/entry"), "topic"
    )
    peer.spin_until(lambda: peer.values().get("guidance") == "refused", "a refusal")
    assert peer.values()["guidance_text"] == "no pose has been accepted"
    peer.send_initialpose(scene.start())

    # Accepted, but nobody says where the robot is: refused with the reason.
    values = peer.wait_for_report(peer.send_scene(scene))
    assert (values["state"], values["level_guard"]) == ("registered", "ok")
    assert "vertebrae_T8" in values["levels_in_view"]
    assert values["guidance"] == "refused"
    assert (
        "no transform from 'carm_source_optical_frame' to 'robot_base'" in (values["guidance_text"])
    )
    assert entries == []

    edge = TransformStamped(child_frame_id="carm_source_optical_frame")
    edge.header.frame_id = "robot_base"
    edge.transform.translation.x = 1.5
    edge.transform.rotation.w = edge.transform.rotation.x = 0.5**0.5
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    peer.node.create_publisher(TFMessage, "/tf_static", latched).publish(
        TFMessage(transforms=[edge])
    )
    peer.spin_for(0.3)
    stamp = peer.send_scene(scene)
    assert peer.wait_for_report(stamp)["guidance"] == "published"
    peer.spin_until(lambda: entries and targets, "guidance")
    robot_from_carm = matrix_from_transform_message(edge.transform, "lps", "/tf")
    carm_from_ct = matrix_from_pose(peer.poses[-1].pose.pose, "lps", "pose")
    [message] = targets
    assert message.header.frame_id == "robot_base"
    assert f"{message.header.stamp.sec}.{message.header.stamp.nanosec:09d}" == stamp
    found = matrix_from_pose(message.pose.pose, "lps", "target")
    expected = robot_from_carm @ carm_from_ct @ np.r_[scene.isocentre_lps_mm, 1.0]
    np.testing.assert_allclose(found[:3, 3], expected[:3], atol=1e-4)
    covariance = np.array(message.pose.covariance).reshape(6, 6)
    assert np.linalg.eigvalsh(covariance).min() > 0
    peer.spin_until(lambda: len(peer.overlays) >= 2, "overlays")
    picture = np.frombuffer(peer.overlays[-1].data, np.uint8).reshape(256, 256, 3).astype(int)
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 170) & (picture[..., 2] < 90)
    assert yellow.sum() > 20

    # Another level is planned, which this picture does not show: the pose is as good as before,
    # and everything says that it is the wrong place.
    [result] = node.set_parameters([Parameter("planned_levels", value="vertebrae_T99")])
    assert not result.successful
    assert "vertebrae_T99" in result.reason
    assert node.set_parameters([Parameter("planned_levels", value="vertebrae_T1")])[0].successful
    values = peer.wait_for_report(peer.send_scene(scene))
    assert (values["state"], values["level_guard"]) == ("registered", "not_in_view")
    status = peer.statuses[-1]
    assert status.level == DiagnosticStatus.ERROR
    assert "planned level not in view: vertebrae_T1" in status.message
    assert values["guidance"] == "refused"
    assert "vertebrae_T1" in values["guidance_text"]
    peer.spin_for(0.3)
    assert len(entries) == len(targets) == 1
    assert len(peer.transforms) == 3


def test_diagnostics_between_a_pose_and_its_guidance(
    scene: Any,
    peer: Any,
    make_node: MakeNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The timer's, from another thread, do not say "published" of what will be refused."""
    node = make_node(
        guidance__plan_path=str(_plan(scene, tmp_path)), guidance__frame_id="robot_base"
    )
    take = node._status.take
    timers: list[threading.Thread] = []

    def take_and_report(report: Any) -> None:
        take(report)
        timers.append(threading.Thread(target=node._report_state))
        timers[-1].start()
        timers[-1].join(0.3)

    monkeypatch.setattr(node._status, "take", take_and_report)
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_for(0.5)
    [timer] = timers
    timer.join()
    said = [{v.key: v.value for v in status.values} for status in peer.statuses]
    assert {values["guidance"] for values in said if "guidance" in values} == {"refused"}


def test_an_ambiguous_level_is_an_error(
    vertebral_column: Any, peer: Any, make_node: MakeNode, tmp_path: Path
) -> None:
    """Whether or not a level is planned; and nothing gets to /tf."""
    sitk = pytest.importorskip("SimpleITK")
    column = vertebral_column(None)
    # T4 to T10 as TotalSegmentator numbers them
    numbers = np.where(column.labels.labels > 0, 41 - column.labels.labels, 0).astype(np.uint8)
    for name, voxels in (("ct.nrrd", column.ct.hu), ("labels.nrrd", numbers)):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(column.ct.spacing_mm.tolist())
        sitk.WriteImage(image, str(tmp_path / name))
    counts = np.where(column.mask, 40000 * np.exp(-column.attenuation), 0).astype(np.uint16)
    make_node(
        ct_path=str(tmp_path / "ct.nrrd"),
        label_map_path=str(tmp_path / "labels.nrrd"),
        isocentre__labels="",
        gate__min_level_margin=0.05,
    )
    peer.wait_for_subscribers()
    peer.send_initialpose(column.pose)
    values = peer.wait_for_report(peer.send_picture(counts, column.camera))
    assert (values["state"], values["level_guard"]) == ("rejected", "ambiguous"), values
    assert peer.statuses[-1].level == DiagnosticStatus.ERROR
    assert peer.statuses[-1].message.startswith("the level is ambiguous")
    peer.spin_for(0.3)
    assert peer.transforms == []
