from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from xray_registration.errors import InputError
from xray_registration.geometry import se3

ANGLES = (
    0.0,
    1e-12,
    1e-8,
    1e-6,
    1e-4,
    1e-2,
    # around the switches between series and closed form
    0.0999,
    0.1001,
    0.1999,
    0.2001,
    0.4999,
    0.5001,
    0.9999,
    1.0,
    1.0001,
    2.0,
    math.pi - 1e-2,
    math.pi - 1e-4,
    math.pi - 1e-6,
    math.pi,
)
DTYPES = (torch.float32, torch.float64)
# relative tolerances of round trips
ROUND_TRIP = {torch.float32: 2e-6, torch.float64: 4e-15}


def axes(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Unit axes: along the coordinates, along diagonals, and anywhere. (N, 3)"""
    generator = torch.Generator().manual_seed(3)
    fixed = torch.tensor(
        [[1, 0, 0], [0, -1, 0], [0, 0, 1], [1, 1, 0], [1, -1, 1], [-1, 0, 1], [1e-9, 1, 0]],
        dtype=torch.float64,
    )
    some = torch.cat((fixed, torch.randn(20, 3, generator=generator, dtype=torch.float64)))
    return (some / some.norm(dim=-1, keepdim=True)).to(dtype)


def random_poses(n: int, seed: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    xi = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    xi = xi * torch.tensor([200.0, 200.0, 200.0, 0.8, 0.8, 0.8])
    return se3.se3_exp(xi).to(dtype)


def half_turn_distance(w: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Distance of rotation vectors, counting the two signs at a half turn as equal."""
    direct = (w - expected).norm(dim=-1)
    near_pi = expected.norm(dim=-1) > math.pi - 1e-3
    length = expected.norm(dim=-1, keepdim=True).clamp_min(1.0)
    other = (w - (expected - 2 * math.pi * expected / length)).norm(dim=-1)
    return torch.where(near_pi, torch.minimum(direct, other), direct)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_exp_and_log_are_finite_with_finite_gradients(angle: float, dtype: torch.dtype) -> None:
    w = axes(dtype) * angle
    xi = torch.cat((torch.full_like(w, 37.0), w), -1).requires_grad_()
    pose = se3.se3_exp(xi)
    assert torch.isfinite(pose).all()
    (gradient,) = torch.autograd.grad(pose.square().sum() + pose.sum(), xi)
    assert torch.isfinite(gradient).all()

    pose = pose.detach().requires_grad_()
    log = se3.se3_log(pose)
    assert torch.isfinite(log).all()
    for component in range(6):
        (gradient,) = torch.autograd.grad(log[:, component].sum(), pose, retain_graph=True)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < 1e4  # finite and not nearly infinite


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_second_derivatives_are_finite(angle: float, dtype: torch.dtype) -> None:
    xi = torch.cat((torch.ones(3, dtype=dtype), axes(dtype)[4] * angle)).requires_grad_()

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        return se3.se3_log(se3.se3_exp(x)).square().sum()

    hessian = torch.autograd.functional.hessian(there_and_back, xi)
    assert torch.isfinite(hessian).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES)
def test_so3_round_trip(angle: float, dtype: torch.dtype) -> None:
    w = axes(dtype) * angle
    log = se3.so3_log(se3.so3_exp(w))
    assert half_turn_distance(log, w).max() <= ROUND_TRIP[dtype] * max(angle, 1e-30)


def test_tiny_angles_keep_their_digits_in_float32() -> None:
    w = torch.tensor([[1e-12, -2e-12, 3e-13], [1e-25, 0.0, 0.0]])
    torch.testing.assert_close(se3.so3_log(se3.so3_exp(w)), w, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("angle", ANGLES)
def test_exp_agrees_with_scipy(angle: float) -> None:
    for axis in axes():
        xi = torch.cat((torch.tensor([3.0, -70.0, 11.0], dtype=torch.float64), axis * angle))
        generator = np.zeros((4, 4))
        generator[:3, :3] = se3.hat(xi[3:]).numpy()
        generator[:3, 3] = xi[:3].numpy()
        np.testing.assert_allclose(se3.se3_exp(xi).numpy(), expm(generator), rtol=0, atol=3e-13)


def test_log_agrees_with_scipy() -> None:
    rotation = Rotation.random(500, random_state=1)
    log = se3.so3_log(torch.from_numpy(rotation.as_matrix()))
    np.testing.assert_allclose(log.numpy(), rotation.as_rotvec(), atol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-11)])
@pytest.mark.parametrize("angle", ANGLES)
def test_se3_round_trip_of_poses(angle: float, dtype: torch.dtype, tolerance: float) -> None:
    """exp(log(T)) == T, translations of some 500 mm to ``tolerance`` mm."""
    w = axes(torch.float64) * angle
    generator = torch.Generator().manual_seed(1)
    v = 500 * torch.randn(w.shape, generator=generator, dtype=torch.float64)
    pose = se3.se3_exp(torch.cat((v, w), -1)).to(dtype)
    again = se3.se3_exp(se3.se3_log(pose))
    assert (again - pose)[:, :3, 3].abs().max() < tolerance
    assert (again - pose)[:, :3, :3].abs().max() < {torch.float32: 2e-6}.get(dtype, 4e-15)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.3, 0.7, 1.5, 2.9])
def test_gradcheck_away_from_the_cut(angle: float) -> None:
    w = axes()[[0, 3, 4, 7, 8]] * angle
    xi = torch.cat((torch.full_like(w, 2.0), w), -1).requires_grad_()
    assert torch.autograd.gradcheck(se3.se3_exp, (xi,))
    assert torch.autograd.gradcheck(lambda x: se3.se3_log(se3.se3_exp(x)), (xi,))
    # The log alone, its matrix moved off SO(3) as well; not for axes with equal components, where
    # two equally good quaternion rows differ off (only off) SO(3).
    pose = se3.se3_exp(xi[[0, 3, 4]].detach()).requires_grad_()
    assert torch.autograd.gradcheck(se3.se3_log, (pose,))


def test_derivative_at_identity_is_the_generator() -> None:
    jacobian = torch.autograd.functional.jacobian(se3.se3_exp, torch.zeros(6, dtype=torch.float64))
    for i in range(3):
        expected = torch.zeros(4, 4, dtype=torch.float64)
        expected[i, 3] = 1.0
        torch.testing.assert_close(jacobian[..., i], expected)
        expected = torch.zeros(4, 4, dtype=torch.float64)
        expected[:3, :3] = se3.hat(torch.eye(3, dtype=torch.float64)[i])
        torch.testing.assert_close(jacobian[..., 3 + i], expected)


def test_forward_mode_and_vmap() -> None:
    xi = torch.tensor([[1.0, 2, 3, 0.1, 0.2, -0.3], [0, 0, 0, 0, 0, 0]], dtype=torch.float64)

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        return se3.se3_log(se3.se3_exp(x))

    jacobians = torch.func.vmap(torch.func.jacfwd(there_and_back))(xi)
    expected = torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    torch.testing.assert_close(jacobians, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_batch(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    xi = torch.full((*batch, 6), 0.1, dtype=dtype)
    pose = se3.se3_exp(xi)
    centre = torch.ones(3, dtype=dtype)
    assert pose.shape == (*batch, 4, 4)
    assert pose.dtype == dtype
    assert se3.se3_log(pose).shape == (*batch, 6)
    assert se3.inverse(pose).shape == (*batch, 4, 4)
    assert se3.adjoint(pose).shape == (*batch, 6, 6)
    assert se3.left_increment(pose, xi, centre).shape == (*batch, 4, 4)
    assert se3.perturbation_between(pose, pose, centre).shape == (*batch, 6)
    points = torch.ones(5, 3, dtype=dtype)
    assert se3.transform_points(pose, points).shape == (*batch, 5, 3)


def test_one_pose_many_increments() -> None:
    pose = random_poses(1)[0]
    xi = torch.zeros(7, 6, dtype=torch.float64)
    moved = se3.left_increment(pose, xi, torch.tensor([1.0, 2, 3], dtype=torch.float64))
    torch.testing.assert_close(moved, pose.expand(7, 4, 4))


def test_inverse_and_transform_points() -> None:
    poses = random_poses(6)
    torch.testing.assert_close(
        se3.inverse(poses) @ poses, torch.eye(4, dtype=torch.float64).expand(6, 4, 4)
    )
    points = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = se3.transform_points(poses, points)
    homogeneous = torch.cat((points, torch.ones(9, 1, dtype=torch.float64)), -1)
    expected = (poses[:, None] @ homogeneous[None, ..., None])[..., :3, 0]
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(
        se3.transform_points(se3.inverse(poses), moved), points.expand(6, 9, 3)
    )


def translation(c: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(4, dtype=c.dtype).repeat(*c.shape[:-1], 1, 1)
    matrix[..., :3, 3] = c
    return matrix


def test_left_increment_is_the_stated_product() -> None:
    poses = random_poses(8)
    centre = torch.tensor([12.0, -150.0, 900.0], dtype=torch.float64)
    xi = torch.tensor([3.0, -2.0, 8.0, 0.2, -0.1, 0.4], dtype=torch.float64)
    c = se3.transform_points(poses, centre[None])[:, 0]
    expected = translation(c) @ se3.se3_exp(xi) @ translation(-c) @ poses
    torch.testing.assert_close(se3.left_increment(poses, xi, centre), expected)


def test_left_increment_keeps_or_moves_the_centre() -> None:
    pose = random_poses(1)[0]
    centre = torch.tensor([40.0, 20.0, -300.0], dtype=torch.float64)
    before = se3.transform_points(pose, centre[None])[0]
    turn = torch.tensor([0, 0, 0, 0.3, 0.1, -0.2], dtype=torch.float64)
    after = se3.transform_points(se3.left_increment(pose, turn, centre), centre[None])[0]
    torch.testing.assert_close(after, before)
    # the translation is along the TARGET's axes
    shift = torch.tensor([0, 0, 5.0, 0, 0, 0], dtype=torch.float64)
    after = se3.transform_points(se3.left_increment(pose, shift, centre), centre[None])[0]
    torch.testing.assert_close(after - before, shift[:3])


@pytest.mark.parametrize("angle", ANGLES)
def test_perturbation_between_undoes_left_increment(angle: float) -> None:
    poses = random_poses(27)
    centre = torch.tensor([5.0, -80.0, 30.0], dtype=torch.float64)
    v = torch.full((27, 3), 15.0, dtype=torch.float64)
    xi = torch.cat((v, axes() * angle), -1)
    moved = se3.left_increment(poses, xi, centre)
    found = se3.perturbation_between(poses, moved, centre)
    again = se3.left_increment(poses, found, centre)
    torch.testing.assert_close(again, moved, rtol=0, atol=1e-11)
    if angle < 3.1:  # nearer to pi the sign of the axis is free
        torch.testing.assert_close(found, xi, rtol=0, atol=1e-11)


def test_adjoint() -> None:
    poses = random_poses(8)
    xi = torch.tensor([10.0, -4.0, 2.0, 0.3, 0.1, -0.5], dtype=torch.float64)
    left = poses @ se3.se3_exp(xi) @ se3.inverse(poses)
    right = se3.se3_exp((se3.adjoint(poses) @ xi[:, None])[..., 0])
    torch.testing.assert_close(left, right)
    product = poses[0] @ poses[1]
    torch.testing.assert_close(
        se3.adjoint(product), se3.adjoint(poses[0]) @ se3.adjoint(poses[1]), rtol=1e-12, atol=1e-9
    )


def test_hat() -> None:
    a, b = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 4.0, -1.0])
    torch.testing.assert_close(se3.hat(a) @ b, torch.linalg.cross(a, b))
    # a training's reduced precision must not round poses
    exact = torch.tensor([0.123456789, -2.3456789, 3.456789])
    with torch.autocast("cpu", torch.bfloat16):
        matrix = se3.hat(exact)
    assert torch.equal(matrix[[2, 0, 1], [1, 2, 0]], exact)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"se3_exp\(xi\): shape \(4, 7\).*\(\.\.\., 6\)"):
        se3.se3_exp(torch.zeros(4, 7))
    with pytest.raises(InputError, match=r"expected \(\.\.\., 4, 4\)"):
        se3.se3_log(torch.zeros(3, 3))
    with pytest.raises(InputError, match=r"expected \(\.\.\., N, 3\)"):
        se3.transform_points(torch.eye(4), torch.zeros(3))


# --- check_rigid ---------------------------------------------------------------------------------


def test_check_rigid_returns_float64() -> None:
    pose = random_poses(1, dtype=torch.float32)[0]
    result = se3.check_rigid(pose, "pose")
    assert result.dtype == np.float64
    assert result.shape == (4, 4)
    np.testing.assert_allclose(result, pose.numpy(), atol=1e-6)
    rotation = result[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)
    np.testing.assert_array_equal(se3.check_rigid(np.eye(4).tolist(), "pose"), np.eye(4))


def test_check_rigid_repairs_few_digits_in_a_copy() -> None:
    pose = np.eye(4)
    pose[:3, :3] = np.round(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), 4)
    kept = pose.copy()
    rotation = se3.check_rigid(pose, "pose")[:3, :3]  # four digits pass and are made a rotation
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rotation, pose[:3, :3], atol=2e-4)
    np.testing.assert_array_equal(pose, kept)


def bad(change: str) -> object:
    pose = np.eye(4)
    pose[:3, 3] = (1.0, 2.0, 900.0)
    if change == "mirrored":
        pose[0, 0] = -1.0
    elif change == "nan":
        pose[1, 3] = np.nan
    elif change == "inf":
        pose[0, 0] = np.inf
    elif change == "scaled":
        pose[:3, :3] *= 10.0
    elif change == "sheared":
        pose[0, 1] = 0.3
    elif change == "zero":
        pose[:3, :3] = 0.0
    elif change == "transposed":
        return pose.T
    elif change == "last row":
        pose[3, 3] = 2.0
    elif change == "3x4":
        return pose[:3]
    elif change == "text":
        return [["a"] * 4] * 4
    elif change == "ragged":
        return [[1, 0, 0, 0], [0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    elif change == "none":
        return None
    return pose


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mirrored", "mirrored.*flip_horizontal, not a rotation"),
        ("nan", r"\[1\]\[3\] is nan"),
        ("inf", r"\[0\]\[0\] is inf"),
        ("scaled", r"R\^T R - I\| is 99.*scale of 10"),
        ("sheared", r"R\^T R - I\| is 0\.3, accepted up to 0\.001"),
        ("zero", "not a rotation"),
        ("transposed", "last row.*transposed"),
        ("last row", r"last row is \[0\.0, 0\.0, 0\.0, 2\.0\]; expected \[0, 0, 0, 1\]"),
        ("3x4", r"shape \(3, 4\)"),
        ("text", "4 numbers"),
        ("ragged", "4 numbers"),
        ("none", "4x4|4 numbers"),
    ],
)
def test_check_rigid_refuses(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        se3.check_rigid(bad(change), "POSE.json: rig_from_ct")  # type: ignore[arg-type]
    assert str(caught.value).startswith("POSE.json: rig_from_ct: ")


def test_distance_counts_a_turn_as_a_length() -> None:
    centre = torch.tensor([5.0, -3.0, 700.0], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    xi = torch.tensor([[3.0, 0, 4.0, 0, 0, 0], [0, 0, 0, 0, 0.02, 0]], dtype=torch.float64)
    moved = se3.left_increment(pose, xi, centre)
    assert se3.distance_mm(pose, moved, centre, 100.0).tolist() == pytest.approx([5.0, 2.0])
