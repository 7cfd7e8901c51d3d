"""Arrow batches in, Arrow batches out: what engines that spread rows over machines call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa

from mtbert.serving.predictor import Predictor


def predict_arrow(
    run: str | Path, batches: Iterable[pa.RecordBatch], task: str | None = None, keep: tuple[str, ...] = ()
) -> Iterator[pa.RecordBatch]:
    """What a run's model says of each row, a batch for a batch, the rows in their order.

    Columns are those of `mtbert predict`: id, those to `keep`, and what one task says or, without `task`, what every
    task whose columns are there says. A process loads a model once, however often this is called. Rows of several
    batches have ids that tell them apart only where the input has a column of ids. Raises Mistake as `mtbert predict`.
    """
    model = _model(str(run))
    for batch in batches:
        if not batch.num_rows:
            continue
        table = pa.Table.from_batches([batch])
        if task is None:
            parts = [part.columns for part in model.predict_all_slices(table, keep=keep)]
        else:
            parts = [part.columns for part in model.predict_slices(task, table, keep=keep)]
        for columns in parts:
            yield from pa.table(columns).combine_chunks().to_batches()


@cache
def _model(run: str) -> Predictor:
    return Predictor.load(run)
