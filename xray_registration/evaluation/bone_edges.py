"""Edges of the CT's bone as a pose projects them: what must lie on the edges in the X-ray."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from xray_registration.geometry.camera import Camera
from xray_registration.imaging.patient import patient_mask
from xray_registration.imaging.volume import AIR_HU, CTVolume
from xray_registration.optional import require
from xray_registration.rendering import AttenuationVolume, JosephProjector

Matrix = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

BONE_HU = (150.0, 350.0)
"""Voxels fade in between: below lie muscle and organs, above cortical bone. A sharp threshold would
show the voxels' steps as edges."""

# Edges are found on at most this many columns: finer would draw the voxels of the CT.
_WIDEST = 768
_SMALLEST_PX = 8
# Share of the picture's bone pixels that a strong edge, and its weak continuation, are among.
_STRONG, _WEAK = 0.93, 0.72


class BoneRenderer:
    """Renders the bone of one CT, without soft tissue. Build it once per patient."""

    def __init__(
        self,
        ct: CTVolume,
        bone_hu: tuple[float, float] = BONE_HU,
        mask: npt.NDArray[np.bool_] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Keep what is bone.

        Args:
            ct: the patient.
            bone_hu: HU at which voxels begin to count, and from which on they count fully.
            mask: (D, H, W) on the CT's grid, True = may count, e.g. some structures of a label map;
                None: the patient without couch and head holder.
            device: where to render.

        Raises:
            InputError: there is no bone.
        """
        low, high = bone_hu
        mask = patient_mask(ct) if mask is None else mask
        kept = ct.cropped_to(mask=mask, margin_mm=3.0)
        hu = kept.hu.astype(np.float32)
        share = np.clip((hu - low) / (high - low), 0.0, 1.0) * _part(mask, ct, kept)
        bone = replace(kept, hu=(hu - AIR_HU) * share + AIR_HU)
        volume = AttenuationVolume.from_ct(bone, device=device)
        self._projector = JosephProjector(volume)
        ends = np.array([np.full(3, -0.5), np.array(volume.shape_ijk) - 0.5])
        index = np.stack(np.meshgrid(*ends.T, indexing="ij"), -1).reshape(-1, 3)
        affine = volume.lps_from_index
        self._corners_lps_mm = index @ affine[:3, :3].T + affine[:3, 3]

    def image(self, camera_from_ct: Matrix, camera: Camera) -> Image:
        """(H, W) line integrals through the bone alone; ``camera_from_ct`` (4, 4) LPS mm."""
        pose = torch.from_numpy(np.array(camera_from_ct, dtype=np.float64))[None]
        with torch.no_grad():
            picture = self._projector.image(pose, camera)[0]
        return np.asarray(picture.cpu().numpy(), dtype=np.float32)

    def edges(self, camera_from_ct: Matrix, camera: Camera) -> Image:
        """(H, W) opacity 0..1 of the bone's edges (Canny, on at most 768 columns of the bone)."""
        cv2 = require("cv2", pip="opencv-python-headless")
        edges = np.zeros((camera.height, camera.width), np.float32)
        box = self.box_px(camera_from_ct, camera)
        if box is None:
            return edges
        x0, y0, width, height = box
        part = camera.cropped(x0, y0, width, height)
        small = part.scaled_to_width(min(width, _WIDEST))
        lines = bone_edge_lines(self.image(camera_from_ct, small))
        if (small.width, small.height) != (width, height):
            lines = cv2.resize(lines, (width, height), interpolation=cv2.INTER_LINEAR)
        edges[y0 : y0 + height, x0 : x0 + width] = lines
        # as thick as the outlines, whatever the size of the picture
        thick = max(1, round(1.5 * camera.width / 1024))
        return np.asarray(cv2.dilate(edges, np.ones((thick, thick), np.uint8)), np.float32)

    def box_px(
        self, camera_from_ct: Matrix, camera: Camera, margin: float = 0.05
    ) -> tuple[int, int, int, int] | None:
        """x0, y0, width, height of the picture's part that the bone is in; None: outside.

        ``margin``: added on every side, as a share of the bone's own size.
        """
        points = self._corners_lps_mm @ camera_from_ct[:3, :3].T + camera_from_ct[:3, 3]
        whole = np.array([[0, 0], [camera.width, camera.height]])
        if points[:, 2].min() > 1.0:
            pixels = camera.project(points)
            low, high = pixels.min(0), pixels.max(0)
            grown = margin * (high - low)
            box = np.stack([np.floor(low - grown), np.ceil(high + grown)])
            whole = np.clip(box, 0, whole[1]).astype(int)
        (x0, y0), (x1, y1) = whole
        if x1 - x0 < _SMALLEST_PX or y1 - y0 < _SMALLEST_PX:
            return None
        return int(x0), int(y0), int(x1 - x0), int(y1 - y0)


def _part(mask: npt.NDArray[np.bool_], whole: CTVolume, part: CTVolume) -> npt.NDArray[np.bool_]:
    """The mask of ``whole``'s grid on that of ``part``, which was cut out of it."""
    i, j, k = np.rint(whole.index_of_lps(part.lps_of_index(np.zeros(3)))).astype(int)
    depth, height, width = part.hu.shape
    return mask[k : k + depth, j : j + height, i : i + width]


def bone_edge_lines(bone: Image) -> Image:
    """(H, W) 0 or 1: Canny's edges of a bone picture; its thresholds follow the picture itself."""
    cv2 = require("cv2", pip="opencv-python-headless")
    # the root brings thin bone (ribs, processes) up to thick bone (the cranium, the pelvis)
    smooth = cv2.GaussianBlur(np.sqrt(np.maximum(bone, 0.0)), (0, 0), 1.6)
    along_x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0)
    along_y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    strength = np.hypot(along_x, along_y)
    on_bone = strength[smooth > 0.02 * max(float(smooth.max()), 1e-12)]
    if on_bone.size == 0 or float(on_bone.max()) == 0.0:
        return np.zeros(bone.shape, np.float32)
    strong, weak = np.quantile(on_bone, (_STRONG, _WEAK))
    # Canny takes 16 bit gradients
    scale = 30000.0 / float(strength.max())
    lines = cv2.Canny(
        np.round(along_x * scale).astype(np.int16),
        np.round(along_y * scale).astype(np.int16),
        float(weak * scale),
        float(strong * scale),
        L2gradient=True,
    )
    return (lines > 0).astype(np.float32)
