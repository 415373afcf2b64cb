"""The pictures of the cases: taken with the realistic X-ray model, kept in a cache folder.

Taking a picture costs more than registering it, and all methods must see the same one. A file's
name is the hash of everything that decides its pixels, the model's code included; so the cache
needs no emptying, only space: ``$XDG_CACHE_HOME/xray_registration/pictures`` (else ``~/.cache``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.cases import Case, Shot
from xray_registration.evaluation.datasets import load_patient
from xray_registration.evaluation.fingerprint import PICTURE_CODE, code_fingerprint
from xray_registration.evaluation.scene import build_instruments, scene
from xray_registration.files import write_atomically
from xray_registration.imaging.radiograph import Radiograph, make_radiograph
from xray_registration.rendering.xray_model import detector
from xray_registration.rendering.xray_model.config import XrayModelConfig

_SATURATED_BELOW_PERCENTILE = (0.5, 4.0)  # of the pixels stay below full well


@dataclass(frozen=True, eq=False)
class Picture:
    """What a method is given of a shot, apart from the camera.

    Attributes:
        image: (H, W) uint16 or uint8.
        kind, polarity: as declared to the method; I0, window and masks are not.
    """

    image: NDArray[Any]
    kind: Literal["intensity", "display"]
    polarity: Literal["bone_dark", "bone_bright"]

    def to_radiograph(self, source: str) -> Radiograph:
        """As a receiver makes it: I0 estimated, masks found by itself; errors: make_radiograph."""
        polarity = self.polarity if self.kind == "display" else None
        return make_radiograph(self.image, self.kind, polarity=polarity, source=source)


def cache_folder() -> Path:
    """Where pictures are kept; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "xray_registration" / "pictures"


def picture_key(case: Case, number: int) -> str:
    """Hash of everything that decides the pixels of the case's picture ``number``."""
    shot = case.shots[number]
    settings = {
        "code": code_fingerprint(PICTURE_CODE),
        "ct": load_patient(case.patient)[0].sha256,
        "variant": asdict(case.variant),
        "instruments": list(case.instruments),
        "camera": shot.camera.to_dict(),
        "camera_from_patient": np.asarray(shot.camera_from_patient).tolist(),
        "xray": shot.xray,
        "seed": shot.seed,
        "effect": shot.effect,
        "aim_lps_mm": case.aim_lps_mm,
    }
    text = json.dumps(settings, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def cached(case: Case) -> bool:
    """Whether all pictures of the case are in the cache."""
    return all(_path(case, number).is_file() for number in range(len(case.shots)))


def pictures_of(case: Case, threads: int | None = None) -> list[Picture]:
    """The case's pictures, from the cache or taken now (and kept).

    Raises:
        InputError: the case's settings are not possible; the data are not there; the cache folder
            cannot be written.
    """
    return [_picture(case, number, threads) for number in range(len(case.shots))]


def _picture(case: Case, number: int, threads: int | None) -> Picture:
    path = _path(case, number)
    found = _read(path)
    if found is None:
        found = _take(case, case.shots[number], threads)
        _write(path, found)
    return found


def _path(case: Case, number: int) -> Path:
    key = picture_key(case, number)
    return cache_folder() / key[:2] / f"{key}.npz"


def _read(path: Path) -> Picture | None:
    """None when it is not there, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Picture(file["image"], str(file["kind"]), str(file["polarity"]))  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, EOFError):
        return None


def _write(path: Path, picture: Picture) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made: {error.strerror or error}") from error
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image=picture.image,
        kind=np.array(picture.kind),
        polarity=np.array(picture.polarity),
    )
    write_atomically(path, buffer.getvalue())


def _take(case: Case, shot: Shot, threads: int | None) -> Picture:
    config = XrayModelConfig.from_dict({**shot.xray, "threads": threads}, f"{case.id}: xray")
    if not config.same_patient(XrayModelConfig()):
        raise InputError(
            f"{case.id}: xray: patient settings belong to a variant, not to an acquisition."
        )
    if shot.effect == "constant":
        value = int(np.random.default_rng(shot.seed).integers(0, 65536))
        size = (shot.camera.height, shot.camera.width)
        return Picture(np.full(size, value, np.uint16), "intensity", "bone_dark")
    if shot.effect == "open_beam":
        return Picture(_open_beam(shot, config), "intensity", "bone_dark")
    patient = scene(case.patient, case.variant, _stretch_centre(case))
    model = patient.model.with_config(config)
    if case.instruments:
        model = model.with_instruments(
            build_instruments(
                case.instruments, patient.labels, np.array(case.aim_lps_mm), patient.back_mm
            )
        )
    taken = model.render(shot.camera_from_patient, shot.camera, shot.seed)
    image = taken.image
    if shot.effect == "saturated":
        image = _overexposed(image, shot.seed)
    elif shot.effect == "mirrored":
        image = np.ascontiguousarray(image[:, ::-1])
    return Picture(image, taken.kind, taken.polarity)


def _open_beam(shot: Shot, config: XrayModelConfig) -> NDArray[np.uint16]:
    """The beam with nothing in it but its blades."""
    camera = shot.camera
    pitch = camera.pixel_pitch_mm
    signal: NDArray[np.float32] = np.ones((camera.height, camera.width), dtype=np.float32)
    if config.collimator is not None:
        assert camera.sdd_mm is not None
        signal = detector.collimator_transmission(
            config.collimator,
            (camera.width, camera.height),
            pitch,
            camera.sdd_mm,
            config.detector.focal_spot_mm,
        )
    noise = np.random.default_rng(shot.seed)
    values = detector.detect(signal, np.ones_like(signal), config.detector, pitch, noise)
    counts: NDArray[np.uint16] = np.clip(np.rint(values), 0, config.detector.full_well_dn).astype(
        np.uint16
    )
    return counts


def _overexposed(image: NDArray[Any], seed: int) -> NDArray[Any]:
    share = np.random.default_rng(seed).uniform(*_SATURATED_BELOW_PERCENTILE)
    level = max(1.0, float(np.percentile(image, share)))
    full = np.iinfo(image.dtype).max
    return np.minimum(np.rint(image * (full / level)), full).astype(image.dtype)


def _stretch_centre(case: Case) -> tuple[float, float, float] | None:
    """Only a stretched patient depends on where the pictures are aimed."""
    return None if case.variant.stretch is None else case.aim_lps_mm
