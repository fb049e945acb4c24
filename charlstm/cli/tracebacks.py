"""``--traceback``: print the traceback that the error boundary hides, for bug reports."""

_shown = False


def show(wanted: bool) -> None:
    """Choose whether ``lines`` returns anything."""
    global _shown
    _shown = wanted


def lines(error: BaseException) -> list[str]:
    """The traceback of an error, with all errors that led to it; empty unless shown.

    ``raise … from None`` hides an error from users, but a bug report needs it.
    """
    if not _shown:
        return []
    import traceback

    one: BaseException | None = error
    while one is not None:
        one.__suppress_context__ = False
        one = one.__cause__ or one.__context__
    return "".join(traceback.format_exception(error)).splitlines()
