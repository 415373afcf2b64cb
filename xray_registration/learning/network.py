"""The regressor's network: a small residual network and a mixture of poses at its end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.learning.canonical import CHANNELS

NUMBERS = 6
# 6 mm: finer is the optimiser's business. The gradient of a likelihood grows as 1 / scale, so that
# without a floor what is learned first (the place) drowns what is learned last (the depth).
_SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE = -1.6, 2.0


@dataclass(frozen=True)
class NetworkConfig:
    """Attributes: width of the first stage; blocks per stage; hypotheses of the mixture; hidden
    units; side of the patches that become channels first.
    """

    width: int = 32
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    hypotheses: int = 6
    hidden: int = 256
    patch: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        # width 4 to 6: PyTorch 2.13 writes out of bounds in the convolutions' gradients (AVX2)
        if self.width < 8 or self.hidden < 4 or self.hypotheses < 1 or len(self.blocks) != 4:
            raise InputError(
                f"{self}: expected width >= 8, hidden >= 4, hypotheses >= 1, four stages."
            )


@dataclass(frozen=True)
class Mixture:
    """A distribution of the six numbers of `PoseSpace.encode`.

    Attributes:
        logits: (B, K) of the weights.
        means: (B, K, 6).
        log_scales: (B, K, 6) of independent Laplace distributions.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor

    @property
    def weights(self) -> Tensor:
        """(B, K), they sum to 1."""
        return self.logits.softmax(-1)

    def log_density(self, numbers: Tensor) -> Tensor:
        """(B,) of numbers (B, 6)."""
        off = (numbers[:, None] - self.means).abs() * torch.exp(-self.log_scales)
        each = -(off + self.log_scales).sum(-1)
        return torch.logsumexp(self.logits.log_softmax(-1) + each, -1)

    @property
    def mean(self) -> Tensor:
        """(B, 6) of the whole mixture."""
        return (self.weights[..., None] * self.means).sum(1)


class _Block(nn.Module):
    """Two 3x3 convolutions and a way around them.

    Batch normalisation: on CPUs it trains twice as many images a second as group normalisation
    (172 against 96 per core at width 32), and a batch holds many poses of one patient.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        nn.init.zeros_(self.second_norm.weight)  # every block starts as the identity
        same = channels == out and stride == 1
        self.around = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.around(x))


class PoseNetwork(nn.Module):
    """(B, 3, S, S) pictures to a `Mixture`; S is fixed, since the last map is not averaged.

    4x4 patches become channels first: as fast a stem as there is. The last map (S / 32)^2 goes into
    the head whole: an average would forget where the anatomy is seen.
    """

    def __init__(self, config: NetworkConfig, size: int) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(CHANNELS * config.patch**2, config.width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
        ]
        channels = config.width
        for stage, blocks in enumerate(config.blocks):
            for block in range(blocks):
                out = config.width * 2**stage
                layers.append(_Block(channels, out, 2 if stage and not block else 1))
                channels = out
        self.trunk = nn.Sequential(*layers)
        cells = (size // (8 * config.patch)) ** 2
        self.neck = nn.Linear(channels * cells, config.hidden)
        self.head = nn.Linear(config.hidden, config.hypotheses * (2 * NUMBERS + 1))
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            # hypotheses that start alike would stay alike
            bias = self.head.bias.view(config.hypotheses, -1)
            bias[:, :NUMBERS].uniform_(-0.7, 0.7)
            bias[:, NUMBERS:] = 0.0

    def forward(self, x: Tensor) -> Mixture:
        features = self.trunk(x).flatten(1)
        hidden = F.relu(self.neck(features))
        with torch.autocast(x.device.type, enabled=False):
            values = self.head(hidden.float()).view(len(x), self.config.hypotheses, -1)
        low, high = _SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE
        log_scales = values[..., NUMBERS:-1].clamp(low, high)
        return Mixture(values[..., -1], values[..., :NUMBERS], log_scales)
