from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from helpers import model_config, train_config
from numpy.testing import assert_allclose
from torch import Tensor

from charlstm.training import optimiser as optimiser_module
from charlstm.training.network import LanguageModel
from charlstm.training.optimiser import (
    POLAR_EXPRESS,
    ROOT_EVERY,
    Optimiser,
    inverse_root,
    row_factors,
    update_average,
)
from charlstm.training.schedule import rate_multiplier

CONFIG = train_config(warmup_steps=4, final_rate=0.1)


def make_model(seed: int = 1) -> LanguageModel:
    model = LanguageModel(model_config(11, hidden=6, layers=2, embedding=40))
    model.initialise(torch.Generator().manual_seed(seed))
    return model


def descend(model: LanguageModel, optimiser: Optimiser, steps: range) -> None:
    """Take ``steps`` with gradients that depend on the step and on nothing else."""
    for step in steps:
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, gradients(step, parameters), strict=True):
            parameter.grad = gradient
        optimiser.step(multiplier=1 / (step + 1))


def gradients(step: int, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Of a step, the same for every call."""
    generator = torch.Generator().manual_seed(step)
    return [torch.empty_like(p).normal_(generator=generator) for p in parameters]


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix with at least as many rows as columns, as Muon does it where a root is due."""
    x = (matrix / matrix.norm()).to(dtype)
    return (x @ inverse_root(x)).float()


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


# -- schedule ----------------------------------------------------------------------------------


def test_rate_warms_up_and_holds_its_peak_while_the_budget_is_unknown() -> None:
    shares = [rate_multiplier(step, None, CONFIG) for step in (0, 1, 2, 3, 4, 1000, 10**9)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_rate_warms_up_and_then_follows_half_a_cosine() -> None:
    steps = (0, 3, 4, 28, 52, 76, 100)
    shares = [rate_multiplier(step, 100, CONFIG) for step in steps]
    quarter = 0.1 + 0.9 * (0.5 + 0.5**1.5)
    assert shares == pytest.approx([0.2, 0.8, 1, quarter, 0.55, 1.1 - quarter, 0.1])


def test_rate_holds_its_peak_for_a_share_of_the_budget() -> None:
    config = train_config(warmup_steps=4, final_rate=0.1, hold=0.5)
    shares = [rate_multiplier(step, 100, config) for step in (3, 4, 28, 52, 76, 100, 105)]
    assert shares == pytest.approx([0.8, 1, 1, 1, 0.55, 0.1, 0.1])
    assert rate_multiplier(53, 100, config) < 1


def test_rate_that_is_held_to_the_end_does_not_fall() -> None:
    config = train_config(warmup_steps=4, final_rate=0.1, hold=1.0)
    assert [rate_multiplier(step, 100, config) for step in (4, 50, 99)] == [1, 1, 1]


def test_warmup_takes_at_most_a_tenth_of_the_budget() -> None:
    config = train_config(warmup_steps=1000)
    shares = [rate_multiplier(step, 30, config) for step in range(4)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("total", [1, 2, 9, 10, 41, 1000])
def test_rate_decays_monotonically_to_its_end_value_and_stays_there(total: int) -> None:
    warmup = min(4, total // 10)
    shares = [rate_multiplier(step, total, CONFIG) for step in range(warmup, total + 1)]
    assert shares[0] == 1
    assert all(later < earlier for earlier, later in pairwise(shares))
    assert shares[-1] == pytest.approx(0.1)
    assert rate_multiplier(total + 5, total, CONFIG) == pytest.approx(0.1)


# -- moving average ----------------------------------------------------------------------------


def fill(model: LanguageModel, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_moving_average_follows_its_equation() -> None:
    average, model = make_model(), make_model()
    fill(average, 4)
    by_hand = 4.0
    # d is (1 + step) / (10 + step) until it reaches the decay: 1/10, 2/11, then 0.9.
    for step, weight, d in ((0, 1.0, 1 / 10), (1, 5.0, 2 / 11), (1000, 2.0, 0.9)):
        fill(model, weight)
        update_average(average, model, 0.9, step)
        by_hand = d * by_hand + (1 - d) * weight
        for parameter in average.parameters():
            assert_allclose(parameter.detach(), by_hand, rtol=1e-6)


def test_average_without_decay_is_the_weights() -> None:
    average, model = make_model(1), make_model(2)
    update_average(average, model, 0, step=500)
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


# -- optimiser ---------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_saved_and_loaded_optimiser_goes_on_bit_for_bit(decay: float) -> None:
    config = train_config(weight_decay=decay, row_averaging=0.9)
    model, other = make_model(), make_model(2)
    optimiser = Optimiser(model, config)
    descend(model, optimiser, range(3))
    saved, weights = copied(optimiser.state()), copied(model.state_dict())
    descend(model, optimiser, range(3, 6))

    other.load_state_dict(weights)
    resumed = Optimiser(other, config)
    resumed.load_state(saved)
    descend(other, resumed, range(3, 6))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name
    state, resumed_state = optimiser.state(), resumed.state()
    assert state.keys() == resumed_state.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, resumed_state[name]), name


def test_optimiser_goes_back_to_the_state_before_its_first_step() -> None:
    model = make_model()
    optimiser = Optimiser(model, CONFIG)
    saved, weights = copied(optimiser.state()), copied(model.state_dict())
    descend(model, optimiser, range(3))
    first = copied(model.state_dict())
    model.load_state_dict(weights)
    optimiser.load_state(saved)
    descend(model, optimiser, range(3))
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


def test_a_step_moves_every_parameter_remembers_it_and_clears_its_gradient() -> None:
    model = make_model()
    before = copied(model.state_dict())
    optimiser = Optimiser(model, CONFIG)
    descend(model, optimiser, range(1))
    remembered = {name.rpartition("/")[0] for name in optimiser.state() if "/" in name}
    assert remembered == set(dict(model.named_parameters()))
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.grad is None


def test_a_rate_of_zero_moves_nothing() -> None:
    model = make_model()
    before = copied(model.state_dict())
    optimiser = Optimiser(model, train_config(weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(multiplier=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_rest_steps_as_torchs_own_adam() -> None:
    model, theirs = make_model(), make_model()
    config = train_config(adam_rate=0.01, weight_decay=0.1)  # no decay but of the matrices
    optimiser = Optimiser(model, config)
    named = dict(theirs.named_parameters())
    others = {n: p for n, p in named.items() if not (n.startswith("layers.") and p.ndim == 2)}
    adam = torch.optim.Adam(others.values(), lr=0.01, betas=(0.9, 0.99))
    for step in range(20):
        for mine, their in zip(model.parameters(), theirs.parameters(), strict=True):
            generator = torch.Generator().manual_seed(step)
            their.grad = torch.empty_like(their).normal_(generator=generator)
            mine.grad = their.grad.clone()
        optimiser.step(multiplier=1)
        adam.step()
    for name, parameter in model.named_parameters():
        if name in others:
            assert_allclose(parameter.detach(), others[name].detach(), rtol=1e-5, atol=1e-6)


def test_matrices_step_as_torchs_own_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    # With an exact root in each step, the rest of the step is what is compared.
    def polar(matrix: Tensor, *_: object) -> Tensor:
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u @ vh

    def exactly(x: Tensor) -> Tensor:
        _, s, vh = torch.linalg.svd(x, full_matrices=False)
        return vh.T @ torch.diag(1 / s) @ vh

    monkeypatch.setattr(optimiser_module, "inverse_root", exactly)
    monkeypatch.setattr(optimiser_module, "ROOT_EVERY", 1)
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", polar)
    model, other = make_model(), make_model()
    shapes = {p.shape for n, p in model.named_parameters() if n.startswith("layers.")}
    assert {(24, 40), (24, 6)} < shapes  # a wide matrix and a tall one
    config = train_config(weight_decay=0.1)
    optimiser = Optimiser(model, config)
    matrices = [p for n, p in other.named_parameters() if n.startswith("layers.") and p.ndim == 2]
    muon = torch.optim.Muon(
        matrices, lr=config.learning_rate, weight_decay=0.1, adjust_lr_fn="original"
    )
    for step in range(4):
        for one, two in zip(model.parameters(), other.parameters(), strict=True):
            generator = torch.Generator().manual_seed(step)
            one.grad = torch.empty_like(one).normal_(generator=generator)
            two.grad = one.grad.clone()
        optimiser.step(multiplier=1)
        muon.step()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name.startswith("layers."):
            assert_allclose(parameter.detach(), other.get_parameter(name).detach(), atol=1e-5)


def test_rows_are_divided_by_the_root_of_their_mean_square_and_the_norm_stays() -> None:
    matrix = make_model().get_parameter("layers.1.weight_hidden").detach()
    sizes = torch.logspace(-2, 2, 24).unsqueeze(1)
    squares, running = torch.zeros(24, dtype=torch.float64), torch.zeros(24, 1)
    for step in range(5):
        (direction,) = gradients(step, [matrix])
        direction *= sizes
        squares = 0.9 * squares + 0.1 * direction.double().square().sum(1)
        evened = direction.double() / squares.sqrt().unsqueeze(1)
        evened *= direction.double().norm() / evened.norm()
        found = direction * row_factors(direction, running, 0.9)
        torch.testing.assert_close(found.double(), evened, rtol=1e-5, atol=0)
    norms = found.norm(dim=1)
    assert norms.max() < 5 * norms.min()  # of 10,000 times


def test_a_step_goes_along_the_evened_rows() -> None:
    model = make_model()
    config = train_config(weight_decay=0.0, learning_rate=0.01, row_averaging=0.95)
    before = copied(model.state_dict())
    descend(model, Optimiser(model, config), range(1))
    for name in ("layers.0.weight_hidden", "layers.1.weight_input"):
        step = (before[name] - model.get_parameter(name).detach()).norm(dim=1)
        torch.testing.assert_close(step, step.mean().expand(24), rtol=1e-4, atol=0)
        gradient = gradients(0, before.values())[list(before).index(name)]
        expected = orthogonalised(gradient)
        assert step.norm().item() == pytest.approx(0.02 * expected.norm().item(), rel=1e-5)


def test_a_root_is_used_for_some_steps_and_the_matrices_take_turns() -> None:
    model = make_model()
    optimiser = Optimiser(model, CONFIG)
    roots = {name: t for name, t in optimiser.state().items() if name.endswith("/root")}
    renewed: list[set[str]] = []
    for step in range(9):
        before = copied(roots)
        descend(model, optimiser, range(step, step + 1))
        renewed.append({n for n, root in roots.items() if not torch.equal(root, before[n])})
    assert renewed[0] == set(roots)
    for names in roots:
        turns = [step for step, changed in enumerate(renewed) if step and names in changed]
        assert turns[1] - turns[0] == ROOT_EVERY
    assert [len(changed) for changed in renewed[1:]] == [1] * 8  # four matrices, one a step


def test_a_root_of_a_gradient_of_zeros_does_not_make_the_next_one_explode() -> None:
    model = make_model()
    optimiser = Optimiser(model, train_config(weight_decay=0.0, learning_rate=0.01))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(multiplier=1)
    before = copied(model.state_dict())
    descend(model, optimiser, range(1, 2))
    for name, tensor in model.state_dict().items():
        assert 0 < (tensor - before[name]).abs().max() < 1, name


@pytest.mark.parametrize("shape", [(24, 6), (8, 8), (5, 1)])
def test_orthogonalised_matrix_keeps_its_directions_and_evens_their_sizes(
    shape: tuple[int, int],
) -> None:
    matrix = torch.empty(shape).normal_(generator=torch.Generator().manual_seed(3))
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix) @ vh.T
    expected = s / (s**8).sum() ** (1 / 8) / 1.02
    for a, b, c in POLAR_EXPRESS:
        expected = a * expected + b * expected**3 + c * expected**5
    assert_allclose(found, torch.diag(expected), rtol=0, atol=1e-4)


def test_root_of_nothing_is_finite() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert inverse_root(torch.zeros(8, 4, dtype=dtype)).isfinite().all()


@pytest.mark.parametrize("size", [1e-20, 1e15])
def test_size_of_a_gradient_does_not_matter(size: float) -> None:
    config = train_config(weight_decay=0.0, precision="float32")
    steps = []
    for factor in (1.0, size):
        model = make_model()
        before = copied(model.state_dict())
        optimiser = Optimiser(model, config)
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, gradients(1, parameters), strict=True):
            parameter.grad = factor * gradient
        optimiser.step(multiplier=1)
        steps.append({n: t - before[n] for n, t in model.state_dict().items()})
    for name, moved in steps[0].items():
        if name.startswith("layers.") and moved.ndim == 2:
            assert moved.abs().max() > 1e-4
            assert_allclose(steps[1][name], moved, atol=1e-5)


def test_gradients_of_low_rank_stay_bounded_in_bfloat16() -> None:
    # Early gradients are so: a few directions, and rounding. An iteration that is not stable in
    # bfloat16 makes these directions' sizes explode.
    generator = torch.Generator().manual_seed(1)
    for rank in (1, 3):
        wide = torch.randn(rank, 64, generator=generator)
        few = torch.randn(256, rank, generator=generator) @ wide
        matrix = few + 1e-4 * torch.randn(256, 64, generator=generator)
        sizes = torch.linalg.svdvals(orthogonalised(matrix, torch.bfloat16))
        assert sizes.max() < 1.8
        assert sizes[rank - 1] > 0.25


def test_sizes_of_very_different_directions_are_brought_near_1() -> None:
    generator = torch.Generator().manual_seed(1)
    u, _ = torch.linalg.qr(torch.randn(64, 32, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(32, 32, generator=generator))
    sizes = torch.logspace(0, -1.9, 32)
    matrix = u @ torch.diag(sizes / sizes.norm()) @ v.T
    found = torch.linalg.svdvals(orthogonalised(matrix))
    assert 0.29 < found.min() < found.max() < 1.71
