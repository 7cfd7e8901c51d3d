"""Several tasks from one pass of the encoder: each says what it says alone, bit for bit."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from mtbert.data.batches import Batch, Examples
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.kinds.tokens import Tokens
from mtbert.data.streams import Share, share_named
from mtbert.errors import Mistake
from mtbert.model.task_modules.base import ModulePlan
from mtbert.scoring.evaluation import outputs_of, outputs_together
from mtbert.serving import predictor as serving
from mtbert.serving.engines import Question
from mtbert.serving.predictor import Predictor
from mtbert.serving.results import WRITERS
from tests.support import served
from tests.support.served import HEAT, MOOD, TONE
from tests.support.tiny_models import SENTENCES, make_model, plan, shaken, tiny_tokenizer

BRIEF = Classification(name="brief", text="text", label="brief", classes=2, max_length=8)
SAME = Classification(name="same", text=["a", "b"], label="same", classes=2, symmetric=True)
LIKE = Regression(name="like", text=["a", "b"], label="like", range=(0, 5), symmetric=True)
NEAR = Regression(name="near", text=["a", "b"], label="score", pairs="separate", range=(0, 5))
TASKS: list[Task] = [MOOD, TONE, HEAT, BRIEF, SAME, LIKE, NEAR]
PAIRS = list(zip(SENTENCES, reversed(SENTENCES), strict=True))


def predictor(plans: Sequence[ModulePlan] = ()) -> Predictor:
    return served.predictor(plans, TASKS)


def passes(model: Predictor) -> list[int]:
    """How many sequences each pass through the encoder holds, noted as it goes on."""
    seen: list[int] = []
    model.model.encoder.layers[0].register_forward_hook(lambda layer, given, y: seen.append(len(y)))
    return seen


def test_tasks_that_read_alike_are_one_group() -> None:
    assert predictor().model.alike(task.name for task in TASKS) == [
        ["mood", "tone", "heat"],
        ["brief"],
        ["same", "like"],
        ["near"],
    ]


def test_a_module_of_its_own_parts_a_task_from_the_others_and_a_shared_one_does_not() -> None:
    own = predictor([plan("lora", tasks=["tone"])]).model
    assert own.alike(["mood", "tone", "heat"]) == [["mood", "heat"], ["tone"]]
    shared = predictor([plan("lora", tasks=["mood", "tone"], shared=True)]).model
    assert shared.alike(["mood", "tone", "heat"]) == [["mood", "tone"], ["heat"]]


@pytest.mark.parametrize("plans", [[], [plan("lora", tasks=["tone"]), plan("adapter", tasks=["same"])]])
def test_outputs_together_are_those_of_each_alone_bit_for_bit(plans: list[ModulePlan]) -> None:
    model, tokenizer = shaken(make_model(plans, TASKS)), tiny_tokenizer()
    groups = model.alike(task.name for task in TASKS)
    sets = {
        task.name: Examples.from_texts(
            task, [SENTENCES] if len(task.text) == 1 else [SENTENCES, SENTENCES[::-1]], tokenizer, 20
        )
        for task in TASKS
    }
    several = outputs_together(model, [(names, sets[names[0]]) for names in groups], batch_size=3)
    assert [list(together) for together in several] == groups
    for name, outputs in (item for together in several for item in together.items()):
        assert torch.equal(outputs, outputs_of(model, sets[name], batch_size=3))


def test_all_tasks_answer_in_one_pass_what_each_answers_alone() -> None:
    model = predictor()
    alone = {name: model.predict(name, SENTENCES) for name in ("mood", "tone", "heat", "brief")}
    seen = passes(model)
    answers = model.predict_all(SENTENCES)
    assert seen == [len(SENTENCES)] * 2  # `brief` cuts texts off earlier, and so reads others
    assert [list(answer) for answer in answers] == [list(alone)] * len(SENTENCES)
    assert {name: [answer[name] for answer in answers] for name in alone} == alone


def test_words_come_with_their_labels_as_from_the_task_alone() -> None:
    names = Tokens(name="names", text="text", label="tags", classes=["O", "B-X", "I-X"])
    model = served.predictor([], [MOOD, names])
    together = model.predict_all(SENTENCES)
    assert [one["names"] for one in together] == model.predict("names", SENTENCES)
    assert [[word for word, _ in one["names"]] for one in together] == [text.split() for text in SENTENCES]


def test_questions_that_read_otherwise_are_answered_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    model = predictor()
    met = threading.Barrier(2)  # nobody passes alone
    together = model.model.together

    def meeting(batch: Batch, names: Sequence[str]) -> dict[str, Tensor]:
        met.wait(timeout=30)
        return together(batch, names)

    monkeypatch.setattr(model.model, "together", meeting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = model.answer(
            [Question(["mood"], [SENTENCES]), Question(["near"], [SENTENCES, SENTENCES[::-1]])]
        )
    finally:
        torch.set_num_threads(before)
    monkeypatch.undo()
    torch.testing.assert_close(first["mood"], model.outputs("mood", SENTENCES))
    torch.testing.assert_close(second["near"], model.outputs("near", PAIRS))


def test_pairs_are_for_tasks_that_read_pairs() -> None:
    model = predictor()
    answers = model.predict_all(PAIRS)
    assert [list(answer) for answer in answers] == [["same", "like", "near"]] * len(PAIRS)
    for name in ("same", "like", "near"):
        assert [answer[name] for answer in answers] == model.predict(name, PAIRS)


@pytest.mark.parametrize("make", [lambda rows: rows, pa.Table.from_pylist])
def test_rows_with_columns_are_for_every_task_that_reads_these(make: Any) -> None:
    model = predictor()
    rows = [{"text": text, "a": a, "b": b} for text, (a, b) in zip(SENTENCES, PAIRS, strict=True)]
    answers = model.predict_all(make(rows))
    assert {name: [answer[name] for answer in answers] for name in ("heat", "near")} == {
        "heat": model.predict("heat", SENTENCES),
        "near": model.predict("near", PAIRS),
    }
    assert set(answers[0]) == {task.name for task in TASKS}
    assert set(model.predict_all(make([{"a": "film", "b": "good"}]))[0]) == {"same", "like", "near"}


# ---- files


def written(parts: Any) -> list[dict[str, str]]:
    file = io.BytesIO()
    WRITERS[".csv"](file, parts)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file with the columns of all tasks, more rows than a slice has here, ids that are no numbers."""
    path = tmp_path / "rows.jsonl"
    texts = [SENTENCES[number % len(SENTENCES)] + " film" * (number % 5) for number in range(23)]
    lines = [
        {"id": f"r{number}", "text": text, "a": text, "b": texts[-number], "more": number}
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_is_answered_by_all_tasks_as_by_each_alone(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SLICE", 10)
    model = predictor([plan("lora", tasks=["heat"])])
    found = written(model.predict_all_slices(rows, keep=["more"]))
    assert [row["id"] for row in found] == [f"r{number}" for number in range(23)]
    assert [row["more"] for row in found] == [str(number) for number in range(23)]
    due = {task.name: written(model.predict_slices(task.name, rows)) for task in TASKS}
    for task, alone in due.items():
        for column in alone[0].keys() - {"id"}:
            assert [row[f"{task}_{column}"] for row in found] == [row[column] for row in alone]
    columns = [f"{task}_{name}" for task, alone in due.items() for name in alone[0] if name != "id"]
    assert list(found[0]) == ["id", "more", *columns]


def test_a_file_with_some_columns_is_answered_by_the_tasks_that_read_these(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\nfilm,good\n")
    (found,) = written(predictor().predict_all_slices(tmp_path / "pairs.csv"))
    assert {name.split("_")[0] for name in found} == {"id", "same", "like", "near"}


def test_shares_of_the_rows_are_all_rows_once_with_the_ids_of_the_whole(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "SLICE", 4)
    plain = tmp_path / "plain.csv"
    plain.write_text("text\n" + "".join(f"film {number}\n" for number in range(11)))
    model = predictor()
    for source, whole in ((rows, model.predict_all_slices), (plain, partial(model.predict_slices, "mood"))):
        due = [row["id"] for row in written(whole(source))]
        shares = [[row["id"] for row in written(whole(source, share=Share(number, 3)))] for number in range(3)]
        assert shares == [due[number::3] for number in range(3)]


@pytest.mark.parametrize("said", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_a_share_that_is_none_is_a_mistake(said: str) -> None:
    with pytest.raises(Mistake, match="write I/N with I from 1 to N"):
        share_named(said)


def test_a_share_without_rows_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text\nfilm\n")
    with pytest.raises(Mistake, match="no row for share 3 of 4: there are 1"):
        list(predictor().predict_slices("mood", tmp_path / "one.csv", share=share_named("3/4")))


def test_a_file_without_any_tasks_columns_and_a_kept_column_of_a_written_name_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("txt,mood_prediction\nfilm,x\n")
    with pytest.raises(Mistake, match=r"other\.csv has the columns of no task \(there: mood_prediction, txt\)"):
        list(predictor().predict_all_slices(tmp_path / "other.csv"))
    (tmp_path / "text.csv").write_text("text,mood_prediction\nfilm,x\n")
    with pytest.raises(Mistake, match="'mood_prediction' cannot be kept"):
        list(predictor().predict_all_slices(tmp_path / "text.csv", keep=["mood_prediction"]))


def test_nothing_is_answered_with_nothing() -> None:
    assert predictor().predict_all([]) == []


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("a text", "give a list of texts, not one text"),
        ({"text": "a"}, "give a list of texts, not one row"),
        ([("a", "b", "c")], "no task reads what is given: mood reads text; .*near reads a and b"),
        ([{"txt": "a"}], "no task reads what is given"),
        (pa.table({"txt": ["a"]}), "no task reads what is given"),
        (["a", ("b", "c")], "task 'mood' reads one text; item 1 is"),
        ([{"text": "a"}, {"b": "c"}], "item 1 has no 'text'"),
    ],
)
def test_what_no_task_reads_is_a_mistake(texts: Any, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        predictor().predict_all(texts)
