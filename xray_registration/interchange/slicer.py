"""3D Slicer's point lists: .fcsv (Markups 4.x) and .mrk.json (Markups 5 and later).

Both name the axes in their header; a file that does not is refused, because RAS taken for LPS puts
every landmark on the other side of the patient. In .fcsv the axes are ``RAS``, ``LPS`` or the
numbers that older Slicers wrote, 0 for RAS and 1 for LPS.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.files import write_atomically
from xray_registration.geometry.checks import vector3
from xray_registration.geometry.frames import lps_from_ct_axes
from xray_registration.geometry.json_files import read_json_object

Points = dict[str, NDArray[np.float64]]

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
_FCSV_COLUMNS = (
    "id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc",
    "associatedNodeID",
)  # fmt: skip
_AXES = {"0": "ras", "1": "lps", "ras": "ras", "lps": "lps"}
_AXES_EXPECTED = "expected RAS or LPS (in .fcsv also 0 for RAS, 1 for LPS)"


def read_landmarks(path: str | Path) -> Points:
    """Name to (3,) LPS mm of a .fcsv, .mrk.json or .json (same layout) file, in the file's order.

    Points without a label get their number (from 1). Points that are placed but not yet positioned
    in Slicer are left out.

    Raises:
        InputError: unreadable, axes not named or unknown, units other than mm, a position that is
            not three finite numbers, doubled labels, no point at all.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".fcsv"):
        pairs = _read_fcsv(path)
    elif name.endswith(".json"):
        pairs = _read_mrk_json(path)
    else:
        raise InputError(f"{path}: unknown landmark format; expected .fcsv or .mrk.json.")
    return _named(path, pairs)


def write_landmarks(path: str | Path, points_lps_mm: Mapping[str, ArrayLike]) -> None:
    """Write a .fcsv or .mrk.json, in LPS (every Slicer since 4.11 writes and reads LPS).

    Raises:
        InputError: another suffix, a position that is not three finite numbers, no points.
    """
    path = Path(path)
    if not points_lps_mm:
        raise InputError(f"{path}: there are no landmarks to write.")
    points = {name: vector3(point, f"landmark {name!r}") for name, point in points_lps_mm.items()}
    if path.name.lower().endswith(".fcsv"):
        text = _fcsv_text(points)
    elif path.name.lower().endswith(".json"):
        text = json.dumps(_mrk_json(points), indent=2, ensure_ascii=False) + "\n"
    else:
        raise InputError(f"{path}: unknown landmark format; expected .fcsv or .mrk.json.")
    write_atomically(path, text.encode())


def _read_fcsv(path: Path) -> list[tuple[str, Any, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "no such file" if not path.exists() else error.strerror or str(error)
        raise InputError(f"{path}: {reason}; expected a .fcsv file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}).") from error
    axes: str | None = None
    columns: Sequence[str] = _FCSV_COLUMNS
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, equals, value = line[1:].partition("=")
            if equals and key.strip().lower() == "coordinatesystem":
                axes = _axes(value, f"{path}, line {number}: CoordinateSystem")
            elif equals and key.strip().lower() == "columns":
                columns = [column.strip() for column in value.split(",")]
        elif line.strip():
            rows.append((number, next(csv.reader(io.StringIO(line)))))
    if axes is None:
        raise InputError(
            f"{path}: no line '# CoordinateSystem = ...', so its axes are unknown; {_AXES_EXPECTED}"
        )
    if not {"x", "y", "z"} <= set(columns):
        raise InputError(f"{path}: the columns are {', '.join(columns)}; expected x, y, z, label.")
    pairs = []
    for number, row in rows:
        record = dict(zip(columns, row))
        if not {"x", "y", "z"} <= set(record):
            raise InputError(f"{path}, line {number}: {len(row)} columns; expected x, y and z.")
        position = [record[axis].strip() for axis in "xyz"]
        pairs.append((record.get("label", "").strip(), position, axes))
    return pairs


def _read_mrk_json(path: Path) -> list[tuple[str, Any, str]]:
    data = read_json_object(path, 'a Slicer markups file {"markups": [...]}')
    markups = data.get("markups")
    if not isinstance(markups, list) or not all(isinstance(item, dict) for item in markups):
        raise InputError(f"{path}: no list 'markups'; expected a Slicer markups file.")
    pairs = []
    for number, markup in enumerate(markups):
        where = f"{path}: markups[{number}]"
        if "coordinateSystem" not in markup:
            raise InputError(f"{where}: no coordinateSystem; {_AXES_EXPECTED}.")
        axes = _axes(str(markup["coordinateSystem"]), f"{where}: coordinateSystem")
        _check_units(markup.get("coordinateUnits", "mm"), where)
        controls = markup.get("controlPoints", [])
        if not isinstance(controls, list) or not all(isinstance(p, dict) for p in controls):
            raise InputError(f"{where}: controlPoints is not a list of points.")
        for point in controls:
            if point.get("positionStatus", "defined") in ("undefined", "preview", "missing"):
                continue
            pairs.append((str(point.get("label", "")).strip(), point.get("position"), axes))
    return pairs


def _check_units(units: Any, where: str) -> None:
    # "mm", or a coded unit [value, scheme, meaning] of UCUM
    code = units[0] if isinstance(units, list) and units else units
    if isinstance(units, dict):
        code = units.get("CodeValue", units)
    if code != "mm":
        raise InputError(f"{where}: coordinateUnits is {units!r}; expected mm.")


def _axes(value: str, where: str) -> str:
    axes = _AXES.get(value.strip().lower())
    if axes is None:
        raise InputError(f"{where} is {value.strip()!r}; {_AXES_EXPECTED}.")
    return axes


def _named(path: Path, pairs: Iterable[tuple[str, Any, str]]) -> Points:
    points: Points = {}
    for number, (label, position, axes) in enumerate(pairs, start=1):
        name = label or str(number)
        if name in points:
            raise InputError(f"{path}: several landmarks are called {name!r}; names must differ.")
        # its own inverse, so the direction of the change of axes does not matter
        flip = lps_from_ct_axes(axes)[:3, :3]
        points[name] = flip @ vector3(position, f"{path}: landmark {name!r}") + 0.0
    if not points:
        raise InputError(f"{path}: holds no landmarks with a position.")
    return points


def _fcsv_text(points: Points) -> str:
    stream = io.StringIO()
    stream.write("# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n")
    stream.write(f"# columns = {','.join(_FCSV_COLUMNS)}\n")
    writer = csv.writer(stream, lineterminator="\n")
    for number, (name, (x, y, z)) in enumerate(points.items(), start=1):
        place = [repr(float(value)) for value in (x, y, z)]
        writer.writerow([number, *place, 0, 0, 0, 1, 1, 1, 0, name, "", ""])
    return stream.getvalue()


def _mrk_json(points: Points) -> dict[str, Any]:
    controls = [
        {
            "id": str(number),
            "label": name,
            "position": [float(value) for value in point],
            "positionStatus": "defined",
        }
        for number, (name, point) in enumerate(points.items(), start=1)
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": controls,
    }
    return {"@schema": _SCHEMA, "markups": [markup]}
