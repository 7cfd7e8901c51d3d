"""Texts in, predictions out: every row once, in order, from whatever it came."""

from __future__ import annotations

import csv
import importlib
import io
import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import mtbert
from mtbert.app.notes import notes_shown
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.labels import plain
from mtbert.errors import Mistake
from mtbert.runs.data import read_splits
from mtbert.runs.folder import Run
from mtbert.serving.course import course_file, course_sources, course_tasks, write_course_files
from mtbert.serving.predictor import Predictions, Predictor
from mtbert.serving.results import WRITERS
from tests.support.small import recipe_over, write_small_data

STRANGE = [
    "",
    " ",
    "a 😀 film 🎬",
    "שלום עולם, مرحبا",
    "a\x00b",
    "half \ud83d of a pair",
    "\udc00",
    'says "so", twice\nand ends',
    "word " * 20_000,
    "x" * 100_000,
]


def trained(recipe: dict[str, Any], out: Path) -> Predictor:
    recipe["stages"][0]["steps"] = 6
    mtbert.train(recipe, out=out)
    return mtbert.load(out)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small data and a run over it."""
    folder = tmp_path_factory.mktemp("place")
    trained(recipe_over(write_small_data(folder / "data")), folder / "run")
    return folder


@pytest.fixture(scope="module")
def predictor(place: Path) -> Predictor:
    return mtbert.load(place / "run")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def as_csv(predictions: Predictions) -> str:
    """What a CSV file of them holds."""
    file = io.BytesIO()
    assert WRITERS[".csv"](file, [predictions]) == len(predictions.ids)
    return file.getvalue().decode()


def table(path: Path, columns: dict[str, list[str]]) -> Path:
    """The same rows in the format that the path's ending names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            lines.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


# ---- the CSV file


def test_the_csv_has_a_row_an_input_in_order_and_quotes_what_needs_it() -> None:
    task = Classification(name="t", text="a", label="y", classes=["yes, sure", 'the "other"', "no"])
    shares = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    columns = dict(zip(task.classes, shares.T, strict=True))
    found = Predictions(task, ["b", 'a,"1"', "ü\n2"], np.array([0.0, 2.0, 1.0]), columns)
    rows = list(csv.reader(io.StringIO(as_csv(found), newline="")))
    assert rows == [
        ["id", "prediction", "probability_yes, sure", 'probability_the "other"', "probability_no"],
        ["b", "yes, sure", "0.500000", "0.250000", "0.250000"],
        ['a,"1"', "no", "0.100000", "0.200000", "0.700000"],
        ["ü\n2", 'the "other"', "0.000000", "1.000000", "0.000000"],
    ]


def test_the_csv_of_a_score_has_no_probabilities() -> None:
    task = Regression(name="t", text="a", label="y", range=(0, 5))
    assert as_csv(Predictions(task, ["7"], np.array([3.25]), {})) == "id,prediction\n7,3.250000\n"


def test_the_courses_file_is_spelt_as_the_starter_spells_it() -> None:
    classes = Classification(name="t", text="a", label="y", classes=5)
    shares = {name: np.array([0.2, 0.2]) for name in classes.classes}
    found = Predictions(classes, ["x1", "x2"], np.array([4.0, 0.0]), shares)
    assert course_file(found, "Predicted_Sentiment") == "id \t Predicted_Sentiment \nx1 , 4 \nx2 , 0 \n"
    score = Predictions(Regression(name="t", text="a", label="y", range=(0, 5)), ["x1"], np.array([2.5]), {})
    assert course_file(score, "Predicted_Similiary") == "id \t Predicted_Similiary \nx1 , 2.500000 \n"


# ---- files and tables in


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_every_row_of_a_file_is_answered_under_its_id_whether_labelled_or_not(
    predictor: Predictor, tmp_path: Path, ending: str
) -> None:
    texts = ["warm tea", "a, b", "", 'quick "river"', "dull plot " * 30, "garden"]
    ids = ["r5", "r1", "", "r1", "x,y", "z"]
    alone = predictor.predict("mood", texts)
    for more in ({}, {"mood": ["low", "no such class", "", "high", "mid", "low"]}):
        found = predictor.predict_table("mood", table(tmp_path / f"in{ending}", {"id": ids, "text": texts} | more))
        rows = read(as_csv(found))
        assert [row["id"] for row in rows] == ids
        assert [row["prediction"] for row in rows] == alone
        sums = [sum(float(row[f"probability_{name}"]) for name in ("low", "mid", "high")) for row in rows]
        assert sums == pytest.approx([1.0] * len(rows), abs=2e-6)
        highest = [max(("low", "mid", "high"), key=lambda name: float(row[f"probability_{name}"])) for row in rows]
        assert highest == alone


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_rows_without_ids_are_numbered(predictor: Predictor, tmp_path: Path, ending: str) -> None:
    source = table(tmp_path / f"in{ending}", {"a": ["tea", "film", "cold"], "b": ["river", "bad", "plot"]})
    rows = read(as_csv(predictor.predict_table("near", source)))
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    scores = predictor.predict("near", [("tea", "river"), ("film", "bad"), ("cold", "plot")])
    assert [float(row["prediction"]) for row in rows] == pytest.approx(scores, abs=1e-6)
    assert all(0 <= float(row["prediction"]) <= 5 for row in rows)


def test_rows_to_answer_need_not_have_the_ids_that_the_recipe_names(
    predictor: Predictor, capsys: pytest.CaptureFixture[str]
) -> None:
    task = predictor.task("mood").model_copy(update={"id": "key"})
    model = copy(predictor.model)
    model.tasks = predictor.model.tasks | {"mood": task}
    named, texts = Predictor(model, predictor.tokenizer), ["warm tea", "dull plot"]
    with notes_shown():
        assert named.predict("mood", pa.table({"text": texts})) == predictor.predict("mood", texts)
        assert capsys.readouterr().err == ""  # nobody asked for ids
        assert named.predict_table("mood", pa.table({"text": texts})).ids == ["0", "1"]
    assert "has no column 'key' of ids: its rows are named by their number" in capsys.readouterr().err
    assert named.predict_table("mood", pa.table({"text": texts, "key": ["a", "b"]})).ids == ["a", "b"]


def test_an_arrow_table_in_memory_answers_like_a_file(predictor: Predictor) -> None:
    source = pa.table({"first": ["tea", "film"], "second": ["tea", "cold"], "id": [10, 11]})
    found = predictor.predict_table("same", source)
    assert found.ids == ["10", "11"]
    assert [found.task.say(value) for value in found.values] == predictor.predict(
        "same", [("tea", "tea"), ("film", "cold")]
    )


def test_null_texts_of_a_column_of_texts_are_answered_as_empty(predictor: Predictor) -> None:
    found = predictor.predict_table("mood", pa.table({"text": ["good film", None, ""]}))
    assert len(found.values) == 3
    assert plain(found.values)[1] == plain(found.values)[2]


def test_texts_that_look_like_numbers_are_answered(predictor: Predictor, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", {"id": ["1", "2"], "text": ["2020", "7"]})
    assert len(predictor.predict_table("mood", source).values) == 2


def test_a_file_without_the_text_column_names_the_columns_it_has(predictor: Predictor, tmp_path: Path) -> None:
    source = table(tmp_path / "in.csv", {"id": ["1"], "txt": ["good"]})
    with pytest.raises(Mistake, match=r"in\.csv: unknown column for the text: 'text'; did you mean 'txt'\?.*id, txt"):
        predictor.predict_table("mood", source)


# ---- from Python


@pytest.mark.parametrize("task", ["mood", "same", "near"])
def test_any_text_is_answered_in_its_place(predictor: Predictor, task: str) -> None:
    texts = STRANGE if task == "mood" else [(text, "tea") for text in STRANGE] + [("tea", STRANGE[-1])]
    answers = predictor.predict(task, texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        (alone,) = predictor.predict(task, [text])
        assert answer == alone if isinstance(answer, str) else answer == pytest.approx(alone, abs=1e-4)


def test_probabilities_of_each_text_sum_to_one_and_favour_the_prediction(predictor: Predictor) -> None:
    texts = STRANGE[:6]
    shares = predictor.probabilities("mood", texts)
    assert [sum(one.values()) for one in shares] == pytest.approx([1.0] * len(texts), abs=1e-9)
    assert [max(one, key=one.__getitem__) for one in shares] == predictor.predict("mood", texts)


def test_no_texts_give_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict("mood", []) == []
    assert predictor.predict("near", []) == []
    assert predictor.probabilities("mood", []) == []


def test_a_predictor_answers_the_same_twice(predictor: Predictor) -> None:
    pairs = [("warm tea", "cold river"), ("good", "bad")]
    assert torch.equal(predictor.outputs("near", pairs), predictor.outputs("near", pairs))


TEXTS = ["warm tea", "", "a 😀 film", "bad plot"]
PAIRS = {"a": TEXTS, "b": TEXTS[::-1]}
HOLDERS: dict[str, Any] = {
    "list of dicts": lambda columns: [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ],
    "arrow": pa.table,
    "pandas": lambda columns: importlib.import_module("pandas").DataFrame(columns, index=range(7, 11)),
    "polars": lambda columns: importlib.import_module("polars").DataFrame(columns),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_rows_of_any_library_are_answered_like_lists_of_texts_with_plain_values(
    predictor: Predictor, holder: str
) -> None:
    made = HOLDERS[holder]({"unused": [1, 2, 3, 4], "text": TEXTS})
    found = predictor.predict("mood", made)
    assert found == predictor.predict("mood", TEXTS)
    assert {type(value) for value in found} == {str}
    pairs = predictor.predict("near", HOLDERS[holder](PAIRS))
    assert pairs == predictor.predict("near", list(zip(TEXTS, TEXTS[::-1], strict=True)))
    assert {type(value) for value in pairs} == {float}


@pytest.mark.parametrize("holder", ["arrow", "pandas", "polars"])
def test_missing_texts_of_a_table_are_empty_ones_and_an_absent_column_is_named(
    predictor: Predictor, holder: str
) -> None:
    found = predictor.predict("mood", HOLDERS[holder]({"text": ["warm tea", None, "cold", ""]}))
    assert found == predictor.predict("mood", ["warm tea", "", "cold", ""])
    with pytest.raises(Mistake, match="'text'; did you mean 'txt'"):
        predictor.predict("mood", HOLDERS[holder]({"txt": TEXTS}))


@pytest.mark.parametrize(
    ("task", "texts", "said"),
    [
        ("mod", ["a"], r"unknown task 'mod'; did you mean 'mood'\?"),
        ("mood", "a text", "give a list of texts, not one text"),
        ("mood", [("a", "b")], r"task 'mood' reads one text; item 0 is \('a', 'b'\)"),
        ("near", ["ab"], "task 'near' reads a pair of texts; item 0 is 'ab'"),
        ("near", [("a", "b"), ("a", None)], "item 1 is"),
        ("mood", ["a", None], "item 1 is None"),
        ("mood", [7], "item 0 is 7"),
        ("mood", [float("nan")], "item 0 is nan"),  # what pandas puts for a missing text
    ],
)
def test_a_wrong_request_says_what_is_due(predictor: Predictor, task: str, texts: Any, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        predictor.predict(task, texts)


def test_a_score_has_no_probabilities_and_says_so(predictor: Predictor) -> None:
    with pytest.raises(Mistake, match=r"task 'near' says a score.*no probabilities"):
        predictor.probabilities("near", [("a", "b")])


def test_a_model_folder_opens_like_its_run(predictor: Predictor, place: Path) -> None:
    inner = mtbert.load(place / "run" / "best")
    assert inner.tasks == ["mood", "same", "near"]
    assert torch.equal(inner.outputs("mood", ["good film"]), predictor.outputs("mood", ["good film"]))


def test_a_folder_that_is_no_run_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="nowhere"):
        mtbert.load(tmp_path / "nowhere")


# ---- the course's files


def test_the_courses_six_files_have_the_inputs_ids_in_order(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    tasks = small_recipe["tasks"]
    small_recipe["tasks"] = {"sentiment": tasks["mood"], "paraphrase": tasks["same"], "similarity": tasks["near"]}
    model = trained(small_recipe, tmp_path / "run")
    data = Path(small_recipe["data"])
    sources = {
        task: {split: data / str(entry[split]) for split in ("dev", "test")}
        for task, entry in small_recipe["tasks"].items()
    }
    named = ["sst=sentiment", "para=paraphrase", "sts=similarity"]
    written = write_course_files(model, sources, tmp_path / "course", named)
    assert [path.name for path in written] == [
        *("sst-dev-output.csv", "sst-test-output.csv"),
        *("para-dev-output.csv", "para-test-output.csv"),
        *("sts-dev-output.csv", "sts-test-output.csv"),
    ]
    header, *lines = written[1].read_text().splitlines()
    assert header == "id \t Predicted_Sentiment "
    assert [line.split(" , ")[0] for line in lines] == ["200", "201", "202", "203", "204"]
    classes = ["low", "mid", "high"]
    texts = [line.split("\t")[1] for line in (data / "mood-test.tsv").read_text().splitlines()[1:]]
    assert [classes[int(line.split(" , ")[1])] for line in lines] == model.predict("sentiment", texts)
    # the starter reads a score as a float
    assert all(0 <= float(line.split(" , ")[1]) <= 5 for line in written[5].read_text().splitlines()[1:])


def test_the_courses_files_of_a_share_of_train_hold_its_rows_and_no_others(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    tasks = small_recipe["tasks"]
    small_recipe["tasks"] = {"mood": tasks["mood"] | {"dev": "20%", "test": "10%"}}
    model = trained(small_recipe, tmp_path / "run")
    sources = course_sources(tmp_path / "run")
    found = {split: model.predict_table("mood", source).ids for split, source in sources["mood"].items()}
    rows = read_splits(Run.open(tmp_path / "run").recipe(), ["mood"], ["train", "dev", "test"])
    assert found == {split: rows[split]["mood"].ids for split in ("dev", "test")}
    assert not {*found["dev"], *found["test"]} & {*rows["train"]["mood"].ids}


def test_course_files_need_the_courses_tasks_and_nothing_is_written_without(
    predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(Mistake, match=r"which task is the course's 'sst'\?.*--course-task sst=TASK"):
        write_course_files(predictor, {}, tmp_path / "course")
    assert not (tmp_path / "course").exists()


def test_course_files_are_all_written_or_none(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    tasks = small_recipe["tasks"]
    small_recipe["tasks"] = {"sentiment": tasks["mood"], "paraphrase": tasks["same"], "similarity": tasks["near"]}
    model = trained(small_recipe, tmp_path / "run")
    data = Path(small_recipe["data"])
    files = {"dev": data / "mood-dev.tsv", "test": data / "mood-test.tsv"}
    sources: dict[str, dict[str, Any]] = {
        "sentiment": files,
        "paraphrase": {"dev": None, "test": None},
        "similarity": files,
    }
    named = ["sst=sentiment", "para=paraphrase", "sts=similarity"]
    with pytest.raises(Mistake, match="no dev rows of 'paraphrase'"):
        write_course_files(model, sources, tmp_path / "course", named)
    assert not (tmp_path / "course").exists()


def files(start: str) -> dict[str, Path]:
    return {split: Path(f"sets/{start}-{split}.csv") for split in ("dev", "test")}


def test_the_courses_tasks_are_found_by_their_files_whatever_they_are_called() -> None:
    sources = {"near": files("sts"), "mood": files("ids-sst"), "same": files("quora"), "film": files("ids-cfimdb")}
    assert course_tasks(sources) == {"sst": "mood", "para": "same", "sts": "near"}


def test_a_task_that_is_named_need_not_be_found() -> None:
    sources = {"near": files("scores"), "mood": files("ids-sst"), "film": files("ids-sst"), "same": files("quora")}
    assert course_tasks(sources, ["sts=near", "sst=film"]) == {"sst": "film", "para": "same", "sts": "near"}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], r"the course's 'sst'\?.* those of mood, film do; .*\(tasks: near, mood, film, same\)"),
        (["sst=mood"], "the course's 'sts'.* those of no task do"),
        (["sst=mod"], "unknown task 'mod'; did you mean 'mood'"),
        (["stt=mood"], r"unknown file of the course 'stt'.* \(valid: sst, para, sts\)"),
        (["mood"], "--course-task mood: write NAME=TASK, such as sst=near"),
    ],
)
def test_a_task_that_is_not_found_is_asked_for(named: list[str], said: str) -> None:
    sources = {"near": files("scores"), "mood": files("ids-sst"), "film": files("ids-sst"), "same": files("quora")}
    with pytest.raises(Mistake, match=said):
        course_tasks(sources, named)


# ---- the same rows and ids from every format


def test_ids_and_texts_are_the_same_whatever_the_format(predictor: Predictor, tmp_path: Path) -> None:
    table = pa.table({"id": [1.0, None, 3.0], "text": pa.array([2020.0, None, 7.5])})
    pq.write_table(table, tmp_path / "in.parquet")
    (tmp_path / "in.csv").write_text("id,text\n1,2020\n,\n3,7.5\n")
    (tmp_path / "in.jsonl").write_text('{"id": 1.0, "text": 2020}\n{"text": null}\n{"id": 3, "text": 7.5}\n')
    written = {as_csv(predictor.predict_table("mood", path)) for path in sorted(tmp_path.glob("in.*"))}
    written.add(as_csv(predictor.predict_table("mood", table)))
    assert len(written) == 1
    assert [line.split(",")[0] for line in written.pop().splitlines()] == ["id", "1", "", "3"]


def test_texts_that_are_all_missing_are_answered_like_some(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text('{"text": null}\n{"text": null}\n')
    none = predictor.predict_table("mood", tmp_path / "none.jsonl")
    some = predictor.predict_table("mood", pa.table({"text": [None, "tea"]}))
    assert plain(none.values).tolist() == [plain(some.values)[0]] * 2


def test_quotes_mean_what_the_caller_says(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text('text\n"Never again, she said\nwarm tea\n"Lovely" is no word\n')
    with pytest.raises(Mistake, match=r"in\.tsv, line 2: .*`--quotes none`"):
        predictor.predict_table("mood", path)
    assert len(predictor.predict_table("mood", path, quotes="none").ids) == 3
    assert len(predictor.predict_table("mood", path, quotes="trusted").ids) == 1
