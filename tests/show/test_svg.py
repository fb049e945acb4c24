"""What a picture names may be anything: a run's folder from somebody else, a model's symbol."""

from xml.dom.minidom import parseString

from charlstm.show.picture import Label, Picture
from charlstm.show.svg import to_png, to_svg


def test_a_label_has_nothing_that_xml_forbids() -> None:
    picture = Picture(90, 30, [Label(1, 20, "<a\x1b\udcff\uffff\u202e&b")])
    text = parseString(to_svg(picture).encode()).getElementsByTagName("text")[0]
    assert text.firstChild is not None
    assert text.firstChild.nodeValue == "<a\u241b\ufffd\ufffd\ufffd&b"
    assert to_png(picture).startswith(b"\x89PNG")
