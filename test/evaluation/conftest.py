"""A small patient and a small protocol, so that whole runs take seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.evaluation import datasets
from xray_registration.evaluation.protocol import Protocol, protocol_from_dict


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """HU and labels [k, j, i] of 2 mm voxels: a body with three irregular blocks of bone."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (60, 44, 50)], indexing="ij"), -1)
    k, j, i = np.moveaxis(grid, -1, 0)
    hu = np.full(k.shape, -1000, np.int16)
    hu[((j - 22) / 20) ** 2 + ((i - 25) / 23) ** 2 < 1] = 30
    labels = np.zeros(k.shape, np.uint8)
    for label, middle in enumerate((14, 30, 46), start=1):
        body = ((k - middle) / 6) ** 2 + ((j - 22) / 8) ** 2 + ((i - 25) / 9) ** 2 < 1
        spine = (np.abs(k - middle - 2) < 2) & (np.abs(i - 27) < 2) & (j >= 22) & (j < 38)
        wings = (np.abs(k - middle) < 2) & (np.abs(j - 27) < 3) & (np.abs(i - 23) < 15 + label)
        bone = body | spine | wings
        hu[bone] = 600 + 100 * label
        labels[bone] = label
    return hu, labels


@pytest.fixture(scope="session")
def small_patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the patient "phantom"."""
    import SimpleITK

    folder = tmp_path_factory.mktemp("data")
    for name, array in zip(("phantom", "phantom_labels"), phantom(), strict=True):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((2.0, 2.0, 2.0))
        image.SetOrigin((-50.0, -44.0, -60.0))
        SimpleITK.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return folder


@pytest.fixture
def data(small_patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small patient is the data folder, and pictures go to a cache of the test's own."""
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(small_patient))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return small_patient


def _small_protocol(**changes: Any) -> Protocol:
    values: dict[str, Any] = {
        "name": "small",
        "version": 1,
        "seed": 5,
        "description": "a phantom",
        "truth": "all of it",
        "patient": "phantom",
        "targets": {"kind": "surface", "structures": ["label_*"], "points": 30},
        "cameras": [{"size": [160, 160], "pixel_pitch_mm": 1.2, "sdd_mm": 1000.0}],
        "pose": {"shift_mm": 10.0},
        "starts": {"bins_mm": [0, 4, 8]},
        "variants": [{"name": "as-ct"}],
        "acquisitions": [{"name": "plain", "share": 2}, {"name": "wire", "instruments": ["wires"]}],
        "cases_per_bin": 3,
        "quick_per_bin": 2,
    }
    values.update(changes)
    return protocol_from_dict(values)


@pytest.fixture
def make_protocol(data: Path) -> Callable[..., Protocol]:
    """A protocol of the small patient, with other values by name."""
    return _small_protocol


@pytest.fixture
def small_protocol(data: Path) -> Protocol:
    return _small_protocol()


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are a thread here: no new interpreter has to start."""
    from xray_registration.evaluation import runner

    @contextmanager
    def executor(_: Any) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(1) as pool:
            yield pool

    monkeypatch.setattr(runner, "open_executor", executor)
