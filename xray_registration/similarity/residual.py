"""What a registration level asks of a similarity."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class PictureTarget(Protocol):
    """The fixed picture, prepared once per level; ``weight`` (H, W) in 0..1 is 0 where masked."""

    @property
    def weight(self) -> Tensor: ...


class PictureResidual(Protocol):
    """Two pictures -> a residual whose half square is small where they are alike.

    A target is whatever the similarity's own ``target`` has made. ``smoothing_px``: Gaussian before
    anything else; ``window_px``: how far a neighbourhood reaches; ``reach_px``: so close to a pixel
    that must not count, none counts.
    """

    @property
    def smoothing_px(self) -> float: ...

    @property
    def window_px(self) -> float: ...

    @property
    def reach_px(self) -> int: ...

    def target(self, fixed: Tensor, mask: Tensor) -> Any:
        """Of a picture (H, W) with its mask (H, W) bool, True = usable."""

    def with_jacobian(self, moving: Tensor, jacobian: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Residual (B, c, H, W) and derivative (B, Q, c, H, W) of pictures (B, H, W) from theirs,
        (B, Q, H, W).
        """

    def correlation(self, moving: Tensor, target: Any, weight: Tensor) -> Tensor:
        """Likeness (B,) in -1..1 over the pixels weighted by ``weight`` (B, H, W)."""
