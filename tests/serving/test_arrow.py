"""Arrow batches in and out, as Spark and its like call it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtbert.errors import Mistake
from mtbert.serving import arrow
from mtbert.serving.arrow import predict_arrow
from mtbert.serving.predictor import Predictor
from tests.support.served import HEAT, MOOD, predictor
from tests.support.tiny_models import NEAR, SENTENCES

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
ROWS = pa.table({"id": [f"r{n}" for n in range(8)], "text": SENTENCES, "a": SENTENCES, "b": SENTENCES[::-1]})


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were loaded, each of which is a tiny model here."""
    asked: list[str] = []
    model = predictor([], [MOOD, HEAT, NEAR])
    arrow._model.cache_clear()

    def load(run: str) -> Predictor:
        asked.append(run)
        return model

    monkeypatch.setattr(Predictor, "load", load)
    return asked


def test_rows_come_back_in_their_batches_with_what_each_task_says(loaded: list[str]) -> None:
    batches = ROWS.to_batches(max_chunksize=3)
    found = list(predict_arrow("RUN", [*batches, batches[0].slice(0, 0)], keep=("text",)))
    assert [batch.num_rows for batch in found] == [3, 3, 2]
    whole = pa.Table.from_batches(found)
    assert whole["id"].to_pylist() == ROWS["id"].to_pylist()
    assert whole["text"].to_pylist() == SENTENCES
    model = Predictor.load("RUN")
    assert whole["mood_prediction"].to_pylist() == model.predict("mood", SENTENCES)
    pairs = list(zip(SENTENCES, SENTENCES[::-1], strict=True))
    assert whole["near_prediction"].to_pylist() == pytest.approx(model.predict("near", pairs), abs=1e-4)
    (first, *_) = predict_arrow("RUN", batches, task="heat")
    assert first.schema.names == ["id", "prediction"]
    assert loaded == ["RUN", "RUN"]  # once by the two calls, once here


def test_what_cannot_be_read_is_a_mistake() -> None:
    with pytest.raises(Mistake, match="has the columns of no task"):
        list(predict_arrow("RUN", pa.table({"txt": ["a"]}).to_batches()))


class Frame:
    """A data frame of Spark's, as far as the page uses one."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def select(self, *columns: str) -> Frame:
        return Frame(self.table.select(columns))

    def mapInArrow(self, work: Any, schema: str) -> Frame:
        batches: Iterator[pa.RecordBatch] = iter(self.table.to_batches(max_chunksize=5))
        found = pa.Table.from_batches(list(work(batches)))
        assert [part.split()[0] for part in schema.split(", ")] == found.schema.names
        return Frame(found)


def test_the_lines_for_spark_do_what_they_say() -> None:
    (lines,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "mapInArrow" in one]
    left: dict[str, Any] = {"frame": Frame(ROWS)}
    exec(compile(lines, "docs/serving.md", "exec"), left)
    assert left["answered"].table["id"].to_pylist() == ROWS["id"].to_pylist()
