"""Who waits for what becomes of an image."""

from __future__ import annotations

import threading
from typing import Any

from sensor_msgs.msg import Image

from xray_registration.ros.diagnostics import State
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport
from xray_registration.ros.node_services import Tickets


def _frame() -> Frame:
    return Frame.single(Image(), None, 0, 0.0)


def _rejected(frame: Frame) -> FrameReport:
    return FrameReport(Case(frame, "carm"), State.REJECTED, "rejected", "low_similarity", "0.1")


def _ask(tickets: Tickets, frame: Frame) -> tuple[list[Any], threading.Thread]:
    """Waits in a thread of its own, as the service does; submitted when this returns."""
    answers: list[Any] = []
    submitted = threading.Event()
    thread = threading.Thread(
        target=lambda: answers.append(tickets.wait_for(frame, submitted.set)), daemon=True
    )
    thread.start()
    assert submitted.wait(60)
    return answers, thread


def test_the_answer_is_what_became_of_the_image() -> None:
    tickets, frame = Tickets(), _frame()
    answers, thread = _ask(tickets, frame)
    tickets.settle(_rejected(_frame()))  # of another image
    assert answers == []
    tickets.settle(_rejected(frame))
    thread.join(60)
    assert answers == [(False, "rejected: 0.1")]


def test_a_newer_image_answers_for_the_one_that_it_replaced() -> None:
    tickets, old, new = Tickets(), _frame(), _frame()
    answers, thread = _ask(tickets, old)
    tickets.hand_on(_frame(), new)  # nobody waits for that one
    tickets.hand_on(old, new)
    tickets.settle(_rejected(old))
    assert answers == []
    tickets.settle(_rejected(new))
    thread.join(60)
    assert answers == [(False, "rejected: 0.1")]


def test_nobody_waits_for_ever() -> None:
    tickets, frame = Tickets(), _frame()
    answers, thread = _ask(tickets, frame)
    tickets.give_up_all("the node was deactivated")
    thread.join(60)
    assert answers == [(False, "the node was deactivated")]
    answers, thread = _ask(tickets, frame)
    tickets.give_up(frame, "reset")
    thread.join(60)
    assert answers == [(False, "reset")]
