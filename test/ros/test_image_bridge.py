"""Images with and without cv_bridge."""

from __future__ import annotations

import array
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from xray_registration.ros.conversions import array_to_image, image_to_array
from xray_registration.ros.image_bridge import (
    ENCODINGS,
    CvBridge,
    ImageBridge,
    PlainBridge,
    image_bridge,
)

HEADER = Header(frame_id="carm_source_optical_frame")
Install = Callable[[Any], ImageBridge]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module in the place of cv_bridge, and tells what is then used."""

    def put(library: Any) -> ImageBridge:
        monkeypatch.setitem(sys.modules, "cv_bridge", library)
        image_bridge.cache_clear()
        return image_bridge()

    yield put
    image_bridge.cache_clear()


def _stand_in(reads: Callable[[Image], Any] | None = None) -> types.ModuleType:
    """A module with cv_bridge's interface."""

    class Library:
        def imgmsg_to_cv2(self, message: Image, encoding: str) -> Any:
            assert encoding == "passthrough"
            return (reads or PlainBridge().samples)(message)

        def cv2_to_imgmsg(self, samples: Any, encoding: str, header: Header) -> Image:
            return PlainBridge().message(samples, header, encoding)

    library = types.ModuleType("cv_bridge")
    library.CvBridge = Library  # type: ignore[attr-defined]
    return library


def _as_on_pypi(message: Image) -> Any:
    """Padded rows are not seen: samples of the next row come too early."""
    dtype = np.dtype(ENCODINGS[message.encoding])
    count = message.height * message.width
    return np.frombuffer(message.data, dtype, count).reshape(message.height, message.width)


def test_without_cv_bridge_nothing_is_said(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(install(None), PlainBridge)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("numpy.core.multiarray failed to import\nand more"),
        SystemError("initialization of cv_bridge_boost raised unreported exception"),
        AttributeError("_ARRAY_API not found"),
        ModuleNotFoundError("No module named 'cv2'", name="cv2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_loaded_costs_one_line(
    install: Install, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail() -> Any:
        raise error

    library = types.ModuleType("cv_bridge")
    library.CvBridge = fail  # type: ignore[attr-defined]
    assert isinstance(install(library), PlainBridge)
    said = capfd.readouterr()
    lines = (said.out + said.err).splitlines()
    assert len(lines) == 1
    assert f"{type(error).__name__}: {str(error).splitlines()[0]}" in lines[0]


def test_one_that_reads_padded_rows_wrongly_is_not_used(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(install(_stand_in(_as_on_pypi)), PlainBridge)
    said = capfd.readouterr()
    assert "it reads another mono8 image than was written" in said.out + said.err


def test_one_that_works_is_used_but_for_what_it_cannot(install: Install) -> None:
    asked: list[tuple[int, int]] = []

    def read(message: Image) -> Any:
        asked.append((message.step, message.is_bigendian))
        return PlainBridge().samples(message)

    assert isinstance(install(_stand_in(read)), CvBridge)
    samples = np.arange(6, dtype=np.uint16).reshape(2, 3)
    message = array_to_image(samples, HEADER)
    asked.clear()
    np.testing.assert_array_equal(image_to_array(message), samples)
    assert asked == [(6, 0)]
    foreign = array_to_image(samples.byteswap(), HEADER)
    foreign.is_bigendian = 1
    odd = array_to_image(samples, HEADER)
    odd.step = 7
    rows = np.frombuffer(odd.data, np.uint8).reshape(2, 6)
    odd.data = array.array("B", np.pad(rows, ((0, 0), (0, 1))).tobytes())
    for each in (foreign, odd):
        np.testing.assert_array_equal(image_to_array(each), samples)
    assert asked == [(6, 0)]


@pytest.fixture
def real() -> Iterator[ImageBridge]:
    """cv_bridge itself; skips where it is absent or does not work here."""
    if importlib.util.find_spec("cv_bridge") is None:
        pytest.skip("cv_bridge is not installed")
    image_bridge.cache_clear()
    bridge = image_bridge()
    if not isinstance(bridge, CvBridge):
        pytest.skip("cv_bridge is installed, but does not work here")
    yield bridge
    image_bridge.cache_clear()


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_cv_bridge_itself_gives_the_same(real: ImageBridge, encoding: str) -> None:
    generator, plain = np.random.default_rng(4), PlainBridge()
    samples = generator.uniform(0, 250, (40, 31)).astype(ENCODINGS[encoding])
    message = plain.message(samples, HEADER, encoding)
    assert real.message(samples, HEADER, encoding) == message
    padded = plain.message(samples, HEADER, encoding)
    padded.step += 3 * samples.itemsize
    rows = np.frombuffer(message.data, np.uint8).reshape(40, -1)
    padding = ((0, 0), (0, 3 * samples.itemsize))
    padded.data = array.array("B", np.pad(rows, padding, constant_values=170).tobytes())
    for each in (message, padded):
        read = real.samples(each)
        assert read.dtype == samples.dtype
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, samples)
    assert np.shares_memory(real.samples(message), np.frombuffer(message.data, np.uint8))


def test_cv_bridge_itself_writes_colour_alike(real: ImageBridge) -> None:
    colour = np.random.default_rng(5).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    for encoding in ("rgb8", "bgr8"):
        expected = PlainBridge().message(colour, HEADER, encoding)
        assert real.message(colour, HEADER, encoding) == expected
