"""Resume states: h, c and the last characters of a text, in memory and in files.

A file is in the safetensors format with the arrays ``state`` (L, S, 1, H), float32, and ``recent``
(R,), int64. Its metadata has the format and the fingerprint of the model; other models reject it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from charlstm.errors import CharlstmError, UsageError, reason_of
from charlstm.files import file_size, unreadable, write_output
from charlstm.generate.sampling import REMEMBERED
from charlstm.net.model_config import ModelConfig
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import Arrays, ModelFile, fingerprint, is_computable

FORMAT = "charlstm-state-1"
HEADER_BYTES = 4096
"""Upper bound on the size of a header."""


@dataclass(frozen=True, eq=False)
class TextState:
    """A resume state: everything needed to continue a text.

    It is valid only for the model that made it. A file written by ``save_state`` records its model,
    but an object does not: another model of the same shape would continue from a meaningless state.
    """

    state: NDArray[Any]
    """(L, S, 1, H) float32: layers, states of the cell (h and c, or h), one text, units."""
    recent: tuple[int, ...] = field(default=(), repr=False)
    """The last ids of the text, at most ``REMEMBERED``, for the repeat penalty."""

    def fits(self, shape: tuple[int, ...], vocab_size: int) -> bool:
        """Whether a model with states of this shape can continue from this state."""
        state = self.state
        return (
            isinstance(state, np.ndarray)
            and isinstance(self.recent, Sequence)
            and state.shape == shape
            and state.dtype == np.float32
            and is_computable(state)
            and all(
                isinstance(symbol, Integral) and 0 <= symbol < vocab_size for symbol in self.recent
            )
        )


def check_state(state: TextState, shape: tuple[int, ...], vocab_size: int) -> None:
    """Raise ``UsageError`` unless a model with states of this shape can continue from it."""
    if not (isinstance(state, TextState) and state.fits(shape, vocab_size)):
        raise UsageError(
            "`state` is not a state of this model",
            "use the `state` of a text that this model generated",
        )


def state_shape(config: ModelConfig) -> tuple[int, ...]:
    """The shape of the state of one text: (L, S, 1, H)."""
    return (config.layers, len(CELLS[config.cell].states), 1, config.hidden_size)


def save_state(path: Path, state: TextState, model: ModelFile) -> None:
    """Write a resume state to a file, atomically.

    Raises:
        UsageError: the state does not fit the model.
        CharlstmError: the file cannot be written; an existing one is unchanged.
    """
    check_state(state, state_shape(model.config), model.config.vocab_size)
    arrays: Arrays = {
        "state": np.ascontiguousarray(state.state, dtype=np.float32),
        "recent": np.array(state.recent, dtype=np.int64),
    }
    data = save(arrays, metadata={"format": FORMAT, "model": fingerprint(model)})
    try:
        write_output(path, data, "save_state")
    except OSError as error:
        raise CharlstmError(
            f"cannot save the resume state to {path}: {reason_of(error)}", "save it elsewhere"
        ) from None


def load_state(path: Path, model: ModelFile) -> TextState:
    """Read a resume state from a file.

    Raises:
        CharlstmError: the file does not exist, is damaged, or belongs to another model.
    """
    config = model.config
    floats = config.layers * len(CELLS[config.cell].states) * config.hidden_size
    remedy = "save one with `save_state`"
    try:
        size = file_size(path)
        if size > HEADER_BYTES + 4 * floats + 8 * REMEMBERED:
            raise CharlstmError(
                f"{path} is not a resume state of this model: it is too large", remedy
            )
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CharlstmError(f"{path} is not a resume state of charlstm", remedy)
            if metadata.get("model") != fingerprint(model):
                raise CharlstmError(
                    f"{path} is a resume state of another model",
                    "use the `checkpoint` that it was saved with, or if that is gone, give the end "
                    "of the text as `prime`",
                )
            state, recent = file.get_tensor("state"), file.get_tensor("recent")
    except OSError as error:
        raise unreadable(path, error, remedy) from None
    except (SafetensorError, ValueError, TypeError) as error:
        raise CharlstmError(f"{path} is damaged: {error}", remedy) from None
    plain = (recent.ndim, recent.dtype) == (1, np.int64)
    found = TextState(state, tuple(recent.tolist()) if plain else ())
    if not plain or not found.fits(state_shape(config), config.vocab_size):
        raise CharlstmError(f"{path} is damaged: its arrays do not match the model", remedy)
    return found
