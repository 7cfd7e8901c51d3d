"""A recipe drafted from files: what each layout gives, that it can be read, and what is said where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.runs.build import build
from mtbert.runs.data import read_data
from mtbert.start.columns import Column, names_alike, ways_to_read
from mtbert.start.draft import Question, draft_recipe, take_the_guess
from tests.support.cases import each
from tests.support.layouts import TWELVE, Expected, text, write_csv, write_jsonl

TINY = {"name": "random", "layers": 1, "width": 16, "heads": 2, "inner": 16}


def drafted(paths: Sequence[Path], out: Path) -> dict[str, Any]:
    """The recipe that is drafted, as any reader of YAML reads it."""
    out.write_text(draft_recipe(paths, out), encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(out.read_text(encoding="utf-8"))
    return content


def assert_as_expected(tasks: dict[str, Any], expected: dict[str, Expected]) -> None:
    assert set(tasks) == set(expected)
    for name, (kind, texts, labels) in expected.items():
        task = tasks[name]
        assert task["kind"] == kind
        assert ([task["text"]] if isinstance(task["text"], str) else task["text"]) == list(texts)
        said = task["range"] if kind == "regression" else map(str, task["classes"])
        assert list(said) == list(labels), name


@each(layout=TWELVE)
def test_a_layout_needs_no_edit(tmp_path_factory: pytest.TempPathFactory, layout: str) -> None:
    folder = tmp_path_factory.mktemp("layouts") / layout
    folder.mkdir()
    expected, out = TWELVE[layout](folder), folder.parent / "recipe.yaml"
    assert_as_expected(drafted(list(folder.iterdir()), out)["tasks"], expected)
    recipe = read_recipe(out)
    read, rows = read_data(recipe, list(recipe.tasks), ["train", "dev"], ["test"])
    assert all(len(rows[split][task]) for split in rows for task in read.tasks)


def test_a_drafted_recipe_passes_check(tmp_path: Path) -> None:
    TWELVE["several_tasks"](tmp_path)
    TWELVE["quotes"](tmp_path)
    recipe = drafted([tmp_path], tmp_path / "recipe.yaml")
    report = check(build(read_recipe(recipe | {"encoder": TINY, "data": str(tmp_path), "stages": [{"steps": 2}]})))
    assert [problem for problem in report.problems if "bad rows" in problem] == []


# ---- files like those of public sets


def test_question_types_in_jsonl(tmp_path: Path) -> None:
    coarse = ["ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"]
    rows = [
        {
            "text": f"What {text(i, 'was')} ?",
            "coarse_label": i % 6,
            "fine_label": i % 6 * 8 + i // 6 % 8,
            "name": coarse[i % 6],
        }
        for i in range(960)
    ]
    write_jsonl(tmp_path / "trec-train.jsonl", rows)
    write_jsonl(tmp_path / "trec-test.jsonl", rows[:40])
    tasks = drafted([tmp_path / "trec-train.jsonl", tmp_path / "trec-test.jsonl"], tmp_path / "r.yaml")["tasks"]
    assert tasks["trec_name"]["classes"] == coarse  # names tell more than the numbers that say the same
    assert tasks["trec_fine_label"]["kind"] == "classification"
    assert "trec_coarse_label" not in tasks
    assert {task["dev"] for task in tasks.values()} == {"10%"}
    assert {task["test"] for task in tasks.values()} == {"trec-test.jsonl"}


def test_subjectivity_in_csv_with_the_word_for_the_split_alone(tmp_path: Path) -> None:
    (tmp_path / "subj").mkdir()
    for split, start in {"train": 0, "dev": 500}.items():
        rows = [{"label": ["objective", "subjective"][i % 2], "sentence": text(i)} for i in range(start, start + 80)]
        write_csv(tmp_path / "subj" / f"{split}.csv", rows)
    tasks = drafted([tmp_path / "subj"], tmp_path / "r.yaml")["tasks"]
    assert list(tasks) == ["subj"]
    assert (tasks["subj"]["train"], tasks["subj"]["dev"]) == ("train.csv", "dev.csv")


def test_a_file_without_the_word_is_the_training_file_of_one_with_it(tmp_path: Path) -> None:
    for name in ("reviews.tsv", "reviews-dev.tsv"):
        write_csv(tmp_path / name, [{"review": text(i, name), "mood": "ab"[i % 2]} for i in range(60)], "\t")
    tasks = drafted([tmp_path], tmp_path / "r.yaml")["tasks"]
    assert (tasks["reviews"]["train"], tasks["reviews"]["dev"]) == ("reviews.tsv", "reviews-dev.tsv")


def test_words_behind_that_for_the_split_are_no_other_task(tmp_path: Path) -> None:
    for name in ("sst-train", "sst-dev", "sst-test-student"):
        rows = [{"sentence": text(i, name), "sentiment": "ab"[i % 2]} for i in range(60)]
        kept = [{"sentence": row["sentence"]} for row in rows] if "test" in name else rows
        write_csv(tmp_path / f"{name}.csv", kept)
    tasks = drafted([tmp_path], tmp_path / "r.yaml")["tasks"]
    assert list(tasks) == ["sst"]
    assert tasks["sst"]["test"] == "sst-test-student.csv"


def test_classes_and_ranges_are_those_of_train_and_dev_together(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a-train.jsonl", [{"t": text(i), "c": "xy"[i % 2], "s": i % 9 / 2} for i in range(60)])
    write_jsonl(tmp_path / "a-dev.jsonl", [{"t": text(i), "c": "yz"[i % 2], "s": 6.5} for i in range(90, 99)])
    tasks = drafted([tmp_path], tmp_path / "r.yaml")["tasks"]
    assert tasks["a_c"]["classes"] == ["x", "y", "z"]
    assert tasks["a_s"]["range"] == [0, 7]
    recipe = read_recipe(tmp_path / "r.yaml")
    read_data(recipe, list(recipe.tasks), ["train", "dev"])


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    for part in range(2):
        rows = [{"text": text(100 * part + i), "label": "ab"[i % 2]} for i in range(50)]
        pa.parquet.write_table(pa.Table.from_pylist(rows), folder / f"part-{part}.parquet")
    tasks = drafted([folder], tmp_path / "r.yaml")["tasks"]
    assert list(tasks) == ["news"]
    recipe = read_recipe(tmp_path / "r.yaml")
    _, rows_read = read_data(recipe, ["news"], ["train", "dev"])
    assert len(rows_read["train"]["news"]) + len(rows_read["dev"]["news"]) == 100


def test_names_of_tasks_are_fit_and_differ(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("type.csv", "my reviews (2).csv"):
            write_csv(tmp_path / folder / name, [{"text": text(i), "label": "ab"[i % 2]} for i in range(30)])
    tasks = drafted([tmp_path], tmp_path / "r.yaml")["tasks"]
    assert set(tasks) == {"type_task", "type_task_2", "my_reviews_2", "my_reviews_2_2"}
    read_recipe(tmp_path / "r.yaml")


NAMELESS: dict[str, tuple[list[list[str]], str, list[str], str, list[str]]] = {
    # rows, delimiter; what is expected: the header, the kind, the columns that are read
    "topics in quotes, a title and a text": (
        [[f'"{1 + i % 4}"', f'"Title {i}"', f'"{text(i)}, {text(i + 1)}"'] for i in range(80)],
        ",", ["label", "text_1", "text_2"], "classification", ["text_2"],
    ),
    "a label and a text with raw quotes": (
        [[["ham", "spam"][i % 5 == 0], ('"' if i % 9 == 4 else "") + text(i)] for i in range(80)],
        "\t", ["label", "text"], "classification", ["text"],
    ),
    "scores of pairs behind where they are from": (
        [["main", f"{i:04}", f"{i % 21 / 4:.3f}", text(i), text(i + 1, "A")] for i in range(80)],
        "\t", ["column", "id", "score", "text_1", "text_2"], "regression", ["text_1", "text_2"],
    ),
}  # fmt: skip


@each(layout=NAMELESS)
def test_columns_without_names_are_told_by_their_cells(tmp_path_factory: pytest.TempPathFactory, layout: str) -> None:
    rows, delimiter, header, kind, read = NAMELESS[layout]
    tmp_path = tmp_path_factory.mktemp("nameless")
    for split, part in {"train": rows[:60], "dev": rows[60:]}.items():
        lines = [delimiter.join(row) for row in part]
        (tmp_path / f"set-{split}.{'csv' if delimiter == ',' else 'tsv'}").write_text("\n".join(lines) + "\n")
    (task,) = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"].values()
    assert (task["header"], task["kind"]) == (header, kind)
    assert ([task["text"]] if isinstance(task["text"], str) else task["text"]) == read
    recipe = read_recipe(tmp_path / "recipe.yaml")
    _, rows_read = read_data(recipe, ["set"], ["train", "dev"])
    assert (len(rows_read["train"]["set"]), len(rows_read["dev"]["set"])) == (60, 20)


def line(number: int) -> dict[str, Any]:
    """What stands in the columns of public sets of pairs, by their names; some texts begin with a raw quote."""
    one, other = text(number), text(number, "A") if number % 3 else text(number + 5, "One")
    page = f"http://news.example/{number}/{'a-long-title' * 9}" if number % 4 == 0 else "none"
    score = 5.0 - number % 11 / 2.5 if number % 3 else number % 11 / 10
    said = ["entailment", "neutral", "contradiction"][number % 3]
    return {
        "index": number, "id": 7 * number % 1000, "pairID": f"{3 * number}n", "promptID": f"{number // 3}n",
        "qid1": 2 * number, "qid2": 2 * number + 1, "#1 ID": 702876 + 13 * number, "#2 ID": 702977 + 11 * number,
        "genre": ["main-captions", "main-news"][number % 2], "filename": ["MSRvid", "headlines"][number % 2],
        "year": ["2012test", "2013"][number // 2 % 2], "old_index": f"{number * 7 % 90:04}",
        "source1": page, "source2": page.replace("title", "name"), "dataset": ["MSRvid", "headlines"][number % 2],
        "sentence1_parse": f"(ROOT (S (NP {one})))", "sentence2_parse": f"(ROOT (S (NP {other})))",
        "one": ('"' if number % 7 == 0 else "") + one, "other": other + (' "so' if number % 5 == 0 else ""),
        "score": f"{score:.3f}", "same": number % 2, "said": said, "entailed": said.replace("neutral", "none"),
    }  # fmt: skip


# what stands in the columns (see `line`), and their names where they differ; the kind and the texts that are expected
PUBLIC = {
    "MRPC": ("same:Quality #1_ID #2_ID one:#1_String other:#2_String", "classification", "#1_String #2_String"),
    "QQP": ("id qid1 qid2 one:question1 other:question2 same:is_duplicate", "classification", "question1 question2"),
    "RTE": ("index one:sentence1 other:sentence2 said:label", "classification", "sentence1 sentence2"),
    "MNLI": (
        "index promptID pairID genre sentence1_parse sentence2_parse one:sentence1 other:sentence2 said:gold_label",
        "classification", "sentence1 sentence2",
    ),
    "STS-B": (
        "index genre filename year old_index source1 source2 one:sentence1 other:sentence2 score",
        "regression", "sentence1 sentence2",
    ),
    "STS-B with a data set a row": (
        "genre dataset year score one:sentence1 other:sentence2", "regression", "sentence1 sentence2",
    ),
    "letters, among other texts": (
        "genre sentence1_parse:remark one:text_a other:text_b same:label", "classification", "text_a text_b",
    ),
    "no such names": ("source1:remark one:utterance other:rewrite same:verdict", "classification", "utterance rewrite"),
}  # fmt: skip


@each(layout=PUBLIC)
def test_the_pair_is_found_among_columns_that_say_where_a_row_is_from(
    tmp_path_factory: pytest.TempPathFactory, layout: str
) -> None:
    columns, kind, read = PUBLIC[layout]
    names = dict(column.replace("_ID", " ID").partition(":")[::2] for column in columns.split())
    rows = [
        "\t".join([(other or one).replace("_S", " S") for one, other in names.items()]),
        *("\t".join(str(line(number)[one]) for one in names) for number in range(300)),
    ]
    folder = tmp_path_factory.mktemp("public") / "pairs"
    folder.mkdir()
    (folder / "train.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (task,) = drafted([folder], folder.parent / "recipe.yaml")["tasks"].values()
    assert (task["kind"], task["text"]) == (kind, [name.replace("_S", " S") for name in read.split()])
    assert (task["quotes"], task.get("bad_rows")) == ("none", None)
    _, rows_read = read_data(read_recipe(folder.parent / "recipe.yaml"), ["pairs"], ["train", "dev"])
    assert len(rows_read["train"]["pairs"]) + len(rows_read["dev"]["pairs"]) == 300


@pytest.mark.parametrize("pages", ["in every row", "in some rows"])
def test_the_pair_is_found_without_a_line_of_names(pages: str, tmp_path: Path) -> None:
    names = ["genre", "filename", "year", "old_index", "score", "one", "other", "source1", "source2"]
    rows = [[str(line(number)[name]) for name in names] for number in range(300)]
    if pages == "in some rows":  # as the first edition of STS-B has them
        rows = [row[:7] if row[7] == "none" else row for row in rows]
    for split, part in {"train": rows[1:200], "dev": rows[200:]}.items():
        (tmp_path / f"sts-{split}.csv").write_text("".join("\t".join(row) + "\n" for row in part), encoding="utf-8")
    tasks = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"]
    assert tasks["sts_score"]["text"] == ["text_1", "text_2"]
    _, rows_read = read_data(read_recipe(tmp_path / "recipe.yaml"), ["sts_score"], ["train", "dev"])
    read = {split: len(by_task["sts_score"]) for split, by_task in rows_read.items()}
    assert read == ({"train": 199, "dev": 100} if pages == "in every row" else {"train": 150, "dev": 75})
    said = "of 199 rows 49 that cannot be read for certain are left out: is that meant?"
    assert (said in (tmp_path / "recipe.yaml").read_text()) == (pages == "in some rows")


def test_where_rows_are_from_is_learned_where_there_is_nothing_else_or_the_person_wants_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": text(i), "genre": "xy"[i % 2]} for i in range(60)])
    write_jsonl(tmp_path / "b.jsonl", [{"text": text(i), "genre": "xy"[i % 2], "label": i // 2 % 2} for i in range(60)])
    assert set(drafted([tmp_path], tmp_path / "r.yaml")["tasks"]) == {"a", "b"}
    wanted = yaml.safe_load(draft_recipe([tmp_path], tmp_path / "r.yaml", lambda question: question.answers[-1]))
    assert set(wanted["tasks"]) == {"a", "b"}
    assert wanted["tasks"]["b"]["label"] == "genre"  # the last answers: yes to it, no to `label`


# ---- what is asked, and what is said


def test_marks_are_classes_or_scores_as_the_answer_has_it(tmp_path: Path) -> None:
    TWELVE["dates"](tmp_path)
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return "regression" if "regression" in question.answers else question.answers[0]

    tasks = yaml.safe_load(draft_recipe([tmp_path], tmp_path / "r.yaml", ask))["tasks"]
    assert (tasks["stars"]["kind"], tasks["stars"]["range"]) == ("regression", [1, 5])
    assert "classes" not in tasks["stars"]
    assert [take_the_guess(question) for question in asked] == ["classification"]
    assert "or ordinal, if their order counts; or regression, with `range: [1, 5]`" in draft_recipe(
        [tmp_path], tmp_path / "r.yaml"
    )


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [(["O", "B-PER", "I-PER"], "IOB2"), (["O", "S-LOC", "B-LOC", "E-LOC"], "BIOES"), (["noun", "verb"], "none")],
)
def test_words_with_a_label_each_are_a_task_of_words(tags: list[str], scheme: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for i in range(30):
        words = text(i).split()
        words = words[: len(words) // len(tags) * len(tags)]
        rows.append({"words": words, "tags": [tags[place % len(tags)] for place in range(len(words))]})
    write_jsonl(tmp_path / "names.jsonl", rows)
    (task,) = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"].values()
    assert (task["kind"], task["text"], task["label"], task["scheme"]) == ("tokens", "words", "tags", scheme)
    assert sorted(task["classes"]) == sorted(tags)
    _, rows_read = read_data(read_recipe(tmp_path / "recipe.yaml"), ["names"], ["train", "dev"], [])
    assert len(rows_read["train"]["names"]) + len(rows_read["dev"]["names"]) == 30


def test_lists_that_name_something_twice_are_no_labels(tmp_path: Path) -> None:
    rows = [{"text": text(i), "votes": ["yes", "yes", "no"], "label": "xy"[i % 2]} for i in range(40)]
    write_jsonl(tmp_path / "votes.jsonl", rows)
    assert list(drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"]) == ["votes"]
    assert "column 'votes' holds lists, and no sets of a few labels" in (tmp_path / "recipe.yaml").read_text()


@pytest.mark.parametrize("separator", ["|", "; ", ","])
@pytest.mark.parametrize("names", ["abc", "abcdefghij"])  # few sets, and more than a column of classes could have
def test_labels_in_one_cell_with_a_separator_are_any_number_a_row(separator: str, names: str, tmp_path: Path) -> None:
    labels = [[f"{name} class" for place, name in enumerate(names) if i * 7 % 1009 >> place & 1] for i in range(400)]
    rows = [{"text": text(i), "topics": separator.join(labels[i])} for i in range(400)]
    write_csv(tmp_path / "tickets-train.csv", rows[:390])
    write_csv(tmp_path / "tickets-dev.csv", rows[390:])  # too few to be judged by themselves
    (task,) = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"].values()
    assert (task["kind"], task["text"], task["label"]) == ("multilabel", "text", "topics")
    assert task["separator"] == separator.strip()
    assert task["classes"] == [f"{name} class" for name in names]
    read, found = read_data(read_recipe(tmp_path / "recipe.yaml"), ["tickets"], ["train", "dev"], [])
    said = [read.tasks["tickets"].say(label) for split in ("train", "dev") for label in found[split]["tickets"].labels]
    assert said == labels


@pytest.mark.parametrize("lists", [["fun", "short"], "fun|short"])
def test_several_labels_a_row_beside_another_label_are_two_tasks(lists: Any, tmp_path: Path) -> None:
    sets = [lists, lists[:1] if isinstance(lists, list) else "fun", lists[1:] if isinstance(lists, list) else "short"]
    rows = [{"text": text(i), "topics": sets[i % 3], "mood": "xy"[i % 2]} for i in range(60)]
    write_jsonl(tmp_path / "films.jsonl", rows)
    asked: list[Question] = []

    def ask(question: Question) -> str:
        asked.append(question)
        return take_the_guess(question)

    tasks = yaml.safe_load(draft_recipe([tmp_path], tmp_path / "recipe.yaml", ask))["tasks"]
    assert {task["label"]: task["kind"] for task in tasks.values()} == {
        "topics": "multilabel",
        "mood": "classification",
    }
    assert any("'topics' (any number a row of 2 labels: fun, short)" in question.text for question in asked)


@pytest.mark.parametrize(
    ("column", "cells", "kind"),
    [
        ("topic", ["Food, drink", "Clothes, shoes", "Music"], "classification"),  # names with commas: more than cells
        ("place", ["Rome, south", "Rome, north", "Bonn, south", "Bonn, north"], "classification"),
        ("share", ["1,5", "2,5", "3,25"], None),  # decimal commas
    ],
)
def test_a_comma_in_a_name_is_no_separator(column: str, cells: list[str], kind: str | None, tmp_path: Path) -> None:
    rows = [{"text": text(i), column: cells[i % len(cells)], "mood": "xy"[i % 2]} for i in range(60)]
    write_csv(tmp_path / "rows.csv", rows)
    tasks = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"]
    assert {task["label"]: task["kind"] for task in tasks.values()}.get(column) == kind


def test_the_only_text_is_read_also_where_it_might_be_several_labels(tmp_path: Path) -> None:
    words = ["red", "round", "sweet", "sour", "small", "green", "soft", "ripe"]
    texts = [", ".join(word for place, word in enumerate(words) if i >> place & 1) for i in range(1, 200)]
    write_csv(tmp_path / "fruit.csv", [{"words": one, "fruit": "xy"[i % 2]} for i, one in enumerate(texts)])
    (task,) = drafted([tmp_path], tmp_path / "recipe.yaml")["tasks"].values()
    assert (task["text"], task["label"]) == ("words", "fruit")


@pytest.mark.parametrize(("sign", "head"), [(1, "cosine"), (-1, None)])
def test_scores_that_rise_with_shared_words_begin_as_a_cosine_and_others_do_not(
    tmp_path: Path, sign: int, head: str | None
) -> None:
    words = [f"word{n}" for n in range(8)]
    pairs = [(" ".join(words), " ".join([*words[:n], *(f"other{n}{m}" for m in range(n, 8))])) for n in range(8)] * 5
    rows = [
        f"{one} item{row}\t{other} thing{row}\t{sign * (row % 8 + row / 100) + 9:.2f}"
        for row, (one, other) in enumerate(pairs)
    ]
    (tmp_path / "near.tsv").write_text("\n".join(["a\tb\tvalue", *rows]) + "\n")
    recipe = yaml.safe_load(draft_recipe([tmp_path / "near.tsv"], tmp_path / "recipe.yaml"))
    (task,) = recipe["tasks"].values()
    assert task["kind"] == "regression"
    assert (task.get("head"), task.get("pairs")) == (head, head and "separate")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    read_recipe(tmp_path / "recipe.yaml")


def test_a_task_that_is_declined_is_left_out(tmp_path: Path) -> None:
    TWELVE["wide"](tmp_path)
    answers = {"'toxic'": "no"}

    def ask(question: Question) -> str:
        return next((answer for word, answer in answers.items() if word in question.text), question.answers[0])

    tasks = yaml.safe_load(draft_recipe([tmp_path], tmp_path / "r.yaml", ask))["tasks"]
    assert set(tasks) == {"posts_sentiment", "posts_topic"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,number\n" + "".join(f"{text(i)},x{i}\n" for i in range(30)), "no column of labels"),
        ("label,other\n" + "a,b\nb,a\n" * 20, "no column of texts"),
        ("text,label\n", "is empty: it has no rows"),
        ("", "is empty"),
        ("text,text,label\n" + "a b c,d e f,x\n" * 9, "several columns are named 'text'"),
    ],
)
def test_files_without_texts_and_labels_say_so(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(Mistake, match=said):
        draft_recipe([tmp_path / "a.csv"], tmp_path / "r.yaml")


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.docx").write_text("x")
    with pytest.raises(Mistake) as caught:
        draft_recipe([tmp_path / name for name in ("a.csv", "b.docx", "c.tsv")], tmp_path / "r.yaml")
    assert all(name in str(caught.value) for name in ("a.csv", "b.docx", "c.tsv"))


def test_a_file_in_another_encoding_is_refused_and_none_of_its_rows_left_out(tmp_path: Path) -> None:
    rows = [f"a plain text {n},{['good', 'bad'][n % 2]}" for n in range(40)]
    (tmp_path / "in.csv").write_bytes("\n".join(["text,label", *rows, "caf\xe9,good"]).encode("latin-1"))
    with pytest.raises(Mistake, match=r"in\.csv, line 42: byte 0xe9 .*iconv -f WINDOWS-1252 -t UTF-8 in\.csv > new"):
        draft_recipe([tmp_path], tmp_path / "recipe.yaml")


def test_a_dev_file_with_other_columns_is_left_out_and_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "a-train.csv", [{"text": text(i), "label": "xy"[i % 2]} for i in range(60)])
    write_csv(tmp_path / "a-dev.csv", [{"text": text(i), "mood": "xy"[i % 2]} for i in range(60, 80)])
    recipe = draft_recipe([tmp_path], tmp_path / "r.yaml")
    assert "a-dev.csv is left out: it has no column label (it has text, mood)" in recipe
    assert yaml.safe_load(recipe)["tasks"]["a"]["dev"] == "10%"


def test_classes_that_differ_by_case_only_are_said(tmp_path: Path) -> None:
    rows = [{"text": text(i), "label": ["Good", "good", "bad"][i % 3]} for i in range(60)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert "the classes Good and good differ by case only" in draft_recipe([tmp_path / "a.jsonl"], tmp_path / "r.yaml")


def test_two_training_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a-train.csv", "a_train.jsonl"):
        (tmp_path / name).write_text(
            "text,label\nx y z,a\n" if name.endswith("csv") else json.dumps({"text": "x"}) + "\n"
        )
    with pytest.raises(Mistake, match="are both train rows of 'a'"):
        draft_recipe([tmp_path], tmp_path / "r.yaml")


# ---- columns


def test_columns_are_alike_by_their_names() -> None:
    alike = ["sentence1 sentence2", "a b", "text_a text_b", "premise hypothesis", "sentenceA sentenceB", "q1 q2"]
    unlike = ["title body", "text comment", "a sentence", "question_text answer_id"]
    assert [pair for pair in alike if not names_alike(*pair.split())] == []
    assert [pair for pair in unlike if names_alike(*pair.split())] == []


def test_texts_of_one_sort_are_a_pair_whatever_they_are_called() -> None:
    one = Column("satz", [text(i) for i in range(100)])
    other = Column("gegenstück", [text(i, "A") for i in range(100)])
    shuffled = Column("anderes", [text(i * 37 % 1000 + 200, "A") for i in range(100)])
    assert ways_to_read([one, other])[0] == ("satz", "gegenstück")
    assert len(ways_to_read([one, shuffled])[0]) == 1


@pytest.mark.parametrize(
    ("name", "cells", "role"),
    [
        ("label", ["0", "1"] * 20, "class"),
        ("label", ["0.0", "1.0"] * 20, "class"),
        ("label", [str(i % 50) for i in range(1000)], "class"),
        ("score", [str(i % 101) for i in range(1000)], "number"),
        ("score", [str(i / 7) for i in range(100)], "score"),
        ("id", [str(i * 3) for i in range(100)], "id"),
        ("qid1", [str(i // 2) for i in range(100)], "id"),
        ("n", [str(i) for i in range(100)], "id"),
        ("key", [f"tr-{i:03}" for i in range(100)], "id"),
        ("when", ["2024-01-02", "3.4.2024"] * 9, "time"),
        ("tags", ["[1, 2]", "[]"] * 9, "list"),
        ("größe", ["1,5", "-20,25", "3"] * 9, "comma"),
        ("constant", ["x"] * 9, "nothing"),
        ("topic", ["Sci/Tech", "World news", ""] * 9, "class"),
        ("text", [text(i) for i in range(30)], "text"),
        ("句子", [f"今天的天气非常好呀{i}" for i in range(30)], "text"),
    ],
)
def test_a_column_is_judged_by_its_cells(name: str, cells: list[str], role: str) -> None:
    assert Column(name, cells).role == role
