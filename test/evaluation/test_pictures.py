"""Pictures of cases: taken once, the same again, and what is done to the bad ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xray_registration.errors import InputError
from xray_registration.evaluation import pictures
from xray_registration.evaluation.cases import Case
from xray_registration.evaluation.protocol import Protocol
from xray_registration.evaluation.protocol_parts import VariantSpec
from xray_registration.evaluation.runner import RunOptions, make_job
from xray_registration.evaluation.scene import build_instruments, vary
from xray_registration.evaluation.worker import cases_of
from xray_registration.imaging.labels import LabelMap
from xray_registration.imaging.volume import CTVolume


def cases(protocol: Protocol) -> list[Case]:
    return list(cases_of(make_job(protocol, RunOptions(quick=True)))[1].values())


def changed(case: Case, **changes: object) -> Case:
    return replace(case, shots=(replace(case.shots[0], **changes),))  # type: ignore[arg-type]


def test_taken_once_and_kept(small_protocol: Protocol) -> None:
    case = cases(small_protocol)[0]
    assert not pictures.cached(case)
    first = pictures.pictures_of(case)[0]
    assert pictures.cached(case)
    file = next(pictures.cache_folder().rglob("*.npz"))
    again = pictures.pictures_of(case)[0]
    np.testing.assert_array_equal(first.image, again.image)
    file.write_bytes(b"damaged")
    np.testing.assert_array_equal(first.image, pictures.pictures_of(case)[0].image)
    assert (first.kind, first.polarity, first.image.dtype) == ("intensity", "bone_dark", np.uint16)
    radiograph = first.to_radiograph("a case")
    assert radiograph.i0_origin != "given"


def test_the_name_depends_on_what_decides_the_pixels(small_protocol: Protocol) -> None:
    case = cases(small_protocol)[0]
    keys = {
        pictures.picture_key(case, 0),
        pictures.picture_key(changed(case, seed=1), 0),
        pictures.picture_key(changed(case, effect="mirrored"), 0),
        pictures.picture_key(changed(case, xray={"preset": "low_dose"}), 0),
        pictures.picture_key(replace(case, instruments=({"kind": "table"},)), 0),
        pictures.picture_key(replace(case, variant=VariantSpec("v", stretch=(1, 1, 1.1))), 0),
    }
    assert len(keys) == 6
    # the start is not in the picture
    other = replace(case, rig_from_ct_start=np.eye(4))
    assert pictures.picture_key(other, 0) == pictures.picture_key(case, 0)


def test_effects(small_protocol: Protocol) -> None:
    case = cases(small_protocol)[0]
    plain = pictures.pictures_of(case)[0].image
    mirrored = pictures.pictures_of(changed(case, effect="mirrored"))[0].image
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    saturated = pictures.pictures_of(changed(case, effect="saturated"))[0].image
    assert (saturated == 65535).mean() > 0.95
    constant = pictures.pictures_of(changed(case, effect="constant"))[0]
    assert constant.image.min() == constant.image.max()
    with pytest.raises(InputError, match="constant image"):
        constant.to_radiograph("blank")
    blank = pictures.pictures_of(changed(case, effect="open_beam"))[0].image.astype(float)
    assert 0 < blank.std() < 0.02 * blank.mean()


def test_display_picture_declares_its_polarity_and_nothing_else(small_protocol: Protocol) -> None:
    case = cases(small_protocol)[0]
    picture = pictures.pictures_of(changed(case, xray={"display": {"polarity": "bone_dark"}}))[0]
    assert (picture.kind, picture.polarity, picture.image.dtype) == (
        "display", "bone_dark", np.uint8
    )  # fmt: skip
    assert picture.to_radiograph("display").i0 is None


def test_patient_settings_do_not_belong_to_an_acquisition(small_protocol: Protocol) -> None:
    case = cases(small_protocol)[0]
    with pytest.raises(InputError, match="belong to a variant"):
        pictures.pictures_of(changed(case, xray={"preset": "hard"}))
    with pytest.raises(InputError, match="brightness"):
        pictures.pictures_of(changed(case, xray={"brightness": 3}))


def test_metal_and_table_show(make_protocol: Callable[..., Protocol]) -> None:
    protocol = make_protocol(
        acquisitions=[{"name": "all", "instruments": ["wires", "table"]}], quick_per_bin=1
    )
    case = cases(protocol)[0]
    with_metal = pictures.pictures_of(case)[0].image.astype(float)
    without = pictures.pictures_of(replace(case, instruments=()))[0].image.astype(float)
    thinner = np.log(without / with_metal)
    assert np.median(thinner) > 0.02  # the table is behind everything
    assert thinner.max() > 0.5  # a steel wire


def test_variants_of_a_patient() -> None:
    hu = np.full((30, 30, 30), 30, np.int16)
    hu[10:20, 10:20, 10:20] = 900
    hu[2:6, 2:6, 2:6] = 250
    labels = np.zeros(hu.shape, np.uint8)
    labels[10:20, 10:20, 10:20] = 1
    labels[2:6, 2:6, 2:6] = 2
    grid = np.diag([4.0, 4.0, 4.0, 1.0])
    ct, names = CTVolume(hu, grid), LabelMap(labels, grid, {1: "vertebrae_L1", 2: "aorta"})
    centre = (60.0, 60.0, 60.0)
    gone, _ = vary(ct, names, VariantSpec("v", contrast="removed"), centre)
    assert gone.hu[3, 3, 3] < 60
    more, _ = vary(ct, names, VariantSpec("v", contrast="added", vessels=("aor*",)), centre)
    assert more.hu[3, 3, 3] == 500
    moved = VariantSpec("v", deformation={"amplitude_mm": 5.0}, fixed=("vertebrae_*",))
    bent, _ = vary(ct, names, moved, centre)
    np.testing.assert_array_equal(bent.hu[labels == 1], hu[labels == 1])
    assert (bent.hu != hu).any()
    other, other_labels = vary(ct, names, VariantSpec("v", stretch=(1.0, 1.0, 1.2)), centre)
    np.testing.assert_allclose(other.lps_of_index([15, 15, 15]), centre)
    np.testing.assert_allclose(other.spacing_mm, [4, 4, 4.8])
    assert other_labels is not None
    np.testing.assert_array_equal(other.lps_from_index, other_labels.lps_from_index)
    with pytest.raises(InputError, match="need a label map"):
        vary(ct, None, moved, centre)


def test_fixation_is_built_at_the_vertebrae(data: Path) -> None:
    labels = LabelMap(
        np.array([[[1, 0], [0, 0]], [[0, 0], [0, 2]]], np.uint8),
        np.diag([20.0, 20.0, 20.0, 1.0]),
        {1: "vertebrae_L1", 2: "vertebrae_L2"},
    )
    plan = {"kind": "fixation", "vertebrae": ["vertebrae_L1", "vertebrae_L2"], "seed": 1}
    made = build_instruments([plan], labels, np.zeros(3), 50.0)
    assert sorted(item.name for item in made) == ["rod"] * 2 + ["screw"] * 4
    with pytest.raises(InputError, match="label map"):
        build_instruments([plan], None, np.zeros(3), 50.0)
