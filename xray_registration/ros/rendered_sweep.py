"""The images of a sweep, rendered ahead in a thread and kept, in memory and if wanted on disk."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import xray_registration
from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.geometry.camera import Camera

Image = npt.NDArray[Any]
Matrix = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What is to be rendered.

    Attributes:
        poses: camera_from_ct (4, 4) LPS mm of each frame.
        camera: of all frames.
        seed: frame n is rendered with seed + n.
        patient: everything else that decides the pixels (CT's sha256, X-ray model settings).
    """

    poses: Sequence[Matrix]
    camera: Camera
    seed: int
    patient: dict[str, Any]

    def key(self) -> str:
        """Hash of all that decides the pixels."""
        content = {
            "version": xray_registration.__version__,
            "poses": [np.round(pose, 9).tolist() for pose in self.poses],
            "camera": self.camera.to_dict(),
            "seed": self.seed,
            "patient": self.patient,
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


class RenderedSweep:
    """Renders a plan's frames in order, in its own thread."""

    def __init__(
        self,
        plan: SweepPlan,
        render: Callable[[Matrix, Camera, int], Image],
        cache_dir: Path | None = None,
    ) -> None:
        """Start rendering.

        Args:
            plan: the frames.
            render: (camera_from_ct, camera, seed) to (H, W) image; called in the thread.
            cache_dir: where frames are kept between starts; None = nowhere.

        Raises:
            InputError: the cache folder cannot be made.
        """
        self._plan = plan
        self._render = render
        self._folder = _cache_folder(cache_dir, plan)
        self._images: list[Image] = []
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._plan.poses)

    @property
    def ready(self) -> int:
        """How many frames are rendered, from the first.

        Raises:
            Exception: what rendering has raised, in the thread of the caller.
        """
        if self._error is not None:
            raise self._error
        return len(self._images)

    def image(self, index: int) -> Image:
        """(H, W) of a frame that is ready."""
        return self._images[index]

    def stop(self, timeout_s: float) -> bool:
        """Stop after the frame that is being rendered; True when the thread has ended in time."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for index, pose in enumerate(self._plan.poses):
                if self._stopping.is_set():
                    return
                image = self._cached(index)
                if image is None:
                    image = self._render(pose, self._plan.camera, self._plan.seed + index)
                    self._keep(index, image)
                self._images.append(image)
        except Exception as error:
            self._error = error

    def _cached(self, index: int) -> Image | None:
        if self._folder is None:
            return None
        path = self._folder / f"{index:04d}.npy"
        try:
            image: Image = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError) as error:
            _log.warning("%s cannot be read (%s); it is rendered again", path, error)
            return None
        expected = (self._plan.camera.height, self._plan.camera.width)
        return image if image.shape == expected else None

    def _keep(self, index: int, image: Image) -> None:
        if self._folder is not None:
            content = io.BytesIO()
            np.save(content, image, allow_pickle=False)
            write_atomically(self._folder / f"{index:04d}.npy", content.getvalue())


def _cache_folder(cache_dir: Path | None, plan: SweepPlan) -> Path | None:
    if cache_dir is None:
        return None
    folder = cache_dir.expanduser() / plan.key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"parameter 'cache_dir': {folder} cannot be made: {error.strerror or error}"
        ) from error
    return folder
