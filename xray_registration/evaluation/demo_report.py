"""The demo's folder: summary.json, images, overlays and an index.html to look at."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

import xray_registration
from xray_registration.evaluation import demo_chart
from xray_registration.evaluation.demo_score import (
    LARGEST_BROADCAST_ERROR_MM,
    FrameScore,
    summary,
)
from xray_registration.evaluation.overlay import (
    START,
    Picture,
    ProjectedStructure,
    Structures,
    draw,
    grey_rgb,
    image_file_bytes,
)
from xray_registration.files import write_atomically
from xray_registration.geometry.arc import Arc
from xray_registration.geometry.camera import Camera
from xray_registration.imaging.example import ATTRIBUTION
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.optional import require

Matrix = npt.NDArray[np.float64]

_OUTLINED = ("vertebrae_*",)
_PAGE_PX = 768
"""Side of the X-rays inside the page; the files beside it have full size."""


@dataclass(frozen=True, eq=False)
class DemoAbout:
    """What was done; lengths in mm, poses camera_from_ct (4, 4) LPS mm."""

    frames: int
    camera: Camera
    arc: Arc
    preset: str
    seed: int
    device: str
    ct: CTVolume
    labels: LabelMap
    vertebrae: Sequence[str]
    target_count: int
    live_s: float


def write_report(
    folder: Path, images: Path, scores: Sequence[FrameScore], about: DemoAbout
) -> dict[str, Any]:
    """Write everything; the content of summary.json.

    Args:
        folder: existing; ``images/``, ``overlays/``, ``summary.json`` and ``index.html`` are made.
        images: where the client has kept the .npy files.
        scores: of the frames, in their order.
        about: the rest.
    """
    structures = Structures(about.labels, _OUTLINED)
    for name in ("images", "overlays"):
        (folder / name).mkdir(exist_ok=True)
        for old in (folder / name).glob("frame_*.png"):
            old.unlink()
    frames = [_frame(folder, images, score, about, structures) for score in scores]
    record = {
        **summary(scores, about.frames),
        "seconds_total": about.live_s,
        "version": xray_registration.__version__,
        "device": about.device,
        "ct_sha256": about.ct.sha256,
        "targets": list(about.vertebrae),
        "per_frame": [score.to_dict() for score in scores],
    }
    text = json.dumps(record, indent=2, allow_nan=False)
    write_atomically(folder / "summary.json", (text + "\n").encode())
    write_atomically(folder / "index.html", _page(record, frames, scores, about).encode())
    return record


def _frame(
    folder: Path,
    images: Path,
    score: FrameScore,
    about: DemoAbout,
    structures: Structures,
) -> dict[str, Any]:
    """Write a frame's pictures; what the page needs of it."""
    heard = score.heard
    assert heard.image_file is not None
    raw = np.load(images / heard.image_file, allow_pickle=False)
    name = f"frame_{score.number:02d}.png"
    write_atomically(folder / "images" / name, image_file_bytes(raw))
    camera = heard.camera or about.camera
    radiograph = make_radiograph(raw, "intensity", source=heard.image_file)
    picture = draw(radiograph, camera, heard.found, structures, score.accepted, _caption(score))
    write_atomically(folder / "overlays" / name, image_file_bytes(picture))
    if score.number == 0:
        text = f"the network's first guess: {score.start_mtre_mm:.1f} mm off"
        at_start = draw(radiograph, camera, score.start, structures, True, text, colour=START)
        write_atomically(folder / "overlays" / "frame_00_start.png", image_file_bytes(at_start))
    return {
        "xray": _data_url(_page_picture(radiograph)),
        "found": _outlines(structures, heard.found, camera),
        "start": _outlines(structures, score.start, camera),
        "width": camera.width,
        "height": camera.height,
    }


def _caption(score: FrameScore) -> str:
    if score.errors is None:
        return "no pose"
    word = "accepted" if score.accepted else "REJECTED"
    return f"frame {score.number}  {word}  true mTRE {score.errors.mtre_mm:.2f} mm"


def _page_picture(radiograph: Radiograph) -> Picture:
    cv2 = require("cv2", pip="opencv-python-headless")
    grey = grey_rgb(radiograph)[:, :, 0]
    if max(grey.shape) <= _PAGE_PX:
        return grey
    scale = _PAGE_PX / max(grey.shape)
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _data_url(picture: Picture) -> str:
    content = base64.b64encode(image_file_bytes(picture, ".jpg")).decode("ascii")
    return f"data:image/jpeg;base64,{content}"


def _outlines(
    structures: Structures, camera_from_ct: Matrix | None, camera: Camera
) -> list[dict[str, Any]]:
    """Names, places and SVG paths of the structures in the picture; nothing without a pose."""
    if camera_from_ct is None:
        return []
    seen = structures.projected(camera_from_ct, camera)
    return [
        {
            "name": s.label if s.is_named(camera) else "",
            "at": [round(v, 1) for v in s.centre_px],
            "path": _path(s),
        }
        for s in seen
        if s.outlines
    ]


def _path(structure: ProjectedStructure) -> str:
    cv2 = require("cv2", pip="opencv-python-headless")
    parts = []
    for outline in structure.outlines:
        points = cv2.approxPolyDP(outline.astype(np.float32)[:, None], 0.4, True)[:, 0]
        parts.append("M" + "L".join(f"{u:.1f} {v:.1f}" for u, v in points) + "Z")
    return "".join(parts)


def _page(
    record: dict[str, Any],
    frames: list[dict[str, Any]],
    scores: Sequence[FrameScore],
    about: DemoAbout,
) -> str:
    template = Template(
        (files("xray_registration.evaluation") / "demo_report.html").read_text(encoding="utf-8")
    )
    limit = LARGEST_BROADCAST_ERROR_MM
    spacing = ", ".join(f"{s:.2f}" for s in about.ct.spacing_mm)
    labels = [name.removeprefix("vertebrae_") for name in about.vertebrae]
    step = np.ptp(about.arc.primary_deg) / max(1, about.arc.frames - 1)
    problems = "".join(f"<li>{text}</li>" for text in record["problems"])
    return template.substitute(
        outcome_class="good" if not record["problems"] else "bad",
        outcome=_outcome(record),
        problems=f"<ul>{problems}</ul>" if problems else "",
        frames=record["frames"],
        frames_sent=record["frames_sent"],
        broadcast=record["broadcast"],
        accepted=record["accepted"],
        median=_shown(record["mtre_median_mm"], 2),
        largest=_shown(record["mtre_max_mm"], 2),
        rotation=_shown(record["rotation_median_deg"], 2),
        depth=_shown(record["depth_median_mm"], 2),
        in_plane=_shown(record["in_plane_median_mm"], 2),
        seconds=_shown(record["seconds_median"], 2),
        latency=_shown(record["latency_median_s"], 2),
        first_start=_shown(record["first_start_mtre_mm"], 1),
        step_deg=f"{step:.1f}",
        limit=f"{limit:g}",
        size=f"{about.camera.width} × {about.camera.height}",
        pitch=f"{about.camera.pixel_pitch_mm[0]:.3f}",
        sdd=f"{about.camera.sdd_mm:g}",
        arc=_arc_text(about.arc),
        preset=about.preset,
        seed=about.seed,
        device=about.device,
        vertebrae=f"{labels[0]} to {labels[-1]}" if labels else "none",
        vertebra_count=len(labels),
        targets=about.target_count,
        ct_shape=" × ".join(map(str, about.ct.shape_ijk)),
        ct_spacing=spacing,
        ct_sha=about.ct.sha256,
        attribution=ATTRIBUTION,
        version=record["version"],
        total=f"{about.live_s:.0f}",
        chart=demo_chart.errors_svg(scores, limit),
        time_chart=demo_chart.seconds_svg(scores),
        table=demo_chart.table_rows(scores),
        data=json.dumps({"frames": frames, "scores": [s.to_dict() for s in scores]}),
    )


def _outcome(record: dict[str, Any]) -> str:
    if record["problems"]:
        return "The demo failed"
    return (
        f"All {record['broadcast']} poses on /tf are right: at most "
        f"{record['mtre_max_mm']:.2f} mm off"
    )


def _arc_text(arc: Arc) -> str:
    def angle(value: float, plus: str, minus: str) -> str:
        return f"{plus if value >= 0 else minus} {abs(value):g}°"

    (a0, a1), (b0, b1) = arc.primary_deg, arc.secondary_deg
    return (
        f"{angle(a0, 'LAO', 'RAO')} / {angle(b0, 'CRAN', 'CAUD')} to "
        f"{angle(a1, 'LAO', 'RAO')} / {angle(b1, 'CRAN', 'CAUD')}"
    )


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
