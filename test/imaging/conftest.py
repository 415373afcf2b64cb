"""CT phantoms, which the tests write to files themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SHAPE_IJK = (20, 16, 12)
SPACING = (0.8, 1.1, 2.0)
CENTRE = (5.0, -12.0, 30.0)


def _rotation() -> NDArray[np.float64]:
    q, _ = np.linalg.qr(np.array([[0.9, -0.3, 0.2], [0.35, 0.85, -0.3], [-0.1, 0.35, 0.95]]))
    return q * np.sign(np.linalg.det(q))


# Columns: directions of the index axes i, j, k in LPS.
DIRECTIONS: dict[str, NDArray[np.float64]] = {
    "LPS": np.eye(3),
    "LAS": np.diag([1.0, -1.0, 1.0]),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "PIR": np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    "oblique": _rotation(),
    "oblique_left_handed": -_rotation(),
}


def hu_at(points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine field: trilinear interpolation is exact on it, in any orientation."""
    return -150.0 + points_lps @ np.array([9.0, -5.0, 7.0])


def affine_for(axes: str = "LPS", shape_ijk: tuple[int, ...] = SHAPE_IJK) -> NDArray[np.float64]:
    """LPS from index of a grid with these axes whose middle lies at CENTRE."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[axes] * np.array(SPACING)
    affine[:3, 3] = np.array(CENTRE) - affine[:3, :3] @ ((np.array(shape_ijk) - 1) / 2)
    return affine


def hu_for(axes: str = "LPS", shape_ijk: tuple[int, ...] = SHAPE_IJK) -> NDArray[np.float32]:
    """(D, H, W) float32 samples of the affine field on `affine_for`."""
    index = np.stack(np.indices(shape_ijk[::-1])[::-1], axis=-1)
    affine = affine_for(axes, shape_ijk)
    return hu_at(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)


def sitk_image(array: NDArray[Any], affine: NDArray[Any], is_vector: bool = False) -> Any:
    """A SimpleITK image of [k, j, i] voxels with this LPS affine."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array, isVector=is_vector)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(s) for s in spacing])
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


@pytest.fixture(scope="session")
def phantom() -> SimpleNamespace:
    """The functions of this file (importlib mode has no modules to import them from)."""
    return SimpleNamespace(
        shape_ijk=SHAPE_IJK,
        spacing=SPACING,
        centre=CENTRE,
        directions=DIRECTIONS,
        hu_at=hu_at,
        hu_for=hu_for,
        affine_for=affine_for,
        sitk_image=sitk_image,
    )


@pytest.fixture
def write_volume(tmp_path: Path) -> Callable[..., Path]:
    """Write [k, j, i] voxels to tmp_path/name and return the path."""

    def write(
        name: str, array: NDArray[Any] | None = None, affine: NDArray[Any] | None = None
    ) -> Path:
        import SimpleITK

        array = hu_for() if array is None else array
        affine = affine_for("LPS", array.shape[::-1]) if affine is None else affine
        path = tmp_path / name
        SimpleITK.WriteImage(sitk_image(array, affine), str(path))
        return path

    return write
