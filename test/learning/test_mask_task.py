"""The network that finds metal and blades: pictures with a known truth, loss, checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.learning.checkpoint import AGNOSTIC, load_checkpoint, save_checkpoint
from xray_registration.learning.config import OptimiserConfig
from xray_registration.learning.mask_network import (
    BLADES,
    KIND,
    METAL,
    MaskNetwork,
    MaskNetworkConfig,
    mask_input,
    mask_network_from,
)
from xray_registration.learning.mask_task import MaskTask, disturbed_with_truth, mask_facts
from xray_registration.learning.stream import Subject
from xray_registration.learning.trainer import Schedule, Trainer

SMALL = MaskNetworkConfig((8, 12, 16), pixel_mm=3.0)


@pytest.fixture(scope="module")
def task(subject: Subject) -> MaskTask:
    return MaskTask([subject], SMALL, 0, size=64, batch_size=4, held_out_batches=1)


def test_a_batch_is_a_function_of_its_number(task: MaskTask) -> None:
    batch, again = task.batch(0, 3), task.batch(0, 3)
    torch.testing.assert_close(again.inputs, batch.inputs, rtol=0, atol=0)
    assert not torch.equal(task.batch(0, 4).inputs, batch.inputs)
    assert not torch.equal(task.batch(1, 3).inputs, batch.inputs)
    assert batch.inputs.shape == (4, 3, 64, 64)
    assert batch.truth.shape == batch.counted.shape == (4, 2, 64, 64)


def test_metal_counts_in_the_open_field_and_blades_where_the_receiver_missed_them() -> None:
    lines = 2.0 + torch.rand(16, 96, 96)
    batch = disturbed_with_truth(lines, (1, 2), 1.25)
    metal, blades = batch.truth[:, METAL], batch.truth[:, BLADES]
    assert metal.any()
    assert blades.any()
    assert not (batch.counted[:, METAL] * blades).any()
    assert (batch.counted[:, BLADES] * blades).any()
    # the third input is the receiver's mask, on which everything rests
    torch.testing.assert_close(batch.counted[:, BLADES], batch.inputs[:, 2])


def test_the_input_knows_no_window() -> None:
    picture, usable = torch.rand(2, 40, 50), torch.ones(2, 40, 50, dtype=torch.bool)
    usable[:, :, :9] = False
    expected = mask_input(picture, usable)
    torch.testing.assert_close(mask_input(3 * picture + 2, usable), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (37, 81)])
def test_any_size_of_picture(size: tuple[int, int]) -> None:
    assert MaskNetwork(SMALL).eval()(torch.rand(1, 3, *size)).shape == (1, 2, *size)


def test_it_learns_one_batch(task: MaskTask) -> None:
    batch = task.batch(0, 0)
    torch.manual_seed(1)
    network = MaskNetwork(SMALL)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    values = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = task.loss(network, batch)
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.5 * values[0]


def test_training_and_checkpoint(task: MaskTask, tmp_path: Path) -> None:
    settings = OptimiserConfig(bf16=False, average=0.0)
    schedule = Schedule(1.0, 2, 2, 0, 1e9)
    trained = Trainer(task, settings, schedule, tmp_path, mask_facts(SMALL)).run()
    assert np.isfinite(list(trained.figures.values())).all()
    path = tmp_path / "picture_mask.json"
    save_checkpoint(path, trained.weights, {**mask_facts(SMALL), "ct_sha256": AGNOSTIC})
    loaded = load_checkpoint(path, KIND)
    network = mask_network_from(loaded)
    assert network.config == SMALL
    assert not network.training
    broken = replace(loaded, facts={**loaded.facts, "network": {"widths": [8, 12]}})
    with pytest.raises(InputError, match="does not describe a mask network"):
        mask_network_from(broken)


def test_bad_values() -> None:
    with pytest.raises(InputError, match="expected two widths or more"):
        MaskNetworkConfig((8,))
