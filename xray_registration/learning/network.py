"""The regressor's network: a small residual network, votes, and a mixture of poses about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from xray_registration.errors import InputError
from xray_registration.learning.canonical import CHANNELS

NUMBERS = 6
Maps = tuple[Tensor, Tensor, Tensor]
"""What goes into a patient's own stages, and what the third and the fourth make of pictures."""
PARTS = ("stem", "stages.0", "stages.1", "stages.2", "stages.3")
"""What a `PoseNetwork` sees with, in order; the rest of it votes and counts."""
OF_PATIENTS = "own"
"""Name of `CrowdNetwork`'s weights that another patient has no use for."""
# 6 mm: finer is the optimiser's business. The gradient of a likelihood grows as 1 / scale, so that
# without a floor what is learned first (the place) drowns what is learned last (the depth).
_SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE = -1.6, 2.0


@dataclass(frozen=True)
class NetworkConfig:
    """Attributes: width of the first stage; blocks per stage; hypotheses of the mixture; hidden
    units; side of the patches that become channels first; channels of the map that votes; how
    many stages, up to the third, are there twice: one learns a patient, the other stays.
    """

    width: int = 32
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    hypotheses: int = 6
    hidden: int = 256
    patch: int = 4
    vote_channels: int = 96
    patient_stages: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        # width 4 to 6: PyTorch 2.13 writes out of bounds in the convolutions' gradients (AVX2)
        if self.width < 8 or min(self.hidden, self.vote_channels) < 4 or self.hypotheses < 1:
            raise InputError(
                f"{self}: expected width >= 8, hidden and vote_channels >= 4, hypotheses >= 1."
            )
        if self.patient_stages not in range(4):
            raise InputError(f"patient_stages is {self.patient_stages}; expected 0 to 3.")
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise InputError(f"blocks is {self.blocks}; expected four stages of 1 or more.")


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
    """(B, 3, S, S) pictures to a `Mixture`, by votes.

    4x4 patches become channels first: as fast a stem as there is. Then every cell of the third
    stage's map, (S / 16)^2, says which six numbers it sees, the place as seen from itself, and how
    much its word on each of them counts. A head that took in the last map whole needed up to twice
    as many pictures: what it had learned of a vertebra in one place it had to learn again in all
    others, and for every field that blades leave.
    """

    places: Tensor

    def __init__(self, config: NetworkConfig, size: int, across: float) -> None:
        """Random weights.

        Args:
            config: its size.
            size: S, pixels; a multiple of 32.
            across: of the picture at the nominal distance, in the unit of the six numbers.
        """
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(CHANNELS * config.patch**2, config.width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(config.width),
            nn.ReLU(),
        )
        widths = [config.width * 2**stage for stage in range(len(config.blocks))]
        self.stages = nn.ModuleList(_stage(widths, n, config) for n in range(len(widths)))
        mixed = config.vote_channels
        self.near = nn.Conv2d(widths[2], mixed, 1, bias=False)
        own = range(3 - config.patient_stages, 3)
        self.patient = nn.ModuleDict({str(n): _stage(widths, n, config) for n in own})
        if own:
            self.kept = nn.Conv2d(widths[2], mixed, 1, bias=False)
            nn.init.zeros_(self.kept.weight)  # begins as the network without it
        self.wide = nn.Conv2d(widths[3], mixed, 1, bias=False)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(mixed),
            nn.ReLU(),
            nn.Conv2d(mixed, mixed, 3, 1, 1, bias=False),
            nn.BatchNorm2d(mixed),
            nn.ReLU(),
        )
        self.votes = nn.Conv2d(mixed, 2 * NUMBERS, 1)
        self.heard = nn.Linear(mixed * NUMBERS, config.hidden)
        self.agreed = nn.Linear(2 * NUMBERS, config.hidden)
        self.head = nn.Linear(config.hidden, config.hypotheses * (2 * NUMBERS + 1))
        self.frozen: tuple[str, ...] = ()
        cells = size // (4 * config.patch)
        places = torch.zeros(1, NUMBERS, cells, cells)
        middle = across * ((torch.arange(cells) + 0.5) / cells - 0.5)
        places[0, 0], places[0, 1] = middle[None, :], middle[:, None]
        self.register_buffer("places", places, persistent=False)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            # hypotheses that start alike would stay alike
            bias = self.head.bias.view(config.hypotheses, -1)
            bias[:, :NUMBERS].uniform_(-0.7, 0.7)
            bias[:, NUMBERS:] = 0.0

    def freeze(self, names: Sequence[str]) -> None:
        """Of the stem and the stages these stay as they are, statistics and all.

        Raises:
            InputError: a name that is none of `PARTS`.
        """
        unknown = sorted(set(names) - set(PARTS))
        if unknown:
            raise InputError(f"frozen: {unknown}; expected some of {list(PARTS)}.")
        self.frozen = tuple(name for name in PARTS if name in names)
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> PoseNetwork:
        """As of a module, but for the parts that are frozen."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward(self, x: Tensor | Maps, begun: bool = False) -> Mixture:
        """Of pictures (B, 3, S, S), or with ``begun`` of what `begin` has made of them."""
        features = self.features(x, begun)
        return self.counted(self.votes(features), features)

    @torch.no_grad()
    def begin(self, x: Tensor) -> Tensor | Maps:
        """What the first parts, as far as all of them are frozen, make of pictures."""
        if self.leading == len(PARTS):
            return self._maps(x)
        for part in self._parts()[: self.leading]:
            x = part(x)
        return x

    @property
    def leading(self) -> int:
        """How many parts `begin` runs: all, or of those before the third stage."""
        if len(self.frozen) == len(PARTS):
            return len(PARTS)
        return next(n for n, name in enumerate((*PARTS[:3], "")) if name not in self.frozen)

    def features(self, x: Tensor | Maps, begun: bool = False) -> Tensor:
        """(B, C, S / 16, S / 16) of pictures (B, 3, S, S), or of what `begin` made of them."""
        near, third, fourth = x if isinstance(x, tuple) else self._maps(x, begun)
        for stage in self.patient.values():
            near = stage(near)
        mixed = F.interpolate(self.wide(fourth), size=third.shape[2:], mode="nearest")
        mixed = mixed + self.near(near)
        if self.patient:
            mixed = mixed + self.kept(third)
        return torch.as_tensor(self.mix(mixed))

    def counted(self, votes: Tensor, features: Tensor) -> Mixture:
        """The mixture of votes (B, 12, h, w) and what is behind them, in single precision."""
        with torch.autocast(votes.device.type, enabled=False):
            return self._counted(votes.float(), features.float())

    def _parts(self) -> list[nn.Module]:
        return [self.get_submodule(name) for name in PARTS]

    def _maps(self, x: Tensor, begun: bool = False) -> Maps:
        made = [x]
        for part in self._parts()[self.leading if begun else 0 :]:
            made.append(part(made[-1]))
        return made[-2 - len(self.patient)], made[-2], made[-1]

    def _counted(self, votes: Tensor, features: Tensor) -> Mixture:
        """Weighted means of the votes (B, 12, h, w), and hypotheses about them."""
        numbers = (votes[:, :NUMBERS] + self.places).flatten(2)
        shares = votes[:, NUMBERS:].flatten(2).softmax(-1)  # (B, 6, h w)
        mean = (shares * numbers).sum(-1)
        spread = (shares * (numbers - mean[..., None]).abs()).sum(-1)
        # what is behind the votes for each number, and how they agree
        heard = torch.einsum("bkc,bdc->bkd", shares, features.flatten(2)).flatten(1)
        agreed = torch.cat((mean, (spread + 1e-2).log()), 1).detach()
        hidden = F.relu(self.heard(heard) + self.agreed(agreed))
        values = self.head(hidden).view(len(votes), self.config.hypotheses, -1)
        means = mean[:, None] + values[..., :NUMBERS]
        low, high = _SMALLEST_LOG_SCALE, _LARGEST_LOG_SCALE
        return Mixture(values[..., -1], means, values[..., NUMBERS:-1].clamp(low, high))


class CrowdNetwork(PoseNetwork):
    """A `PoseNetwork` that learns many patients at once.

    What a cell says of the pose depends on the patient: where his isocentre is, for one. All else
    is shared, and is what another patient's training can begin with: `votes` is what the patients
    have in common, `own` how each of them departs from it.
    """

    def __init__(self, config: NetworkConfig, size: int, across: float, patients: int) -> None:
        """Random weights; ``patients``: how many. Others as of `PoseNetwork`."""
        super().__init__(config, size, across)
        self.own = nn.Parameter(torch.zeros(patients, 2 * NUMBERS, config.vote_channels))

    def forward(
        self, x: Tensor | Maps, begun: bool = False, patients: Tensor | None = None
    ) -> Mixture:
        """Of pictures of patients (B,); None: of an average one."""
        features = self.features(x, begun)
        votes = self.votes(features)
        if patients is not None:
            votes = votes + (self.own[patients] @ features.flatten(2)).view_as(votes)
        return self.counted(votes, features)


def _stage(widths: Sequence[int], number: int, config: NetworkConfig) -> nn.Sequential:
    out, others = widths[number], config.blocks[number] - 1
    first = _Block(widths[max(0, number - 1)], out, 2 if number else 1)
    return nn.Sequential(first, *(_Block(out, out, 1) for _ in range(others)))
