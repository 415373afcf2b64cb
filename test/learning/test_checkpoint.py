"""Weights on disk: round trip, refusals, a full disk."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xray_registration import files
from xray_registration.errors import InputError
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import AGNOSTIC, load_checkpoint, save_checkpoint

KIND = "pose_regressor"


def _saved(folder: Path, sha256: str = "ab" * 32, value: float = 1.5) -> Path:
    path = folder / "regressor.json"
    tensors = {"a": torch.full((3, 2), value), "steps": torch.tensor(7)}
    save_checkpoint(path, tensors, {"kind": KIND, "ct_sha256": sha256, "ct_file": "x.nii"})
    return path


def test_round_trip_and_one_file_of_weights(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    _saved(tmp_path, value=2.5)
    loaded = load_checkpoint(path, KIND)
    torch.testing.assert_close(loaded.tensors["a"], torch.full((3, 2), 2.5))
    assert loaded.tensors["steps"].dtype == torch.int64
    assert len(list(tmp_path.iterdir())) == 2


def test_half_precision_is_stored_small_and_read_as_float(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    weights = torch.randn(100, 100)
    facts = {"kind": KIND, "ct_sha256": AGNOSTIC}
    save_checkpoint(path, {"w": weights}, facts, half=True)
    (stored,) = tmp_path.glob("*.safetensors")
    assert stored.stat().st_size < 21_000
    loaded = load_checkpoint(path, KIND).tensors["w"]
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, weights, atol=2e-3, rtol=1e-3)


def test_matrices_can_be_stored_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    torch.manual_seed(0)
    rows = torch.randn(60, 20, 3, 3) * torch.logspace(-3, 3, 60)[:, None, None, None]
    rows[7] = 0.0
    tensors = {"w": rows, "b": torch.randn(60), "steps": torch.tensor(7)}
    facts = {"kind": KIND, "ct_sha256": AGNOSTIC}
    save_checkpoint(path, tensors, facts, half=True, quarter=True)
    (stored,) = tmp_path.glob("*.safetensors")
    assert stored.stat().st_size < rows.numel() + 1000
    loaded = load_checkpoint(path, KIND).tensors
    assert loaded.keys() == tensors.keys()
    assert loaded["w"].dtype == torch.float32
    off = (loaded["w"] - rows).flatten(1).abs().amax(1)
    assert (off <= 0.006 * rows.flatten(1).abs().amax(1)).all()
    torch.testing.assert_close(loaded["b"], tensors["b"], atol=2e-3, rtol=1e-3)
    assert int(loaded["steps"]) == 7


def test_another_ct_is_refused_and_an_agnostic_one_says_so(
    tmp_path: Path, phantom: CTVolume
) -> None:
    own = load_checkpoint(_saved(tmp_path), KIND)
    own.check_ct(phantom)
    assert not own.is_agnostic
    with pytest.raises(InputError, match=r"trained for the CT .*abab.*\(x.nii\).*cdcd"):
        own.check_ct(replace(phantom, sha256="cd" * 32))
    with pytest.raises(InputError, match="none"):
        own.check_ct(replace(phantom, sha256=""))
    anyone = load_checkpoint(_saved(tmp_path, AGNOSTIC), KIND)
    assert anyone.is_agnostic
    anyone.check_ct(replace(phantom, sha256="cd" * 32))


def test_damage_is_named(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{weights.name}: damaged"):
        load_checkpoint(path, KIND)
    weights.write_bytes(content[:20])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path, KIND)
    weights.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path, KIND)
    path.write_text('{"schema": 1, "kind"')
    with pytest.raises(InputError, match=r"regressor\.json: damaged"):
        load_checkpoint(path, KIND)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 9}, "schema 9"),
        ({"kind": "similarity"}, "expected a 'pose_regressor'"),
        ({"weights": "../elsewhere.safetensors"}, "expected a file name"),
    ],
)
def test_other_descriptions_are_refused(tmp_path: Path, change: dict, words: str) -> None:
    path = _saved(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=words):
        load_checkpoint(path, KIND)


def test_not_safetensors_although_the_digest_fits(tmp_path: Path) -> None:
    import hashlib

    path = _saved(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(b"junk")
    facts = json.loads(path.read_text())
    facts["weights_sha256"] = hashlib.sha256(b"junk").hexdigest()
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not a safetensors file"):
        load_checkpoint(path, KIND)


@pytest.mark.parametrize("failing", ["weights", "description"])
def test_a_full_disk_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = _saved(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    real = files.os.fdopen
    opened = []

    def full(handle: int, mode: str):
        opened.append(handle)
        stream = real(handle, mode)
        if len(opened) == (1 if failing == "weights" else 2):

            def write(_: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            stream = _Failing(stream, write)
        return stream

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(InputError, match="No space left"):
        _saved(tmp_path, value=9.0)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    load_checkpoint(path, KIND)


class _Failing:
    """A stream whose write fails."""

    def __init__(self, stream, write) -> None:
        self._stream, self.write = stream, write

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def test_facts_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ct_sha256"):
        save_checkpoint(tmp_path / "w.json", {}, {"kind": KIND})
    with pytest.raises(InputError, match=r"NAME\.json"):
        load_checkpoint(tmp_path / "w.safetensors", KIND)
