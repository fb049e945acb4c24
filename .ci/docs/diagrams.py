"""The drawings of docs/explanation, as SVG."""


def pictures() -> dict[str, str]:
    """Each drawing by the name of its file."""
    return {}
