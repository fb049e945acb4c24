"""Make the pictures of the docs from a real run on the bundled text: ``.ci/make.py pictures``.

    python .ci/docs/pictures.py          the live panel, then the worked case: train it, show it
    python .ci/docs/pictures.py RUN      only the views and the page of that run

The panel is shown as a terminal draws it, the views as ``--svg`` writes them. The SVGs name no font
to download, so they look the same without a network.
"""

import re
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import replace
from html import escape, unescape
from io import StringIO
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from typer.main import get_command

from charlstm.analysis.document import Document, reworded
from charlstm.analysis.subject import Options, Subject, find_view, held_out
from charlstm.analysis.views import VIEWS
from charlstm.cli.app import app
from charlstm.cli.option_names import use_parameters, with_options
from charlstm.events import StepDone
from charlstm.generate.live_sample import LiveSample
from charlstm.model import Model, load
from charlstm.presets import default_settings
from charlstm.runs.metrics import MetricsLog
from charlstm.runs.run import METRICS_FILE
from charlstm.show.live import LivePanel
from charlstm.show.picture import document_picture
from charlstm.show.svg import to_svg
from charlstm.text.corpus import open_corpus
from charlstm.text.sources import bundled_corpus
from charlstm.training.new_run import begin
from charlstm.training.trainer import Trainer

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
TEXT = 'ODILE: "Is it the bell?" (She listens.)'
CASE = {"steps": 4000, "hold": 0.0, "row_averaging": 0.0, "reset_every": 0, "threads": 1}
NEAR_END = 0.95
PASSAGE_LINES = 14
SPANS = re.compile(
    r'<text class="([^"]+)" x="([^"]+)" y="([^"]+)" textLength="([^"]+)"([^>]*)>(.*?)</text>',
    re.DOTALL,
)
"""The pieces of a line that Rich writes: class, x, y, width, the rest, and the words."""
WORDS = re.compile(r"[\u2800-\u28ff]|[^\s\u2800-\u28ff]+")
"""Words, and each Braille pattern by itself: fonts that lack them borrow wider ones."""


def console(width: int, height: int) -> Console:
    """A console that records what it would show."""
    return Console(
        record=True,
        width=width,
        height=height,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        legacy_windows=False,
    )


def save(recorded: Console, name: str, title: str) -> None:
    """Write a recorded console as an SVG that needs nothing from outside."""
    (PICTURES / name).write_text(unfonted(recorded.export_svg(title=title)), encoding="utf-8")
    print(PICTURES / name)


def unfonted(svg: str) -> str:
    """An SVG of Rich without fonts to download, and with each word at its column."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return SPANS.sub(by_words, svg)


def by_words(span: re.Match[str]) -> str:
    """Each word of a span at a position of its own.

    Rich pads with no-break spaces and gives the width of a span, a letter for each character;
    librsvg, for one, leaves out the spaces that a span begins with, and knows no width.
    """
    kind, x, y, width, rest, text = span.groups()
    plain = unescape(text)
    letter = float(width) / len(plain)
    words = []
    for word in WORDS.finditer(plain):
        start = float(x) + letter * cell_len(plain[: word.start()])
        length = letter * cell_len(word[0])
        words.append(
            f'<text class="{kind}" x="{start:.6g}" y="{y}" textLength="{length:.6g}"{rest}>'
            f"{escape(word[0], quote=False)}</text>"
        )
    return "".join(words)


def begun(
    folder: Path, preset: str | None, train: dict[str, float]
) -> AbstractContextManager[Trainer]:
    """A run on the bundled text; of a trial's choice a busy moment could make another model."""
    corpus = open_corpus([bundled_corpus()])
    settings = default_settings(
        len(corpus), len(corpus.vocab), preset=preset, train={**train, "precision": "bfloat16"}
    )
    return begin(corpus, *settings, root=folder)


def live(folder: Path) -> None:
    """The live panel of a run without options that is nearly done."""
    with begun(folder, None, {}) as trainer:
        sample = LiveSample(trainer.model_file, trainer.run_file.train.seed)
        panel = LivePanel(console(80, 25), lambda: (sample.text, sample.step))
        for event in trainer.run():
            panel.view.update(event)
            if isinstance(event, StepDone):
                sample.grow(event.step)
                near_the_end = event.total_steps and event.step > NEAR_END * event.total_steps
                if near_the_end and len(sample.text) > 300:
                    break
        panel.console.print(panel.render(), end="")
        save(panel.console, "train.svg", "charlstm train")


def worked_case(folder: Path) -> Path:
    """The run of the worked case in docs/explanation/finding-units.md."""
    with begun(folder, "quick", CASE) as trainer:
        log = MetricsLog(trainer.path / METRICS_FILE)
        for event in trainer.run():
            log.write(event)
        log.close()
    return trainer.path


def views(run: Path) -> None:
    """A picture of each view; what find finds decides which units are shown."""
    model = load(run)
    use_parameters(get_command(app).commands["inspect"].params)

    def see(view: str, text: str | None = None, options: Options = Options()) -> Document:
        ids, warmup = model.inspected(text, None)
        longer = held_out(model, VIEWS[view].reads) if text is None else None
        if longer is not None:
            ids = longer[len(warmup) :]
        return reworded(
            find_view(view)(Subject(model, ids, warmup), options).document(), with_options
        )

    subject = Subject(model, *model.inspected(None, None))
    longer = held_out(model, VIEWS["find"].reads)
    if longer is not None:
        subject = Subject(model, longer[len(subject.warmup) :], subject.warmup)
    found = find_view("find")(subject, Options()).to_dict()["features"]
    best = {one["feature"]: one["best"][0] for one in found if one["best"]}
    # In the worked case this unit tracks round brackets.
    unit = best["inside quotes"]
    quoted = Options(layer=unit["layer"], units=(unit["unit"],))
    passage = bracketed(model)
    shown = {
        "inspect": see("gates", TEXT),
        "inspect-walk": see("walk", TEXT, replace(quoted, at=7)),
        "inspect-cell": see("cell", passage, quoted),
        "inspect-guesses": see("cell", TEXT, replace(quoted, guesses=5)),
        "inspect-match": see("match", None, replace(quoted, rows=10)),
        **{
            f"inspect-{name}": see(name)
            for name in ("find", "ablate", "probe", "errors", "memory", "context", "drift")
        },
    }
    for name, document in shown.items():
        path = PICTURES / f"{name}.svg"
        path.write_text(to_svg(document_picture(document)), encoding="utf-8")
        print(path)


def bracketed(model: Model) -> str:
    """The passage of whole lines of the held-out text that has most in round brackets."""
    ids = held_out(model, VIEWS["match"].reads)
    assert ids is not None
    lines = model.file.vocab.decode(ids).splitlines(keepends=True)
    passages = ("".join(lines[n : n + PASSAGE_LINES]) for n in range(len(lines)))
    return max(passages, key=lambda one: sum(map(len, re.findall(r"\([^()]*\)", one))))


def show(run: Path) -> None:
    """The views of a run, and its page."""
    from live_page import write_page

    views(run)
    write_page(run)


def main() -> None:
    """Train, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        show(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        live(Path(folder))
        show(worked_case(Path(folder)))


if __name__ == "__main__":
    main()
