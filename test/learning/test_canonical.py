"""The network's view: free of the camera and of the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.geometry import Camera
from xray_registration.imaging.radiograph import Radiograph
from xray_registration.imaging.volume import CTVolume
from xray_registration.learning.canonical import CanonicalCamera, canonical_view, network_input
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.rendering import AttenuationVolume, JosephProjector

CANONICAL = CanonicalCamera(size=64)


def _radiograph(image: torch.Tensor, mask: np.ndarray | None = None) -> Radiograph:
    values = image.numpy()
    usable = np.ones(values.shape, bool) if mask is None else mask
    return Radiograph(values, usable, "attenuation")


@pytest.fixture(scope="module")
def projector(phantom: CTVolume, isocentre: np.ndarray) -> JosephProjector:
    return JosephProjector(AttenuationVolume.from_ct(phantom), isocentre)


@pytest.fixture(scope="module")
def pose(isocentre: np.ndarray) -> torch.Tensor:
    space = PoseSpace(tuple(isocentre))
    return space.sample(np.random.default_rng(3), 1)


CAMERAS = {
    "fine": Camera.from_detector(256, 256, 298 / 256, 1020.0),
    "larger detector": Camera.from_detector(300, 280, 1.4, 1020.0),
    "another distance": Camera.from_detector(256, 256, 0.9, 800.0),
    "oblong pixels": Camera.from_detector(256, 128, (298 / 256, 298 / 128), 1020.0),
    "crop off the axis": Camera.from_detector(290, 270, 1.16, 1020.0, cx=170.0, cy=120.0),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_the_same_rays_look_the_same_whatever_the_camera(
    projector: JosephProjector, pose: torch.Tensor, name: str
) -> None:
    camera = CAMERAS[name]
    seen, usable, rotation = canonical_view(
        _radiograph(projector.image(pose, camera)[0]), camera, CANONICAL
    )
    # canonical_from_ct = rotation @ camera_from_ct: rendering it directly gives the same picture
    turned = pose.clone()
    turned[:, :3] = torch.from_numpy(rotation) @ turned[:, :3]
    expected = projector.image(turned, CANONICAL.camera)[0]
    assert float(usable.float().mean()) > 0.8
    difference = (seen - expected)[usable].abs()
    assert float(difference.mean()) < 0.03 * float(expected.max())
    if name == "crop off the axis":
        assert abs(rotation[0, 2]) > 0.01
    elif "detector" not in name:
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-3)


def test_a_smaller_detector_is_masked_and_a_sliver_refused(
    projector: JosephProjector, pose: torch.Tensor
) -> None:
    small = Camera.from_detector(64, 64, 150 / 64, 1020.0)
    _, usable, _ = canonical_view(_radiograph(projector.image(pose, small)[0]), small, CANONICAL)
    assert 0.2 < float(usable.float().mean()) < 0.3
    tiny = Camera.from_detector(16, 16, 1.0, 1020.0)
    with pytest.raises(InputError, match="field of view"):
        canonical_view(_radiograph(projector.image(pose, tiny)[0]), tiny, CANONICAL)


def test_level_and_width_of_the_window_do_not_matter() -> None:
    images, usable = torch.rand(3, 64, 64), torch.rand(3, 64, 64) > 0.2
    plain = network_input(images, usable)
    torch.testing.assert_close(network_input(40 * images - 7, usable), plain, atol=2e-3, rtol=0)
    # what is masked may hold anything
    filled = torch.where(usable, images, 1e6)
    torch.testing.assert_close(network_input(filled, usable), plain)
    assert float(plain.abs().max()) <= 1.5
    assert plain[:, :2].mul(~usable[:, None]).abs().max() == 0


def test_constant_and_wholly_masked_pictures_stay_finite() -> None:
    usable = torch.ones(2, 32, 32, dtype=torch.bool)
    usable[1] = False
    assert network_input(torch.full((2, 32, 32), 3.0), usable).isfinite().all()


@pytest.mark.parametrize("values", [{"size": 100}, {"size": 0}, {"field_rad": 2.0}])
def test_bad_values(values: dict) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        CanonicalCamera(**values)
