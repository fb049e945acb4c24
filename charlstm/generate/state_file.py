"""States of texts in files: h and c outlive the command that wrote with them.

A file is safetensors with the arrays ``state`` (L, S, 1, H), float32, and ``recent`` (R,), int64;
its metadata has the format and the fingerprint of the model, which no other model may read.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from charlstm.errors import CharlstmError, reason_of
from charlstm.files import file_size, unreadable, write_output
from charlstm.generate.writing import REMEMBERED, TextState, check_state
from charlstm.net.spec import CELLS
from charlstm.runs.checkpoint import Arrays, ModelFile, fingerprint

FORMAT = "charlstm-state-1"
HEADER_BYTES = 4096
"""More than a header takes."""


def save_state(path: Path, state: TextState, model: ModelFile) -> None:
    """Write where a text stands; a reader finds the old file or the new one, never half.

    Raises:
        UsageError: the state does not fit the model.
        CharlstmError: the file cannot be written; one that was there is left as it was.
    """
    check_state(state, model.config)
    arrays: Arrays = {
        "state": np.ascontiguousarray(state.state, dtype=np.float32),
        "recent": np.array(state.recent, dtype=np.int64),
    }
    data = save(arrays, metadata={"format": FORMAT, "model": fingerprint(model)})
    try:
        write_output(path, data)
    except OSError as error:
        raise CharlstmError(
            f"the state cannot be saved in {path}: {reason_of(error)}", "save it elsewhere"
        ) from None


def load_state(path: Path, model: ModelFile) -> TextState:
    """Read where a text stands.

    Raises:
        CharlstmError: there is no such file, it is damaged, or it is another model's.
    """
    config = model.config
    shape = (config.layers, len(CELLS[config.cell].states), 1, config.hidden_size)
    remedy = "save one with `save_state`"
    try:
        size = file_size(path)
        if size > HEADER_BYTES + 4 * int(np.prod(shape)) + 8 * REMEMBERED:
            raise CharlstmError(f"{path} is not a state of this model: it is too large", remedy)
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CharlstmError(f"{path} is not a state of charlstm", remedy)
            if metadata.get("model") != fingerprint(model):
                raise CharlstmError(
                    f"{path} is the state of another model",
                    "use the `checkpoint` that it was saved with",
                )
            state, recent = file.get_tensor("state"), file.get_tensor("recent")
    except OSError as error:
        raise unreadable(path, error, remedy) from None
    except (SafetensorError, ValueError, TypeError) as error:
        raise CharlstmError(f"{path} is damaged: {error}", remedy) from None
    plain = (recent.ndim, recent.dtype) == (1, np.int64)
    found = TextState(state, tuple(recent.tolist()) if plain else ())
    if not plain or not found.fits(config):
        raise CharlstmError(f"{path} is damaged: its arrays do not fit the model", remedy)
    return found
