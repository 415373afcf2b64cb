"""CT + pose + camera -> image and Jacobian."""

from xray_registration.rendering.attenuation_volume import AttenuationVolume
from xray_registration.rendering.joseph import JosephProjector
from xray_registration.rendering.projector import Projector

__all__ = ["AttenuationVolume", "JosephProjector", "Projector"]
