"""Characters per second of whole training steps, compared with the usual loop in torch.

    python benchmarks/speed.py --rounds 5
    python benchmarks/speed.py --threads 1 --shapes 1x512x64x64
    python benchmarks/speed.py --shapes 1x512x64x64 --cells peephole gru --record cells

A whole step includes reading the batch, both passes, clipping, the optimiser and the average.
charlstm is compared with the plain loop (nn.LSTM in float32, torch.optim.Adam, clipping), with
``--char-rnn`` the step-by-step loop over the model of a clone of char-rnn.pytorch, with a square
matrix product in bfloat16 (the processor's limit), and with ``--cells`` other cells of charlstm.
charlstm trains with its default dropout, four masks, and once more without dropout, like the plain
loop. Shapes are layers x hidden x B x T.

Every measurement runs in its own process: charlstm changes how threads wait and memory is
allocated, and the others should run as their users run them.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import interleave, ratio, record, spread_of

if TYPE_CHECKING:
    import torch

EMBEDDING = 64
STEPS = 25
NO_DROPOUT = "ours without dropout"
ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "data" / "nettle-quay.txt"

Step = Callable[[], Any]


@dataclass(frozen=True)
class Shape:
    """Shape of a run: layers, hidden size, B streams, T characters per step."""

    layers: int
    hidden: int
    batch: int
    bptt: int

    @classmethod
    def parse(cls, text: str) -> "Shape":
        return cls(*map(int, text.split("x")))


def ours(shape: Shape, cell: str, root: Path, **train_fields: float) -> Step:
    """The step of ``charlstm train`` with its default optimiser."""
    from charlstm.training.new_run import begin

    corpus, model, train = settings(shape, cell, **train_fields)
    with begin(corpus, model, train, root=root) as trainer:
        return trainer.take_step


def settings(shape: Shape, cell: str, **train_fields: float) -> tuple[Any, Any, Any]:
    """A corpus and the configurations of a model and of its training."""
    from charlstm.presets import default_settings
    from charlstm.text.corpus import open_corpus

    corpus = open_corpus([CORPUS])
    model, train = default_settings(
        len(corpus),
        len(corpus.vocab),
        model={
            "cell": cell,
            "layers": shape.layers,
            "hidden_size": shape.hidden,
            "embedding_size": EMBEDDING,
        },
        train={"batch": shape.batch, "bptt": shape.bptt, "steps": 10**6, **train_fields},
    )
    return corpus, model, train


def read_ids() -> "tuple[torch.Tensor, int]":
    """The corpus as a tensor, and the size of its vocabulary."""
    import torch

    text = CORPUS.read_text(encoding="utf-8")
    ids = {symbol: index for index, symbol in enumerate(sorted(set(text)))}
    return torch.tensor([ids[symbol] for symbol in text]), len(ids)


def plain(shape: Shape) -> Step:
    """The usual training loop: nn.LSTM, Adam, float32."""
    import torch
    from torch import nn

    ids, vocab = read_ids()
    streams = ids[: len(ids) // shape.batch * shape.batch].view(shape.batch, -1).T.contiguous()
    embedding = nn.Embedding(vocab, EMBEDDING)
    lstm = nn.LSTM(EMBEDDING, shape.hidden, shape.layers)
    output = nn.Linear(shape.hidden, vocab)
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    adam = torch.optim.Adam(parameters, lr=2e-3)
    state: Any = None
    position = 0

    def step() -> None:
        nonlocal state, position
        end = position + shape.bptt
        if end + 1 > len(streams):
            position, end = 0, shape.bptt
        inputs, targets = streams[position:end], streams[position + 1 : end + 1]
        position = end
        outputs, state = lstm(embedding(inputs), state)
        state = tuple(tensor.detach() for tensor in state)
        loss = nn.functional.cross_entropy(output(outputs).flatten(0, 1), targets.flatten())
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()

    return step


def char_rnn(shape: Shape, clone: Path) -> Step:
    """char-rnn.pytorch's model, one character at a time, as in its train.py.

    Its own train() reads ``loss.data[0]``, which today's torch refuses; the loop is the same.
    """
    import torch
    from torch import nn

    spec = importlib.util.spec_from_file_location("char_rnn_model", clone / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ids, vocab = read_ids()
    model = module.CharRNN(vocab, shape.hidden, vocab, model="lstm", n_layers=shape.layers)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)

    def step() -> None:
        starts = torch.randint(len(ids) - shape.bptt - 1, (shape.batch, 1))
        chunk = ids[starts + torch.arange(shape.bptt + 1)]
        hidden_state = model.init_hidden(shape.batch)
        model.zero_grad()
        loss: Any = 0
        for t in range(shape.bptt):
            output, hidden_state = model(chunk[:, t], hidden_state)
            loss += nn.functional.cross_entropy(output.view(shape.batch, -1), chunk[:, t + 1])
        loss.backward()
        adam.step()

    return step


def product_rate(size: int = 2048) -> float:
    """FLOP/s of a square matrix product in bfloat16."""
    import torch

    a = torch.randn(size, size, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    return 20 * 2 * size**3 / (time.perf_counter() - start)


def rate(name: str, shape: Shape, threads: int | None, clone: Path | None) -> float:
    """Characters per second of a candidate, after a few warm-up steps."""
    with tempfile.TemporaryDirectory() as root:
        if name == "plain":
            step = plain(shape)
        elif name == "char-rnn.pytorch":
            assert clone is not None
            step = char_rnn(shape, clone)
        elif name == NO_DROPOUT:
            step = ours(shape, "lstm", Path(root), dropout=0.0)
        elif name != "product":
            step = ours(shape, "lstm" if name == "ours" else name, Path(root))
    import torch

    if threads:
        torch.set_num_threads(threads)
    if name == "product":
        return product_rate()
    for _ in range(5):
        step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * shape.batch * shape.bptt / (time.perf_counter() - start)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--char-rnn", type=Path, help="path of a clone of char-rnn.pytorch")
    parser.add_argument("--cells", nargs="*", default=[], help="cells to compare with lstm")
    parser.add_argument("--record", default="speed", help="name of the record")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shapes = arguments.shapes or ["1x512x64x64", "1x512x64x128", "2x512x64x64", "2x512x64x128"]
    if arguments.only:
        shape = Shape.parse(shapes[0])
        print(rate(arguments.only, shape, arguments.threads, arguments.char_rnn))
        return
    peers = ["plain", "char-rnn.pytorch"] if arguments.char_rnn else ["plain"]
    results: dict[str, Any] = {}
    for text in shapes:
        names = ["product", "ours", *peers, NO_DROPOUT, *arguments.cells]
        values = interleave(
            {name: in_process(name, text, arguments) for name in names}, arguments.rounds
        )
        parameters = settings(Shape.parse(text), "lstm")[1].parameters
        rates = values["ours"]
        results[text] = {
            "chars_per_second": {
                name: spread_of(values[name]) for name in names if name != "product"
            },
            "product_gflops": spread_of([flops / 1e9 for flops in values["product"]]),
            "share_of_product": ratio([6 * parameters * r for r in rates], values["product"]),
            "times": {name: ratio(rates, values[name]) for name in peers},
            "times_without_dropout": {
                name: ratio(values[NO_DROPOUT], values[name]) for name in peers
            },
            "times_lstm": {name: ratio(values[name], rates) for name in arguments.cells},
        }
    clones = {"char-rnn.pytorch": arguments.char_rnn} if arguments.char_rnn else None
    record(arguments.record, results, peers=clones)


def in_process(name: str, shape: str, arguments: argparse.Namespace) -> Callable[[], float]:
    """Measure a candidate in its own process."""
    command = [sys.executable, __file__, "--only", name, "--shapes", shape]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    if arguments.char_rnn:
        command += ["--char-rnn", str(arguments.char_rnn)]
    return lambda: float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


if __name__ == "__main__":
    main()
