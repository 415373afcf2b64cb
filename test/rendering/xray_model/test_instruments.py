from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from xray_registration.errors import InputError
from xray_registration.geometry.camera import Camera
from xray_registration.rendering.xray_model.instruments import (
    Instrument,
    kirschner_wire,
    rod,
    screw,
    spinal_fixation,
    table_slab,
)
from xray_registration.rendering.xray_model.shapes import Box, Capsule, Cylinder, Shape

Look = Callable[..., NDArray[np.float64]]


def sampled_length_mm(
    contains: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    pose: NDArray[np.float64],
    camera: Camera,
) -> NDArray[np.float64]:
    """The same length by brute force: 0.02 mm steps from 560 to 740 mm of depth."""
    v, u = np.mgrid[: camera.height, : camera.width]
    rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(camera.K).T
    result = np.zeros(u.shape)
    inverse = np.linalg.inv(pose)
    for depth in np.arange(560.0, 740.0, 0.02):
        points = (rays * depth) @ inverse[:3, :3].T + inverse[:3, 3]
        result += contains(points)
    return result * 0.02 * np.linalg.norm(rays, axis=-1)


@pytest.fixture
def close_up() -> Camera:
    """41 x 31 pixels of 3 mm."""
    return Camera.from_detector(41, 31, 3.0, 1020.0)


def distance_to_segment(
    points: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    share = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0.0, 1.0)
    return np.linalg.norm(points - a - share[..., None] * (b - a), axis=-1)


def test_every_shape_against_brute_force(look: Look, close_up: Camera) -> None:
    a, b, r = np.array([-15.0, 3.0, -8.0]), np.array([12.0, -20.0, 10.0]), 5.0
    axis = (b - a) / np.linalg.norm(b - a)

    def in_cylinder(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        along = (points - a) @ axis
        across = np.linalg.norm(points - a - along[..., None] * axis, axis=-1)
        return (along >= 0) & (along <= np.linalg.norm(b - a)) & (across <= r)

    def in_capsule(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(distance_to_segment(points, a, b) <= r)

    def in_box(points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray((np.abs(points - [2.0, 1.0, -3.0]) <= [10.0, 20.0, 6.0]).all(-1))

    pose = look((0.3, 1.0, 0.2))
    for shape, contains in (
        (Cylinder(tuple(a), tuple(b), r), in_cylinder),
        (Capsule(tuple(a), tuple(b), r), in_capsule),
        (Box((2.0, 1.0, -3.0), (10.0, 20.0, 6.0)), in_box),
    ):
        exact = Instrument((shape,)).path_length_mm(pose, close_up)
        brute = sampled_length_mm(contains, pose, close_up)
        assert brute.max() > 9.0
        assert (brute == 0.0).any()
        np.testing.assert_allclose(exact, brute, atol=0.06)


def test_a_rod_across_the_beam_is_as_thick_as_its_diameter(look: Look) -> None:
    camera = Camera.from_detector(1, 1, 1.0, 1020.0)
    thing = rod([(-50.0, 0.0, 0.0), (50.0, 0.0, 0.0)], 5.5)
    assert thing.path_length_mm(look(), camera)[0, 0] == pytest.approx(5.5)
    along = rod([(0.0, -50.0, 0.0), (0.0, 50.0, 0.0)], 5.5)  # end on: length and two round ends
    assert along.path_length_mm(look(), camera)[0, 0] == pytest.approx(105.5)


def test_a_ball_is_a_capsule_without_length(look: Look) -> None:
    camera = Camera.from_detector(1, 1, 1.0, 1020.0)
    ball = Instrument((Capsule((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 4.0),))
    assert ball.path_length_mm(look(), camera)[0, 0] == pytest.approx(8.0)


def test_overlapping_parts_count_once(look: Look, close_up: Camera) -> None:
    pose = look()
    whole = Instrument((Box((0.0, 0.0, 0.0), (20.0, 10.0, 5.0)),))
    halves = Instrument(
        (
            Box((-6.0, 0.0, 0.0), (14.0, 10.0, 5.0)),
            Box((6.0, 0.0, 0.0), (14.0, 10.0, 5.0)),
            Box((0.0, 4.0, 0.0), (20.0, 6.0, 5.0)),
        )
    )
    np.testing.assert_allclose(
        halves.path_length_mm(pose, close_up), whole.path_length_mm(pose, close_up), atol=1e-4
    )


def test_a_screw_is_thick_at_the_head_and_ends_at_the_tip(look: Look) -> None:
    camera = Camera.from_detector(201, 61, 1.0, 1020.0)
    length = screw((-20.0, 0.0, 0.0), (25.0, 0.0, 0.0), 6.0, 12.0, 10.0).path_length_mm(
        look(), camera
    )

    def at(x_mm: float) -> float:
        return float(length[30, round(100 + x_mm * 1020.0 / 650.0)])

    assert at(0.0) == pytest.approx(6.0, abs=0.02)
    assert at(-25.0) == pytest.approx(12.0, abs=0.1)
    assert at(30.0) == 0.0
    assert at(-33.0) == 0.0


@pytest.mark.parametrize("direction", [(0, 1, 0), (1, 0.2, 0.1)])
def test_only_pixels_near_the_shadow_are_worked_on(
    direction: tuple[float, ...], look: Look, camera: Camera
) -> None:
    """The bounding region must not cut anything off: compare with a shape that claims more."""

    class Everywhere(Capsule):
        def corners_lps_mm(self) -> NDArray[np.float64]:
            return np.array(
                [[x, y, z] for x in (-400, 400) for y in (-400, 400) for z in (-400, 400)]
            )

    arguments = ((-30.0, 5.0, 10.0), (20.0, -15.0, -20.0), 4.0)
    pose = look(direction)
    tight = Instrument((Capsule(*arguments),)).path_length_mm(pose, camera)
    wide = Instrument((Everywhere(*arguments),)).path_length_mm(pose, camera)
    assert tight.max() > 5.0
    np.testing.assert_array_equal(tight, wide)


def test_out_of_view_and_behind_the_source_are_empty(look: Look, camera: Camera) -> None:
    for place in ((900.0, 0.0, 0.0), (0.0, -800.0, 0.0)):
        thing = Instrument((Capsule(place, place, 5.0),))
        assert not thing.path_length_mm(look(), camera).any()


def test_table_lies_under_the_patient(look: Look, camera: Camera) -> None:
    table = table_slab((0.0, 100.0, 0.0), thickness_mm=40.0)
    length = table.path_length_mm(look(), camera)
    assert length[24, 32] == pytest.approx(40.0, rel=1e-3)
    assert table.density == 0.2
    assert table.material == "carbon"


def test_spinal_fixation_is_seeded_and_complete() -> None:
    spine = [np.array([0.0, 80.0, z]) for z in (-40.0, -10.0, 20.0)]
    things = spinal_fixation(spine, seed=3)
    assert sorted(thing.name for thing in things) == ["rod"] * 2 + ["screw"] * 6
    assert things == spinal_fixation(spine, seed=3)
    assert things != spinal_fixation(spine, seed=4)
    with pytest.raises(InputError, match="at least two"):
        spinal_fixation(spine[:1], seed=3)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Instrument(()),
        lambda: Instrument((Capsule((0, 0, 0), (1, 0, 0), 1.0),), "cheese"),
        lambda: Capsule((0, 0, 0), (1, 0, float("nan")), 1.0),
        lambda: Capsule((0, 0, 0), (1, 0, 0), 0.0),
        lambda: Cylinder((0, 0, 0), (0, 0, 0), 1.0),
        lambda: Box((0, 0, 0), (1, 1, 1), ((1, 0, 0), (1, 0, 0), (0, 0, 1))),
        lambda: screw((1, 2, 3), (1, 2, 3)),
        lambda: rod([(0.0, 0.0, 0.0)]),
        lambda: kirschner_wire((0, 0), (1, 1, 1)),  # type: ignore[arg-type]
    ],
)
def test_bad_instruments_are_refused(bad: Callable[[], Instrument | Shape]) -> None:
    with pytest.raises(InputError):
        bad()
