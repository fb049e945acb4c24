"""charlstm: a character-level LSTM language model for the terminal.

    import charlstm
    model = charlstm.load("checkpoints/shakespeare")
    print("".join(model.generate(prime="ROMEO:", temperature=0.8, seed=1)))

Names are imported on first use, so that ``charlstm --help`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlstm.analysis.saturation import GateReport
    from charlstm.errors import CharlstmError
    from charlstm.generate.sampling import SamplingConfig
    from charlstm.generate.text_state import TextState
    from charlstm.generate.writing import Text
    from charlstm.model import Model, load
    from charlstm.scoring import Score

__version__ = "0.2.0"
__all__ = [
    "CharlstmError",
    "GateReport",
    "Model",
    "SamplingConfig",
    "Score",
    "Text",
    "TextState",
    "__version__",
    "load",
]

_HOMES = {
    "CharlstmError": "errors",
    "GateReport": "analysis.saturation",
    "Model": "model",
    "SamplingConfig": "generate.sampling",
    "Score": "scoring",
    "Text": "generate.writing",
    "TextState": "generate.text_state",
    "load": "model",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"charlstm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'charlstm' has no attribute {name!r}")
