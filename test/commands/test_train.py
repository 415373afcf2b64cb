"""xray-registration train: from a CT file to weights that register takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

_TINY = {
    "batch_size": 4,
    "spacing_mm": 8.0,
    "validate_every": 2,
    "held_out_batches": 1,
    "canonical": {"size": 32},
    "network": {"width": 8, "blocks": [1, 1, 1, 1], "hypotheses": 2, "hidden": 16},
    "variants": {"count": 1},
    "optimiser": {"bf16": False},
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A training of a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(_TINY))
    return str(path)


def test_train_then_register_without_a_start_pose(
    cli_scene: Any, main: Any, config: str, tmp_path: Path
) -> None:
    out = tmp_path / "weights"
    arguments = ["train", str(cli_scene.ct), "--out", str(out), "--config", config, "--steps", "2"]
    labels = ["--label-map", str(cli_scene.labels), "--aim", "vertebrae_T7,vertebrae_T8"]
    code, said = main([*arguments, *labels])
    assert code == 0, said
    assert "median_mm" in said
    checkpoint = out / "regressor.json"
    facts = json.loads(checkpoint.read_text())
    assert facts["ct_file"] == "ct.nii"
    assert facts["pictures"] == 8
    assert (out / facts["weights"]).is_file()

    result = tmp_path / "result.json"
    level = {"pixel_mm": 8.0, "spacing_mm": 8.0, "max_iterations": 2}
    quick = tmp_path / "quick.yaml"
    quick.write_text(yaml.safe_dump({"levels": [level]}))
    options = {"initial_pose": None, "checkpoint": str(checkpoint), "config": str(quick)}
    code, said = main(cli_scene.register_arguments(result, **options))
    # two steps teach nothing: it must end in an honest answer, whichever
    assert code in (0, 3), said
    written = json.loads(result.read_text())
    assert written["start_weights"]["sha256"] == facts["weights_sha256"]
    assert len(written["rig_from_ct_start"]) == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--aim", "vertebrae_T7"], "give --label-map"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--init", "/nowhere/regressor.json"], "/nowhere/regressor.json: cannot be read"),
        (["--agnostic"], "expects a folder of CT files"),
        (["--minutes", "0"], "minutes"),
    ],
)
def test_bad_options(
    cli_scene: Any, main: Any, tmp_path: Path, more: list[str], words: str
) -> None:
    code, said = main(["train", str(cli_scene.ct), "--out", str(tmp_path / "o"), *more])
    assert code == 2
    assert words in said
    assert "Traceback" not in said


def test_pretrained_weights_fit_a_network_of_default_size(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from xray_registration.commands.train import _init_path
    from xray_registration.learning.checkpoint import load_checkpoint
    from xray_registration.learning.config import TrainingConfig
    from xray_registration.learning.network import NetworkConfig
    from xray_registration.learning.pose_space import PoseSpace
    from xray_registration.learning.regressor import KIND, pose_network
    from xray_registration.learning.training import _initialise

    pretrained = load_checkpoint(_init_path("pretrained"), KIND)
    assert pretrained.is_agnostic
    fine = TrainingConfig.from_yaml(repository / "training" / "fine_tune.yaml")
    network = pose_network(fine.network, fine.canonical, PoseSpace((0.0, 0.0, 0.0)))
    _initialise(network, pretrained)
    assert "tensors fit" not in caplog.text
    network.freeze(fine.optimiser.frozen)
    for name, tensor in network.patient.state_dict(prefix="patient.").items():
        assert torch.equal(tensor, pretrained.tensors[name.replace("patient.", "stages.")]), name
    # as the network without a stage for the patient, until it has learned
    plain = pose_network(NetworkConfig(), fine.canonical, PoseSpace((0.0, 0.0, 0.0)))
    plain.load_state_dict(pretrained.tensors)
    picture = torch.randn(1, 3, fine.canonical.size, fine.canonical.size)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(picture).mean, plain.eval()(picture).mean)
    crowd = TrainingConfig.from_yaml(repository / "training" / "crowd.yaml")
    assert TrainingConfig.from_dict(pretrained.facts["training"]) == crowd


def test_the_packages_weights_are_12_mb_at_most() -> None:
    from importlib import resources

    folder = Path(str(resources.files("xray_registration.learning"))) / "weights"
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 12_000_000
