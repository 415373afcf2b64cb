"""The realistic X-ray model of simulation and evaluation; see model.XrayModel."""

from xray_registration.rendering.xray_model.config import (
    CollimatorConfig,
    DetectorConfig,
    DisplayConfig,
    ScatterConfig,
    XrayModelConfig,
)
from xray_registration.rendering.xray_model.deformation import DeformationConfig, deform_ct
from xray_registration.rendering.xray_model.instruments import Instrument
from xray_registration.rendering.xray_model.materials import MaterialConfig
from xray_registration.rendering.xray_model.model import SimulatedXray, XrayModel
from xray_registration.rendering.xray_model.spectrum import BeamConfig

__all__ = [
    "BeamConfig",
    "CollimatorConfig",
    "DeformationConfig",
    "DetectorConfig",
    "DisplayConfig",
    "Instrument",
    "MaterialConfig",
    "ScatterConfig",
    "SimulatedXray",
    "XrayModel",
    "XrayModelConfig",
    "deform_ct",
]
