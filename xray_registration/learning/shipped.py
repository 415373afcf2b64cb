"""The weights that come with the package, each for one CT."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from xray_registration.imaging.volume import CTVolume


def shipped_regressors() -> list[Path]:
    """Their JSON files, by name."""
    folder = Path(str(resources.files("xray_registration.learning"))) / "weights"
    return sorted(folder.glob("*.json"))


def shipped_regressor_for(ct: CTVolume) -> Path | None:
    """The one that was trained for this CT."""
    for path in shipped_regressors():
        if ct.sha256 and json.loads(path.read_text()).get("ct_sha256") == ct.sha256:
            return path
    return None
