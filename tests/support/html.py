"""What stands on a page: its tables cell by cell, its words, and everything that it would load or run."""

from __future__ import annotations

from html.parser import HTMLParser


class Seen(HTMLParser):
    """A page as read: tables of rows of cells, all its text, its tags and the values of attributes that load."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self._cell: list[str] | None = None
        self._heading: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "xlink:href", "action") or (name == "href" and tag != "a"):
                self.loads.append(value or "")
            if name.startswith("on"):
                self.loads.append(f"{name}={value}")
            if name == "href" and tag == "a":
                self.anchors.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag in ("h1", "h2", "h3", "h4"):
            self._heading = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append("".join(self._cell).strip())
            self._cell = None
        elif tag in ("h1", "h2", "h3", "h4") and self._heading is not None:
            self.headings.append("".join(self._heading).strip())
            self._heading = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        for into in (self._cell, self._heading):
            if into is not None:
                into.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, *head: str) -> list[list[str]]:
        """The rows below the first table whose head begins so."""
        return next(table[1:] for table in self.tables if table[0][: len(head)] == list(head))
