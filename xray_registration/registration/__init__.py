"""Images + CT -> pose with proof."""

from xray_registration.registration.config import (
    GateConfig,
    Level,
    LevenbergMarquardtConfig,
    RegistrationConfig,
    RigUncertainty,
    SpreadConfig,
)
from xray_registration.registration.levenberg_marquardt import Termination
from xray_registration.registration.registrar import Registrar
from xray_registration.registration.result import Reason, RegistrationResult
from xray_registration.registration.tracker import TrackedFrame, Tracker, TrackerConfig
from xray_registration.registration.view import View

__all__ = [
    "GateConfig",
    "Level",
    "LevenbergMarquardtConfig",
    "Reason",
    "Registrar",
    "RegistrationConfig",
    "RegistrationResult",
    "RigUncertainty",
    "SpreadConfig",
    "Termination",
    "TrackedFrame",
    "Tracker",
    "TrackerConfig",
    "View",
]
