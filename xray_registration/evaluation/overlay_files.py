"""The pictures that a registration leaves behind: what was found, and where it started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xray_registration.evaluation.bone_edges import BoneRenderer
from xray_registration.evaluation.overlay import (
    START,
    Picture,
    Structures,
    draw,
    grey_rgb,
    image_file_bytes,
)
from xray_registration.files import write_atomically
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.registration import Registrar, RegistrationResult, View

Matrix = npt.NDArray[np.float64]

# The anatomy is shown a second time, cut out, when it fills less than this share of the picture.
_SMALL_ANATOMY = 0.5
VERTEBRAE = ("vertebrae_*",)


def write_overlays(
    folder: Path,
    names: Sequence[str],
    views: Sequence[View],
    registrar: Registrar,
    rig_from_ct_start: Matrix,
    result: RegistrationResult,
    structures: Structures | None = None,
) -> list[Path]:
    """For each view ``NAME_result.png``, ``NAME_start.png``, ``NAME_drr.png``, maybe a detail.

    Args:
        folder: an existing folder.
        names: one per view.
        views: what was registered.
        registrar: with its CT and label map.
        rig_from_ct_start: (4, 4) LPS mm.
        result: of the registration.
        structures: what to outline and name; None: the label map's vertebrae, or all of its
            structures when it has no vertebrae.

    Raises:
        InputError: the folder cannot be written.
    """
    bone = BoneRenderer(registrar.ct, device=registrar.device)
    if structures is None and registrar.label_map is not None:
        structures = Structures(registrar.label_map, VERTEBRAE)
        if not structures.names:
            structures = Structures(registrar.label_map, ("*",))
    written = []
    for name, view in zip(names, views, strict=True):
        pictures = _pictures(view, bone, structures, rig_from_ct_start, result)
        for what, picture in pictures.items():
            path = folder / f"{name}_{what}.png"
            write_atomically(path, image_file_bytes(picture))
            written.append(path)
    return written


def _pictures(
    view: View,
    bone: BoneRenderer,
    structures: Structures | None,
    rig_from_ct_start: Matrix,
    result: RegistrationResult,
) -> dict[str, Picture]:
    camera_from_ct = view.camera_from_rig @ result.rig_from_ct
    start = view.camera_from_rig @ rig_from_ct_start
    word = "accepted" if result.accepted else f"REJECTED: {result.reason.value}"
    caption = f"{word}  similarity {result.similarity:.3f}"

    def found(radiograph: Radiograph, camera: Camera) -> Picture:
        edges = bone.edges(camera_from_ct, camera)
        return draw(radiograph, camera, camera_from_ct, structures, result.accepted, caption, edges)

    pictures = {
        "result": found(view.radiograph, view.camera),
        "start": draw(
            view.radiograph,
            view.camera,
            start,
            structures,
            True,
            f"start  similarity {result.start_similarity:.3f}",
            bone.edges(start, view.camera),
            START,
        ),
        "drr": _grey(bone.image(camera_from_ct, view.camera)),
    }
    box = bone.box_px(camera_from_ct, view.camera, margin=0.15)
    if box is not None:
        share = max(box[2] / view.camera.width, box[3] / view.camera.height)
        if share <= _SMALL_ANATOMY:
            radiograph, camera = view.radiograph.cropped(*box), view.camera.cropped(*box)
            pictures["detail"] = found(radiograph, camera)
    return pictures


def _grey(drr: npt.NDArray[np.float32]) -> Picture:
    if float(drr.max()) <= float(drr.min()):
        return np.zeros((*drr.shape, 3), np.uint8)
    return grey_rgb(make_radiograph(drr, "attenuation", auto_mask=False, source="DRR"))
