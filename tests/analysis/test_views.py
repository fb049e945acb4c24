"""What is said of the views before they are loaded agrees with what they are."""

from dataclasses import fields

from charlstm.analysis.subject import Options
from charlstm.analysis.views import VIEWS


def test_views_take_fields_of_the_options_and_each_field_is_of_some_view() -> None:
    taken = {field for info in VIEWS.values() for field in info.takes}
    assert taken == {"text", *(field.name for field in fields(Options))}
    assert all("text" in info.takes for info in VIEWS.values() if info.reads)
