"""A person's files in twelve layouts and more, each written into a folder, with what a reader of them would expect."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet

THINGS = ["film", "plot", "tea", "river", "garden", "train", "house", "song", "letter", "storm", "road", "cat"]
SAID = [
    "was a joy to behold",
    "left me quite cold",
    "came too late for us",
    "is what I had hoped for",
    "could be better",
]


def text(number: int, about: str = "The") -> str:
    """A sentence of five or more words; another for every number."""
    return f"{about} {THINGS[number % 12]} of day {number} {SAID[number // 12 % 5]}"


class Expected(NamedTuple):
    """What a task of the drafted recipe should be: its kind, its texts, its classes or its range."""

    kind: str
    text: Sequence[str]
    labels: Sequence[Any]


def write_csv(path: Path, rows: Sequence[dict[str, Any]], delimiter: str = ",", header: bool = True) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        if header:
            writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pa.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def wide(folder: Path) -> dict[str, Expected]:
    """One row a text, one column a task, some of them blank."""
    rows = [
        {
            "text": text(i),
            "sentiment": ["good", "bad", ""][i % 3],
            "topic": ["sport", "news", "food", "art"][i % 4],
            "toxic": i % 2,
        }
        for i in range(240)
    ]
    write_csv(folder / "posts.csv", rows)
    return {
        "posts_sentiment": Expected("classification", ["text"], ["bad", "good"]),
        "posts_topic": Expected("classification", ["text"], ["art", "food", "news", "sport"]),
        "posts_toxic": Expected("classification", ["text"], ["0", "1"]),
    }


def long(folder: Path) -> dict[str, Expected]:
    """One row a label, a column that says of which task; one of the tasks is a pair of texts with a score."""
    rows: list[dict[str, Any]] = []
    for i in range(120):
        rows.append({"task": "mood", "text1": text(i), "text2": "", "label": ["glad", "sad"][i % 2]})
        rows.append({"task": "closeness", "text1": text(i), "text2": text(i + 1, "A"), "label": i % 21 / 4})
    write_csv(folder / "all.tsv", rows, "\t")
    return {
        "mood": Expected("classification", ["text1"], ["glad", "sad"]),
        "closeness": Expected("regression", ["text1", "text2"], (0, 5)),
    }


def pairs(folder: Path) -> dict[str, Expected]:
    """Pairs by the names of the columns, in files for train, validation and test, the last without labels."""
    for split, rows in {"train": range(150), "validation": range(200, 240), "test": range(300, 330)}.items():
        made = [
            {"premise": text(i), "hypothesis": text(i + 1, "A"), "label": ["yes", "maybe", "no"][i % 3]} for i in rows
        ]
        if split == "test":
            made = [{key: value for key, value in row.items() if key != "label"} for row in made]
        write_jsonl(folder / f"nli_{split}.jsonl", made)
    return {"nli": Expected("classification", ["premise", "hypothesis"], ["maybe", "no", "yes"])}


def scores(folder: Path) -> dict[str, Expected]:
    """Two texts and a score from 0 to 1, with names of rows."""
    rows = [{"pair_ID": 7 * i + 3, "a": text(i), "b": text(i + 2, "A"), "score": i % 19 / 20} for i in range(160)]
    write_parquet(folder / "train.parquet", rows)
    write_parquet(folder / "dev.parquet", [row | {"a": text(i, "One")} for i, row in enumerate(rows[:30])])
    return {folder.name: Expected("regression", ["a", "b"], (0, 1))}


def list_labels(folder: Path) -> dict[str, Expected]:
    """Several labels a row in one cell."""
    rows = [{"text": text(i), "labels": [["fun", "short"], ["long"], []][i % 3]} for i in range(60)]
    write_jsonl(folder / "tags.jsonl", rows)
    return {"tags": Expected("multilabel", ["text"], ("fun", "long", "short"))}


def several_tasks(folder: Path) -> dict[str, Expected]:
    """Two labels a row: a relation between the texts and how near they are (as in SICK)."""
    rows = [
        {
            "pair_ID": i + 1,
            "sentence_A": text(i),
            "sentence_B": text(i + 1, "A"),
            "relatedness_score": 1 + i % 41 / 10,
            "entailment_label": ["NEUTRAL", "ENTAILMENT", "CONTRADICTION"][i % 3],
        }
        for i in range(200)
    ]
    write_parquet(folder / "sick.parquet", rows)
    pair = ["sentence_A", "sentence_B"]
    return {
        "sick_relatedness_score": Expected("regression", pair, (1, 5)),
        "sick_entailment_label": Expected("classification", pair, ["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]),
    }


def quotes(folder: Path) -> dict[str, Expected]:
    """A raw-quoted TSV: cells that begin with a quote which nothing closes (as in MRPC)."""
    lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for i in range(150):
        opening = '"' if i % 7 == 0 else ""
        closing = '" he said' if i % 5 == 0 else ""
        lines.append(
            f'{i % 2}\t{702876 + 13 * i}\t{702977 + 11 * i}\t{opening}{text(i)}{closing}\t{text(i + 1)}, 3" wide'
        )
    (folder / "paraphrases.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"paraphrases": Expected("classification", ["#1 String", "#2 String"], ["0", "1"])}


def another_language(folder: Path) -> dict[str, Expected]:
    """German headers, semicolons, umlauts; a title beside the text."""
    rows = [
        {
            "Überschrift": f"Über {THINGS[i % 12]} Nr. {i}",
            "Bewertungstext": f"{text(i, 'Größe:')} und das ist gewiß noch nicht alles",
            "Stimmung": ["fröhlich", "traurig"][i % 2],
        }
        for i in range(100)
    ]
    write_csv(folder / "bewertungen.csv", rows, ";")
    return {"bewertungen": Expected("classification", ["Bewertungstext"], ["fröhlich", "traurig"])}


def no_header(folder: Path) -> dict[str, Expected]:
    """A CSV whose first line is a row."""
    write_csv(folder / "reviews.csv", [{"": text(i), "label": ["pos", "neg"][i % 2]} for i in range(50)], header=False)
    return {"reviews": Expected("classification", ["text"], ["neg", "pos"])}


def one_class_rare(folder: Path) -> dict[str, Expected]:
    """Three rows in four hundred have one of the classes."""
    rows = [{"text": text(i), "label": "fraud" if i in (17, 180, 333) else ["fine", "late"][i % 2]} for i in range(400)]
    write_csv(folder / "claims.csv", rows)
    return {"claims": Expected("classification", ["text"], ["fine", "fraud", "late"])}


def booleans(folder: Path) -> dict[str, Expected]:
    """True and false, as JSON writes them."""
    write_jsonl(folder / "spam.jsonl", [{"message": text(i), "is_spam": i % 3 == 0} for i in range(90)])
    return {"spam": Expected("classification", ["message"], ["false", "true"])}


def dates(folder: Path) -> dict[str, Expected]:
    """Days beside texts and marks from 1 to 5."""
    rows = [
        {
            "date": f"2024-0{1 + i % 9}-1{i % 10}",
            "review": text(i),
            "stars": 1 + i * 7 % 5,
            "reviewer": f"user{i % 40}x",
        }
        for i in range(150)
    ]
    write_csv(folder / "stars.csv", [{key: row[key] for key in ("date", "review", "stars")} for row in rows])
    return {"stars": Expected("classification", ["review"], ["1", "2", "3", "4", "5"])}


Write = Callable[[Path], dict[str, Expected]]

TWELVE: dict[str, Write] = {
    one.__name__: one
    for one in (
        wide, long, pairs, scores, list_labels, several_tasks,
        quotes, another_language, no_header, one_class_rare, booleans, dates,
    )
}  # fmt: skip
