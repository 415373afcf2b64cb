"""How a stream of images is followed, as parameters tracking.*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from xray_registration.registration.tracker import TrackerConfig
from xray_registration.ros.parameters import ParameterSpec, Value, When, number

_DEFAULT = TrackerConfig()

TRACKING_SPECS = (
    ParameterSpec(
        "tracking.enabled",
        True,
        "Register an image that follows upon an accepted one (start.use_previous) in few steps "
        "from where the patient is predicted to be; what the gate refuses is registered in full. "
        "False: every image in full.",
    ),
    ParameterSpec(
        "tracking.max_gap_s",
        _DEFAULT.max_gap_s,
        "After so long without an accepted image, by the stamps, nothing is predicted.",
        When.CONFIGURE,
        minimum=0.001,
        maximum=3600.0,
    ),
    ParameterSpec(
        "tracking.max_innovation_mm",
        _DEFAULT.quick.max_innovation_mm,
        "How far from its prediction a pose may end without being registered in full; turning the "
        "anatomy's edge counts like moving it.",
        When.CONFIGURE,
        minimum=0.001,
        maximum=10000.0,
    ),
)


def build_tracking(values: Mapping[str, Value]) -> TrackerConfig:
    """The tracker's settings.

    Raises:
        InputError: a value that is not possible.
    """
    innovation_mm = number(values, "tracking.max_innovation_mm")
    return replace(
        _DEFAULT,
        quick=replace(_DEFAULT.quick, max_innovation_mm=innovation_mm),
        max_gap_s=number(values, "tracking.max_gap_s"),
    )
