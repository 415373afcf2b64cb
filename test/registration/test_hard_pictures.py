"""Two pictures with blades, scatter, rods and screws at low dose: the spine is still found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xray_registration.imaging.labels import load_label_map
from xray_registration.registration import Registrar, RegistrationConfig, View
from xray_registration.registration.result import Reason
from xray_registration.rendering.xray_model.config import XrayModelConfig
from xray_registration.rendering.xray_model.instruments import spinal_fixation, table_slab

pytestmark = pytest.mark.slow
LEVELS = ("vertebrae_T8", "vertebrae_T9")


def test_structures_are_found_behind_metal_and_between_blades(
    thorax: Any, example_label_file: Path
) -> None:
    labels = load_label_map(example_label_file, thorax.ct)
    centroids = labels.centroids_lps_mm()
    aim = np.mean([centroids[name] for name in LEVELS], axis=0)
    metal = spinal_fixation([centroids[name] for name in LEVELS], seed=3)
    back = (float(aim[0]), float(aim[1]) + 110.0, float(aim[2]))
    instruments = (*metal, table_slab(back))
    registrar = Registrar(
        thorax.ct, RegistrationConfig(structures=("vertebrae_*",)), label_map=labels
    )
    rig_from_ct = thorax.pose("ap")
    views = []
    for seed, name in enumerate(("ap", "lateral")):
        pose = thorax.pose(name)
        camera = thorax.camera
        middle = camera.project((pose[:3, :3] @ aim + pose[:3, 3])[None])[0]
        offset = (middle - (camera.cx, camera.cy)) * np.array(camera.pixel_pitch_mm)
        config = XrayModelConfig.from_dict(
            {
                "preset": "low_dose",
                "threads": 1,
                "scatter": {"scatter_to_primary_ratio": 0.8},
                "collimator": {
                    "half_width_mm": 85.0,
                    "half_height_mm": 110.0,
                    "centre_mm": [float(x) for x in offset],
                    "rotation_deg": 5.0,
                },
            },
            "test",
        )
        model = thorax.model.with_config(config).with_instruments(instruments)
        radiograph = model.render(pose, camera, seed=seed).to_radiograph(source=name)
        if name == "ap":  # hardly any light comes through the lateral chest
            assert radiograph.masked["collimated"] > 0.3
        views.append(View(radiograph, camera, pose @ np.linalg.inv(rig_from_ct)))
    start = thorax.start(rig_from_ct, mm=12.0, deg=5.0, seed=4)
    result = registrar.register(views, start)
    points = np.c_[np.array([centroids[name] for name in LEVELS]), np.ones(len(LEVELS))]
    before, after = (
        np.linalg.norm(points @ (pose - rig_from_ct).T, axis=1).mean()
        for pose in (start, result.rig_from_ct)
    )
    assert before > 5.0
    assert after < 0.7, result.reason_text
    # one view leaves the depth open, from every start: it is not tried again from others
    alone = registrar.register(views[:1], start)
    assert alone.reason is Reason.UNCERTAIN, alone.reason_text
    config = registrar.config
    once = sum(level.max_iterations for level in (*config.levels, *config.structure_levels))
    assert alone.iterations <= once
    # nor is what looks like the bones, but not as much as one view must
    unlike = replace(alone, reason=Reason.LOW_SIMILARITY, similarity=0.82)
    assert registrar._is_beyond_doubt(unlike)
    assert not registrar._is_beyond_doubt(replace(unlike, similarity=0.7))
