"""The frames of a folder: images with a manifest, a folder of ``simulate``, or DICOM files.

manifest.yaml (or .json), paths relative to it; every key but ``image`` may be left out:

    images:
      - image: shot_01.png          # .png, .tif, .npy or DICOM
        camera: cam_01.json         # CAM.json or MayaCam 2.0 .txt; DICOM brings its own
        frame: 0                    # of a DICOM run
        increments: steps           # of its angles: steps, offsets or absolute
        truth: true_01.json         # POSE.json; the true camera_from_ct
        start: start_01.json        # POSE.json to start from
        image_kind: intensity       # intensity, attenuation or display, over the parameters'
        polarity: bone_dark         # for display
        flip_horizontal: false
        stamp_s: 0.5                # default: 0.1 s apart

simulation.json of ``xray-registration simulate`` is such a manifest. A folder without either is
taken as DICOM: every file, every frame, in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.geometry.checks import check_rigid
from xray_registration.geometry.json_files import read_camera, read_pose
from xray_registration.imaging.radiograph_checks import grey
from xray_registration.imaging.radiograph_files import read_radiograph_file
from xray_registration.interchange.dicom_carm import CArmShot, read_carm
from xray_registration.interchange.mayacam import read_mayacam
from xray_registration.ros.conversions import array_to_image, camera_to_message
from xray_registration.ros.frame_processor import Frame
from xray_registration.ros.offline_source import OfflineFrame
from xray_registration.ros.registration_settings import RegistrationSettings
from xray_registration.ros.start_pose import StartPosePolicy

Matrix = npt.NDArray[np.float64]

MANIFESTS = ("manifest.yaml", "manifest.yml", "manifest.json", "simulation.json")
FRAME_ID = "carm_source_optical_frame"
_KEYS = {
    "image", "camera", "frame", "truth", "start", "image_kind", "polarity", "flip_horizontal",
    "stamp_s", "increments",
}  # fmt: skip
_SIMULATED_KEYS = {"camera_from_ct_lps", "i0", "seed"}
_PERIOD_S = 0.1


@dataclass(eq=False)
class FolderSource:
    """A folder's images as frames.

    Attributes:
        path: the folder, or its manifest.
        settings: of all images, where the manifest says nothing else.
        isocentre_lps_mm: where the C-arm of DICOM files is taken to turn about.
        problems: what was skipped and why.
    """

    path: Path
    settings: RegistrationSettings
    isocentre_lps_mm: Matrix
    problems: list[str] = field(default_factory=list)

    def frames(self, starts: StartPosePolicy) -> Iterator[OfflineFrame]:
        """In the order of the manifest. An image that cannot be read is skipped and told.

        Raises:
            InputError: no folder; a manifest that cannot be used; not one image.
        """
        folder, entries = self._entries()
        count = 0
        for number, entry in enumerate(entries):
            try:
                frame, start = self._frame(folder, entry, number)
            except InputError as error:
                self.problems.append(str(error))
                continue
            if start is not None:
                starts.set_initialpose(start, "")
            count += 1
            yield frame
        if count == 0:
            raise InputError(f"{self.path}: no image could be used. {' '.join(self.problems)}")

    def _entries(self) -> tuple[Path, list[dict[str, Any]]]:
        if self.path.is_file():
            return self.path.parent, _manifest(self.path)
        for name in MANIFESTS:
            if (self.path / name).is_file():
                return self.path, _manifest(self.path / name)
        return self.path, self._dicom_entries()

    def _dicom_entries(self) -> list[dict[str, Any]]:
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such file or folder.")
        entries = []
        for file in sorted(self.path.iterdir()):
            if not file.is_file() or not _is_dicom(file):
                continue
            try:
                frames = read_carm(file).frames
            except InputError as error:
                self.problems.append(str(error))
                continue
            entries += [{"image": file.name, "frame": number} for number in range(frames)]
        if not entries:
            raise InputError(
                f"{self.path}: neither a manifest ({', '.join(MANIFESTS)}) nor DICOM images with "
                f"C-arm tags. {' '.join(self.problems)}"
            )
        return entries

    def _frame(
        self, folder: Path, entry: dict[str, Any], number: int
    ) -> tuple[OfflineFrame, Matrix | None]:
        path = folder / str(entry["image"])
        index = int(entry.get("frame", 0))
        settings = self._settings_of(entry, path)
        camera, start, shot = self._camera(folder, entry, path, index)
        if shot is not None and "flip_horizontal" not in entry:
            settings = replace(settings, flip_horizontal=shot.flip_horizontal)
        if shot is not None and shot.flip_horizontal:
            camera = camera.flipped_horizontally()  # of the picture as it is stored
        settings = replace(settings, use_camera_info=True, sdd_mm=camera.sdd_mm)
        if entry.get("start"):
            start, _ = read_pose(folder / str(entry["start"]))
        stamp = round((float(entry.get("stamp_s", number * _PERIOD_S)) + 1.0) * 1e9)
        header = Header(
            stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9),
            frame_id=settings.parent_frame_id or FRAME_ID,
        )
        samples = _samples(path, settings, index if shot is not None else None)
        frame = Frame.single(
            array_to_image(samples, header), camera_to_message(camera, header), stamp, 0.0
        )
        truth = _truth(folder, entry)
        name = f"{entry['image']}" + (f" frame {index}" if index else "")
        return OfflineFrame(frame, settings, stamp, truth, name), start

    def _settings_of(self, entry: dict[str, Any], path: Path) -> RegistrationSettings:
        settings = self.settings
        if "image_kind" in entry:
            kind, polarity = entry["image_kind"], entry.get("polarity")
            if kind not in ("intensity", "attenuation", "display"):
                raise InputError(
                    f"{path}: image_kind is {kind!r}; expected intensity, attenuation or display."
                )
            i0 = settings.image_i0 if kind == "intensity" else None
            polarity = polarity if kind == "display" else None
            settings = replace(settings, image_kind=kind, image_polarity=polarity, image_i0=i0)
        if "flip_horizontal" in entry:
            settings = replace(settings, flip_horizontal=bool(entry["flip_horizontal"]))
        return settings

    def _camera(
        self, folder: Path, entry: dict[str, Any], path: Path, index: int
    ) -> tuple[Camera, Matrix | None, CArmShot | None]:
        named = entry.get("camera")
        if named:
            file = folder / str(named)
            if file.suffix.lower() == ".txt":
                return read_mayacam(file, self.settings.sdd_mm)[0], None, None
            return read_camera(file)[0], None, None
        if not _is_dicom(path):
            raise InputError(f"{path}: the manifest names no camera for it, and it is no DICOM.")
        x, y, z = (float(value) for value in self.isocentre_lps_mm)
        shot = read_carm(path, index, (x, y, z), increments=entry.get("increments"))
        return shot.camera, None if shot.positioner is None else shot.camera_from_ct, shot


def _manifest(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as a manifest: {error}.") from error
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(i, dict) for i in images):
        raise InputError(f"{path}: expected a list 'images' of entries with 'image', 'camera', ...")
    simulated = path.name == "simulation.json"
    known = _KEYS | (_SIMULATED_KEYS if simulated else set())
    for number, entry in enumerate(images):
        unknown = sorted(set(entry) - known)
        if unknown or "image" not in entry:
            wrong = f"unknown keys {', '.join(unknown)}" if unknown else "no key 'image'"
            raise InputError(
                f"{path}: images[{number}]: {wrong}; known are {', '.join(sorted(_KEYS))}."
            )
    if simulated and (path.parent / "start.json").is_file():
        images[0] = {**images[0], "start": "start.json"}
    return cast(list[dict[str, Any]], images)


def _truth(folder: Path, entry: dict[str, Any]) -> Matrix | None:
    if "camera_from_ct_lps" in entry:
        return check_rigid(entry["camera_from_ct_lps"], f"{entry['image']}: camera_from_ct_lps")
    if entry.get("truth"):
        return read_pose(folder / str(entry["truth"]))[0]
    return None


def _samples(path: Path, settings: RegistrationSettings, index: int | None) -> npt.NDArray[Any]:
    """Grey values as an Image message can hold them; MONOCHROME1 turned the right way round."""
    stored = read_radiograph_file(path, settings.image_kind, index)
    values = grey(stored.values, str(path))
    if stored.white_is_zero:
        values = stored.largest_value - values
    if values.dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)):
        return np.asarray(values)
    return np.asarray(values, np.float32)


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
