"""Characters per second of whole training steps, beside the loop that a user would write.

    python benchmarks/speed.py --rounds 5
    python benchmarks/speed.py --threads 1 --shapes 1x512x64x64
    python benchmarks/speed.py --shapes 1x512x64x64 --cells peephole gru --record cells

A whole step is everything: reading the batch, both passes, clipping, the optimiser, the average.
Beside ours run the plain loop (nn.LSTM in float32, torch.optim.Adam, clipping), with ``--char-rnn``
the step-by-step loop over the model of a clone of char-rnn.pytorch, and a square matrix product
in bfloat16, which is what the processor can do at best; with ``--cells`` our other cells too.
Shapes are layers x hidden x B x T.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import interleave, ratio, record, spread_of
from torch import nn

import charlstm.train  # before numpy: it sets how threads wait  # noqa: F401
from charlstm.corpus import Corpus, open_corpus
from charlstm.defaults import default_settings
from charlstm.train.session import begin

EMBEDDING = 64
STEPS = 20


def timed(step: Callable[[], Any], characters: int) -> Callable[[], float]:
    """Characters per second over some steps, after two that are not counted."""

    def measure() -> float:
        for _ in range(2):
            step()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        return STEPS * characters / (time.perf_counter() - start)

    return measure


def ours(
    corpus: Corpus, layers: int, hidden: int, batch: int, bptt: int, root: Path, cell: str = "lstm"
) -> Any:
    """The step of ``charlstm train`` with its default optimiser, and the model's parameters."""
    model, train = default_settings(
        len(corpus),
        len(corpus.vocab),
        model={"cell": cell, "layers": layers, "hidden_size": hidden, "embedding_size": EMBEDDING},
        train={"batch": batch, "bptt": bptt, "steps": 10**6},
    )
    trainer = begin(corpus, model, train, root=root)
    return trainer.take_step, model.parameters


def plain(corpus: Corpus, layers: int, hidden: int, batch: int, bptt: int) -> Callable[[], None]:
    """The loop that most people write: nn.LSTM, Adam, float32."""
    ids = torch.from_numpy(np.asarray(corpus.ids).astype(np.int64))
    streams = ids[: len(ids) // batch * batch].view(batch, -1).T.contiguous()
    embedding = nn.Embedding(len(corpus.vocab), EMBEDDING)
    lstm = nn.LSTM(EMBEDDING, hidden, layers)
    output = nn.Linear(hidden, len(corpus.vocab))
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    adam = torch.optim.Adam(parameters, lr=2e-3)
    state: Any = None
    place = 0

    def step() -> None:
        nonlocal state, place
        if place + bptt + 1 > len(streams):
            place = 0
        inputs, targets = streams[place : place + bptt], streams[place + 1 : place + bptt + 1]
        place += bptt
        outputs, state = lstm(embedding(inputs), state)
        state = tuple(tensor.detach() for tensor in state)
        loss = nn.functional.cross_entropy(output(outputs).flatten(0, 1), targets.flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()

    return step


def char_rnn(
    clone: Path, corpus: Corpus, layers: int, hidden: int, batch: int, bptt: int
) -> Callable[[], None]:
    """char-rnn.pytorch's model, stepped a character at a time as its train.py does.

    Its own train() reads ``loss.data[0]``, which today's torch refuses; the loop is the same.
    """
    spec = importlib.util.spec_from_file_location("char_rnn_model", clone / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vocab = len(corpus.vocab)
    model = module.CharRNN(vocab, hidden, vocab, model="lstm", n_layers=layers)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    ids = torch.from_numpy(np.asarray(corpus.ids).astype(np.int64))

    def step() -> None:
        starts = torch.randint(len(ids) - bptt - 1, (batch, 1))
        chunk = ids[starts + torch.arange(bptt + 1)]
        hidden_state = model.init_hidden(batch)
        model.zero_grad()
        loss: Any = 0
        for t in range(bptt):
            output, hidden_state = model(chunk[:, t], hidden_state)
            loss += nn.functional.cross_entropy(output.view(batch, -1), chunk[:, t + 1])
        loss.backward()
        adam.step()

    return step


def product_rate(size: int = 2048) -> float:
    """FLOP/s of a square matrix product in bfloat16."""
    a = torch.randn(size, size, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--char-rnn", type=Path, help="a clone of char-rnn.pytorch")
    parser.add_argument("--cells", nargs="*", default=[], help="cells to set beside lstm")
    parser.add_argument("--record", help="name of the record in benchmarks/results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    shapes = arguments.shapes or ["1x512x64x64", "1x512x64x128", "2x512x64x64", "2x512x64x128"]
    corpus = open_corpus([Path(__file__).parent.parent / "data" / "nettle-quay.txt"])
    results: dict[str, Any] = {}
    for shape in shapes:
        layers, hidden, batch, bptt = map(int, shape.split("x"))
        characters = batch * bptt
        with tempfile.TemporaryDirectory() as folder:
            step, parameters = ours(corpus, layers, hidden, batch, bptt, Path(folder))
            candidates = {
                "product": product_rate,
                "ours": timed(step, characters),
                "plain": timed(plain(corpus, layers, hidden, batch, bptt), characters),
            }
            for cell in arguments.cells:
                other, _ = ours(corpus, layers, hidden, batch, bptt, Path(folder), cell)
                candidates[cell] = timed(other, characters)
            if arguments.char_rnn:
                clone = arguments.char_rnn
                peer = char_rnn(clone, corpus, layers, hidden, batch, bptt)
                candidates["char-rnn.pytorch"] = timed(peer, characters)
            values = interleave(candidates, arguments.rounds)
        work = [rate * 6 * parameters for rate in values["ours"]]
        results[shape] = {
            "chars_per_second": {
                name: spread_of(rates) for name, rates in values.items() if name != "product"
            },
            "product_gflops": spread_of([rate / 1e9 for rate in values["product"]]),
            "times_plain": ratio(values["ours"], values["plain"]),
            "share_of_product": ratio(work, values["product"]),
        }
        for cell in arguments.cells:
            results[shape].setdefault("times_lstm", {})[cell] = ratio(values[cell], values["ours"])
        if arguments.char_rnn:
            results[shape]["times_char_rnn"] = ratio(values["ours"], values["char-rnn.pytorch"])
    record(arguments.record or "speed", results)


if __name__ == "__main__":
    main()
