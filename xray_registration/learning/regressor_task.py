"""What a trainer needs to train a pose regressor."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from xray_registration.geometry import transform_points
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.losses import regressor_loss
from xray_registration.learning.network import Mixture, PoseNetwork
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.precision import has_bfloat16
from xray_registration.learning.stream import Batch, Repeated, made_ahead

_BOX_MM = (25.0, 25.0, 45.0)  # half edges of the box whose corners errors are measured at


class Stream(Protocol):
    """Where pictures come from."""

    def batch(self, number: int) -> Batch:
        """Training batch ``number``."""

    def held_out(self, number: int) -> Batch:
        """Batch ``number`` of another stream."""


class RegressorTask:
    """Network, stream, loss and figures.

    Attributes:
        model: what is trained.
        space: of the poses; of the first patient's where there are several.
        autocasts: whether the network runs in bfloat16 while it learns.
    """

    def __init__(
        self,
        network: PoseNetwork,
        stream: Stream,
        space: PoseSpace,
        config: TrainingConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        """Put together; a batch that says of whom it is goes to the network with that.

        Frozen parts of the network see a picture where it is made.
        """
        self.space = space
        channels_last: Any = network
        self.model: PoseNetwork = channels_last.to(memory_format=torch.channels_last)
        self._config = config
        self._device = torch.device(device)
        self.autocasts = config.optimiser.bf16 and has_bfloat16(device)
        self._stream = stream
        self._held_out: list[Batch] = []

    def batches(self, first: int, step: int) -> Generator[Batch, None, None]:
        """See `trainer.Task`."""
        make, makers = self._stream.batch, 1
        if self.model.leading:
            # what is left to learn takes less time than the pictures
            make, makers = self._begun, 2
        if self._config.repeats > 1:
            make = Repeated(make, self._config.repeats, step)
        return made_ahead(make, first, step, makers=makers)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `trainer.Task`."""
        settings = self._config.optimiser
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.autocasts):
            mixture = self._mixture(model, batch, begun=True)
        numbers = batch.numbers.to(self._device)
        return regressor_loss(mixture, numbers, self.space, settings.geodesic_weight)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Errors at the corners of a box about the isocentre, mm; the score is their median."""
        if not self._held_out:
            count = self._config.held_out_batches
            self._held_out = [self._stream.held_out(n) for n in range(count)]
        errors, densities = [], []
        for batch in self._held_out:
            mixture = self._mixture(model, batch)
            numbers = batch.numbers.to(self._device)
            densities.append(mixture.log_density(numbers))
            errors.append(self._errors_mm(mixture.mean, numbers))
        error, density = torch.cat(errors), torch.cat(densities)
        return {
            "score": float(error.median()),
            "median_mm": float(error.median()),
            "within_20_mm_percent": 100.0 * float((error < 20.0).double().mean()),
            "within_40_mm_percent": 100.0 * float((error < 40.0).double().mean()),
            "negative_log_likelihood": -float(density.mean()),
        }

    def _begun(self, number: int) -> Batch:
        batch = self._stream.batch(number)
        inputs = self._inputs(batch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.autocasts):
            return replace(batch, inputs=self.model.begin(inputs))

    def _mixture(self, model: nn.Module, batch: Batch, begun: bool = False) -> Mixture:
        inputs = self._inputs(batch)
        whose = {} if batch.patients is None else {"patients": batch.patients.to(self._device)}
        mixture: Mixture = model(inputs, begun, **whose)
        return mixture

    def _inputs(self, batch: Batch) -> Any:
        """On the model's device, where they are already if it has begun with them."""
        inputs = batch.inputs
        if isinstance(inputs, Tensor):
            return inputs.to(self._device, memory_format=torch.channels_last)
        return inputs

    def _errors_mm(self, estimate: Tensor, truth: Tensor) -> Tensor:
        steps = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
        points = steps.double() * torch.tensor(_BOX_MM, dtype=torch.float64) + self.space.centre
        points = points.to(estimate.device)
        there = [transform_points(self.space.decode(x.double()), points) for x in (estimate, truth)]
        return (there[0] - there[1]).norm(dim=-1).mean(-1)
