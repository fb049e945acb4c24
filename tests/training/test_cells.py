from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import model_config, random_weights
from numpy.testing import assert_allclose
from torch import Tensor, nn

from charlstm.net.engine import STEPS as STEPS_OF_THE_ENGINE
from charlstm.net.engine import Engine
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.training.cells import CELL_LAYERS, CellLayer
from charlstm.training.network import LanguageModel, load_arrays, to_arrays
from charlstm.training.peephole import peephole_recurrence

VOCAB_SIZE, STREAMS, STEPS = 11, 3, 30
IDS = torch.from_numpy(np.random.default_rng(5).integers(0, VOCAB_SIZE, (STEPS, STREAMS)))


def make(config: ModelConfig, seed: int = 0) -> LanguageModel:
    model = LanguageModel(config)
    load_arrays(model, random_weights(config, seed))
    return model


@pytest.fixture(params=[1, 3], ids=["1 layer", "3 layers"])
def layers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=CELLS)
def model(request: pytest.FixtureRequest, layers: int) -> LanguageModel:
    return make(model_config(VOCAB_SIZE, hidden=7, layers=layers, cell=request.param))


def random_state(model: LanguageModel, streams: int = STREAMS) -> Tensor:
    """(L, S, B, H), as it might be in the middle of a text."""
    generator = torch.Generator().manual_seed(6)
    return torch.empty_like(model.initial_state(streams)).uniform_(-0.8, 0.8, generator=generator)


def nats(model: LanguageModel, ids: Tensor, state: Tensor, masks: Tensor | None = None) -> Tensor:
    """The loss that a step of training descends, over ids[1:]."""
    logits, _ = model(ids[:-1], state, masks)
    targets = ids[1:] if masks is None else ids[1:, None].expand(-1, len(masks), -1)
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


# -- three opinions of one model ---------------------------------------------------------------


@torch.no_grad()
def test_logits_and_states_agree_with_the_engine(model: LanguageModel) -> None:
    start = random_state(model)
    logits, state = model(IDS, start)
    engine = Engine(model.config, dict(to_arrays(model)))
    for b in range(STREAMS):
        read, read_state = engine.forward(IDS[:, b].numpy(), start[:, :, b : b + 1].numpy())
        assert_allclose(logits[:, b], read, rtol=0, atol=1e-5)
        assert_allclose(state[:, :, b : b + 1], read_state, rtol=0, atol=1e-5)


def test_every_cell_is_there_in_torch_and_in_numpy() -> None:
    assert CELLS.keys() == CELL_LAYERS.keys() == STEPS_OF_THE_ENGINE.keys()


@torch.no_grad()
def test_states_of_every_step_agree_with_the_engine(model: LanguageModel) -> None:
    engine = Engine(model.config, dict(to_arrays(model)))
    trace, _, _ = engine.trace(IDS[:, 0].numpy(), engine.initial_state())
    state = model.initial_state(1)
    for t in range(STEPS):
        _, state = model(IDS[t : t + 1, :1], state)
        assert_allclose(state[:, :, 0], trace.states[t], rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_h_c_and_gate_of_the_lstm_agrees_with_the_engine(layers: int) -> None:
    model, spec = make(model_config(VOCAB_SIZE, hidden=7, layers=layers)), CELLS["lstm"]
    engine = Engine(model.config, dict(to_arrays(model)))
    ids = IDS[:, :1]
    trace, _, _ = engine.trace(ids[:, 0].numpy(), engine.initial_state())
    state = model.initial_state(1)
    for t in range(STEPS):
        x = model.embedding[ids[t : t + 1]]
        before = state
        _, state = model(ids[t : t + 1], before)
        assert_allclose(state[:, :, 0], trace.states[t], rtol=0, atol=1e-5)
        for index, layer in enumerate(model.layers):
            z = x @ layer.weight_input.T + before[index, 0] @ layer.weight_hidden.T + layer.bias
            rows = [spec.block(gate, model.config.hidden_size) for gate in spec.gates]
            gates = torch.stack([z[0, 0, block].sigmoid() for block in rows])
            assert_allclose(gates, trace.gates[t, index], rtol=0, atol=1e-5)
            x = state[index, :1]


@torch.no_grad()
@pytest.mark.parametrize(
    ("cell", "make_other"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)]
)
def test_torchs_own_module_with_copied_weights_agrees(
    cell: str, make_other: Callable[..., nn.Module], layers: int
) -> None:
    model = make(model_config(VOCAB_SIZE, hidden=7, layers=layers, cell=cell))
    config = model.config
    start = random_state(model)
    logits, state = model(IDS, start)
    x, total = model.embedding[IDS], torch.zeros(())
    for index, layer in enumerate(model.layers):
        other = make_other(x.shape[2], config.hidden_size)
        other.weight_ih_l0.copy_(layer.weight_input)
        other.weight_hh_l0.copy_(layer.weight_hidden)
        other.bias_ih_l0.copy_(layer.bias)
        other.bias_hh_l0.zero_()
        if cell == "gru":
            other.bias_hh_l0[-config.hidden_size :] = layer.bias_hidden
        states = start[index : index + 1].unbind(1)
        x, after = other(x, states if len(states) > 1 else states[0])
        total = total + x
        expected_state = torch.cat(after if isinstance(after, tuple) else [after])
        assert_allclose(state[index], expected_state, rtol=0, atol=1e-5)
    expected = total @ model.output_weight.T + model.output_bias
    assert_allclose(logits, expected, rtol=0, atol=1e-5)


# -- state and streams -------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 7, 29])
def test_chunks_with_carried_state_equal_the_whole_sequence(
    model: LanguageModel, size: int
) -> None:
    whole, whole_state = model(IDS, model.initial_state(STREAMS))
    state, pieces = model.initial_state(STREAMS), []
    for chunk in IDS.split(size):
        logits, state = model(chunk, state)
        pieces.append(logits)
    assert_allclose(torch.cat(pieces), whole, rtol=0, atol=1e-5)
    assert_allclose(state, whole_state, rtol=0, atol=1e-5)


@torch.no_grad()
def test_another_stream_changes_nothing_in_a_streams_row(model: LanguageModel) -> None:
    changed = IDS.clone()
    changed[:, 1] = (changed[:, 1] + 1) % VOCAB_SIZE
    logits, state = model(IDS, random_state(model))
    others, other_state = model(changed, random_state(model))
    for b in (0, 2):
        assert torch.equal(logits[:, b], others[:, b])
        assert torch.equal(state[:, :, b], other_state[:, :, b])
    assert not torch.equal(logits[:, 1], others[:, 1])


def test_loss_of_a_row_has_a_gradient_in_that_streams_state_alone(model: LanguageModel) -> None:
    state = random_state(model).requires_grad_()
    logits, _ = model(IDS, state)
    nn.functional.cross_entropy(logits[:, 1], IDS[:, 1]).backward()
    assert state.grad is not None
    assert (state.grad[:, :, 1] != 0).all()
    assert not state.grad[:, :, [0, 2]].any()


# -- gradient ----------------------------------------------------------------------------------


def finite_differences(parameter: Tensor, loss: Callable[[], float], width: float) -> Tensor:
    """Central differences of ``loss`` in every element of ``parameter``."""
    gradient = torch.empty_like(parameter)
    flat, flat_gradient = parameter.view(-1), gradient.view(-1)
    for i in range(len(flat)):
        kept = flat[i].item()
        flat[i] = kept + width
        above = loss()
        flat[i] = kept - width
        below = loss()
        flat[i] = kept
        flat_gradient[i] = (above - below) / (2 * width)
    return gradient


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_the_loss_equals_finite_differences(cell: str) -> None:
    config = ModelConfig(cell, vocab_size=5, embedding_size=3, hidden_size=3, layers=2)
    model, single = make(config).double(), make(config)
    ids = IDS[:7, :2] % 5
    masks = model.dropout_masks(2, 2, 0.3, torch.Generator().manual_seed(8))
    assert masks is not None
    state = random_state(model, 2)
    nats(model, ids, state.double(), masks.double()).backward()
    nats(single, ids, state, masks).backward()
    with torch.no_grad():
        for (name, parameter), other in zip(
            model.named_parameters(), single.parameters(), strict=True
        ):
            expected = finite_differences(
                parameter.data,
                lambda: nats(model, ids, state.double(), masks.double()).item(),
                1e-5,
            )
            assert expected.any(), name
            assert_allclose(parameter.grad, expected, rtol=0, atol=1e-8, err_msg=name)
            assert_allclose(other.grad, expected, rtol=0, atol=1e-5, err_msg=name)


def test_gradient_of_the_peephole_recurrence_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(13)
    shapes = [(5, 2, 12), (12, 3), (9,), (2, 3), (2, 3)]  # T, B, H = 5, 2, 3
    given = [
        torch.empty(shape, dtype=torch.float64).normal_(generator=generator).requires_grad_()
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(peephole_recurrence, given)


def test_zero_peepholes_make_peephole_an_lstm(layers: int) -> None:
    config = model_config(VOCAB_SIZE, hidden=7, layers=layers)
    plain, peephole = make(config), LanguageModel(replace(config, cell="peephole"))
    arrays = dict(random_weights(peephole.config))
    arrays |= {name: np.zeros_like(a) for name, a in arrays.items() if "peephole" in name}
    load_arrays(peephole, {**arrays, **random_weights(config)})
    states = [random_state(plain).requires_grad_() for _ in range(2)]
    for model, state in zip((plain, peephole), states, strict=True):
        nats(model, IDS, state).backward()
    with torch.no_grad():
        for ours, theirs in zip(peephole(IDS, states[1]), plain(IDS, states[0]), strict=True):
            assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    assert_allclose(states[1].grad, states[0].grad, rtol=0, atol=1e-6)
    for name, parameter in plain.named_parameters():
        other = peephole.get_parameter(name)
        assert_allclose(other.grad, parameter.grad, rtol=0, atol=1e-6, err_msg=name)


@torch.no_grad()
def test_loss_in_bfloat16_is_nearly_that_in_float32(model: LanguageModel) -> None:
    state = random_state(model)
    full = nats(model, IDS, state)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        reduced = nats(model, IDS, state)
    assert reduced.item() == pytest.approx(full.item(), rel=0.01)


def test_every_parameter_has_a_float32_gradient_in_bfloat16(model: LanguageModel) -> None:
    state = random_state(model)
    nats(model, IDS, state).backward()
    full = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        logits, _ = model(IDS[:-1], state)
    nn.functional.cross_entropy(logits.float().flatten(0, 1), IDS[1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        reduced, expected = parameter.grad, full[name]
        assert reduced is not None
        assert expected is not None
        assert reduced.dtype == torch.float32
        assert (reduced - expected).norm() < 0.1 * expected.norm(), name


def test_layers_make_everything_on_the_device_of_what_they_are_given() -> None:
    for cell, make_layer in CELL_LAYERS.items():
        layer = make_layer(5, 7).to("meta")
        inputs = torch.empty(4, 3, 5, device="meta", requires_grad=True)
        state = torch.empty(len(CELLS[cell].states), 3, 7, device="meta", requires_grad=True)
        outputs, after = layer(inputs, state)
        (outputs.sum() + after.sum()).backward()
        assert (outputs.shape, after.shape) == ((4, 3, 7), state.shape)
        assert inputs.grad is not None
        assert state.grad is not None


# -- dropout -----------------------------------------------------------------------------------


@torch.no_grad()
def test_dropout_mask_is_the_same_at_every_step_and_spares_the_carried_state() -> None:
    model = make(model_config(VOCAB_SIZE, hidden=VOCAB_SIZE))
    model.output_weight.copy_(torch.eye(VOCAB_SIZE))  # the logits are the masked outputs
    model.output_bias.zero_()
    masks = model.dropout_masks(3, STREAMS, 0.4, torch.Generator().manual_seed(9))
    assert masks is not None
    start = random_state(model)
    outputs, state = model(IDS, start)
    masked, masked_state = model(IDS, start, masks)
    assert masked.shape == (STEPS, 3, STREAMS, VOCAB_SIZE)
    for t in range(STEPS):
        for m in range(3):
            assert torch.equal(masked[t, m], outputs[t] * masks[m])
    assert torch.equal(masked_state, state)


@torch.no_grad()
def test_output_layer_reads_the_sum_of_all_layers_under_one_mask(model: LanguageModel) -> None:
    masks = model.dropout_masks(1, STREAMS, 0.4, torch.Generator().manual_seed(9))
    assert masks is not None
    x, start = model.embedding[IDS], random_state(model)
    total = torch.zeros(())
    for index, layer in enumerate(model.layers):
        x = layer(x, start[index])[0]
        total = total + x * masks[0]
    expected = total @ model.output_weight.T + model.output_bias
    assert_allclose(model(IDS, start, masks)[0][:, 0], expected, rtol=0, atol=1e-6)


def test_dropout_keeps_the_expectation() -> None:
    model = LanguageModel(model_config(VOCAB_SIZE, hidden=400, layers=3))
    masks = model.dropout_masks(2, 32, 0.3, torch.Generator().manual_seed(10))
    assert masks is not None
    assert masks.shape == (2, 32, 400)
    assert not torch.equal(masks[0], masks[1])
    assert set(masks.unique().tolist()) == {0, torch.tensor(1 / 0.7).item()}
    assert (masks == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert masks.mean() == pytest.approx(1, abs=0.01)


def test_dropout_masks_differ_from_draw_to_draw_and_come_again_with_the_seed() -> None:
    model = LanguageModel(model_config(VOCAB_SIZE, hidden=50))
    generators = [torch.Generator().manual_seed(11) for _ in range(2)]
    (first, second), (again, _) = (
        [model.dropout_masks(1, 4, 0.5, generator) for _ in range(2)] for generator in generators
    )
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)
    assert again is not None
    assert torch.equal(first, again)


@torch.no_grad()
def test_nothing_is_dropped_in_eval_or_at_a_share_of_zero(model: LanguageModel) -> None:
    assert model.dropout_masks(1, STREAMS, 0, torch.Generator()) is None
    state = model.initial_state(STREAMS)
    training, evaluating = model.train()(IDS, state)[0], model.eval()(IDS, state)[0]
    assert_allclose(training, evaluating, rtol=0, atol=1e-6)


# -- initial weights ---------------------------------------------------------------------------


@pytest.fixture(params=CELLS)
def layer(request: pytest.FixtureRequest) -> CellLayer:
    layer = CELL_LAYERS[request.param](10, 16)
    layer.initialise(torch.Generator().manual_seed(12))
    return layer


def test_only_the_forget_gate_starts_with_a_bias(layer: CellLayer) -> None:
    biases = {block: layer.bias[layer.spec.block(block, 16)] for block in layer.spec.blocks}
    assert ("forget" in biases) == (layer.cell in ("lstm", "coupled", "peephole"))
    assert all((bias == (block == "forget")).all() for block, bias in biases.items())
    assert not any(layer.get_parameter(name).any() for name in layer.spec.extras)


def test_each_hidden_block_starts_orthogonal(layer: CellLayer) -> None:
    for block in layer.spec.blocks:
        rows = layer.weight_hidden.detach()[layer.spec.block(block, 16)]
        assert_allclose(rows @ rows.T, np.eye(16), rtol=0, atol=1e-5)


def test_initial_weights_follow_the_generator() -> None:
    config = model_config(VOCAB_SIZE, layers=2)
    first, again, other = (LanguageModel(config) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        model.initialise(torch.Generator().manual_seed(seed))
    drawn, redrawn, differing = map(to_arrays, (first, again, other))
    for name, array in drawn.items():
        assert np.array_equal(array, redrawn[name])
    assert not np.array_equal(drawn["embedding"], differing["embedding"])


@pytest.mark.parametrize("cell", CELLS)
def test_arrays_are_those_of_the_spec_and_copies(cell: str) -> None:
    config = model_config(VOCAB_SIZE, layers=2, cell=cell)
    model, weights = make(config), random_weights(config)
    arrays = to_arrays(model)
    assert {name: array.shape for name, array in arrays.items()} == config.shapes()
    with torch.no_grad():
        model.output_bias.add_(1)
    for name, array in arrays.items():
        assert np.array_equal(array, weights[name])
