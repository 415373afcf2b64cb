"""Trainings of ten steps: resumed, killed, stopped, refused, distributed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import AGNOSTIC, load_checkpoint
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.network import PARTS
from xray_registration.learning.regressor import KIND, PoseRegressor, load_regressor
from xray_registration.learning.reporting import Reporter
from xray_registration.learning.training import train_regressor


def write_nifti(ct: CTVolume, path: Path) -> None:
    """With its place in LPS."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.array(ct.hu))
    image.SetSpacing(ct.spacing_mm.tolist())
    image.SetOrigin(ct.lps_from_index[:3, 3].tolist())
    sitk.WriteImage(image, str(path))


class _Interrupt(Reporter):
    """Ctrl-C after a number of steps."""

    def __init__(self, after: int) -> None:
        self._after = after

    def step(self, step: int, share: float, loss: float, seconds: float) -> None:
        if step == self._after:
            raise KeyboardInterrupt


def _train(ct, isocentre, config, folder: Path, **more) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    path = train_regressor([ct], [isocentre], config, folder, **more)
    return load_checkpoint(path, KIND).tensors


def _in_parts(ct, isocentre, config, folder: Path, after: int, **more) -> dict[str, torch.Tensor]:
    """Interrupted after a number of steps, and gone on with."""
    with pytest.raises(KeyboardInterrupt):
        _train(ct, isocentre, config, folder, reporter=_Interrupt(after), **more)
    assert not (folder / "regressor.json").exists()
    return _train(ct, isocentre, config, folder, **more)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    _train(phantom, isocentre, tiny, folder)
    return folder


def test_the_checkpoint_says_what_it_is(uninterrupted: Path, phantom: CTVolume) -> None:
    regressor, checkpoint = load_regressor(uninterrupted / "regressor.json")
    checkpoint.check_ct(phantom)
    facts = checkpoint.facts
    assert facts["ct_file"] == "phantom.nii"
    assert facts["pictures"] == 80
    assert facts["ended"] == "schedule"
    assert facts["validation"]["median_mm"] > 0
    assert facts["versions"]["torch"] == torch.__version__
    assert TrainingConfig.from_dict(facts["training"]).steps == 10
    assert regressor.canonical.size == 32


@pytest.mark.parametrize("after", [1, 5, 7])
def test_an_interrupted_training_ends_with_the_same_weights(
    uninterrupted: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    tmp_path: Path,
    after: int,
) -> None:
    resumed = _in_parts(phantom, isocentre, tiny, tmp_path, after)
    assert _same(resumed, load_checkpoint(uninterrupted / "regressor.json", KIND).tensors)


_VICTIM = """
import sys, numpy as np, torch
from dataclasses import replace
torch.set_num_threads(1)
sys.path.insert(0, {here!r})
from conftest import _phantom
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.reporting import Reporter
from xray_registration.learning.training import train_regressor
config = TrainingConfig.from_yaml({yaml!r})
class Say(Reporter):
    def step(self, step, share, loss, seconds):
        print(step, flush=True)
        if step == 6:
            import time; time.sleep(60)  # until the axe falls
train_regressor([_phantom()], [np.array([10.0, -20.0, 30.0])], config, {out!r}, reporter=Say())
"""


def test_killed_with_9_and_resumed(
    uninterrupted: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    tmp_path: Path,
) -> None:
    import yaml

    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump(tiny.to_dict()))
    out = tmp_path / "out"
    out.mkdir()
    here = str(Path(__file__).parent)
    code = _VICTIM.format(here=here, yaml=str(settings), out=str(out))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as victim:
        assert victim.stdout is not None
        for line in victim.stdout:
            if line.strip() == "6":
                break
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    assert not (out / "regressor.json").exists()
    resumed = _train(phantom, isocentre, tiny, out)
    assert _same(resumed, load_checkpoint(uninterrupted / "regressor.json", KIND).tensors)


def test_a_state_of_another_training_or_a_damaged_one_is_refused(
    uninterrupted: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    tmp_path: Path,
) -> None:
    state = (uninterrupted / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(state)
    with pytest.raises(InputError, match="another training: batch_size differ"):
        _train(phantom, isocentre, replace(tiny, batch_size=4), tmp_path)
    with pytest.raises(InputError, match="another training: cts differ"):
        _train(replace(phantom, sha256="0" * 64), isocentre, tiny, tmp_path)
    (tmp_path / "state.pt").write_bytes(state[: len(state) // 2])
    with pytest.raises(InputError, match=r"state\.pt: damaged"):
        _train(phantom, isocentre, tiny, tmp_path)


def test_it_stops_early_and_keeps_the_best(
    phantom: CTVolume, isocentre: np.ndarray, tiny: TrainingConfig, tmp_path: Path
) -> None:
    # a step so small that nothing becomes better: only the first validation counts
    still = replace(tiny.optimiser, learning_rate=1e-12, average=0.0)
    config = replace(tiny, steps=1000, validate_every=2, patience=2, optimiser=still)
    _train(phantom, isocentre, config, tmp_path)
    facts = load_checkpoint(tmp_path / "regressor.json", KIND).facts
    assert facts["ended"] == "no better on held-out poses"
    assert facts["steps"] <= 40


def test_several_patients_and_fine_tuning(
    phantom: CTVolume, isocentre: np.ndarray, tiny: TrainingConfig, tmp_path: Path
) -> None:
    other = replace(phantom, hu=phantom.hu[:, ::-1], sha256="ef" * 32)
    few = replace(tiny, steps=2)
    path = train_regressor([phantom, other], [isocentre, isocentre], few, tmp_path)
    agnostic = load_checkpoint(path, KIND)
    assert agnostic.ct_sha256 == AGNOSTIC
    still = replace(few, optimiser=replace(few.optimiser, learning_rate=1e-7))
    tuned = _train(phantom, isocentre, still, tmp_path / "own", init=agnostic)
    scratch = _train(phantom, isocentre, still, tmp_path / "scratch")
    name = "heard.weight"
    off = [(weights[name] - agnostic.tensors[name]).norm() for weights in (tuned, scratch)]
    assert off[0] < off[1] / 3  # it begins where the other training ended
    narrow = replace(few, network=replace(few.network, width=16, hidden=24, hypotheses=2, patch=2))
    with pytest.raises(InputError, match="tensors fit this network"):
        _train(phantom, isocentre, narrow, tmp_path / "narrow", init=agnostic)


def test_fine_tuning_with_frozen_parts_can_be_interrupted(
    uninterrupted: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    tmp_path: Path,
) -> None:
    frozen = ("stem", "stages.0", "stages.3")
    config = replace(tiny, optimiser=replace(tiny.optimiser, frozen=frozen))
    with pytest.raises(InputError, match=r"stages\.3 frozen, but there is nothing to start from"):
        _train(phantom, isocentre, config, tmp_path / "nothing")
    init = load_checkpoint(uninterrupted / "regressor.json", KIND)
    whole = _train(phantom, isocentre, config, tmp_path / "whole", init=init)
    parts = _in_parts(phantom, isocentre, config, tmp_path / "parts", 4, init=init)
    assert _same(parts, whole)
    for name, tensor in whole.items():
        if not name.endswith("num_batches_tracked"):
            kept = name.startswith(frozen)
            assert torch.equal(tensor, init.tensors[name]) == kept, name


def test_a_stage_for_the_patient_learns_beside_all_that_is_kept(
    uninterrupted: Path,
    phantom: CTVolume,
    isocentre: np.ndarray,
    tiny: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From pictures seen twice, and to the same weights when interrupted."""
    monkeypatch.setattr("xray_registration.learning.stream._APART", 2)
    config = replace(
        tiny,
        repeats=2,
        network=replace(tiny.network, patient_stages=2),
        optimiser=replace(tiny.optimiser, frozen=PARTS),
    )
    init = load_checkpoint(uninterrupted / "regressor.json", KIND)
    whole = _train(phantom, isocentre, config, tmp_path / "whole", init=init)
    parts = _in_parts(phantom, isocentre, config, tmp_path / "parts", 5, init=init)
    assert _same(parts, whole)
    once = replace(config, repeats=1)
    assert not _same(_train(phantom, isocentre, once, tmp_path / "once", init=init), whole)
    for name, tensor in init.tensors.items():
        if name.startswith(PARTS):
            assert torch.equal(tensor, whole[name]), name
            own = name.replace("stages.", "patient.")
            if own != name and own in whole and tensor.is_floating_point():
                assert not torch.equal(whole[own], tensor), name
    assert whole["kept.weight"].abs().max() > 0
    PoseRegressor.from_checkpoint(load_checkpoint(tmp_path / "parts" / "regressor.json", KIND))
    with pytest.raises(InputError, match="patient_stages learn beside parts that stay"):
        replace(config, optimiser=tiny.optimiser)


@pytest.mark.slow
def test_two_processes_of_torchrun(
    repository: Path, phantom: CTVolume, tiny: TrainingConfig, tmp_path: Path
) -> None:
    import yaml

    ct = tmp_path / "phantom.nii"
    write_nifti(phantom, ct)

    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump({**tiny.to_dict(), "steps": 4}))
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(repository / "training" / "train_regressor.py"), str(ct), "--quiet"),
        *("--out", str(out), "--config", str(settings)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=repository
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = load_checkpoint(out / "regressor.json", KIND).facts
    assert facts["steps"] == 4
    assert facts["pictures"] == 4 * 8 * 2
    assert done.stdout.count("checkpoint:") == 1


def test_settings_are_checked_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("network: {widht: 3}")
    with pytest.raises(InputError, match=r"t\.yaml: network: unknown \['widht'\]"):
        TrainingConfig.from_yaml(path)
    path.write_text("minutes: -1")
    with pytest.raises(InputError, match=r"t\.yaml: minutes"):
        TrainingConfig.from_yaml(path)
    path.write_text("randomisation: {metal: 7}")
    with pytest.raises(InputError, match=r"t\.yaml: randomisation: metal"):
        TrainingConfig.from_yaml(path)
    assert TrainingConfig.from_dict(TrainingConfig().to_dict()) == TrainingConfig()


def test_the_settings_in_the_repository_are_what_they_say() -> None:
    folder = Path(__file__).resolve().parents[2] / "training"
    assert TrainingConfig.from_yaml(folder / "regressor.yaml") == TrainingConfig()
    one_bone = TrainingConfig.from_yaml(folder / "one_bone.yaml")
    assert one_bone.randomisation.surroundings > 0
    assert one_bone.variants.continued_mm > 0
