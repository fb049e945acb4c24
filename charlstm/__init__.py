"""charlstm: a character-level LSTM language model for the terminal.

    import charlstm
    model = charlstm.train("shakespeare.txt", minutes=2).run().model
    model = charlstm.load("checkpoints/shakespeare")
    print(model.generate(prime="ROMEO:", temperature=0.8, seed=1))

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
    from charlstm.mixture import Mixture, mix
    from charlstm.model import Model, load
    from charlstm.runs.history import History
    from charlstm.scoring import Score
    from charlstm.show.figure import Figure
    from charlstm.training_run import TrainingRun, resume, train

__version__ = "0.2.0"
__all__ = [
    "CharlstmError",
    "Figure",
    "GateReport",
    "History",
    "Mixture",
    "Model",
    "SamplingConfig",
    "Score",
    "Text",
    "TextState",
    "TrainingRun",
    "__version__",
    "load",
    "mix",
    "resume",
    "train",
]

_HOMES = {
    "CharlstmError": "errors",
    "Figure": "show.figure",
    "GateReport": "analysis.saturation",
    "History": "runs.history",
    "Mixture": "mixture",
    "Model": "model",
    "SamplingConfig": "generate.sampling",
    "Score": "scoring",
    "Text": "generate.writing",
    "TextState": "generate.text_state",
    "TrainingRun": "training_run",
    "load": "model",
    "mix": "mixture",
    "resume": "training_run",
    "train": "training_run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"charlstm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'charlstm' has no attribute {name!r}")
