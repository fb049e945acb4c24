import io
import os
import threading

import pytest

from charlstm.show.background import BackgroundWriter


def test_what_is_flushed_is_written_in_order() -> None:
    file = io.StringIO()
    writer = BackgroundWriter(file)
    for number in range(200):
        writer.write(f"{number} ")
        writer.write(";")
        writer.flush()
    writer.write("never flushed")
    writer.close(60)
    assert file.getvalue() == "".join(f"{number} ;" for number in range(200))
    assert writer.idle


def test_a_terminal_that_takes_nothing_holds_nobody() -> None:
    reads, writes = os.pipe()
    with open(writes, "w") as file, open(reads, "rb") as reader:
        writer = BackgroundWriter(file)
        text = "x" * 1_000_000  # more than a pipe holds
        begun = threading.active_count()
        for _ in range(3):
            writer.write(text)
            writer.flush()
        assert not writer.idle
        writer.close(0.01)
        assert not writer.idle  # gave up waiting, and nothing was lost:
        assert begun == threading.active_count()
        assert len(reader.read(3_000_000)) == 3_000_000
        writer.close(60)
        assert writer.idle


def test_a_terminal_that_is_gone_is_no_error() -> None:
    reads, writes = os.pipe()
    file = open(writes, "w")  # noqa: SIM115
    os.close(reads)
    writer = BackgroundWriter(file)
    for _ in range(2):
        writer.write("text")
        writer.flush()
    writer.close(60)
    assert writer.idle
    with pytest.raises(BrokenPipeError):
        file.close()


def test_all_else_is_the_files() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    writer = BackgroundWriter(Terminal())
    assert writer.isatty()
    writer.close(60)
