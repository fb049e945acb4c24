"""The notebook of the docs runs from top to bottom, and shows what it promises."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import charlstm

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"
# Of a test, not of a user: seconds on one core.
QUICK = "steps=40, hidden_size=16, layers=1, embedding_size=8, batch=4, bptt=16, preset="


def executed(
    notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> list[Any]:
    """The cells after they ran in a kernel of this Python, in ``folder``."""
    kernels = folder / "kernels"
    (kernels / "python3").mkdir(parents=True)
    (kernels / "python3" / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "display_name": "Python 3",
                "language": "python",
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    root = str(Path(charlstm.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    client = nbclient.NotebookClient(notebook, timeout=120, **settings)
    client.execute(cwd=str(folder))
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: Any) -> str:
    """All that a cell printed or shows as text."""
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def pages(cell: Any) -> list[str]:
    """What a cell shows as HTML."""
    found = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return [html for html in found if html]


def test_the_notebook_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    changed = 0
    for cell in notebook.cells:
        for slow in ("minutes=MINUTES, preset=", "steps=steps, preset="):
            changed += slow in cell.source
            cell.source = cell.source.replace(slow, QUICK)
    assert changed == 2
    cells = executed(notebook, tmp_path, monkeypatch)
    by_source = {cell.source: cell for cell in cells}
    (training,) = (c for s, c in by_source.items() if "training.run()" in s)
    display, result = pages(training)
    assert "step 40 of 40" in display
    assert "<svg" in display
    assert "gates on unseen text" in display
    assert "It writes, as of step 40" in display
    assert "ended" in result
    assert [output.output_type for output in training.outputs].count("display_data") == 1
    (written,) = (c for s, c in by_source.items() if "print(model.generate" in s)
    assert len(texts(written)) == 301
    assert all(pages(by_source[s]) for s in ("model", 'figure = model.view("find")\nfigure'))
    assert "gru" in texts(cells[-1])
    assert (tmp_path / "checkpoints" / "notebook-gru" / "run.json").is_file()


def test_interrupting_a_cell_saves_the_run_and_the_next_cell_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = nbformat.v4
    first = f"""
import os, signal, threading, time, charlstm
training = charlstm.train({QUICK}"tiny", name="stopped")
def interrupt():
    while training.step < 5:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
training.run()
print(training.finished.reason)
""".replace("steps=40", "steps=1_000_000")
    second = "print(training.step == charlstm.load('stopped').file.training['step'])"
    notebook = new.new_notebook(cells=[new.new_code_cell(first), new.new_code_cell(second)])
    cells = executed(notebook, tmp_path, monkeypatch)
    assert "stopped" in texts(cells[0])
    assert texts(cells[1]) == "True\n"
