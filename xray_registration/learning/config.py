"""Everything that decides a training, as frozen values: a YAML file of the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from xray_registration.errors import InputError
from xray_registration.learning.canonical import CanonicalCamera
from xray_registration.learning.crowd_bodies import CrowdConfig
from xray_registration.learning.network import PARTS, NetworkConfig
from xray_registration.learning.patients import VariantConfig
from xray_registration.learning.randomisation import RandomisationConfig


@dataclass(frozen=True)
class PoseRangeConfig:
    """`PoseSpace` without its isocentre, which belongs to the CT; see there."""

    primary_deg: float = 38.0
    secondary_deg: float = 22.0
    roll_deg: float = 12.0
    shift_mm: float = 36.0
    depth_mm: float = 70.0
    source_isocentre_mm: float = 700.0
    primary_centre_deg: float = 0.0
    secondary_centre_deg: float = 0.0
    roll_centre_deg: float = 0.0
    rotation_scale_mm: float = 100.0


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, a warm-up, then a cosine to zero over the second half; a moving average is kept.

    Attributes:
        learning_rate, weight_decay, warmup_steps, clip_norm: of AdamW.
        average: largest decay of the moving average of the weights, which is what is validated and
            saved; it grows from 0, so that a short run is not an average over its beginning.
        geodesic_weight: of the distance of the mixture's mean beside the likelihood.
        bf16: autocast the network where the machine has bfloat16 arithmetic (`has_bfloat16`).
        frozen: parts of the network (`network.PARTS`) that stay as the weights that the training
            starts from have them, and cost less time.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    clip_norm: float = 5.0
    average: float = 0.998
    geodesic_weight: float = 4.0
    bf16: bool = True
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "frozen", tuple(self.frozen))
        if not set(self.frozen) <= set(PARTS):
            raise InputError(f"frozen is {list(self.frozen)}; expected some of {list(PARTS)}.")
        if not (self.learning_rate > 0 and 0 <= self.average < 1 and self.clip_norm > 0):
            raise InputError(f"{self}: expected learning_rate, clip_norm > 0, average in [0, 1).")
        if min(self.weight_decay, self.warmup_steps, self.geodesic_weight) < 0:
            raise InputError(f"{self}: expected numbers that are not negative.")


@dataclass(frozen=True)
class TrainingConfig:
    """A regressor's training.

    Attributes:
        seed: of everything.
        minutes: of training; the learning rate follows the clock, so a slower machine trains on
            fewer pictures but ends its schedule.
        steps: instead of minutes: a fixed number, for results that are the same everywhere.
        batch_size: pictures in a step, on every process.
        spacing_mm: of the volumes that are rendered.
        repeats: how often every batch is learned from, some hundred steps apart; for trainings that
            learn faster than pictures are made.
        mild_batches: over so many the disturbances grow from a fifth of their probability to all.
        validate_every: steps between validations; held_out_batches: in each of them.
        patience: validations without a better median before the training ends; 0: never.
        save_every_s: seconds between saved states.
        pose, canonical, network, variants, randomisation, optimiser: see there.
        crowd: patients made up from the CTs, whom a network to start others from is trained on.
    """

    seed: int = 0
    minutes: float = 30.0
    steps: int | None = None
    batch_size: int = 16
    spacing_mm: float = 3.0
    repeats: int = 1
    mild_batches: int = 2500
    validate_every: int = 500
    held_out_batches: int = 16
    patience: int = 0
    save_every_s: float = 60.0
    pose: PoseRangeConfig = field(default_factory=PoseRangeConfig)
    canonical: CanonicalCamera = field(default_factory=CanonicalCamera)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)
    randomisation: RandomisationConfig = field(default_factory=RandomisationConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    crowd: CrowdConfig = field(default_factory=CrowdConfig)

    def __post_init__(self) -> None:
        whole = ("batch_size", "repeats", "validate_every", "held_out_batches")
        if any(getattr(self, name) < 1 for name in whole) or self.patience < 0:
            raise InputError(f"{', '.join(whole)} must be 1 or more, patience 0 or more.")
        if not self.minutes > 0 or (self.steps is not None and self.steps < 1):
            raise InputError(f"minutes is {self.minutes}, steps {self.steps}; expected > 0.")
        if self.network.patient_stages and set(self.optimiser.frozen) != set(PARTS):
            raise InputError(
                f"network.patient_stages learn beside parts that stay: expected {list(PARTS)} as "
                f"optimiser.frozen, not {list(self.optimiser.frozen)}."
            )
        if not (self.spacing_mm > 0 and self.save_every_s >= 0):
            raise InputError("spacing_mm must be positive, save_every_s 0 or more.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for a YAML file."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, data: Any, source: str = "config") -> TrainingConfig:
        """From plain values; what is absent keeps its default, what is unknown is refused."""
        made: TrainingConfig = _made(cls, data, source)
        return made

    @classmethod
    def from_yaml(cls, path: Path) -> TrainingConfig:
        """A YAML file; errors name it and the place in it."""
        import yaml

        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML: {error}.") from error
        return cls.from_dict({} if data is None else data, str(path))


_NESTED: dict[str, type] = {
    "pose": PoseRangeConfig,
    "canonical": CanonicalCamera,
    "network": NetworkConfig,
    "variants": VariantConfig,
    "randomisation": RandomisationConfig,
    "optimiser": OptimiserConfig,
    "crowd": CrowdConfig,
}


def _made(kind: Any, data: Any, source: str) -> Any:
    if not isinstance(data, Mapping):
        raise InputError(f"{source} is {data!r}; expected a mapping.")
    names = {item.name for item in fields(kind)}
    unknown = sorted(set(data) - names, key=str)
    if unknown:
        raise InputError(f"{source}: unknown {unknown}; expected some of {sorted(names)}.")
    values = {
        key: _made(_NESTED[key], value, f"{source}: {key}")
        if kind is TrainingConfig and key in _NESTED
        else value
        for key, value in data.items()
    }
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except TypeError as error:
        raise InputError(f"{source}: a value has the wrong type: {error}") from error


def _plain(value: Any) -> Any:
    """Tuples as lists: what JSON and YAML read back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
