"""The moving picture of the README: the live panel of a real run, as docs/pictures/train.gif.

    python .ci/docs/moving_picture.py

A model trains on the bundled text for about two minutes. The frames are a time lapse: close
together at first, when noise becomes words, and further apart later. Step and elapsed time are in
the picture. The model writes at a reader's pace, each text with the weights of its step.
"""

import re
import tempfile
from html import unescape
from io import BytesIO
from pathlib import Path

import resvg_py
from pictures import PICTURES, console, unfonted
from PIL import Image
from rich.console import Console

from charlstm.events import RunFinished, StepDone
from charlstm.generate.live_sample import LiveSample
from charlstm.presets import default_settings
from charlstm.show.live import RESULT_LINES, LivePanel
from charlstm.show.svg import FONT
from charlstm.text.corpus import open_corpus
from charlstm.text.sources import bundled_corpus
from charlstm.training.new_run import begin

STEPS = 3000
WIDTH, HEIGHT = 80, 25
FRAME_SECONDS = 0.2
FEWEST_STEPS, GROWTH = 6, 1.075
"""Steps from a frame to the next, at least; and how much later the next one is, as a factor."""
LAST_FRAME_SECONDS = 3.0
WRITING_SPEED = 2
"""Times the pace of the live panel."""
PIXELS = 800
COLOURS = 96
BRAILLE = re.compile(r'<text class="([^"]+)" x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"[^>]*>')
DOTS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
"""Column and row of the dot that each bit of a Braille pattern stands for."""
RISE = 0.76
"""What of a line lies above its baseline."""


def frames() -> list[Console]:
    """The panel of a run of ``STEPS`` steps, from its start to its end."""
    corpus = open_corpus([bundled_corpus()])
    chosen = {"steps": STEPS, "precision": "bfloat16"}
    settings = default_settings(len(corpus), len(corpus.vocab), train=chosen)
    recorded: list[Console] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        begin(corpus, *settings, root=Path(folder)) as trainer,
    ):
        sample = LiveSample(
            trainer.model_file,
            trainer.run_file.train.seed,
            lambda: WRITING_SPEED * FRAME_SECONDS * len(recorded),
        )
        screen = console(WIDTH, HEIGHT)
        panel = LivePanel(screen, lambda: (sample.text, sample.step))
        due = 0
        for event in trainer.run():
            panel.view.update(event)
            if isinstance(event, RunFinished):
                sample.finish(event.step)
            elif not isinstance(event, StepDone) or event.step < due:
                continue
            else:
                due = max(event.step + FEWEST_STEPS, round(GROWTH * event.step))
                sample.grow(event.step)
            frame = console(WIDTH, HEIGHT)
            frame.print(panel.render())
            if isinstance(
                event, RunFinished
            ):  # the panel leaves room for the result; all frames have one size
                frame.print("\n" * (RESULT_LINES - 2))
            recorded.append(frame)
    return recorded


def image(frame: Console) -> Image.Image:
    """A frame in pixels, with the bundled font; that one lacks Braille, which becomes dots."""
    svg = unfonted(frame.export_svg(title="charlstm train"))
    svg = re.sub(rf"({BRAILLE.pattern})([\u2800-\u28ff])</text>", _dots, svg)
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=PIXELS,
        style_sheet="text { font-family: 'DejaVu Sans Mono' !important; }",
        font_files=[str(FONT)],
        skip_system_fonts=True,
    )
    return Image.open(BytesIO(png)).convert("RGB")


def _dots(found: re.Match[str]) -> str:
    kind, x, y, width = found[2], float(found[3]), float(found[4]), float(found[5])
    height = 2 * width
    bits = ord(unescape(found[6])) - 0x2800
    shown = [place for bit, place in enumerate(DOTS) if bits >> bit & 1]
    return "".join(
        f'<circle class="{kind}" cx="{x + width * (0.25 + 0.5 * column):.2f}" '
        f'cy="{y - height * RISE + height * (0.125 + 0.25 * row):.2f}" r="{0.16 * width:.2f}"/>'
        for column, row in shown
    )


def main() -> None:
    """Train, and write the picture."""
    recorded = frames()
    images = [image(frame) for frame in recorded]
    # One palette for all, of the last frame, which has every colour: so only changes take space.
    palette = images[-1].quantize(COLOURS)
    indexed = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in images]
    milliseconds = [round(1000 * FRAME_SECONDS)] * (len(indexed) - 1)
    path = Path(PICTURES) / "train.gif"
    indexed[0].save(
        path,
        save_all=True,
        append_images=indexed[1:],
        duration=[*milliseconds, round(1000 * LAST_FRAME_SECONDS)],
        loop=0,
        optimize=True,
    )
    seconds = FRAME_SECONDS * (len(indexed) - 1) + LAST_FRAME_SECONDS
    print(f"{path}: {len(indexed)} frames, {seconds:.0f} s, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
