"""File endings and what reads them."""

from __future__ import annotations

from mtbert.data.formats.base import Table
from mtbert.data.formats.columnar import read_arrow, read_parquet
from mtbert.data.formats.delimited import read_delimited
from mtbert.data.formats.jsonl import read_jsonl
from mtbert.registry import Registry

FORMATS: Registry[Table] = Registry(
    "file ending",
    {
        ".tsv": read_delimited,
        ".csv": read_delimited,
        ".txt": read_delimited,
        ".jsonl": read_jsonl,
        ".ndjson": read_jsonl,
        ".parquet": read_parquet,
        ".arrow": read_arrow,
    },
)
