"""Does the picture look like the CT from this pose, or rather mirrored, or with other axes?

A rendering and the picture are compared by the strength of their edges on about a hundred columns:
this needs no knowledge of window and polarity. They may be shifted against each other by an eighth
of the picture, so a pose that is some centimetres off is forgiven.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from xray_registration.evaluation.geometry_check.finding import Finding, hint, note, warning
from xray_registration.evaluation.geometry_check.scene import Scene, candidates, plausible
from xray_registration.geometry.checks import check_rigid
from xray_registration.optional import require
from xray_registration.rendering import AttenuationVolume, JosephProjector

Image = NDArray[np.float32]

_COLUMNS = 112
_BLUR_PX = 1.5
_AROUND_PX = 6.0
_SHIFT = 0.12
_CLEAR, _SMALL, _LIKE = 0.08, 0.02, 0.25


def likeness_findings(scene: Scene, picture: Image) -> list[Finding]:
    """What the picture says: mirrored, upside down, other CT axes; or how alike it is.

    Args:
        scene: with a rigid pose that puts the CT into the picture.
        picture: (height, width) grey values of the camera's size, any window and polarity.
    """
    scores = likenesses(scene, picture)
    as_it_is = scores.pop("as_it_is")
    code = max(scores, key=lambda name: scores[name])
    best = scores[code]
    # Alike either way, as with the outline of a symmetric body: then what is left counts.
    clear = best > as_it_is + _CLEAR or (
        best > as_it_is + _SMALL and 1.0 - best < 0.5 * (1.0 - as_it_is)
    )
    if best > _LIKE and clear:
        return [hint(code, f"{_WORDS[code]} (likeness {best:.2f} against {as_it_is:.2f}).")]
    if as_it_is < _LIKE:
        return [
            warning(
                "unlike",
                f"the picture hardly resembles the CT from this pose (likeness {as_it_is:.2f}, "
                f"same pose {_LIKE:g} or more): another patient or level, or a pose far off.",
            )
        ]
    return [note("likeness", f"the picture resembles the CT from this pose ({as_it_is:.2f}).")]


_WORDS = {
    "image_mirrored": "the picture resembles the CT more when it is mirrored left to right: "
    "flip_horizontal?",
    "image_upside_down": "the picture resembles the CT more when it is turned by 180 degrees",
    "image_ras": "the picture resembles the CT more with the other of LPS and RAS as CT axes",
}


def likenesses(scene: Scene, picture: Image) -> dict[str, float]:
    """Code to correlation (-1..1); ``as_it_is`` is the first."""
    cv2 = require("cv2", pip="opencv-python-headless")
    camera = scene.camera.scaled_to_width(min(_COLUMNS, scene.camera.width))
    size = (camera.width, camera.height)
    small = cv2.resize(np.asarray(picture, np.float32), size, interpolation=cv2.INTER_AREA)
    projector = JosephProjector(AttenuationVolume.from_ct(scene.ct))

    def rendered(pose: NDArray[np.float64]) -> list[Image]:
        """Edges of line integrals and of intensities: a picture may be windowed as either."""
        rigid = torch.from_numpy(check_rigid(pose, "pose"))[None]
        with torch.no_grad():
            integrals = projector.image(rigid, camera)[0].numpy()
        return [_edges(integrals), _edges(np.exp(-integrals))]

    def best(fixed: Image, moving: list[Image]) -> float:
        return max(_correlation(fixed, edges) for edges in moving)

    fixed, moving = _edges(small), rendered(scene.camera_from_ct)
    scores = {
        "as_it_is": best(fixed, moving),
        "image_mirrored": best(fixed[:, ::-1], moving),
        "image_upside_down": best(fixed[::-1, ::-1], moving),
    }
    other, _ = candidates(scene)["pose_ras"]
    if plausible(scene, other):
        scores["image_ras"] = best(fixed, rendered(other))
    return scores


def _edges(image: Image) -> Image:
    cv2 = require("cv2", pip="opencv-python-headless")
    smooth = cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), _BLUR_PX)
    strength = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    # the skin's, a collimator's or a plate's border must not outweigh the bone: relative to the
    # edges around, with a floor above the noise
    around = cv2.GaussianBlur(strength, (0, 0), _AROUND_PX)
    strength = strength / (around + 0.05 * float(np.quantile(strength, 0.95)) + 1e-12)
    return np.asarray(cv2.GaussianBlur(strength, (0, 0), _BLUR_PX), np.float32)


def _correlation(fixed: Image, moving: Image) -> float:
    """Of the middle of ``moving`` where it fits best: a pose may be off by some centimetres."""
    cv2 = require("cv2", pip="opencv-python-headless")
    height, width = moving.shape
    dy, dx = round(_SHIFT * height), round(_SHIFT * width)
    middle = moving[dy : height - dy, dx : width - dx]
    if float(np.ptp(middle)) == 0.0 or float(np.ptp(fixed)) == 0.0:
        return 0.0
    found = cv2.matchTemplate(np.ascontiguousarray(fixed), np.ascontiguousarray(middle),
                              cv2.TM_CCOEFF_NORMED)  # fmt: skip
    return float(np.nan_to_num(found, posinf=0.0, neginf=0.0).max())
