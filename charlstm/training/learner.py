"""One step of truncated BPTT, and all state that a step changes."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.config import TrainConfig
from charlstm.text.items import open_batches
from charlstm.text.streams import IGNORED, Batch
from charlstm.training.device import Precision
from charlstm.training.loss_scale import LossScale
from charlstm.training.network import LanguageModel, load_arrays
from charlstm.training.optimiser import Optimiser, update_average
from charlstm.training.processes import Processes


class Learner:
    """The model, its weight average, the optimiser, dropout, and the hidden state of the streams.

    The caller numbers the steps and sets the learning rates. With a ``teacher`` that predicts
    probabilities q, and the weight w of ``TrainConfig.distillation``, the training objective is

        (1 - w) * -ln p(next character)  -  w * sum over all characters of q ln p

    (Hinton, Vinyals and Dean 2015, at temperature 1). The teacher reads the same streams, without
    dropout, and carries its own state.
    """

    def __init__(
        self,
        config: TrainConfig,
        train_ids: NDArray[np.unsignedinteger],
        model: LanguageModel,
        precision: Precision,
        teacher: LanguageModel | None = None,
        processes: Processes | None = None,
    ) -> None:
        """``train_ids`` (N,) are a text, or a list if the model's config has an ``end``."""
        self._processes = processes or Processes()
        self._block = self._processes.block(config.batch)
        size = self._block.stop - self._block.start
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False)
        """Moving average of the weights: the model that is validated, saved and sampled."""
        self.precision = precision
        self.streams = open_batches(
            train_ids, config.batch, config.bptt, model.config.end, config.seed, self._block
        )
        self.state = model.initial_state(size)
        """h and c of every stream of this process, (L, S, B, H), carried from step to step."""
        self._teacher = teacher
        self._teacher_state = teacher.initial_state(size) if teacher else torch.zeros(0)
        self.config = config
        self._optimiser = Optimiser(model, config, self._processes)
        self._loss_scale = LossScale(precision.device) if precision.name == "float16" else None
        self._dropout = torch.Generator().manual_seed(config.seed)

    def step(self, step: int, multiplier: float) -> tuple[Tensor, Tensor]:
        """Take step ``step`` (counted from 0) at ``multiplier`` times the peak learning rates.

        Returns:
            The mean loss -ln p in nats and the gradient norm before clipping, both scalars on the
            device.
        """
        config, device = self.config, self.precision.device
        batch = self.streams.batch_at(step * config.bptt)
        inputs = torch.from_numpy(batch.inputs).to(device)  # (T, B)
        targets = torch.from_numpy(batch.targets).to(device)
        is_list = self.model.config.end is not None
        rows = inputs.shape[1] if is_list else config.batch
        masks = self.model.dropout_masks(config.dropout_masks, rows, config.dropout, self._dropout)
        if masks is not None and not is_list:  # every process draws those of all streams
            masks = masks[:, self._block]
        if config.reset_every and not is_list:
            first = (step - self._block.start) % config.reset_every
            self.state[:, :, first :: config.reset_every] = 0
        with self.precision.autocast():
            logits, state = self.model(inputs, self._before(batch, self.state), masks)
        if masks is not None:  # the same recurrence under several masks (Inoue 2019)
            targets = targets.unsqueeze(1).expand(-1, config.dropout_masks, -1)
        log_p = logits.float().log_softmax(-1)  # (T, B, V), or with masks (T, M, B, V)
        loss = nn.functional.nll_loss(log_p.flatten(0, -2), targets.flatten())
        minimised = loss
        if self._teacher is not None:
            mean_log_p = log_p if masks is None else log_p.mean(1)
            probabilities = self._teacher_probabilities(self._teacher, batch, inputs)
            distilled = -(probabilities * mean_log_p).sum(-1)
            if is_list:
                distilled = distilled[torch.from_numpy(batch.targets != IGNORED).to(device)]
            minimised = torch.lerp(loss, distilled.mean(), config.distillation)
        if self._loss_scale is not None:
            minimised = self._loss_scale.scaled(minimised)
        minimised.backward()  # type: ignore[no-untyped-call]
        loss = self._processes.average_gradients(self.model.parameters(), loss)
        if self._loss_scale is not None:
            self._loss_scale.unscale(self.model.parameters())
        self.state = self._after(state.detach())  # h and c carry over to the next batch
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self._optimiser.step(multiplier)
        update_average(self.average, self.model, config.averaging, step)
        return loss.detach(), norm

    def _before(self, batch: Batch, carried: Tensor) -> Tensor:
        """The state before a batch, (L, S, B', H), of its B' rows."""
        rows = batch.inputs.shape[1]
        if batch.is_carried:
            return carried[:, :, :rows]
        return self.model.initial_state(rows)

    def _after(self, state: Tensor) -> Tensor:
        """The state of B streams after a batch of B' rows; short items, of which B' > B fit in a
        batch, are never carried."""
        size = self.state.shape[2]
        kept = state[:, :, :size].float()
        return nn.functional.pad(kept, (0, 0, 0, size - kept.shape[2]))

    def _teacher_probabilities(
        self, teacher: LanguageModel, batch: Batch, inputs: Tensor
    ) -> Tensor:
        """The teacher's probabilities (T, B, V); advances its state."""
        with torch.no_grad(), self.precision.autocast():
            logits, state = teacher(inputs, self._before(batch, self._teacher_state))
        self._teacher_state = self._after(state)
        probabilities: Tensor = logits.float().softmax(-1)
        return probabilities

    def reset_state(self) -> None:
        """Start the next step from zero state."""
        self.state = torch.zeros_like(self.state)
        self._teacher_state = torch.zeros_like(self._teacher_state)

    def is_finite(self) -> bool:
        """Whether all weights, optimiser state and averages are finite."""
        tensors = [*self.tensors().values(), *self.average.parameters()]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that a step changes, except the average, by name in a checkpoint.

        The states are those of all B streams, whichever processes have them.
        """
        return self._tensors(self._processes.gather)

    def _tensors(self, of_all_streams: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {f"weights/{n}": p for n, p in self.model.named_parameters()}
        tensors |= {f"optimiser/{n}": t for n, t in self._optimiser.state().items()}
        if self._loss_scale is not None:
            tensors["loss_scale"] = self._loss_scale.state
        if self._teacher is not None:
            tensors["teacher_state"] = of_all_streams(self._teacher_state)
        state = of_all_streams(self.state)
        return tensors | {"state": state, "dropout": self._dropout.get_state()}

    def _zeros(self, state: Tensor) -> Tensor:
        """Zeros of the shape of ``state``, but for all B streams."""
        return state.new_zeros((*state.shape[:2], self.config.batch, *state.shape[3:]))

    def load(
        self, tensors: dict[str, Tensor], average: dict[str, NDArray[np.float32]], steps: int
    ) -> None:
        """Restore the tensors as they were after ``steps`` steps, and the weight average.

        Only float16 runs have a loss scale. A run that moves to another device may gain or lose it.

        Raises:
            KeyError, RuntimeError, ValueError: the tensors do not fit this model.
        """
        own = self._tensors(self._zeros)
        # Runs of earlier versions have no roots; zeros mark a root that has to be computed.
        tensors = {n: torch.zeros_like(t) for n, t in own.items() if n.endswith("/root")} | tensors
        if ("loss_scale" in own) != ("loss_scale" in tensors):
            tensors.pop("loss_scale", None)
            tensors |= {n: t.clone() for n, t in own.items() if n == "loss_scale"}
        if _kinds(tensors) != _kinds(own):
            raise ValueError("its arrays differ")
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError("it has non-finite values")
        if steps != int(tensors["optimiser/steps"]):
            raise ValueError("its number of steps differs")
        load_arrays(self.average, average)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors[f"weights/{name}"])
        prefix = "optimiser/"
        self._optimiser.load_state(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )
        self.state = tensors["state"][:, :, self._block].to(self.state.device)
        self._dropout.set_state(tensors["dropout"])
        if self._teacher is not None:
            theirs = tensors["teacher_state"][:, :, self._block]
            self._teacher_state = theirs.to(self._teacher_state.device)
        if self._loss_scale is not None:
            self._loss_scale.state.copy_(tensors["loss_scale"])


def _kinds(tensors: dict[str, Tensor]) -> dict[str, tuple[object, object]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
