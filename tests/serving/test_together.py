"""Several tasks from one pass of the encoder: each says what it says alone, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch

from mtbert.data.batches import Examples
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake
from mtbert.model.task_modules.base import ModulePlan
from mtbert.scoring.evaluation import outputs_of, outputs_together
from mtbert.serving.predictor import Predictor
from tests.support.tiny_models import SENTENCES, make_model, plan, shaken, tiny_tokenizer

MOOD = Classification(name="mood", text="text", label="mood", classes=["low", "mid", "high"])
TONE = Classification(name="tone", text="text", label="tone", classes=2, pooling="cls", head="one_logit")
HEAT = Regression(name="heat", text="text", label="heat", range=(0, 10))
BRIEF = Classification(name="brief", text="text", label="brief", classes=2, max_length=8)
SAME = Classification(name="same", text=["a", "b"], label="same", classes=2, symmetric=True)
LIKE = Regression(name="like", text=["a", "b"], label="like", range=(0, 5), symmetric=True)
NEAR = Regression(name="near", text=["a", "b"], label="score", pairs="separate", range=(0, 5))
TASKS: list[Task] = [MOOD, TONE, HEAT, BRIEF, SAME, LIKE, NEAR]
PAIRS = list(zip(SENTENCES, reversed(SENTENCES), strict=True))


def predictor(plans: Sequence[ModulePlan] = ()) -> Predictor:
    return Predictor(shaken(make_model(plans, TASKS)), tiny_tokenizer())


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
    for names in model.alike(task.name for task in TASKS):
        texts = [SENTENCES] if len(model.tasks[names[0]].text) == 1 else [SENTENCES, SENTENCES[::-1]]
        sets = {name: Examples.from_texts(model.tasks[name], texts, tokenizer, 20) for name in names}
        together = outputs_together(model, names, sets[names[0]], batch_size=3)
        assert list(together) == names
        for name, outputs in together.items():
            assert torch.equal(outputs, outputs_of(model, sets[name], batch_size=3))


def test_all_tasks_answer_in_one_pass_what_each_answers_alone() -> None:
    model = predictor()
    alone = {name: model.predict(name, SENTENCES) for name in ("mood", "tone", "heat", "brief")}
    seen = passes(model)
    answers = model.predict_all(SENTENCES)
    assert seen == [len(SENTENCES)] * 2  # `brief` cuts texts off earlier, and so reads others
    assert [list(answer) for answer in answers] == [list(alone)] * len(SENTENCES)
    assert {name: [answer[name] for answer in answers] for name in alone} == alone


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
