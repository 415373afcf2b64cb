"""Looking transforms up on /tf and /tf_static, over real DDS."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from xray_registration.errors import InputError
from xray_registration.geometry import se3
from xray_registration.geometry.converters import transform_from_matrix
from xray_registration.ros.tf import TF_QOS
from xray_registration.ros.tf_lookup import (
    PlainLookup,
    Tf2Lookup,
    TransformLookup,
    make_lookup,
)

pytestmark = pytest.mark.ros
SECOND = 1_000_000_000


def _pose(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    xi = np.r_[random.normal(size=3) * 500.0, random.normal(size=3)]
    return se3.se3_exp(torch.from_numpy(xi)).numpy()


def _edge(parent: str, child: str, stamp_ns: int, matrix: np.ndarray) -> TransformStamped:
    edge = TransformStamped(child_frame_id=child)
    edge.header.frame_id = parent
    edge.header.stamp.sec, edge.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    translation, quaternion = transform_from_matrix(matrix)
    for name, value in zip("xyz", translation, strict=True):
        setattr(edge.transform.translation, name, float(value))
    for name, value in zip("xyzw", quaternion, strict=True):
        setattr(edge.transform.rotation, name, float(value))
    return edge


class Sender:
    """Publishes edges and waits until the lookup under test has heard them."""

    def __init__(self, peer: Any, lookup: TransformLookup) -> None:
        self.peer, self.lookup = peer, lookup
        self._moving = peer.node.create_publisher(TFMessage, "/tf", TF_QOS)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = peer.node.create_publisher(TFMessage, "/tf_static", latched)
        peer.spin_until(
            lambda: (
                self._moving.get_subscription_count() >= 2
                and self._static.get_subscription_count() >= 1
            ),
            "subscriptions to /tf and /tf_static",
        )

    def send(self, *edges: TransformStamped, static: bool = False) -> None:
        (self._static if static else self._moving).publish(TFMessage(transforms=list(edges)))

    def until(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        def ask() -> np.ndarray | None:
            try:
                return self.lookup.lookup(target, source, stamp_ns)
            except InputError:
                return None

        found: list[np.ndarray] = []

        def answered() -> bool:
            answer = ask()
            found.extend([] if answer is None else [answer])
            return bool(found)

        self.peer.spin_until(answered, f"{source} -> {target}")
        return found[-1]


@pytest.fixture(params=["plain", "tf2_ros"])
def sender(request: pytest.FixtureRequest, peer: Any) -> Iterator[Sender]:
    """Of both kinds; tf2_ros itself has no wheel."""
    if request.param == "plain":
        made = Sender(peer, PlainLookup(peer.node))
    else:
        made = Sender(peer, Tf2Lookup(peer.node, pytest.importorskip("tf2_ros")))
    yield made
    made.lookup.destroy()


def test_a_chain_of_static_and_moving_edges(sender: Sender) -> None:
    base_from_arm, arm_from_0, arm_from_1 = _pose(1), _pose(2), _pose(3)
    sender.send(_edge("base", "arm", 0, base_from_arm), static=True)
    sender.send(_edge("arm", "/carm", 10 * SECOND, arm_from_0))
    sender.send(_edge("arm", "carm", 11 * SECOND, arm_from_1))
    found = sender.until("base", "carm", 11 * SECOND)
    np.testing.assert_allclose(found, base_from_arm @ arm_from_1, atol=1e-6)
    # The other way, at the other sample.
    found = sender.until("carm", "base", 10 * SECOND)
    np.testing.assert_allclose(found, np.linalg.inv(base_from_arm @ arm_from_0), atol=1e-6)
    # Between the samples: half of the way, on a line and at a constant turning rate.
    found = sender.lookup.lookup("arm", "carm", 10 * SECOND + SECOND // 2)
    turn = se3.so3_log(torch.from_numpy(arm_from_1[:3, :3] @ arm_from_0[:3, :3].T))
    halfway = se3.so3_exp(0.5 * turn).numpy() @ arm_from_0[:3, :3]
    np.testing.assert_allclose(found[:3, :3], halfway, atol=1e-6)
    np.testing.assert_allclose(found[:3, 3], (arm_from_0[:3, 3] + arm_from_1[:3, 3]) / 2, atol=1e-6)
    np.testing.assert_array_equal(sender.lookup.lookup("carm", "carm", 0), np.eye(4))


def test_never_extrapolated_never_guessed(sender: Sender) -> None:
    sender.send(_edge("base", "carm", 10 * SECOND, _pose(1)))
    sender.until("base", "carm", 10 * SECOND)
    for stamp_ns in (10 * SECOND - 1, 10 * SECOND + 1):
        with pytest.raises(
            InputError, match=r"not known at that time: carm -> base|only time 10\.0* is in"
        ):
            sender.lookup.lookup("base", "carm", stamp_ns)
    with pytest.raises(InputError, match="no transform from 'patient' to 'base'"):
        sender.lookup.lookup("base", "patient", 10 * SECOND)
    # What is no rigid transform is as if it had not been sent.
    broken = _edge("base", "carm", 12 * SECOND, _pose(1))
    broken.transform.translation.x = float("nan")
    sender.send(broken)
    sender.send(_edge("base", "carm", 13 * SECOND, _pose(2)))
    found = sender.until("base", "carm", 13 * SECOND)
    np.testing.assert_allclose(found, _pose(2), atol=1e-6)
    assert np.isfinite(sender.lookup.lookup("base", "carm", 12 * SECOND)).all()


def test_ten_seconds_are_kept_and_time_may_jump_back(sender: Sender) -> None:
    for second in range(100, 121):
        sender.send(_edge("base", "carm", second * SECOND, _pose(second)))
    sender.until("base", "carm", 120 * SECOND)
    sender.until("base", "carm", 110 * SECOND)
    with pytest.raises(InputError):
        sender.lookup.lookup("base", "carm", 108 * SECOND)  # tf2_ros keeps one sample more
    # A bag played again from its start.
    sender.send(_edge("base", "carm", 5 * SECOND, _pose(5)))
    np.testing.assert_allclose(sender.until("base", "carm", 5 * SECOND), _pose(5), atol=1e-6)
    with pytest.raises(InputError):
        sender.lookup.lookup("base", "carm", 120 * SECOND)


def test_tf2_ros_is_used_where_it_is_installed(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice and the translation of its answers alone: tf2_ros itself has no wheel."""
    module = types.ModuleType("tf2_ros")

    class TransformException(Exception):  # noqa: N818  tf2_ros' own name
        pass

    class Buffer:
        def lookup_transform(self, target: str, source: str, time: Any) -> TransformStamped:
            if source == "nowhere":
                raise TransformException("source does not exist")
            return _edge(target, source, time.nanoseconds, _pose(1))

    made: Callable[..., Any] = lambda buffer, node: types.SimpleNamespace(  # noqa: E731
        unregister=lambda: None
    )
    module.TransformException = TransformException  # type: ignore[attr-defined]
    module.Buffer = Buffer  # type: ignore[attr-defined]
    module.TransformListener = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    lookup = make_lookup(peer.node)
    assert isinstance(lookup, Tf2Lookup)
    np.testing.assert_allclose(lookup.lookup("base", "carm", 5), _pose(1), atol=1e-6)
    with pytest.raises(InputError, match="source does not exist"):
        lookup.lookup("base", "nowhere", 5)
    lookup.destroy()
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    plain = make_lookup(peer.node)
    assert isinstance(plain, PlainLookup)
    plain.destroy()
