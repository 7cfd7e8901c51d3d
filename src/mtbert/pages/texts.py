"""A person's texts on a page: always data, and marks that nobody sees named by their code points."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

# controls, and marks that turn the order of what is read around or are not seen; joiners stay, as scripts need them
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """A text with its unseen marks named.

    >>> visible("a\u202eb")
    'a⟨U+202E⟩b'
    """
    return UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def as_text(text: object) -> Markup:
    """A text as it stands, escaped, its direction kept to itself.

    >>> as_text("<b>\u202e")
    Markup('<bdi>&lt;b&gt;⟨U+202E⟩</bdi>')
    """
    return Markup(f"<bdi>{escape(visible(str(text)))}</bdi>")
