"""Speed of sampling and scoring, relative to the machine's limit and to a loop in torch.

    python benchmarks/sampling.py --rounds 7
    python benchmarks/sampling.py --rounds 2 --shape 1x128 --score-characters 100000

The weights of the LSTM (layers x hidden, embedding 64, 65 symbols) are random; their values do not
affect the time. Measured in turn, round by round:

a   time per character of one text, with one thread and with all, over the bare float32 matrix
    products of a step (np.dot of the same shapes, in the same process);
b   characters per second of one text over those of the usual loop in torch with all threads:
    nn.LSTM, softmax, multinomial;
c   characters per second of 64 parallel texts over those of one text;
d   seconds of ``charlstm sample --length 1``, a whole process, over ``python -c "import torch"``;
e   seconds of ``charlstm score`` on 1,000,000 characters, a whole process;
f   peak memory of ``charlstm sample``, MB;
g   seconds of the ``--novelty`` search in a megabyte (the bundled text, repeated), for a text of
    1,000 characters that copies 100;
h   speed of int8, which is what sample uses, over float32: one text, 64 texts, score.

Each part of a, b and c runs in its own process, because BLAS reads its number of threads when it is
loaded.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import interleave, ratio, record, spread_of

from charlstm.model import Model
from charlstm.net.kernel import kernel
from charlstm.net.model_config import ModelConfig
from charlstm.net.quantised import Precision
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.text.vocabulary import Vocabulary

ROOT = Path(__file__).parent.parent
SYMBOLS = "\n" + "".join(map(chr, range(32, 96)))
BATCH = 64
COUNTED = 2_000
"""Characters of one text per timing."""


def make_checkpoint(shape: str, folder: Path) -> Path:
    """A checkpoint of random weights on the scale of a trained model's."""
    layers, hidden = map(int, shape.split("x"))
    config = ModelConfig("lstm", len(SYMBOLS), 64, hidden, layers)
    generator = np.random.default_rng(1)
    weights = {
        name: generator.normal(0, size[-1] ** -0.5, size).astype(np.float32)
        for name, size in config.shapes().items()
    }
    file = ModelFile(config, Vocabulary(SYMBOLS), weights, "", {"step": 0})
    return write_checkpoint(folder, file, ResumeState({}, {}))


def open_model(checkpoint: str) -> Model:
    import charlstm

    return charlstm.load(checkpoint)


def one_stream(checkpoint: str, precision: Precision = "int8") -> float:
    """Seconds per character."""
    model = open_model(checkpoint)
    text = model.generate(length=None, temperature=0.8, seed=1, precision=precision)
    for _ in range(200):
        next(text)
    start = time.perf_counter()
    for _ in range(COUNTED):
        next(text)
    return (time.perf_counter() - start) / COUNTED


def bare_products(checkpoint: str) -> float:
    """Seconds per character of the matrix-vector products alone."""
    weights = open_model(checkpoint).file.weights
    # As the engine has them: input and hidden matrix side by side above the first layer.
    names = [n for n in weights if n.endswith("weight_hidden")]
    matrices = [weights[names[0]]]
    for name in names[1:]:
        below = weights[name.replace("weight_hidden", "weight_input")]
        matrices.append(np.hstack([below, weights[name]]))
    matrices.append(weights["output_weight"])
    vectors = [np.ones(matrix.shape[1], dtype=np.float32) for matrix in matrices]
    for counted in (200, COUNTED):
        start = time.perf_counter()
        for _ in range(counted):
            for matrix, vector in zip(matrices, vectors, strict=True):
                np.dot(matrix, vector)
        seconds = time.perf_counter() - start
    return seconds / COUNTED


def one_stream_float32(checkpoint: str) -> float:
    """Seconds per character."""
    return one_stream(checkpoint, "float32")


def batch(checkpoint: str, precision: Precision = "int8") -> float:
    """Seconds per character of 64 parallel texts, counted over all of them."""
    model = open_model(checkpoint)
    model.generate_batch(count=BATCH, length=20, seed=1, precision=precision)
    start = time.perf_counter()
    model.generate_batch(count=BATCH, length=200, temperature=0.8, seed=1, precision=precision)
    return (time.perf_counter() - start) / (BATCH * 200)


def batch_float32(checkpoint: str) -> float:
    """Seconds per character of 64 parallel texts, counted over all of them."""
    return batch(checkpoint, "float32")


def torch_loop(checkpoint: str) -> float:
    """Seconds per character of the usual loop in torch."""
    import torch
    from torch import nn

    config = open_model(checkpoint).file.config
    embedding = nn.Embedding(config.vocab_size, config.embedding_size)
    lstm = nn.LSTM(config.embedding_size, config.hidden_size, config.layers)
    output = nn.Linear(config.hidden_size, config.vocab_size)
    state: Any = None
    symbol = torch.zeros(1, 1, dtype=torch.int64)
    with torch.no_grad():
        for counted in (50, COUNTED // 4):
            start = time.perf_counter()
            for _ in range(counted):
                h, state = lstm(embedding(symbol), state)
                chances = torch.softmax(output(h[0, 0]) / 0.8, dim=-1)
                symbol = torch.multinomial(chances, 1).view(1, 1)
                symbol.item()  # to print it
            seconds = time.perf_counter() - start
    return seconds / (COUNTED // 4)


def novelty_search(_: str) -> float:
    """Seconds to search a megabyte of corpus for copied passages."""
    from charlstm.generate.novelty import novelty
    from charlstm.text.corpus import open_corpus

    corpus = open_corpus([ROOT / "data" / "nettle-quay.txt"])
    ids = np.resize(corpus.ids, 1_000_000)
    shuffled = np.random.default_rng(1).permutation(ids[:900])
    text = corpus.vocab.decode([*shuffled, *ids[5_000:5_100]])
    start = time.perf_counter()
    novelty([text], ids, corpus.vocab)
    return time.perf_counter() - start


PARTS: dict[str, Callable[[str], float]] = {
    part.__name__: part
    for part in (
        *(one_stream, one_stream_float32, bare_products, batch, batch_float32),
        *(torch_loop, novelty_search),
    )
}


def start(command: list[str], threads: int | None = None) -> str:
    """Run a command with this charlstm; return its stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    if threads is not None:
        environment["OPENBLAS_NUM_THREADS"] = str(threads)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def in_process(part: str, checkpoint: Path, threads: int | None) -> Callable[[], float]:
    """Measure one of ``PARTS`` in its own process."""
    command = [sys.executable, __file__, "--part", part, str(checkpoint)]
    return lambda: float(start(command, threads))


def whole_process(*command: str, threads: int | None = None) -> Callable[[], float]:
    """Measure the seconds of a whole process."""

    def measure() -> float:
        begun = time.perf_counter()
        start([sys.executable, *command], threads)
        return time.perf_counter() - begun

    return measure


def peak_memory(checkpoint: Path) -> Callable[[], float]:
    """Measure the peak memory of ``charlstm sample``, in MB."""
    code = (
        "import resource, sys\nfrom charlstm.cli import run\n"
        f"run(['sample', '-c', {str(checkpoint)!r}, '--seed', '1', '--length', '5000'])\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print('\\n' + str(peak * (1 if sys.platform == 'darwin' else 1024)))"
    )
    return lambda: int(start([sys.executable, "-c", code]).splitlines()[-1]) / 1e6


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", default="1x512", help="layers x hidden")
    parser.add_argument("--score-characters", type=int, default=1_000_000)
    parser.add_argument("--part", nargs=2, metavar=("PART", "CHECKPOINT"), help=argparse.SUPPRESS)
    parser.add_argument("--record", default="sampling", help="name of the record")
    arguments = parser.parse_args()
    if arguments.part:
        part, path = arguments.part
        print(PARTS[part](path))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = make_checkpoint(arguments.shape, folder)
        compiled = kernel() is not None  # and its compilation is not measured below
        text = folder / "text.txt"
        ids = np.random.default_rng(2).integers(len(SYMBOLS), size=arguments.score_characters)
        text.write_text("".join(SYMBOLS[i] for i in ids.tolist()), encoding="utf-8")
        charlstm = ["-m", "charlstm"]
        given = ["-c", str(checkpoint)]
        values = interleave(
            {
                "products, 1 thread": in_process("bare_products", checkpoint, 1),
                "stream, 1 thread": in_process("one_stream", checkpoint, 1),
                "products, all threads": in_process("bare_products", checkpoint, None),
                "stream, all threads": in_process("one_stream", checkpoint, None),
                "stream, float32, 1 thread": in_process("one_stream_float32", checkpoint, 1),
                "torch": in_process("torch_loop", checkpoint, None),
                "batch, 1 thread": in_process("batch", checkpoint, 1),
                "batch, all threads": in_process("batch", checkpoint, None),
                "batch, float32, all threads": in_process("batch_float32", checkpoint, None),
                "first character": whole_process(
                    *charlstm, "sample", *given, "--seed", "1", "--length", "1"
                ),
                "import torch": whole_process("-c", "import torch"),
                "score, 1 thread": whole_process(*charlstm, "score", *given, str(text), threads=1),
                "score, all threads": whole_process(*charlstm, "score", *given, str(text)),
                "score, int8, all threads": whole_process(
                    *charlstm, "score", *given, "--precision", "int8", str(text)
                ),
                "memory": peak_memory(checkpoint),
                "novelty": in_process("novelty_search", checkpoint, None),
            },
            arguments.rounds,
        )
    # charlstm sample writes one stream with one thread, and a batch with all; score uses all.
    stream = values["stream, 1 thread"]
    results = {
        "shape": arguments.shape,
        "kernel": "compiled" if compiled else "NumPy",
        "a: over bare products, 1 thread": ratio(stream, values["products, 1 thread"]),
        "a: over bare products, all threads": ratio(
            values["stream, all threads"], values["products, all threads"]
        ),
        "b: times torch": ratio(values["torch"], stream),
        "c: batch of 64 over one stream": ratio(stream, values["batch, all threads"]),
        "d: first character over import torch": ratio(
            values["first character"], values["import torch"]
        ),
        "e: score seconds": spread_of(values["score, all threads"]),
        "e: score seconds, int8": spread_of(values["score, int8, all threads"]),
        "h: int8 over float32": {
            "one text": ratio(values["stream, float32, 1 thread"], stream),
            "64 texts": ratio(values["batch, float32, all threads"], values["batch, all threads"]),
            "score": ratio(values["score, all threads"], values["score, int8, all threads"]),
        },
        "f: memory MB": spread_of(values["memory"]),
        "g: novelty seconds": spread_of(values["novelty"]),
        "chars per second": {
            name: spread_of([1 / seconds for seconds in values[name]])
            for name in values
            if name.startswith(("stream", "batch", "torch"))
        },
        "seconds": {name: spread_of(values[name]) for name in ("first character", "import torch")},
    }
    record(arguments.record, results)


if __name__ == "__main__":
    main()
