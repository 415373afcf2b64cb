"""The weights that come with the package: for one CT, or for others' trainings to start from."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.checkpoint import AGNOSTIC


def shipped_weights(kind: str) -> list[Path]:
    """Their JSON files, by name; ``kind``: as written in them."""
    folder = Path(str(resources.files("xray_registration.learning"))) / "weights"
    files = sorted(folder.glob("*.json"))
    return [path for path in files if json.loads(path.read_text()).get("kind") == kind]


def shipped_weights_for(ct: CTVolume, kind: str) -> Path | None:
    """Those that were trained for this CT."""
    return _shipped(kind, ct.sha256) if ct.sha256 else None


def shipped_to_start_from(kind: str) -> Path | None:
    """Those that belong to no CT."""
    return _shipped(kind, AGNOSTIC)


def _shipped(kind: str, ct_sha256: str) -> Path | None:
    for path in shipped_weights(kind):
        if json.loads(path.read_text()).get("ct_sha256") == ct_sha256:
            return path
    return None
