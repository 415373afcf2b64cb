"""The thresholds of the gate as parameters gate.*."""

from __future__ import annotations

from xray_registration.registration import GateConfig
from xray_registration.ros.parameters import ParameterSpec, When

_GATE = GateConfig()
# Field of GateConfig, upper end of its range, meaning.
_GATE_LIMITS = (
    ("min_similarity", 1.0, "Gradient correlation below which a pose is rejected."),
    (
        "min_similarity_several_views",
        1.0,
        "The same when two or more views are registered together; every view must reach it.",
    ),
    (
        "min_similarity_of_structures",
        1.0,
        "The same of every one of several views where the configuration names structures.",
    ),
    ("min_overlap", 1.0, "Overlap of CT and picture below which a pose is rejected."),
    (
        "max_sigma_mm",
        1000.0,
        "Largest predicted standard deviation of a target that is accepted.",
    ),
    (
        "max_unsettled_mm",
        1000.0,
        "Longest last step of a registration that was stopped by its iteration limit.",
    ),
    (
        "max_correction_mm",
        10000.0,
        "How far from its start a pose may end; turning the anatomy's edge counts like moving it.",
    ),
    (
        "min_level_margin",
        1.0,
        "By how much the similarity must fall when every vertebra is taken for its neighbour (with "
        "a label map that names vertebrae); else the level is ambiguous. 0 = not looked at.",
    ),
    (
        "clear_level_margin",
        1.0,
        "By how much the similarity must fall at the coarsest level for the neighbours not to be "
        "looked at more closely.",
    ),
)

GATE_SPECS = tuple(
    ParameterSpec(
        f"gate.{name}",
        float(getattr(_GATE, name)),
        description,
        When.CONFIGURE,
        minimum=0.0,
        maximum=maximum,
    )
    for name, maximum, description in _GATE_LIMITS
)
