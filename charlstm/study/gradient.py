"""How far the gradient of a loss reaches back through earlier states."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError, plural
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import ModelFile
from charlstm.study.results import Clipping, GradientProfile, GradientReport
from charlstm.text.corpus import Corpus
from charlstm.text.vocabulary import Ids
from charlstm.training.cells import CellLayer
from charlstm.training.device import Precision
from charlstm.training.learner import Learner
from charlstm.training.network import LanguageModel, stored_model, untrained_model
from charlstm.training.schedule import rate_multiplier
from charlstm.training.validation import quick_stateful_loss

WARMUP = 50
"""Characters read from zero state before the first state measured."""
LEAST_REACH = 2
SEED, EMBEDDING, VAL_FRACTION = 1, 32, 0.1
SCALES = {"rnn": (0.5, 2.0)}
"""Extra factors for the hidden matrices of a cell: to make gradients vanish sooner, or explode."""
NO_CLIP = 1e30
TEXTS = 32
"""Texts in a batch; norms are medians over them."""


def windows(ids: NDArray[np.unsignedinteger], reach: int) -> Ids:
    """(WARMUP + reach + 1, B) texts to measure on, spread evenly over ``ids``."""
    length = WARMUP + reach + 1
    starts = np.linspace(0, len(ids) - length, TEXTS).astype(np.int64)
    chosen: Ids = np.asarray(ids)[starts + np.arange(length)[:, None]].astype(np.int64)
    return chosen


def state_gradients(model: LanguageModel, ids: Ids, state: Tensor) -> Tensor:
    """The gradients of the last prediction's loss with respect to every state before it.

    h and c are the two parts of the state passed from step to step: dL_t / dh_{t-k} holds c_{t-k}
    fixed, although h was computed from it, and dL_t / dc_{t-k} holds h_{t-k} fixed.

    Args:
        model: of any dtype.
        ids: (K + 1, B); the last character is the one to predict.
        state: (L, S, B, H) before the first character.

    Returns:
        (K, L, S, B, H); entry k - 1 is the gradient k steps before the loss, k = 1 … K.
    """
    symbols = torch.from_numpy(ids)
    states = [state.detach().requires_grad_()]
    for t in range(len(ids) - 1):
        logits, state = model(symbols[t : t + 1], states[-1])
        states.append(state)
    loss = nn.functional.cross_entropy(logits[0], symbols[-1], reduction="sum")
    gradients = torch.autograd.grad(loss, states[:-1])
    return torch.stack(gradients[::-1])


def profile(model: LanguageModel, ids: Ids, name: str) -> GradientProfile:
    """Measure ``model`` on ``ids`` (WARMUP + K + 1, B), in float64."""
    wide = copy.deepcopy(model).double().requires_grad_(True)
    zero = wide.initial_state(ids.shape[1]).double()
    with torch.no_grad():
        _, state = wide(torch.from_numpy(ids[:WARMUP]), zero)
    gradients = state_gradients(wide, ids[WARMUP:], state)
    norms = gradients.square().sum(dim=(1, 4)).sqrt()  # (K, S, B)
    medians = norms.median(dim=-1).values.numpy()
    has_c = len(CELLS[model.config.cell].states) > 1
    return GradientProfile(
        name=name,
        cell=model.config.cell,
        h=medians[:, 0],
        c=medians[:, 1] if has_c else None,
        step_norm=_step_norm(wide, ids[WARMUP:], state),
    )


def _step_norm(model: LanguageModel, ids: Ids, state: Tensor) -> float:
    """The gradient norm that a training step on these texts would clip."""
    symbols = torch.from_numpy(ids)
    logits, _ = model(symbols[:-1], state)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), symbols[1:].flatten())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


@torch.no_grad()
def scale_hidden(model: LanguageModel, factor: float) -> None:
    """Multiply the hidden matrices, which start orthogonal, by ``factor``."""
    for layer in model.layers:
        assert isinstance(layer, CellLayer)
        layer.weight_hidden *= factor


def short_training(
    corpus: Corpus,
    config: ModelConfig,
    steps: int,
    name: str,
    *,
    clip: float | None = 1.0,
    scale: float = 1.0,
) -> tuple[LanguageModel, Clipping]:
    """Train for ``steps`` steps, starting with hidden matrices multiplied by ``scale``."""
    settings = TrainConfig(
        batch=16, bptt=64, steps=steps, clip=NO_CLIP if clip is None else clip, seed=SEED
    )
    model = untrained_model(config, SEED)
    scale_hidden(model, scale)
    train_ids, held_out = corpus.split(VAL_FRACTION)
    precision = Precision(torch.device("cpu"), "float32")
    learner = Learner(settings, train_ids, model, precision)
    norms = np.zeros(steps)
    for step in range(steps):
        _, norm = learner.step(step, rate_multiplier(step, steps, settings))
        norms[step] = norm.item()
    loss = quick_stateful_loss(learner.average, held_out, precision)
    return learner.average, Clipping(
        name=name,
        clip=clip,
        median_norm=float(np.median(norms)),
        largest_norm=float(norms.max()),
        clipped=float((norms > 1).mean()),
        val_loss=loss,
    )


def study_gradients(
    corpus: Corpus,
    cells: Sequence[str],
    *,
    hidden_size: int,
    reach: int,
    steps: int,
    report: Callable[[str], None] = lambda _: None,
) -> GradientReport:
    """Profiles of untrained and briefly trained models of ``cells``, and effects of clipping."""
    ids = windows(corpus.split(VAL_FRACTION)[1], reach)
    configs = [ModelConfig(cell, len(corpus.vocab), EMBEDDING, hidden_size, 1) for cell in cells]
    report("untrained models …")
    untrained = [untrained_profile(config, ids) for config in configs]
    untrained += [
        untrained_profile(config, ids, factor)
        for config in configs
        for factor in SCALES.get(config.cell, ())
    ]
    trained, clippings = [], []
    for config in configs:
        report(f"{config.cell}: training for {steps} steps …")
        model, clipping = short_training(corpus, config, steps, config.cell)
        trained.append(profile(model, ids, config.cell))
        clippings.append(clipping)
    for config in configs:
        for factor in SCALES.get(config.cell, ()):
            name = scaled_name(config.cell, factor)
            for clip in (1.0, None):
                report(
                    f"{name}: training for {steps} steps "
                    f"{'without' if clip is None else 'with'} clipping …"
                )
                _, clipping = short_training(corpus, config, steps, name, clip=clip, scale=factor)
                clippings.append(clipping)
    return GradientReport(tuple(untrained), tuple(trained), tuple(clippings))


def study_model(file: ModelFile, reach: int) -> GradientReport:
    """Profiles of a checkpoint's model, and of an untrained one of its shape, on its excerpt.

    Raises:
        CharlstmError: the excerpt is too short.
    """
    held_out = file.vocab.encode(file.excerpt)
    longest = len(held_out) - WARMUP - 1
    if reach > longest:
        raise CharlstmError(
            f"the checkpoint's excerpt has {plural(len(held_out), 'character')}, too few for a "
            f"reach of {reach}",
            f"set `reach` to at most {longest}"
            if longest >= LEAST_REACH
            else "use a run of a longer text",
        )
    ids = windows(held_out.astype(np.uint32), reach)
    trained = profile(stored_model(file), ids, file.config.cell)
    return GradientReport((untrained_profile(file.config, ids),), (trained,), ())


def untrained_profile(config: ModelConfig, ids: Ids, factor: float = 1.0) -> GradientProfile:
    """The profile of an untrained model with hidden matrices multiplied by ``factor``."""
    model = untrained_model(config, SEED)
    scale_hidden(model, factor)
    return profile(model, ids, scaled_name(config.cell, factor))


def scaled_name(cell: str, factor: float) -> str:
    """The name of a cell with hidden matrices multiplied by ``factor``."""
    return cell if factor == 1 else f"{cell}, W×{factor:g}"
