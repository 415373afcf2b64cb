"""bfloat16 only where the machine has it: elsewhere it is many times slower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.precision import has_bfloat16
from xray_registration.learning.training import regressor_task


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"architecture": "aarch64", "sve_bf16": True}, True),
        ({}, False),
    ],
)
def test_what_the_processor_says(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16("cpu") is expected


def test_an_older_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bfloat16()


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_the_network_learns_in_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    wanted: bool,
    there: bool,
) -> None:
    module = "xray_registration.learning.regressor_task"
    monkeypatch.setattr(f"{module}.has_bfloat16", lambda _: there)
    config = replace(tiny, optimiser=replace(tiny.optimiser, bf16=wanted))
    task = regressor_task([phantom], [isocentre], config)
    kinds = []
    first = next(layer for layer in task.model.modules() if isinstance(layer, torch.nn.Conv2d))
    first.register_forward_hook(lambda *hook: kinds.append(hook[2].dtype))
    stream = task.batches(0, 1)
    task.loss(task.model, next(stream))
    stream.close()
    assert kinds == [torch.bfloat16 if wanted and there else torch.float32]
