"""``drift``: what a run recorded is what its checkpoint gives again."""

from pathlib import Path

import planted
import pytest
from helpers import TEXT, model_config, train_config

import charlstm
from charlstm.analysis.document import Plots, Table
from charlstm.analysis.saturation import RECORDED
from charlstm.analysis.subject import Options, Subject, held_out
from charlstm.analysis.views.drift import Moment, furthest, moments, view
from charlstm.errors import CharlstmError
from charlstm.net.spec import CELLS
from charlstm.runs.metrics import MetricsLog
from charlstm.runs.pointers import read_pointers
from charlstm.runs.run import METRICS_FILE
from charlstm.scoring import score
from charlstm.text.corpus import open_corpus
from charlstm.training.new_run import begin


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that keeps its checkpoints and its metrics."""
    return record(tmp_path_factory.mktemp("recorded"), "lstm")


def record(folder: Path, cell: str) -> Path:
    (folder / "small.txt").write_text(TEXT * 60, encoding="utf-8")
    corpus = open_corpus([folder / "small.txt"])
    config = model_config(len(corpus.vocab), layers=2, cell=cell)
    settings = train_config(steps=60, dropout=0.0, keep=9)
    with begin(corpus, config, settings, root=folder / "checkpoints") as trainer:
        log = MetricsLog(trainer.path / METRICS_FILE)
        for event in trainer.run():
            log.write(event)
        log.close()
    return trainer.path


def shown(recorded_run: Path, name: str, **options: object) -> tuple[charlstm.Model, dict]:
    model = charlstm.load(recorded_run / name)
    subject = Subject(model, *model.inspected(None, None))
    return model, view(subject, Options(**options)).to_dict()  # type: ignore[arg-type]


def test_recorded_values_are_those_of_the_kept_checkpoints(recorded_run: Path) -> None:
    for name in read_pointers(recorded_run).kept:
        model, data = shown(recorded_run, name)
        step = model.file.training["step"]
        recorded = next(m for m in data["moments"] if m["step"] == step)
        read = held_out(model, 200_000)
        assert read is not None
        assert recorded["val_loss"] == pytest.approx(score(model.engine, read).nats, abs=1e-4)
        assert (data["warmup"], data["characters"]) == (100, 400)
        excerpt = model.file.excerpt[:RECORDED]
        lead = len(excerpt) // 5
        again = model.inspect(excerpt[lead:], warmup=excerpt[:lead]).summary()
        assert len(recorded["gates"]) == len(again) == 6
        for old, new in zip(recorded["gates"], again, strict=True):
            assert (old["layer"], old["gate"]) == (new.layer, new.gate)
            for share in ("left", "right", "mean"):
                assert old[share] == pytest.approx(getattr(new, share), abs=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_shows_its_loss_and_the_gates_it_has(cell: str, tmp_path: Path) -> None:
    model = charlstm.load(record(tmp_path, cell))
    found = view(Subject(model, *model.inspected(None, None)), Options())
    losses = [moment["val_loss"] for moment in found.to_dict()["moments"]]
    assert losses[0] > losses[-1] > 0
    gates = {gate["gate"] for moment in found.to_dict()["moments"] for gate in moment["gates"]}
    assert gates == set(CELLS[cell].gates)
    document = found.document()
    notes, plot = planted.notes(document), document.blocks[0]
    assert isinstance(plot, Plots)
    assert plot.plots[0].series[0].y == losses
    assert notes[0].startswith("The loss is the validation loss")
    tables = [block for block in document.blocks if isinstance(block, Table)]
    assert {len(table.rows) for table in tables} == {len(losses)}
    if gates:
        assert document.title == f"Gates and loss: {cell} 2×24 over 60 steps"
        assert "measured on 400 characters of the checkpoint's excerpt" in notes[1]
    else:
        assert document.title == f"Loss: {cell} 2×24 over 60 steps"
        assert notes[1] == f"The cell {cell} has no gates to show."


def test_moments_are_in_order_and_a_step_taken_again_counts_once() -> None:
    def line(step: int, loss: float | None) -> dict:
        gates = [{"layer": 0, "gate": "input", "left": 0.1, "right": 0.2, "mean": 0.5}]
        return {"event": "evaluated", "step": step, "val_loss": loss, "gates": gates}

    lines = [line(10, 3.0), {"event": "saved"}, line(0, 4.0), line(10, 2.5), line(20, None), {}]
    assert [(m.step, m.val_loss) for m in moments(lines)] == [(0, 4.0), (10, 2.5)]


def test_furthest_is_where_a_share_was_furthest_from_its_start() -> None:
    moments = [
        Moment(step, 1.0, {(0, "forget"): (shut, 0.5, 0.5)})
        for step, shut in ((0, 0.3), (10, 0.7), (20, 0.1), (30, 0.4))
    ]
    assert furthest(moments, 0, "forget", 0).step == 10
    assert furthest(moments[:1] + moments[2:], 0, "forget", 0).step == 20
    assert furthest(moments, 0, "forget", 1).step == 0


def test_layer_and_gate_narrow_the_moments(recorded_run: Path) -> None:
    _, data = shown(recorded_run, read_pointers(recorded_run).kept[-1], layer=1, gate="forget")
    for moment in data["moments"]:
        assert [(g["layer"], g["gate"]) for g in moment["gates"]] == [(1, "forget")]


def test_folder_without_metrics_is_refused(recorded_run: Path, tmp_path: Path) -> None:
    model = charlstm.load(recorded_run)
    model.path = tmp_path / "step-1"
    with pytest.raises(CharlstmError, match="has no evaluations"):
        view(Subject(model, *model.inspected(None, None)), Options())
