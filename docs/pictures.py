"""Make the pictures of the docs from a real run on the bundled text: ``make pictures``.

Trains for two minutes, keeps the live panel as it stood after 60% of the steps, and inspects
the trained model. The SVGs name no font to download, so they look the same without a network.
"""

import re
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console

from charlstm.corpus import open_corpus
from charlstm.defaults import default_settings
from charlstm.events import StepDone
from charlstm.growing import GrowingSample
from charlstm.model import load
from charlstm.show.live import LivePanel
from charlstm.show.terminal import print_document
from charlstm.texts import bundled_corpus
from charlstm.train.session import begin
from charlstm.views.gates import document

PICTURES = Path(__file__).parent / "pictures"
TEXT = 'ODILE: "Is it the bell?" (She listens.)'
MINUTES = 2.0
SHARE = 0.6


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
    svg = recorded.export_svg(title=title)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (PICTURES / name).write_text(svg, encoding="utf-8")
    print(PICTURES / name)


def main() -> None:
    """Train, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    corpus = open_corpus([bundled_corpus()])
    model_config, train_config = default_settings(
        len(corpus), len(corpus.vocab), train={"minutes": MINUTES}
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = begin(corpus, model_config, train_config, root=Path(folder))
        sample = GrowingSample(trainer.model_file, train_config.seed)
        small, large = (
            LivePanel(console(width, height), lambda: (sample.text, sample.step))
            for width, height in ((80, 25), (120, 37))
        )
        taken = False
        for event in trainer.run():
            small.view.update(event)
            large.view.update(event)
            if isinstance(event, StepDone):
                sample.grow(event.step)
                total = event.total_steps
                written = len(sample.text) > 300
                if not taken and written and total and event.step > SHARE * total:
                    taken = True
                    for panel, name in ((small, "train.svg"), (large, "train-large.svg")):
                        panel.console.print(panel.render(), end="")
                        save(panel.console, name, "charlstm train")
        report = load(trainer.path).inspect(TEXT)
        shown = console(80, 60)
        print_document(shown, document(report, range(report.layers), report.gates))
        save(shown, "inspect.svg", f"charlstm inspect '{TEXT}'")


if __name__ == "__main__":
    main()
