"""Templates to HTML, every text in them escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mtbert.pages.texts import as_text, visible


def render(template: str, **content: Any) -> str:
    """A page of its template; a name that the template uses and is not given raises jinja2's UndefinedError."""
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mtbert.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"as_text": as_text, "visible": visible}
    return environment
