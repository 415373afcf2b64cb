"""The worker of an active node: the newest frame is solved, and what came of it published.

A frame's way: ``take`` (executor's thread) -> slot of the worker, newest wins -> solver -> topics.
Between ``stop`` and ``start`` nothing gets out, also not of a frame in progress.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from xray_registration.errors import XrayRegistrationError
from xray_registration.ros.diagnostics import State
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.frame_report import Case, FrameReport, failed
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.node_services import Answer, Tickets
from xray_registration.ros.node_status import NodeStatus
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.session import Session
from xray_registration.ros.worker import NewestItemWorker


class Processing:
    """Made once; started with a session at activation."""

    def __init__(
        self, logger: Any, status: NodeStatus, current: Callable[[], RegistrationSettings]
    ) -> None:
        """``current``: the settings as they are now."""
        self._logger = logger
        self._status = status
        self._current = current
        self._session: Session | None = None
        self._worker: NewestItemWorker[Frame] | None = None
        self._newest: Frame | None = None
        self._tickets = Tickets()
        # Of the present start: a worker of before must not take up the work again.
        self._run: object = None
        # Raised by ``forget``: a frame that began before is not published.
        self._epoch = 0
        # Held while publishing: after ``stop`` nothing of a frame in progress gets out, and what
        # diagnostics say is of one frame.
        self.publish_lock = threading.RLock()
        # Held while the solver works: it serves one thread at a time.
        self._work_lock = threading.Lock()

    @property
    def session(self) -> Session | None:
        """What is processed with; None when stopped."""
        return self._session

    @property
    def is_busy(self) -> bool:
        """A frame is waiting or being solved."""
        return self._worker is not None and self._worker.busy

    def start(self, session: Session) -> None:
        """From now on frames are solved."""
        with self._work_lock:  # a frame of before may still be in progress
            session.show_markers(self._current())
        self._run = run = object()
        self._session = session
        self._worker = NewestItemWorker(
            lambda frame: self._process(run, frame), self._on_error, "registration"
        )

    def stop(self, why: str) -> None:
        """Publish nothing more; a frame in progress goes on, for nothing. Never blocks on it."""
        with self.publish_lock:
            self._session = None
        if self._worker is not None:
            self._worker.stop()
        self._newest = None
        self._tickets.give_up_all(why)

    def join(self, timeout_s: float) -> bool:
        """After ``stop``: wait for the frame in progress; whether it has ended."""
        ended = self._worker is None or self._worker.stop(timeout_s)
        self._worker = None
        return ended

    def forget(self) -> None:
        """There is no newest frame, and nothing comes of one in progress."""
        with self.publish_lock:
            self._epoch += 1
        self._newest = None

    # --- executor's threads --------------------------------------------------------------------

    def take(self, frame: Frame) -> None:
        """A complete frame has arrived."""
        if self._session is None:  # ~/load_ct is at work, or has failed
            self._status.monitor.count(failed=1)
            return
        self._newest = frame
        if self._current().register_every_image:
            self._submit(frame)
        elif self._status.state is State.WAITING_FOR_IMAGE:
            self._status.set_state(State.WAITING_FOR_IMAGE, "images wait for ~/register_now")

    def register_now(self) -> Answer:
        """Have the newest frame solved (again), and wait for what comes of it."""
        frame = self._newest
        if self._session is None:
            return False, "the node is not active"
        if frame is None:
            return False, "no image has been received"
        return self._tickets.wait_for(frame, lambda: self._submit(frame))

    def _submit(self, frame: Frame) -> None:
        replaced = None if self._worker is None else self._worker.submit(frame)
        if replaced is not None and replaced is not frame:
            self._status.monitor.count(dropped=1)
            self._tickets.hand_on(replaced, frame)

    # --- worker's thread -----------------------------------------------------------------------

    def _process(self, run: object, frame: Frame) -> None:
        with self._work_lock:
            session, settings, epoch = self._session, self._current(), self._epoch
            if session is None or run is not self._run:
                return
            report = session.flow.process(frame, settings)
            if not self._finish(session, report, epoch):
                return
            try:
                plan = _plan_to_draw(session, report)
                drawn = session.outputs.draw(report, session.solver, settings, plan)
                with self.publish_lock:
                    if session is self._session:
                        session.outputs.publish(drawn)
                session.show_markers(settings, report)
            except Exception as error:  # a picture for people must not cost the next registration
                self._logger.error(f"overlay: {error}", throttle_duration_sec=10.0)
                self._restart(session)

    def _finish(self, session: Session, report: FrameReport, epoch: int) -> bool:
        """Publish what became of a frame; False when the node was stopped or reset meanwhile."""
        settings = self._current()
        with self.publish_lock:
            if session is not self._session:
                return False
            if epoch != self._epoch:
                self._status.monitor.count(dropped=1)
                self._tickets.give_up(report.frame, "reset")
                return False
            session.outputs.publish_pose(report, settings)
            self._status.take(report)
            session.guidance.publish(report, settings.guidance, self._status.refusal(settings))
            session.outputs.publish_result(report, settings, session.solver.facts)
            self._status.publish(settings, session.guidance)
        self._tickets.settle(report)
        self._status.log(report)
        return True

    def _on_error(self, frame: Frame, error: Exception) -> None:
        """A defect, not bad input: say everything and go on with the next frame."""
        session = self._session
        if session is None:
            return  # the solver was closed under it
        trace = "".join(traceback.format_exception(error))
        self._logger.error(f"registration failed: {error}\n{trace}")
        parent = self._current().parent_frame_id or frame.image.header.frame_id
        self._finish(session, failed(Case(frame, parent), error), self._epoch)
        with self._work_lock:
            self._restart(session)

    def _restart(self, session: Session) -> None:
        try:
            session.solver.restart()
        except XrayRegistrationError as failure:
            self._logger.error(f"the solver cannot be started again: {failure}")


def _plan_to_draw(session: Session, report: FrameReport) -> tuple[Trajectory, ...]:
    """The trajectories on a pose that may be used, as for the guidance; none on another."""
    usable = report.rig_from_ct is not None and not report.guard.is_error
    return session.guidance.trajectories if usable else ()
