"""A C-arm's video picture: 8 bits through a monotone curve that nobody wrote down."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xray_registration.rendering.xray_model.config import DisplayConfig


def display_picture(
    intensity: NDArray[np.float32],
    field_mask: NDArray[np.bool_],
    circle: NDArray[np.float32],
    config: DisplayConfig,
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], Literal["bone_dark", "bone_bright"], dict[str, Any]]:
    """The picture, its polarity, and the curve that was drawn.

    Args:
        intensity: (H, W) detected signal, bone dark.
        field_mask: (H, W) pixels of the open field; the window is set from them.
        circle: (H, W) share 0..1 inside a round intensifier; the rest is black in either polarity.
        config: ranges to draw from.
        random: source of the draws.
    """
    low = float(random.uniform(*config.low_percentile))
    high = float(random.uniform(*config.high_percentile))
    gamma = float(random.uniform(*config.gamma))
    steepness = float(random.uniform(*config.sigmoid_steepness))
    scale = str(random.choice(config.scales))
    bright = bool(random.integers(2)) if config.polarity == "random" else False
    bright = bright or config.polarity == "bone_bright"

    # one thousandth of the brightest value: where a display's logarithm ends
    floor = max(float(intensity.max()), 1e-6) * 1e-3
    positive = np.maximum(intensity, floor if scale == "log" else 0.0)
    values = positive
    if scale != "linear":
        values = np.log(positive) if scale == "log" else np.sqrt(positive)
    inside = values[field_mask] if field_mask.any() else values.ravel()
    black, white = np.percentile(inside, (low, high))
    grey = np.clip((values - black) / max(float(white - black), 1e-6), 0.0, 1.0)
    if bright:
        grey = 1.0 - grey
    grey = grey**gamma
    if steepness > 0.1:
        ends = 1.0 / (1.0 + np.exp(steepness * np.array([0.5, -0.5])))
        grey = (1.0 / (1.0 + np.exp(-steepness * (grey - 0.5))) - ends[0]) / (ends[1] - ends[0])
    picture = np.rint(255.0 * np.clip(grey, 0.0, 1.0) * circle).astype(np.uint8)
    drawn = {
        "low_percentile": low,
        "high_percentile": high,
        "gamma": gamma,
        "sigmoid_steepness": steepness,
        "scale": scale,
    }
    return picture, "bone_bright" if bright else "bone_dark", drawn
