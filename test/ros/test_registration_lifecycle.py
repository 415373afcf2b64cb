"""The node's transitions, as any lifecycle manager calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from lifecycle_msgs.msg import State as LifecycleStateId
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import MultiThreadedExecutor
from rclpy.parameter import Parameter

from xray_registration.ros.registration_node import RegistrationNode

pytestmark = pytest.mark.ros
MakeNode = Callable[..., RegistrationNode]


class Lifecycle:
    """The lifecycle services as any manager calls them."""

    def __init__(self, peer: Any) -> None:
        self._peer = peer
        name = "/registration_node"
        self._change = peer.node.create_client(ChangeState, f"{name}/change_state")
        self._get = peer.node.create_client(GetState, f"{name}/get_state")
        peer.spin_until(self._change.service_is_ready, "change_state service")
        peer.spin_until(self._get.service_is_ready, "get_state service")

    def begin(self, request: ChangeState.Request) -> Any:
        return self._change.call_async(request)

    def change(self, transition: int) -> bool:
        future = self.begin(ChangeState.Request(transition=Transition(id=transition)))
        self._peer.spin_until(future.done, f"transition {transition}")
        return bool(future.result().success)

    def state(self) -> int:
        future = self._get.call_async(GetState.Request())
        self._peer.spin_until(future.done, "get_state")
        return int(future.result().current_state.id)


def test_lifecycle(scene: Any, peer: Any, make_node: MakeNode) -> None:
    node = make_node(autostart=False, ct_path="/nowhere/ct.nii.gz")
    lifecycle = Lifecycle(peer)
    assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_UNCONFIGURED

    # A CT that is not there: the transition fails, says so, and can be tried again.
    assert not lifecycle.change(Transition.TRANSITION_CONFIGURE)
    assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_UNCONFIGURED
    peer.wait_for_state("error")
    assert "/nowhere/ct.nii.gz" in peer.statuses[-1].message
    [result] = node.set_parameters([Parameter("ct_path", value=str(scene.ct_path))])
    assert result.successful, result.reason
    assert lifecycle.change(Transition.TRANSITION_CONFIGURE)
    assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_INACTIVE

    # Inactive: listens to initialpose, not to images.
    assert peer.node.count_subscribers("/image") == 0
    [result] = node.set_parameters([Parameter("child_frame_id", value="other")])
    assert not result.successful
    assert "child_frame_id" in result.reason

    assert lifecycle.change(Transition.TRANSITION_ACTIVATE)
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    assert peer.wait_for_report(peer.send_scene(scene))["state"] == "registered"
    peer.spin_until(lambda: len(peer.transforms) == 1, "a transform")

    # Deactivated: an image that is sent causes nothing; and the pose is forgotten.
    assert lifecycle.change(Transition.TRANSITION_DEACTIVATE)
    peer.wait_for_state("inactive")
    peer.send_scene(scene)
    peer.spin_for(1.0)
    assert len(peer.transforms) == 1
    assert lifecycle.change(Transition.TRANSITION_ACTIVATE)
    peer.wait_for_subscribers()
    report = peer.wait_for_report(peer.send_scene(scene))
    assert report["state"] == "waiting_for_start_pose"

    assert lifecycle.change(Transition.TRANSITION_DEACTIVATE)
    assert lifecycle.change(Transition.TRANSITION_CLEANUP)
    assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_UNCONFIGURED
    assert peer.node.count_publishers("/registration_node/pose") == 0
    assert lifecycle.change(Transition.TRANSITION_CONFIGURE)
    assert lifecycle.change(Transition.TRANSITION_ACTIVATE)
    assert lifecycle.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_FINALIZED


def test_the_state_is_told_while_a_transition_takes_long(
    peer: Any, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    load = RegistrationNode._load

    def wait_and_load(node: RegistrationNode) -> str:
        go_on.wait(60.0)
        return load(node)

    monkeypatch.setattr(RegistrationNode, "_load", wait_and_load)
    node = make_node(autostart=False)
    # As main spins it: the peer's executor has one thread.
    peer.executor.remove_node(node)
    executor = MultiThreadedExecutor(4)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    lifecycle = Lifecycle(peer)
    configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    changed = lifecycle.begin(configure)
    try:
        configuring = LifecycleStateId.TRANSITION_STATE_CONFIGURING
        peer.spin_until(lambda: lifecycle.state() == configuring, "configuring")
        assert not changed.done()
        go_on.set()
        peer.spin_until(changed.done, "the transition")
        assert lifecycle.state() == LifecycleStateId.PRIMARY_STATE_INACTIVE
    finally:
        go_on.set()
        executor.shutdown()
        spinning.join()


def test_deactivation_in_mid_registration_publishes_nothing(
    scene: Any, peer: Any, make_node: MakeNode
) -> None:
    node = make_node()
    peer.wait_for_subscribers()
    peer.send_initialpose(scene.start())
    peer.send_scene(scene)
    peer.spin_until(lambda: node._is_busy(), "registration in progress")
    node.trigger_deactivate()
    before = len(peer.transforms)
    peer.spin_for(1.5)
    assert len(peer.transforms) == before
