"""Train with chosen settings over several seeds, and print both validation losses.

    python benchmarks/experiment.py TEXT --seeds 1,2,3 minutes=1.2 hidden_size=512 dropout=0.2

Settings are fields of ``ModelConfig`` and ``TrainConfig``; all others have their defaults. The last
tenth of TEXT is not read, so that settings are never chosen on the part that results are reported
on: models are validated on the last tenth of the rest. ``--final`` trains on the first nine tenths
and reports the loss on the last one, for published figures with settings chosen before.

One JSON line per seed on stdout, and a summary on stderr.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import charlstm.training  # before torch: it sets how threads wait  # noqa: F401

# isort: split
import torch

from charlstm.config import TrainConfig
from charlstm.events import Evaluated, RunFinished
from charlstm.model import load
from charlstm.net.model_config import ModelConfig
from charlstm.presets import default_settings
from charlstm.runs.catalogue import find_checkpoint
from charlstm.text.corpus import Corpus, open_corpus
from charlstm.training.device import Precision
from charlstm.training.network import LanguageModel, load_arrays
from charlstm.training.new_run import begin
from charlstm.training.validation import stateful_loss, windowed_loss

MODEL_FIELDS = {field.name for field in fields(ModelConfig)}
TRAIN_FIELDS = {field.name for field in fields(TrainConfig)}


def parse_value(text: str) -> Any:
    """The number that ``text`` stands for, or ``text`` itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tuning_text(path: Path, folder: Path) -> Path:
    """The first nine tenths of a text, as a file."""
    text = path.read_bytes().decode("utf-8")
    kept = folder / path.name
    kept.write_bytes(text[: len(text) - len(text) // 10].encode("utf-8"))
    return kept


def train(
    corpus: Corpus, given: dict[str, Any], seed: int, preset: str | None, teacher: Path | None
) -> dict[str, Any]:
    """Train once; return the losses of the best checkpoint in both protocols, in float32."""
    model_config, train_config = default_settings(
        len(corpus),
        len(corpus.vocab),
        preset=preset,
        with_teacher=teacher is not None,
        model={k: v for k, v in given.items() if k in MODEL_FIELDS},
        train={k: v for k, v in given.items() if k in TRAIN_FIELDS} | {"seed": seed},
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        opened = begin(corpus, model_config, train_config, root=Path(folder), teacher=teacher)
        curve = []
        finished = None
        with opened as trainer:
            for event in trainer.run():
                if isinstance(event, Evaluated):
                    curve.append([round(event.seconds, 1), round(event.val_loss, 4)])
                if isinstance(event, RunFinished):
                    finished = event
        seconds = time.perf_counter() - start
        weights = load(trainer.path).file.weights
    assert finished is not None
    model = LanguageModel(model_config)
    load_arrays(model, dict(weights))
    _, held_out = corpus.split(train_config.val_fraction)
    precision = Precision(torch.device("cpu"), "float32")
    return {
        "seed": seed,
        "settings": given,
        "parameters": model_config.parameters,
        "steps": finished.step,
        "best_step": finished.best_step,
        "epochs": round(finished.epoch, 2),
        "seconds": round(seconds, 1),
        "stateful": round(stateful_loss(model, held_out, precision), 4),
        "windowed": round(windowed_loss(model, held_out, precision), 4),
        "curve": curve,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("settings", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--preset")
    parser.add_argument("--teacher", metavar="RUN", help="run to distil from")
    parser.add_argument("--final", action="store_true")
    arguments = parser.parse_intermixed_args()
    given = {}
    for setting in arguments.settings:
        name, _, value = setting.partition("=")
        if name not in MODEL_FIELDS | TRAIN_FIELDS or not value:
            parser.error(f"unknown setting {setting}; use FIELD=VALUE")
        given[name] = parse_value(value)
    teacher = None if arguments.teacher is None else find_checkpoint(arguments.teacher)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.text
        corpus = open_corpus([path if arguments.final else tuning_text(path, Path(folder))])
        for seed in map(int, arguments.seeds.split(",")):
            results.append(train(corpus, given, seed, arguments.preset, teacher))
            print(json.dumps(results[-1]), flush=True)
    for protocol in ("stateful", "windowed"):
        losses = [result[protocol] for result in results]
        spread = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
        print(f"{protocol} {statistics.mean(losses):.4f}{spread}", file=sys.stderr)


if __name__ == "__main__":
    main()
