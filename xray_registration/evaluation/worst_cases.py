"""The cases that went worst, as pictures: where the method put the anatomy, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xray_registration.errors import InputError
from xray_registration.evaluation.bone_edges import BoneRenderer
from xray_registration.evaluation.cases import Case
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.overlay import (
    ACCEPTED,
    REJECTED,
    Picture,
    Structures,
    grey_rgb,
    paint,
)
from xray_registration.evaluation.pictures import pictures_of
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.records import Record, final_mtre_mm, is_good
from xray_registration.geometry import Camera
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.optional import require

TRUTH = (72, 196, 255)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, eq=False)
class WorstCase:
    """A record and the picture of each of its views."""

    record: Record
    pictures: list[Picture]


def choose_worst(records: Sequence[Record], count: int) -> list[Record]:
    """False accepts first, then the largest errors (reject set: the highest similarities)."""

    def badness(record: Record) -> tuple[bool, float]:
        false_accept = bool(record["accepted"]) and not is_good(record)
        if record["reject"] is not None:
            return false_accept, record["similarity"] or -1.0
        return false_accept, final_mtre_mm(record)

    return sorted(records, key=badness, reverse=True)[:count]


def draw_worst(
    protocol: Protocol, cases: dict[str, Case], records: Sequence[Record]
) -> list[WorstCase]:
    """The records' pictures: the estimate in green (accepted) or red, the truth in blue."""
    ct, labels = load_patient(protocol.patient)
    structures = None if labels is None else Structures(labels, protocol.targets.structures)
    bone = BoneRenderer(ct) if structures is None else None
    worst = []
    for record in records:
        case = cases[record["case"]]
        drawn = []
        for number, picture in enumerate(pictures_of(case)):
            shot = case.shots[number]
            try:
                radiograph = picture.to_radiograph(case.id)
            except InputError:  # refused for what it is: shown for what it is
                radiograph = _as_it_is(picture.image)
            canvas = np.ascontiguousarray(grey_rgb(radiograph))
            if case.reject is None:
                pose = shot.camera_from_rig @ case.rig_from_ct
                canvas = _drawn(canvas, shot.camera, pose, structures, bone, TRUTH)
            if record.get("rig_from_ct") is not None:
                pose = shot.camera_from_rig @ np.array(record["rig_from_ct"])
                colour = ACCEPTED if record["accepted"] else REJECTED
                canvas = _drawn(canvas, shot.given_camera, pose, structures, bone, colour)
            drawn.append(canvas)
        worst.append(WorstCase(record, drawn))
    return worst


def _drawn(
    canvas: Picture,
    camera: Camera,
    camera_from_ct: np.ndarray,
    structures: Structures | None,
    bone: BoneRenderer | None,
    colour: tuple[int, int, int],
) -> Picture:
    if not np.isfinite(camera_from_ct).all():
        return canvas
    if structures is None:
        assert bone is not None
        return paint(canvas, 0.7 * bone.edges(camera_from_ct, camera), colour)
    cv2 = require("cv2", pip="opencv-python-headless")
    canvas = canvas.copy()
    for seen in structures.projected(camera_from_ct, camera):
        lines = [np.round(line * 2**_SUBPIXEL_BITS).astype(np.int32) for line in seen.outlines]
        cv2.polylines(canvas, lines, True, colour, 1, cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return canvas


def _as_it_is(image: np.ndarray) -> Radiograph:
    """A picture that `make_radiograph` refuses, for the eye."""
    values = image.astype(np.float32)
    values[0, 0] += 1.0  # a constant picture is refused
    return make_radiograph(values, "display", auto_mask=False)
