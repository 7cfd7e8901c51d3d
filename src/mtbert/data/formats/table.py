"""File endings and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mtbert.data.formats.base import Asked, Table
from mtbert.data.formats.columnar import pieces_of_arrow, pieces_of_parquet, read_arrow, read_parquet
from mtbert.data.formats.conll import pieces_of_conll, read_conll
from mtbert.data.formats.delimited import pieces_of_delimited, read_delimited
from mtbert.data.formats.jsonl import pieces_of_json, pieces_of_jsonl, read_json, read_jsonl


class Format(NamedTuple):
    """The two ways to read a file: as one table, and as tables of whole rows of which one is held at a time."""

    whole: Callable[[Path, Asked], Table]
    pieces: Callable[[Path, Asked], Iterator[Table]]


DELIMITED = Format(read_delimited, pieces_of_delimited)
CONLL = Format(read_conll, pieces_of_conll)
JSONL = Format(read_jsonl, pieces_of_jsonl)

FORMATS: Mapping[str, Format] = {
    ".tsv": DELIMITED,
    ".csv": DELIMITED,
    ".txt": DELIMITED,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".json": Format(read_json, pieces_of_json),
    ".conll": CONLL,
    ".iob": CONLL,
    ".bio": CONLL,
    ".parquet": Format(read_parquet, pieces_of_parquet),
    ".arrow": Format(read_arrow, pieces_of_arrow),
}
