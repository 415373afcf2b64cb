"""The compiled kernel is had where it can be, and everything works where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.rendering import AttenuationVolume, JosephProjector, native_kernel

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++")),
    reason="no C++ compiler on this machine",
)


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """The library is looked for again, and whatever the test found is forgotten afterwards."""
    native_kernel._library.cache_clear()
    yield
    native_kernel._library.cache_clear()


pytestmark = pytest.mark.usefixtures("_forgotten")


@pytest.fixture
def volume(gaussians, centred_affine) -> AttenuationVolume:
    shape = (40, 44, 36)
    return gaussians.on_grid(shape, centred_affine(shape, (3.0, 2.7, 3.2)), torch.float32)


def _falls_back(volume, looking_at, odd_camera, gaussians, reason: str) -> None:
    """`auto` renders the right picture in torch; `native` says what is missing."""
    message = native_kernel.unavailable_reason()
    assert message is not None
    assert reason in message
    pose = looking_at((0, 0, 0), 420.0, (0.1, 0.2, 0.3))[None]
    projector = JosephProjector(volume)
    assert projector.backend == "torch"
    image, jacobian = projector.image_and_jacobian(pose, odd_camera)
    exact = gaussians.image(pose, odd_camera)
    assert (image - exact).norm() < 0.02 * exact.norm()
    assert jacobian.isfinite().all()
    with pytest.raises(InputError, match="native"):
        JosephProjector(volume, backend="native")


@pytest.mark.parametrize("value", ["off", "0", "no", "OFF"])
def test_switched_off(value, monkeypatch, volume, looking_at, odd_camera, gaussians) -> None:
    monkeypatch.setenv("XRAY_REGISTRATION_KERNEL", value)
    _falls_back(volume, looking_at, odd_camera, gaussians, "XRAY_REGISTRATION_KERNEL")


def test_no_compiler(monkeypatch, tmp_path, volume, looking_at, odd_camera, gaussians) -> None:
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _falls_back(volume, looking_at, odd_camera, gaussians, "no C++ compiler")


def test_broken_compiler(monkeypatch, tmp_path, volume, looking_at, odd_camera, gaussians) -> None:
    compiler = tmp_path / "broken-c++"
    compiler.write_text("#!/bin/sh\necho 'cannot find stdlib' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _falls_back(volume, looking_at, odd_camera, gaussians, "cannot find stdlib")
    assert not list((tmp_path / "cache" / "xray_registration").iterdir())


def test_cache_that_cannot_be_written(
    monkeypatch, tmp_path, volume, looking_at, odd_camera, gaussians
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", shutil.which("true") or "true")
    _falls_back(volume, looking_at, odd_camera, gaussians, "cache")


@needs_compiler
def test_library_that_does_not_load(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "xray_registration"
    folder.mkdir()
    (folder / f"joseph-{native_kernel._fingerprint()}.so").write_bytes(b"not a library")
    assert "does not load" in (native_kernel.unavailable_reason() or "")


@needs_compiler
def test_compiled_once_then_found(monkeypatch, tmp_path, volume) -> None:
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native_kernel.unavailable_reason() is None
    assert JosephProjector(volume).backend == "native"
    (built,) = (tmp_path / "xray_registration").iterdir()
    stamp = built.stat().st_mtime_ns
    native_kernel._library.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing to compile with: it must not need to
    assert native_kernel.unavailable_reason() is None
    assert built.stat().st_mtime_ns == stamp


@needs_compiler
def test_two_processes_may_compile_at_once(tmp_path) -> None:
    code = (  # the module alone: it needs neither torch nor the rest of the package
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('kernel', sys.argv[1])\n"
        "kernel = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(kernel)\n"
        "print(kernel.unavailable_reason())"
    )
    command = [sys.executable, "-c", code, str(native_kernel.__file__)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("XRAY_REGISTRATION_KERNEL", None)
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [p.communicate()[0].strip() for p in processes] == ["None", "None"]
    assert len(list((tmp_path / "xray_registration").iterdir())) == 1


@needs_compiler
def test_denormals_still_work_after_loading(monkeypatch) -> None:
    """-ffast-math in a shared library would flush them to zero in the whole process."""
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    assert native_kernel.unavailable_reason() is None
    assert np.float32(1e-38) * np.float32(1e-2) > 0


def test_source_is_part_of_the_package() -> None:
    assert Path(native_kernel._SOURCE).is_file()


def test_volumes_that_the_kernel_cannot_take(volume) -> None:
    double = volume.to("cpu", torch.float64)
    assert JosephProjector(double).backend == "torch"
    with pytest.raises(InputError, match="float32"):
        JosephProjector(double, backend="native")
    trained = AttenuationVolume(volume.mu_per_mm.clone().requires_grad_(), volume.lps_from_index)
    assert JosephProjector(trained).backend == "torch"


@needs_compiler
def test_wrong_arrays_are_refused(monkeypatch) -> None:
    monkeypatch.delenv("XRAY_REGISTRATION_KERNEL", raising=False)
    counts = np.zeros((8, 4, 8), np.int16)
    filled = native_kernel.filled_blocks(counts)
    geometry = np.zeros((1, native_kernel.GEOMETRY_FLOATS), np.float32)
    slots = np.zeros(1, np.int32)
    image = np.zeros((1, 4, 4), np.float32)
    for arguments in (
        (counts.astype(np.float32), filled, geometry, slots, image),
        (counts[:, ::2], filled, geometry, slots, image),
        (counts, filled, geometry[:, :30], slots, image),
        (counts, filled, geometry, slots.astype(np.int64), image),
        (counts, filled, geometry, slots + 1, image),
        (counts, filled, geometry, slots, image.astype(np.float64)),
        (counts, filled, geometry, slots, image[:, :, ::2]),
        (counts, filled[:1, :, 1:], geometry, slots, image),
        (counts, filled.astype(np.int64), geometry, slots, image),
    ):
        with pytest.raises(ValueError, match="kernel"):
            native_kernel.project(*arguments, None, 1)
    with pytest.raises(ValueError, match="kernel"):
        native_kernel.project(
            counts, filled, geometry, slots, image, np.zeros((1, 3, 4, 4), np.float32), 1
        )


_ALONE = """
import sys
import numpy as np
from importlib.util import module_from_spec, spec_from_file_location

source, given, found = sys.argv[1:]
spec = spec_from_file_location("native_kernel", source)
kernel = module_from_spec(spec)
spec.loader.exec_module(kernel)
case = np.load(given)
image, jacobian = np.zeros(case["image"], np.float32), np.zeros(case["jacobian"], np.float32)
kernel.project(
    case["counts"], None, case["geometries"], case["slots"], image, jacobian, threads=3
)
assert "torch" not in sys.modules
np.savez(found, image=image, jacobian=jacobian)
"""


@needs_compiler
def test_threads_of_its_own_where_there_is_no_pool(
    volume, looking_at, odd_camera, tmp_path, monkeypatch
) -> None:
    """PyTorch's pool shares the rows; a process that has not loaded it gets the same picture."""
    calls, project = [], native_kernel.project
    monkeypatch.setattr(
        native_kernel, "project", lambda *args: (calls.append(args), project(*args))
    )
    pose = looking_at((0, 0, 0), 420.0, (0.1, 0.2, 0.3))[None]
    image, jacobian = JosephProjector(volume).image_and_jacobian(pose, odd_camera)
    ((counts, _, geometries, slots, *_),) = calls
    given, found = tmp_path / "given.npz", tmp_path / "found.npz"
    shapes = {"image": tuple(image.shape), "jacobian": tuple(jacobian.shape)}
    np.savez(given, counts=counts, geometries=geometries, slots=slots, **shapes)
    source = str(native_kernel.__file__)
    subprocess.run([sys.executable, "-c", _ALONE, source, str(given), str(found)], check=True)
    alone = np.load(found)
    np.testing.assert_array_equal(alone["image"], image.numpy())
    np.testing.assert_array_equal(alone["jacobian"], jacobian.numpy())
