"""The encoded texts in the cache: what it has, and how to delete them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from charlstm import files
from charlstm.cache import cache_folder
from charlstm.errors import CharlstmError

META, IDS = "corpus.json", "ids.bin"

_ENTRY = re.compile(r"(?:stdin-)?[0-9a-f]{24}")


def corpora_folder() -> Path:
    """The folder with a folder for each encoded text."""
    return cache_folder() / "corpora"


def cached_corpora() -> list[Path]:
    """The folders of all encoded texts in the cache."""
    found = (path.parent for path in corpora_folder().glob(f"*/{META}"))
    return sorted(folder for folder in found if _ENTRY.fullmatch(folder.name))


def cached_with(field: str, value: str) -> Iterator[Path]:
    """The folders of the encoded texts whose ``META`` has this value."""
    for folder in cached_corpora():
        with suppress(CharlstmError):
            if files.read_json(folder / META, "").get(field) == value:
                yield folder


def unfinished_corpora() -> list[Path]:
    """Leftovers of processes that were killed while encoding a text."""
    return files.abandoned(corpora_folder())


def delete_cached(folder: Path) -> int:
    """Delete an encoded or unfinished text; return the bytes freed."""
    before = files.disk_bytes(folder)
    if _ENTRY.fullmatch(folder.name):
        for name in (META, IDS):
            files.remove(folder / name)
        with suppress(OSError):
            folder.rmdir()
    else:
        files.remove(folder)
    return before - files.disk_bytes(folder)
