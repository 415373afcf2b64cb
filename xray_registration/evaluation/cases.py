"""The cases of a protocol: true poses, starts and settings, drawn from its seed.

A case depends on the protocol's seed and version and on its own number only, so a quick run's cases
are among those of a full run, and their pictures are the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xray_registration.errors import InputError
from xray_registration.evaluation.metrics import mtre_mm
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.protocol_parts import (
    AcquisitionSpec,
    CameraSpec,
    CollimatorSpec,
    VariantSpec,
)
from xray_registration.evaluation.starts import perturbed_to_mtre
from xray_registration.evaluation.targets import TargetSet
from xray_registration.geometry import Camera
from xray_registration.geometry.positioner import PositionerPose, camera_from_positioner

Array = NDArray[np.float64]

_WRONG_SDD = 0.2
_OUT_OF_VIEW_MM = (200.0, 280.0)  # across the patient, at the isocentre
_REJECT_STREAM = 1000  # keeps their random numbers apart from those of the bins


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a case.

    Attributes:
        camera: that took it.
        given_camera: that the method is told; another one for "wrong_sdd".
        camera_from_patient: (4, 4) of the patient in the picture.
        camera_from_rig: (4, 4), known to the method.
        xray: settings of the X-ray model.
        seed: of noise and display window.
        effect: "", or what is done to the finished picture: "open_beam", "constant", "saturated",
            "mirrored".
    """

    camera: Camera
    given_camera: Camera
    camera_from_patient: Array
    camera_from_rig: Array
    xray: Mapping[str, Any]
    seed: int
    effect: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """What one registration is given, and the truth that it is not given.

    Attributes:
        id: unique within all protocols and their versions.
        reject: kind of a case that must be refused, else None.
        start_bin: (low, high] mm.
        patient: data set in the picture.
        aim_lps_mm: (3,) point of that patient, without shift and depth at the isocentre.
        variant: how that patient differs from its CT.
        acquisition: name, for tables.
        instruments: plans for `pictures.build_instruments`.
        shots: the pictures.
        rig_from_ct: (4, 4) the true pose of the CT that is registered (of no use for rejects).
        rig_from_ct_start: (4, 4).
        start_mtre_mm: true 3-D error of the start on the protocol's targets.
    """

    id: str
    reject: str | None
    start_bin: tuple[float, float]
    patient: str
    aim_lps_mm: tuple[float, float, float]
    variant: VariantSpec
    acquisition: str
    instruments: tuple[Mapping[str, Any], ...]
    shots: tuple[Shot, ...]
    rig_from_ct: Array
    rig_from_ct_start: Array
    start_mtre_mm: float


def make_cases(
    protocol: Protocol, targets: TargetSet, centres_lps_mm: Mapping[str, ArrayLike], quick: bool
) -> list[Case]:
    """All cases, or the first few of each bin and kind.

    Args:
        protocol: what to draw.
        targets: of the registered CT.
        centres_lps_mm: data set to the (3,) point at which its pictures are aimed.
        quick: the subset.
    """
    if protocol.reject is not None:
        count = protocol.reject.quick_per_kind if quick else protocol.reject.cases_per_kind
        return [
            _reject_case(protocol, targets, centres_lps_mm, kind, number, index)
            for number, kind in enumerate(protocol.reject.kinds)
            for index in range(count)
        ]
    edges = protocol.starts.bins_mm
    count = protocol.quick_per_bin if quick else protocol.cases_per_bin
    return [
        _pose_case(protocol, targets, number, index)
        for number in range(len(edges) - 1)
        for index in range(count)
    ]


def _pose_case(protocol: Protocol, targets: TargetSet, number: int, index: int) -> Case:
    random = _random(protocol, number, index)
    low, high = protocol.starts.bins_mm[number : number + 2]
    # shifted from bin to bin, so that a quick run meets all of them
    place = index + number * max(1, protocol.quick_per_bin)
    acquisition = _by_share(protocol.acquisitions, place)
    variant = protocol.variants[place % len(protocol.variants)]
    poses = _sample_poses(protocol, targets.centre_lps_mm, random)
    truth = poses[0]
    start = perturbed_to_mtre(truth, targets, protocol.starts, random.uniform(low, high), random)
    shots = tuple(
        Shot(
            camera=_camera(spec),
            given_camera=_camera(spec),
            camera_from_patient=pose,
            camera_from_rig=pose @ np.linalg.inv(truth),
            xray=_xray(acquisition, _camera(spec), pose, targets.centre_lps_mm, random),
            seed=int(random.integers(2**31)),
        )
        for spec, pose in zip(protocol.cameras, poses, strict=True)
    )
    return Case(
        id=f"{protocol.name}-v{protocol.version}-b{number}-{index:03d}",
        reject=None,
        start_bin=(low, high),
        patient=protocol.patient,
        aim_lps_mm=_point(targets.centre_lps_mm),
        variant=variant,
        acquisition=acquisition.name,
        instruments=_instruments(acquisition, targets, random),
        shots=shots,
        rig_from_ct=truth,
        rig_from_ct_start=start,
        start_mtre_mm=mtre_mm(start, truth, targets.points_lps_mm),
    )


def _reject_case(
    protocol: Protocol,
    targets: TargetSet,
    centres_lps_mm: Mapping[str, ArrayLike],
    kind: str,
    number: int,
    index: int,
) -> Case:
    assert protocol.reject is not None
    random = _random(protocol, _REJECT_STREAM + number, index)
    low, high = protocol.starts.bins_mm[0], protocol.starts.bins_mm[-1]
    acquisition = _by_share(protocol.acquisitions, index)
    variant, patient = protocol.variants[index % len(protocol.variants)], protocol.patient
    camera_spec = protocol.cameras[0]
    angles_state = random.bit_generator.state
    expected = _sample_poses(protocol, targets.centre_lps_mm, random)[0]
    pictured, effect = expected, ""
    aim = _point(targets.centre_lps_mm)
    camera = given = _camera(camera_spec)
    if kind == "blank":
        effect = "open_beam" if index % 2 == 0 else "constant"
    elif kind == "saturated":
        effect = "saturated"
    elif kind == "mirrored":
        effect = "mirrored"
    elif kind == "other_patient":
        patient = protocol.reject.other_patients[index % len(protocol.reject.other_patients)]
        variant = VariantSpec("as-ct")
        again = np.random.default_rng()
        again.bit_generator.state = angles_state  # the same C-arm pose, about the other's centre
        aim = _point(centres_lps_mm[patient])
        pictured = _sample_poses(protocol, aim, again)[0]
    elif kind == "other_patient_warped":
        variant = protocol.reject.warped[index % len(protocol.reject.warped)]
    elif kind == "out_of_view":
        distance = random.uniform(*_OUT_OF_VIEW_MM) * random.choice([-1.0, 1.0])
        direction = np.radians(random.uniform(-45.0, 45.0))
        pictured = expected.copy()
        pictured[:3, 3] += distance * np.array([np.cos(direction), np.sin(direction), 0.0])
    elif kind == "wrong_sdd":
        factor = 1.0 + _WRONG_SDD * random.choice([-1.0, 1.0])
        given = _camera(camera_spec, factor)
    start_mm = random.uniform(low, high)
    start = perturbed_to_mtre(expected, targets, protocol.starts, start_mm, random)
    shot = Shot(
        camera=camera,
        given_camera=given,
        camera_from_patient=pictured,
        camera_from_rig=np.eye(4),
        xray=_xray(acquisition, camera, expected, targets.centre_lps_mm, random),
        seed=int(random.integers(2**31)),
        effect=effect,
    )
    return Case(
        id=f"{protocol.name}-v{protocol.version}-{kind}-{index:03d}",
        reject=kind,
        start_bin=(low, high),
        patient=patient,
        aim_lps_mm=aim,
        variant=variant,
        acquisition=acquisition.name,
        instruments=(),
        shots=(shot,),
        rig_from_ct=pictured,
        rig_from_ct_start=start,
        start_mtre_mm=start_mm,
    )


def _random(protocol: Protocol, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([protocol.seed, protocol.version, *numbers])


def _sample_poses(
    protocol: Protocol, centre_lps_mm: ArrayLike, random: np.random.Generator
) -> list[Array]:
    """camera_from_ct of every camera: each aimed by hand, so each with its own shift and depth."""
    ranges = protocol.pose
    primary = ranges.primary_centre_deg + random.uniform(-ranges.primary_deg, ranges.primary_deg)
    centre = _point(centre_lps_mm)
    poses = []
    for camera in protocol.cameras:
        secondary, roll, across_x, across_y, depth = random.uniform(-1.0, 1.0, 5)
        pose = camera_from_positioner(
            PositionerPose(
                primary_deg=primary + camera.orbit_deg,
                secondary_deg=secondary * ranges.secondary_deg,
                source_isocentre_mm=ranges.source_isocentre_mm + depth * ranges.depth_mm,
                isocentre_lps_mm=centre,
                roll_deg=roll * ranges.roll_deg,
            )
        )
        pose[:2, 3] += ranges.shift_mm * np.array([across_x, across_y])
        poses.append(pose)
    return poses


def _point(values: ArrayLike) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, dtype=np.float64)
    return float(x), float(y), float(z)


def _camera(spec: CameraSpec, sdd_factor: float = 1.0) -> Camera:
    width, height = spec.size
    return Camera.from_detector(width, height, spec.pixel_pitch_mm, spec.sdd_mm * sdd_factor)


def _by_share(acquisitions: tuple[AcquisitionSpec, ...], place: int) -> AcquisitionSpec:
    """One of a round in which each appears ``share`` times, spread out."""
    total = sum(item.share for item in acquisitions)
    keyed = [
        ((n + 0.5) / item.share, order, item)
        for order, item in enumerate(acquisitions)
        for n in range(item.share)
    ]
    round_ = [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]
    return round_[place % total]


def _xray(
    acquisition: AcquisitionSpec,
    camera: Camera,
    camera_from_ct: Array,
    aim_lps_mm: ArrayLike,
    random: np.random.Generator,
) -> dict[str, Any]:
    settings = dict(acquisition.xray)
    if acquisition.collimator is not None:
        aim = camera_from_ct[:3, :3] @ np.asarray(aim_lps_mm) + camera_from_ct[:3, 3]
        middle = (camera.project(aim) - (camera.cx, camera.cy)) * camera.pixel_pitch_mm
        settings["collimator"] = _collimator(acquisition.collimator, middle, random)
    return settings


def _collimator(
    spec: CollimatorSpec, middle_mm: Array, random: np.random.Generator
) -> dict[str, Any]:
    offset = random.uniform(-spec.offset_mm, spec.offset_mm, 2)
    return {
        "half_width_mm": float(random.uniform(*spec.half_width_mm)),
        "half_height_mm": float(random.uniform(*spec.half_height_mm)),
        "centre_mm": [float(x) for x in middle_mm + offset],
        "rotation_deg": float(random.uniform(-spec.rotation_deg, spec.rotation_deg)),
    }


def _instruments(
    acquisition: AcquisitionSpec, targets: TargetSet, random: np.random.Generator
) -> tuple[Mapping[str, Any], ...]:
    plans: list[Mapping[str, Any]] = []
    for kind in acquisition.instruments:
        seed = int(random.integers(2**31))
        if kind == "fixation":
            vertebrae = [n for n in dict.fromkeys(targets.names) if "vertebra" in n]
            if len(vertebrae) < 2:
                raise InputError(
                    f"instruments: fixation needs two vertebrae among the targets, which are "
                    f"{targets.description}."
                )
            count = int(random.integers(2, min(4, len(vertebrae)) + 1))
            first = int(random.integers(0, len(vertebrae) - count + 1))
            chosen = vertebrae[first : first + count]
            plans.append({"kind": kind, "vertebrae": chosen, "seed": seed})
        elif kind == "wires":
            plans.append({"kind": kind, "count": int(random.integers(1, 4)), "seed": seed})
        else:
            plans.append({"kind": kind})
    return tuple(plans)
