"""Atomic writing: whole files, ordinary permissions, nothing left behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from xray_registration.errors import InputError
from xray_registration.files import write_atomically


def test_writes_and_replaces_without_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, b"first, and longer")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_takes_a_path_as_text(tmp_path: Path) -> None:
    write_atomically(str(tmp_path / "a.bin"), b"\x00\xff")  # type: ignore[arg-type]
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b")]
    assert modes[0] == modes[1]


def test_a_missing_folder_is_an_input_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "result.json"
    with pytest.raises(InputError, match=r"result\.json: cannot be written: No such file"):
        write_atomically(path, b"x")


def test_a_folder_in_the_way_is_an_input_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    (path / "inside").write_bytes(b"kept")
    with pytest.raises(InputError, match="taken: cannot be written"):
        write_atomically(path, b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]
    assert (path / "inside").read_bytes() == b"kept"


def test_a_failure_while_writing_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, b"older")
    with pytest.raises(TypeError):
        write_atomically(path, "text, not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_name_of_the_longest_length_works(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"x")
    assert path.read_bytes() == b"x"
