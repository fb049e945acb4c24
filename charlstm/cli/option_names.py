"""Replace field names in messages by the options of the running command.

Errors and notices from outside this folder name a setting by its field, in backticks:
"`temperature` is -1". A command's parameters have the names of the fields that they set, so they
map each field to its option: ``temperature`` to --temp. A word in backticks that is not a
parameter of the running command is left unchanged.
"""

import re
from collections.abc import Iterable
from typing import Any

ELSEWHERE = {"init_from": "charlstm train --init-from"}
"""Fields that errors of every command recommend, where the running command does not have them."""
_options: dict[str, str] = {}
"""Option or argument name by parameter of the running command; a process runs one command."""


def use_parameters(parameters: Iterable[Any]) -> None:
    """Set the parameters, typer's, that fields are replaced by from now on."""
    _options.clear()
    for parameter in parameters:
        is_option = parameter.param_type_name == "option"
        _options[parameter.name] = (
            max(parameter.opts, key=len) if is_option else parameter.name.upper()
        )


def option_of(field: str) -> str | None:
    """The running command's option for a field, or None."""
    return _options.get(field)


def with_options(message: str) -> str:
    """``message`` with each field in backticks replaced by the running command's option."""
    known = ELSEWHERE | _options
    return re.sub(r"`(\w+)`", lambda found: known.get(found[1], found[0]), message)
