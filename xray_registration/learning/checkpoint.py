"""Trained weights on disk: NAME.safetensors with the numbers, NAME.json with what they mean.

The JSON is the commit: it names the tensors' file by content (sha256) and is renamed into place
last, so a reader never sees new weights with an old description, and a disk that fills up in
between leaves the old pair as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.imaging.volume import CTVolume
from xray_registration.optional import require

SCHEMA = 1
AGNOSTIC = "agnostic"
_SUFFIX = ".json"
_FACTOR = ".factor"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Attributes: the tensors by name; kind, ct_sha256, ct_axes, camera, ranges, ... as plain
    values; the JSON's path.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    path: Path

    @property
    def ct_sha256(self) -> str:
        """Of the CT that it belongs to, or "agnostic"."""
        return str(self.facts["ct_sha256"])

    @property
    def is_agnostic(self) -> bool:
        """Trained for any patient."""
        return self.ct_sha256 == AGNOSTIC

    def check_ct(self, ct: CTVolume) -> None:
        """Refuse another patient's weights.

        Raises:
            InputError: the CT is not the one of training, and the weights are not agnostic.
        """
        if not self.is_agnostic and ct.sha256 != self.ct_sha256:
            raise InputError(
                f"{self.path}: trained for the CT with sha256 {self.ct_sha256[:16]}... "
                f"({self.facts.get('ct_file', 'unknown file')}), but "
                f"{ct.path or 'this CT'} has {ct.sha256[:16] or 'none'}...; train for this CT "
                "(xray-registration train CT --out DIR) or give its checkpoint."
            )


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    half: bool = False,
    quarter: bool = False,
) -> None:
    """Write ``path`` (.json) and the tensors beside it.

    Args:
        path: ends in .json.
        tensors: by name, any device.
        facts: plain values; ``kind`` and ``ct_sha256`` are needed.
        half: store floating tensors as float16: half the size, 3 digits.
        quarter: and matrices as int8 with a factor for every row: for weights that are trained on.

    Raises:
        InputError: a missing fact, or the disk refuses; an older checkpoint is left as it was.
    """
    missing = [name for name in ("kind", "ct_sha256") if name not in facts]
    if missing:
        raise InputError(f"{path}: the checkpoint's facts lack {missing}.")
    path = checked_name(path)
    stored = {
        name: tensor.detach().cpu().to(torch.float16 if half and _floats(tensor) else tensor.dtype)
        for name, tensor in tensors.items()
    }
    if quarter:
        stored = _in_bytes(stored)
    content: bytes = require("safetensors.torch", "safetensors").save(
        {name: tensor.contiguous() for name, tensor in stored.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    # a new name for every content: the old JSON keeps its own tensors until it is replaced
    weights = path.with_name(f"{path.stem}-{digest[:12]}.safetensors")
    described = {"schema": SCHEMA, **facts, "weights": weights.name, "weights_sha256": digest}
    text = json.dumps(described, indent=2) + "\n"
    try:
        write_atomically(weights, content)
        write_atomically(path, text.encode())
    except InputError:
        if _weights_of(path) != weights.name:
            weights.unlink(missing_ok=True)
        raise
    for old in path.parent.glob(f"{path.stem}-{'?' * 12}.safetensors"):
        if old != weights:
            old.unlink(missing_ok=True)


def load_checkpoint(path: Path, kind: str) -> Checkpoint:
    """Read a checkpoint of this kind; float16 and int8 tensors become float32.

    Raises:
        InputError: missing, damaged, of another kind or schema; tensors that are not those of the
            description.
    """
    path = checked_name(path)
    facts = _facts(path)
    if facts.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {facts.get('schema')!r}; this version reads {SCHEMA}.")
    if facts.get("kind") != kind:
        raise InputError(f"{path}: holds a {facts.get('kind')!r}; expected a {kind!r}.")
    name = facts.get("weights")
    if not isinstance(name, str) or Path(name).name != name or "ct_sha256" not in facts:
        raise InputError(f"{path}: weights is {name!r}; expected a file name beside this file.")
    weights = path.with_name(name)
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise InputError(f"{weights}: cannot be read: {error.strerror or error}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts.get("weights_sha256"):
        raise InputError(
            f"{weights}: damaged or another file: sha256 {digest[:16]}..., expected "
            f"{str(facts.get('weights_sha256'))[:16]}... ({path.name})."
        )
    library = require("safetensors", "safetensors")
    try:
        tensors = require("safetensors.torch", "safetensors").load(content)
    except library.SafetensorError as error:
        raise InputError(f"{weights}: not a safetensors file: {error}.") from error
    tensors = {
        key: tensor.float() if tensor.dtype == torch.float16 else tensor
        for key, tensor in tensors.items()
    }
    return Checkpoint(_from_bytes(tensors), facts, path)


@contextmanager
def described(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Around what rebuilds ``what`` from the facts and tensors of a checkpoint.

    Raises:
        InputError: they do not fit this version.
    """
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{checkpoint.path}: does not describe a {what} of this version "
            f"({reason[:120]}); train it again."
        ) from error


def checked_name(path: Path) -> Path:
    """The path of the JSON; its tensors' path is derived from it."""
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise InputError(f"{path}: expected the checkpoint's NAME.json.")
    return path


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: damaged: not JSON ({error}).") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path}: expected a JSON object.")
    return facts


def _weights_of(path: Path) -> str | None:
    try:
        return _facts(path).get("weights")
    except InputError:
        return None


def _in_bytes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8, and their rows' factors under NAME.factor; all else as it is."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            result[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        factor = (rows.abs().amax(1) / 127).clamp_min(1e-12)
        result[name] = (rows / factor[:, None]).round().to(torch.int8).view(tensor.shape)
        result[name + _FACTOR] = factor
    return result


def _from_bytes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in tensors.items():
        factor = tensors.get(name + _FACTOR)
        if factor is not None:
            tensor = tensor.float() * factor.view(-1, *[1] * (tensor.ndim - 1))
        if not name.endswith(_FACTOR):
            result[name] = tensor
    return result


def _floats(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float32, torch.float64)
