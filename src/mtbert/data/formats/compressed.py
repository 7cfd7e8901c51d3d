"""Compressed files: unpacked beside, then read in the format of the ending that is left."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from mtbert.data.formats.base import GET_AGAIN
from mtbert.errors import Mistake

CODECS = {".gz": "gzip", ".zst": "zstd"}


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or for `rows.csv.gz` a file `rows.csv` that lasts as long as the block.

    What is wrong with the unpacked file is said of the packed one. Raises Mistake where it cannot be unpacked.
    """
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        try:
            with pa.input_stream(str(path), compression=codec) as packed, plain.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise Mistake(
                f"{path} cannot be unpacked as {codec} ({str(error).splitlines()[0][:200]}): it is damaged, cut off or "
                f"something else; `{codec} -t {shlex.quote(str(path))}` says whether it is whole; {GET_AGAIN}"
            ) from None
        try:
            yield plain
        except Mistake as mistake:
            raise Mistake(str(mistake).replace(str(plain), str(path))) from None
