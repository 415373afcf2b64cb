"""2D/3D registration of X-ray images to a CT, for surgical robots on ROS 2."""

from __future__ import annotations

__version__ = "0.1.0"
