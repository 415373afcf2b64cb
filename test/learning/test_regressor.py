"""The mixture, its hypotheses, and the stream that trains it."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest
import torch

from xray_registration.errors import InputError
from xray_registration.learning.config import TrainingConfig
from xray_registration.learning.network import PARTS, Mixture, NetworkConfig, PoseNetwork
from xray_registration.learning.pose_space import PoseSpace
from xray_registration.learning.regressor import PoseDistribution
from xray_registration.learning.stream import RegressorStream, Repeated, Subject, made_ahead

SPACE = PoseSpace((10.0, -20.0, 30.0))


def _distribution(scale: float = -1.0) -> PoseDistribution:
    means = torch.zeros(1, 3, 6)
    means[0, :, 4] = torch.tensor([-0.8, 0.0, 0.9])
    mixture = Mixture(torch.tensor([[0.0, -3.0, 1.0]]), means, torch.full((1, 3, 6), scale))
    turn = torch.eye(3, dtype=torch.float64)
    return PoseDistribution(mixture, SPACE, turn)


def test_hypotheses_are_rigid_ordered_and_cover_the_modes() -> None:
    distribution = _distribution()
    poses, weights = distribution.hypotheses(24)
    assert poses.shape == (24, 4, 4)
    torch.testing.assert_close(
        poses[:, :3, :3] @ poses[:, :3, :3].mT, torch.eye(3).double().expand(24, 3, 3)
    )
    assert float(weights.sum()) == pytest.approx(1.0)
    assert (weights.diff() <= 0).all()
    fifth = SPACE.encode(poses)[:, 4]
    assert (fifth < -0.4).sum() >= 3
    assert (fifth > 0.5).sum() >= 6
    again, _ = distribution.hypotheses(24)
    assert torch.equal(poses, again)
    one, weight = distribution.hypotheses(1)
    assert one.shape == (1, 4, 4)
    assert float(weight) == 1.0
    with pytest.raises(InputError, match="count"):
        distribution.hypotheses(0)


def test_a_wide_distribution_stays_before_the_source() -> None:
    poses, _ = _distribution(2.0).hypotheses(64)
    depth = (poses[:, 2, :3] @ SPACE.centre) + poses[:, 2, 3]
    assert float(depth.min()) > 500.0
    assert poses.isfinite().all()


def test_density_is_a_density() -> None:
    """Of one number, the others held: integrates to the product of the others' peaks."""
    mixture = Mixture(torch.zeros(1, 1), torch.zeros(1, 1, 6), torch.zeros(1, 1, 6))
    x = torch.linspace(-20, 20, 4001)
    numbers = torch.zeros(len(x), 6)
    numbers[:, 3] = x
    many = Mixture(*(t.expand(len(x), *t.shape[1:]) for t in vars(mixture).values()))
    # `log_density` leaves out the constant log 2 of each number
    integral = torch.trapezoid(many.log_density(numbers).exp(), x)
    assert float(integral) == pytest.approx(2.0, rel=1e-3)


def test_network_shapes_and_floor() -> None:
    network = PoseNetwork(NetworkConfig(8, (1, 1, 1, 1), 4, 16), 64, 6.8)
    mixture = network(torch.randn(3, 3, 64, 64))
    assert mixture.means.shape == mixture.log_scales.shape == (3, 4, 6)
    assert mixture.mean.shape == (3, 6)
    assert mixture.log_scales.min() >= -1.6
    for blocks in ((1, 2), (2, 2, 2, 0)):
        with pytest.raises(InputError, match="four stages"):
            NetworkConfig(blocks=blocks)
    with pytest.raises(InputError, match="width >= 8"):
        NetworkConfig(width=6)


def test_a_vote_is_for_a_place_as_seen_from_its_cell() -> None:
    network = PoseNetwork(NetworkConfig(8, (1, 1, 1, 1), 4, 16), 64, 8.0)  # cells 2 units wide
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.zero_()
    votes = torch.zeros(1, 12, 4, 4)
    votes[0, :6] = torch.arange(6.0)[:, None, None]
    votes[0, 6:, 2, 3] = 50.0  # the third row's last cell decides
    mixture = network._counted(votes, torch.zeros(1, 96, 4, 4))
    expected = torch.tensor([0.0 + 3.0, 1.0 + 1.0, 2.0, 3.0, 4.0, 5.0])
    torch.testing.assert_close(mixture.mean[0], expected)
    torch.testing.assert_close(mixture.means[0], expected.expand(4, 6))


def test_batches_are_functions_of_their_number(subject: Subject, tiny: TrainingConfig) -> None:
    stream = RegressorStream([subject], tiny.canonical, tiny.randomisation, 4, 7)
    with closing(made_ahead(stream.batch, 1, 2)) as batches:
        ahead = list(itertools.islice(batches, 2))
    for batch, number in zip(ahead, (1, 3), strict=True):
        again = stream.batch(number)
        assert torch.equal(batch.inputs, again.inputs)
        assert torch.equal(batch.numbers, again.numbers)
    assert not torch.equal(stream.batch(0).numbers, stream.held_out(0).numbers)
    assert ahead[0].inputs.shape == (4, 3, 32, 32)


def test_an_error_of_the_producing_thread_reaches_the_caller(
    subject: Subject, tiny: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = RegressorStream([subject], tiny.canonical, tiny.randomisation, 4, 7)
    monkeypatch.setattr(stream, "batch", lambda number: 1 / 0)
    with closing(made_ahead(stream.batch, 0)) as batches, pytest.raises(ZeroDivisionError):
        next(batches)


def test_the_thread_that_renders_has_a_core_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        inside = []

        def make(number: int) -> int:
            inside.append(torch.get_num_threads())
            return number

        with closing(made_ahead(make, 4, 2)) as batches:
            assert [next(batches), next(batches)] == [4, 6]
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
        assert set(inside) == {1}
    finally:
        torch.set_num_threads(before)


def test_several_makers_keep_the_order() -> None:
    with closing(made_ahead(lambda number: 10 * number, 5, 3, makers=3)) as batches:
        assert list(itertools.islice(batches, 20)) == [50 + 30 * n for n in range(20)]


def test_batches_to_be_learned_from_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one as often as was asked for, far apart, and the same ones from any step on."""
    monkeypatch.setattr("xray_registration.learning.stream._APART", 6)
    for times, step, mine in ((2, 1, 0), (3, 1, 0), (3, 2, 1)):
        made: list[int] = []

        def make(number: int, made: list[int] = made) -> int:
            made.append(number)
            return number

        repeated = Repeated(make, times, step)
        steps = range(mine, mine + 60 * step, step)
        handed = [repeated(number) for number in steps]
        assert made == sorted(set(handed)), "made once, in order"
        assert {number % step for number in made} == {mine}
        places = {n: [k for k, other in enumerate(handed) if other == n] for n in handed}
        done = [ks for ks in places.values() if len(ks) == times]
        assert len(done) >= 60 // times - 6
        assert max(len(ks) for ks in places.values()) == times
        assert min(b - a for ks in places.values() for a, b in itertools.pairwise(ks)) > 6 / times
        assert len(repeated._kept) <= 6
        resumed = Repeated(make, times, step)
        assert [resumed(number) for number in steps[33:]] == handed[33:]


@pytest.mark.parametrize(
    ("parts", "leading"),
    [(PARTS[:1], 1), (PARTS[:4], 3), (("stages.3", *PARTS[:2]), 2), (PARTS, 5)],
)
def test_frozen_parts_learn_nothing_and_may_see_a_picture_earlier(
    parts: tuple[str, ...], leading: int
) -> None:
    torch.manual_seed(0)
    network = PoseNetwork(NetworkConfig(8, (1, 1, 1, 1), 4, 16), 64, 6.8)
    network.freeze(parts)
    assert network.leading == leading
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pictures = torch.randn(3, 3, 64, 64)
    network.train()
    begun = network.begin(pictures)
    assert isinstance(begun, tuple) == (leading == len(PARTS))
    maps = begun if isinstance(begun, tuple) else (begun,)
    assert not any(m.requires_grad for m in maps)
    network(begun, True).mean.square().sum().backward()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.grad is not None], 1.0)
    optimiser.step()
    for name, tensor in network.state_dict().items():
        if name.startswith(parts):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(network.votes.weight, before["votes.weight"])
    network.eval()
    torch.testing.assert_close(network(begun, True).mean, network(pictures).mean)
    with pytest.raises(InputError, match=r"'head'.*stages\.3"):
        network.freeze(["stem", "head"])
