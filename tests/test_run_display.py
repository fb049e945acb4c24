"""Where a run is shown on a panel, and where as lines."""

from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from helpers import TEXT

import charlstm.show.console
from charlstm.opening import begin_run
from charlstm.run_display import RunDisplay
from charlstm.training.processes import SET_BY_TORCHRUN


@pytest.mark.parametrize("by_torchrun", [False, True])
def test_a_process_of_torchrun_shows_lines_because_no_key_reaches_it(
    by_torchrun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tales.txt").write_text(TEXT * 20, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(charlstm.show.console, "can_animate", lambda _: True)
    panels: list[object] = []

    def around_panel(redraw: object) -> nullcontext[None]:
        panels.append(redraw)
        return nullcontext()

    with ExitStack() as stack:
        settings = {"steps": 6, "hidden_size": 16, "device": "cpu"}
        trainer = begin_run(stack, ["tales.txt"], settings, reading={}, note=print, advise=print)
        if by_torchrun:
            for name in SET_BY_TORCHRUN:
                monkeypatch.setenv(name, "0")
        with RunDisplay(trainer, around_panel=around_panel):
            assert bool(panels) == (not by_torchrun)
