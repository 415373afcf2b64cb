"""Coarser copies of a radiograph together with the camera that sees them."""

from __future__ import annotations

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.radiograph import Radiograph


def check_same_size(radiograph: Radiograph, camera: Camera) -> None:
    """InputError when image and camera differ in size: K would then be that of another image."""
    if (radiograph.width, radiograph.height) != (camera.width, camera.height):
        raise InputError(
            f"{radiograph.source}: the image is {radiograph.width}x{radiograph.height} pixels, its "
            f"camera is for {camera.width}x{camera.height}. Crop, bin or resize the camera with "
            "the image."
        )


def downsample(radiograph: Radiograph, camera: Camera, width: int) -> tuple[Radiograph, Camera]:
    """Both at `width` columns, rows in proportion (rounded); unchanged when not wider already.

    Image and mask are area-averaged over exactly the part of the detector that `Camera.resized`
    gives to each pixel, whole ratio or not, so nothing is cropped and K is exact.

    Raises:
        InputError: image and camera differ in size; width < 1.
    """
    check_same_size(radiograph, camera)
    if width < 1:
        raise InputError(f"{radiograph.source}: downsampling to width {width}; expected >= 1.")
    if width >= radiograph.width:
        return radiograph, camera
    smaller = camera.scaled_to_width(width)
    return radiograph.resized(smaller.width, smaller.height), smaller
