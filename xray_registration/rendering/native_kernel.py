"""Compiles ``joseph_kernel.cpp`` once per machine and calls it through ctypes.

Without a C++ compiler, or with ``XRAY_REGISTRATION_KERNEL=off``, there is no kernel and the caller
takes the torch path; ``unavailable_reason`` says why.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SOURCE = Path(__file__).with_name("joseph_kernel.cpp")
# Not -ffast-math: linked into a shared library it switches denormals off in the whole process.
_FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-trapping-math", "-fno-signed-zeros", "-Wno-psabi", "-fPIC", "-shared", "-pthread"),
)
_COMPILE_SECONDS_AT_MOST = 120
GEOMETRY_FLOATS = 35
_BLOCK = (4, 8, 8)  # voxels across, along, fast; the same sizes stand in the C++ source
_MOST_FILLED = 0.6  # share of the blocks; where there are more, looking costs what it saves

_log = logging.getLogger(__name__)


class _Volume(ctypes.Structure):
    _fields_ = (
        ("counts", ctypes.c_void_p),
        ("along", ctypes.c_int32),
        ("across", ctypes.c_int32),
        ("fast", ctypes.c_int32),
        ("filled", ctypes.c_void_p),
    )


class KernelUnavailableError(RuntimeError):
    """There is no compiled kernel on this machine; the message says why."""


def unavailable_reason() -> str | None:
    """None when the kernel can be used, otherwise why not. The first call may compile (seconds)."""
    try:
        _library()
    except KernelUnavailableError as error:
        return str(error)
    return None


def filled_blocks(counts: NDArray[np.int16]) -> NDArray[np.int32] | None:
    """Where a padded volume [across][along][fast] has voxels other than 0, for `project`.

    Returns (along blocks, across blocks + 1, fast blocks + 1): for each block along the rays the
    summed-area table (Crow, SIGGRAPH 1984) of the blocks with such a voxel; None where most are.
    """
    missing = [(0, -size % block) for size, block in zip(counts.shape, _BLOCK, strict=True)]
    filled = np.pad(counts != 0, missing)
    across, along, fast = (n // block for n, block in zip(filled.shape, _BLOCK, strict=True))
    shape = (across, _BLOCK[0], along, _BLOCK[1], fast, _BLOCK[2])
    blocks = np.asarray(filled.reshape(shape).any((1, 3, 5))).transpose(1, 0, 2)
    if blocks.mean() > _MOST_FILLED:
        return None
    sums = blocks.cumsum(1, dtype=np.int32).cumsum(2, dtype=np.int32)
    return np.ascontiguousarray(np.pad(sums, ((0, 0), (1, 0), (1, 0))))


def project(
    counts: NDArray[np.int16],
    filled: NDArray[np.int32] | None,
    geometries: NDArray[np.float32],
    slots: NDArray[np.int32],
    image: NDArray[np.float32],
    jacobian: NDArray[np.float32] | None,
    threads: int,
) -> None:
    """Render into ``image`` (B, H, W) and ``jacobian`` (B, 6, H, W) at the batch places ``slots``.

    Args:
        counts: the padded volume [across][along][fast], C order.
        filled: its `filled_blocks`: slices that a ray meets in empty blocks only are passed over.
            The pictures are the same.
        geometries: (views, 35) float32, the C struct's fields.
        slots: (views,) places in the batch.
        image, jacobian: C-ordered outputs.
        threads: how many threads share the rows.

    Raises:
        ValueError: an array that the compiled code would read or write wrongly.
    """
    _check(counts, filled, geometries, slots, image, jacobian)
    across, along, fast = counts.shape
    blocks = None if filled is None else filled.ctypes.data
    volume = _Volume(counts.ctypes.data, along, across, fast, blocks)
    _, height, width = image.shape
    _library().joseph_project(
        ctypes.byref(volume),
        geometries.ctypes.data_as(ctypes.c_void_p),
        slots.ctypes.data_as(ctypes.c_void_p),
        len(slots),
        height,
        width,
        image.ctypes.data_as(ctypes.c_void_p),
        None if jacobian is None else jacobian.ctypes.data_as(ctypes.c_void_p),
        threads,
    )


def _check(
    counts: NDArray[np.int16],
    filled: NDArray[np.int32] | None,
    geometries: NDArray[np.float32],
    slots: NDArray[np.int32],
    image: NDArray[np.float32],
    jacobian: NDArray[np.float32] | None,
) -> None:
    """Nothing that is passed as a bare address may be other than the C side takes it for."""
    batch, height, width = image.shape
    expected: list[tuple[NDArray, type, tuple[int, ...]]] = [
        (counts, np.int16, counts.shape[:3]),
        (geometries, np.float32, (len(slots), GEOMETRY_FLOATS)),
        (slots, np.int32, (len(slots),)),
        (image, np.float32, (batch, height, width)),
    ]
    if jacobian is not None:
        expected.append((jacobian, np.float32, (batch, 6, height, width)))
    if filled is not None:
        across, along, fast = (-(-n // b) for n, b in zip(counts.shape, _BLOCK, strict=True))
        expected.append((filled, np.int32, (along, across + 1, fast + 1)))
    for array, dtype, shape in expected:
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
            raise ValueError(
                f"the kernel got {array.dtype} {array.shape} with strides {array.strides}; "
                f"expected C-ordered {np.dtype(dtype)} {shape}"
            )
    if len(slots) and not (int(slots.min()) >= 0 and int(slots.max()) < batch):
        raise ValueError(f"the kernel got slots {slots.tolist()} for a batch of {batch}")


@functools.cache
def _library() -> ctypes.CDLL:
    if os.environ.get("XRAY_REGISTRATION_KERNEL", "").lower() in ("off", "0", "no"):
        raise KernelUnavailableError("switched off by XRAY_REGISTRATION_KERNEL")
    try:
        path = _cache_dir() / f"joseph-{_fingerprint()}.so"
    except (OSError, RuntimeError) as error:  # no home directory, no source file
        raise KernelUnavailableError(str(error)) from error
    if not path.exists():
        _compile(path)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise KernelUnavailableError(f"{path} does not load: {error}") from error
    library.joseph_project.restype = None
    library.joseph_project.argtypes = (
        [ctypes.c_void_p] * 3 + [ctypes.c_int32] * 3 + [ctypes.c_void_p] * 2 + [ctypes.c_int32]
    )
    return library


def _compile(path: Path) -> None:
    compiler = _compiler()
    if compiler is None:
        raise KernelUnavailableError("no C++ compiler found (install g++, or set CXX)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            built = Path(scratch) / "joseph.so"
            subprocess.run(
                [compiler, *_FLAGS, str(_SOURCE), "-o", str(built)],
                check=True,
                capture_output=True,
                text=True,
                timeout=_COMPILE_SECONDS_AT_MOST,
            )
            # another process may have been faster: the rename is atomic and either file is right
            built.replace(path)
    except subprocess.CalledProcessError as error:
        raise KernelUnavailableError(f"{compiler} failed: {error.stderr[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUnavailableError(f"{compiler} could not build {path}: {error}") from error
    _log.info("compiled the projection kernel to %s", path)


def _compiler() -> str | None:
    return next(
        (found for name in (os.environ.get("CXX"), "g++", "clang++") if name
         for found in [shutil.which(name)] if found),
        None,
    )  # fmt: skip


def _cache_dir() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "xray_registration"


def _fingerprint() -> str:
    """Changes with the source, the flags and the processor: a home may be shared by machines."""
    digest = hashlib.sha256(_SOURCE.read_bytes())
    digest.update(" ".join(_FLAGS).encode())
    digest.update(f"{platform.machine()} {_processor_features()}".encode())
    return digest.hexdigest()[:16]


def _processor_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
