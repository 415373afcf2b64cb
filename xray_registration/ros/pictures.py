"""The pictures for people: the X-ray with the anatomy and the plan drawn on it, and the DRR."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xray_registration.evaluation.bone_edges import BoneRenderer
from xray_registration.evaluation.overlay import Structures, draw
from xray_registration.geometry.camera import Camera
from xray_registration.optional import require
from xray_registration.rendering import AttenuationVolume, JosephProjector
from xray_registration.ros.frame_processor import FrameProcessor, Shot
from xray_registration.ros.guidance_plan import Trajectory
from xray_registration.ros.registration_settings import RegistrationSettings

Matrix = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

PLAN: tuple[int, int, int] = (255, 220, 0)
# A DRR is rendered on at most this many columns of a volume of at least these voxels.
_DRR_WIDTH, _DRR_SPACING_MM = 512, 1.0
_SUBPIXEL_BITS = 4


class Painter:
    """Draws shots of one patient; what drawing needs is made when it is first drawn."""

    def __init__(self, processor: FrameProcessor, settings: RegistrationSettings) -> None:
        self._ct, self._labels = processor.ct, processor.labels
        self._patterns, self._device = settings.overlay_labels, settings.device
        self._energy_kev = settings.config.energy_kev
        self._structures: Structures | None = None
        self._bones: BoneRenderer | None = None
        self._projector: JosephProjector | None = None

    def overlay(
        self,
        shot: Shot,
        camera_from_ct: Matrix | None,
        accepted: bool,
        caption: str,
        trajectories: tuple[Trajectory, ...] = (),
    ) -> Picture:
        """(H, W, 3) RGB: named structures on the radiograph; without labels the bone's edges."""
        edges = None
        if self._structures is None and self._labels is not None:
            self._structures = Structures(self._labels, self._patterns)
        if camera_from_ct is not None and self._structures is None:
            if self._bones is None:
                self._bones = BoneRenderer(self._ct, device=self._device)
            edges = self._bones.edges(camera_from_ct, shot.camera)
        canvas = draw(
            shot.radiograph,
            shot.camera,
            camera_from_ct,
            self._structures,
            accepted=accepted,
            caption=caption,
            edges=edges,
        )
        if camera_from_ct is not None:
            for trajectory in trajectories:
                draw_trajectory(canvas, trajectory, camera_from_ct, shot.camera)
        return canvas

    def drr(self, shot: Shot, camera_from_ct: Matrix) -> Picture:
        """(H, W) bone bright: what the CT would look like from here, as large as the image."""
        cv2 = require("cv2", pip="opencv-python-headless")
        if self._projector is None:
            volume = AttenuationVolume.from_ct(
                self._ct,
                spacing_mm=_DRR_SPACING_MM,
                energy_kev=self._energy_kev,
                isolate_patient=True,
                device=self._device,
            )
            self._projector = JosephProjector(volume)
        camera = shot.camera
        small = camera.scaled_to_width(min(camera.width, _DRR_WIDTH))
        pose = torch.from_numpy(np.array(camera_from_ct, dtype=np.float64))[None]
        with torch.no_grad():
            lines = self._projector.image(pose, small)[0].cpu().numpy()
        low, high = np.percentile(lines[::3, ::3], (1.0, 99.7))
        grey = np.clip((lines - low) / max(float(high - low), 1e-12), 0.0, 1.0)
        picture = (255.0 * grey).astype(np.uint8)
        size = (camera.width, camera.height)
        if picture.shape != size[::-1]:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(picture, np.uint8)


def draw_trajectory(
    canvas: Picture, trajectory: Trajectory, camera_from_ct: Matrix, camera: Camera
) -> None:
    """A line from entry (ring) to target (dot) and the name, into the picture (H, W, 3)."""
    cv2 = require("cv2", pip="opencv-python-headless")
    ends = np.stack([trajectory.entry_lps_mm, trajectory.target_lps_mm])
    ends = ends @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3]
    if ends[:, 2].min() <= 1.0:  # at or behind the focal spot
        return
    # far outside of the picture OpenCV's whole numbers would run over
    pixels = np.clip(camera.project(ends), -4 * camera.width, 5 * camera.width)
    entry, target = (tuple(int(v) for v in np.rint(point * 2**_SUBPIXEL_BITS)) for point in pixels)
    scale = camera.width / 1024.0
    thickness = max(1, round(2.0 * scale))
    radius = round(6.0 * scale * 2**_SUBPIXEL_BITS)
    style = {"lineType": cv2.LINE_AA, "shift": _SUBPIXEL_BITS}
    cv2.line(canvas, entry, target, PLAN, thickness, **style)
    cv2.circle(canvas, entry, radius, PLAN, thickness, **style)
    cv2.circle(canvas, target, radius // 2, PLAN, -1, **style)
    at = (round(float(pixels[0, 0]) + 9 * scale), round(float(pixels[0, 1]) - 9 * scale))
    size = max(0.3, 0.6 * scale)
    cv2.putText(
        canvas, trajectory.name, at, cv2.FONT_HERSHEY_SIMPLEX, size, PLAN, thickness, cv2.LINE_AA
    )
