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
      - views:                      # of one moment, registered together
          - {image: a.png, camera: a.json}       # the camera file says where the rig is in it
          - {image: b.png, camera: b.txt}
        truth: rig_from_ct.json     # and start: of the CT in the rig
        alone: true                 # also each view alone, to see whether they agree

simulation.json of ``xray-registration simulate`` is such a manifest. A folder without either is
taken as DICOM: every file, every frame, in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
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
from xray_registration.ros.view_settings import ViewSettings

Matrix = npt.NDArray[np.float64]

MANIFESTS = ("manifest.yaml", "manifest.yml", "manifest.json", "simulation.json")
FRAME_ID = "carm_source_optical_frame"
_KEYS = {
    "image", "camera", "frame", "truth", "start", "image_kind", "polarity", "flip_horizontal",
    "stamp_s", "increments",
}  # fmt: skip
_VIEW_KEYS = {"image", "camera", "frame", "image_kind", "polarity", "flip_horizontal", "increments"}
_MOMENT_KEYS = {"views", "truth", "start", "alone", "stamp_s", "image_kind", "polarity"}
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

    @property
    def views(self) -> tuple[ViewSettings, ...]:
        """Those of the entry with the most of them.

        Raises:
            InputError: as `frames`.
        """
        most = max((len(entry.get("views", ())) for entry in self._listed[1]), default=0)
        names = [ViewSettings(name=_view_name(n)) for n in range(most)]
        return tuple(names) or self.settings.views

    def frames(self, starts: StartPosePolicy) -> Iterator[OfflineFrame]:
        """In the order of the manifest. An image that cannot be read is skipped and told.

        Raises:
            InputError: no folder; a manifest that cannot be used; not one image.
        """
        folder, entries = self._listed
        count = 0
        for number, entry in enumerate(entries):
            read = self._moment if "views" in entry else self._single
            try:
                found = read(folder, entry, number)
            except InputError as error:
                self.problems.append(str(error))
                continue
            for frame, start in found:
                if start is not None:
                    starts.set_initialpose(start, "")
                yield frame
            count += 1
        if count == 0:
            raise InputError(f"{self.path}: no image could be used. {' '.join(self.problems)}")

    @cached_property
    def _listed(self) -> tuple[Path, list[dict[str, Any]]]:
        return self._entries()

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

    def _single(
        self, folder: Path, entry: dict[str, Any], number: int
    ) -> list[tuple[OfflineFrame, Matrix | None]]:
        return [self._frame(folder, entry, number)]

    def _moment(
        self, folder: Path, entry: dict[str, Any], number: int
    ) -> list[tuple[OfflineFrame, Matrix | None]]:
        """All views together, and each alone where that is asked for."""
        common = {key: entry[key] for key in ("image_kind", "polarity") if key in entry}
        given = [{"stamp_s": number * _PERIOD_S, **common, **view} for view in entry["views"]]
        if "stamp_s" in entry:
            given = [{**view, "stamp_s": entry["stamp_s"]} for view in given]
        parts = [self._frame(folder, view, number)[0] for view in given]
        rigs = [_camera_from_rig(folder, view) for view in given]
        truth = _truth(folder, entry)
        start = read_pose(folder / str(entry["start"]))[0] if entry.get("start") else None
        name = " + ".join(part.name for part in parts)
        views = tuple(
            ViewSettings(_view_name(n), rig, sdd_mm=part.settings.sdd_mm)
            for n, (rig, part) in enumerate(zip(rigs, parts, strict=True))
        )
        first = parts[0]
        frame = Frame(tuple(part.frame.views[0] for part in parts), first.frame.stamp_ns, 0.0)
        settings = replace(first.settings, views=views)
        found = [(OfflineFrame(frame, settings, first.time_ns, truth, name), start)]
        for n, (part, rig) in enumerate(zip(parts, rigs, strict=True)):
            if not entry.get("alone"):
                break
            alone = replace(
                part,
                # a comparison beside the stream, not a part of it
                settings=replace(part.settings, tracks=False),
                truth_camera_from_ct=None if truth is None else rig @ truth,
                name=f"{_view_name(n)} ({part.name})",
                moment=name,
                camera_from_rig=rig,
            )
            found.append((alone, None if start is None else rig @ start))
        return found

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
        where = f"{path}: images[{number}]"
        if "views" not in entry:
            _check_keys(entry, known, _KEYS, where)
            continue
        _check_keys(entry, _MOMENT_KEYS, _MOMENT_KEYS, where, needed="views")
        views = entry["views"]
        if not (isinstance(views, list) and len(views) > 1 and all(map(_is_mapping, views))):
            raise InputError(f"{where}: views: expected a list of two entries or more.")
        for n, view in enumerate(views):
            _check_keys(view, _VIEW_KEYS, _VIEW_KEYS, f"{where}: views[{n}]")
    if simulated and (path.parent / "start.json").is_file():
        images[0] = {**images[0], "start": "start.json"}
    return cast(list[dict[str, Any]], images)


def _check_keys(
    entry: dict[str, Any], known: set[str], shown: set[str], where: str, needed: str = "image"
) -> None:
    unknown = sorted(set(entry) - known)
    if unknown or needed not in entry:
        wrong = f"unknown keys {', '.join(unknown)}" if unknown else f"no key {needed!r}"
        raise InputError(f"{where}: {wrong}; known are {', '.join(sorted(shown))}.")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _view_name(number: int) -> str:
    return f"view_{number}"


def _camera_from_rig(folder: Path, view: dict[str, Any]) -> Matrix:
    """(4, 4) mm, from the view's camera file."""
    if not view.get("camera"):
        raise InputError(
            f"{folder / str(view['image'])}: one of several views needs a camera file that says "
            "where the rig is in it (camera_from_rig)."
        )
    file = folder / str(view["camera"])
    reader = read_mayacam if file.suffix.lower() == ".txt" else read_camera
    return np.asarray(reader(file)[1], dtype=np.float64)


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
