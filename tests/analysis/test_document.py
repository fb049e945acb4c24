"""Sentences are changed, and the words of the text that was read are not."""

from charlstm.analysis.document import (
    Column,
    Document,
    Heading,
    Lines,
    Strip,
    Table,
    Tinted,
    more_rows,
    reworded,
)


def test_sentences_are_changed_and_all_else_is_kept() -> None:
    words = "`rows` and `state`"
    table = Table((Column(words),), ((words,),), more_rows(2, "span"))
    text = Tinted(Strip((words,), (0.0,)))
    quiet = Lines((words, words), quiet=True)
    document = Document(words, (Heading(words), quiet, table, text))
    changed = reworded(document, lambda line: line.replace("`rows`", "--rows"))
    lines, rows = changed.blocks[1], changed.blocks[2]
    assert lines == Lines(("--rows and `state`",) * 2, quiet=True)
    assert rows == Table(table.columns, table.rows, "… 2 more spans; set --rows to 0 for all")
    assert (changed.title, changed.blocks[0], changed.blocks[3]) == (words, Heading(words), text)
