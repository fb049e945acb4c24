"""The core names settings by their fields; the command line shows them as its options.

An error or a notice from outside this folder names a field between backticks: "`temperature` is
-1". A command's parameters bear the names of the fields that they set, so the parameters of the
running command say which option a field is here: --temp. A word between backticks that is no
parameter of any command stays as it is.
"""

import re
from collections.abc import Iterable
from typing import Any

ELSEWHERE = {"init_from": "charlstm train --init-from"}
"""Fields that errors of every command recommend, where the running command does not have them."""
_options: dict[str, str] = {}
"""What a user types for each parameter of the running command. One process runs one command."""


def use_parameters(parameters: Iterable[Any]) -> None:
    """From now on, show fields as these parameters, which are typer's."""
    _options.clear()
    for parameter in parameters:
        is_option = parameter.param_type_name == "option"
        _options[parameter.name] = (
            max(parameter.opts, key=len) if is_option else parameter.name.upper()
        )


def option_of(field: str) -> str | None:
    """The running command's option for a field, if it has one."""
    return _options.get(field)


def with_options(message: str) -> str:
    """A message of the core with the options of the running command in place of the fields."""
    known = ELSEWHERE | _options
    return re.sub(r"`(\w+)`", lambda found: known.get(found[1], found[0]), message)
