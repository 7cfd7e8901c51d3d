"""The prediction files that the starter code of Stanford's CS 224N default project writes and its leaderboard reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtbert.errors import Mistake, unknown
from mtbert.runs.data import shared_tables
from mtbert.runs.folder import Run
from mtbert.runs.output import Output
from mtbert.serving.predictor import Predictions, Predictor


class CourseFile(NamedTuple):
    """What the course calls a task of its own: how the files of its rows begin, and the header of its predictions."""

    data: str
    title: str


# by the name with which the files of predictions begin
COURSE_FILES = {
    "sst": CourseFile("ids-sst-", "Predicted_Sentiment"),
    "para": CourseFile("quora-", "Predicted_Is_Paraphrase"),
    "sts": CourseFile("sts-", "Predicted_Similiary"),  # spelt as the starter code spells it
}


def course_sources(folder: str | Path, data: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Task -> split -> where its rows are, as the recipe of a run says: a file, or the table of a share of train."""
    recipe = Run.open(folder).recipe(data)
    apart = shared_tables(recipe)
    return {
        task: {split: apart.get(task, {}).get(split, recipe.source(task, split)) for split in ("dev", "test")}
        for task in recipe.tasks
    }


def course_tasks(sources: Mapping[str, Mapping[str, Any]], named: Sequence[str] = ()) -> dict[str, str]:
    """The course's name of a task -> its name in the run: as `named` (`sst=mood`), or by the names of its files.

    Raises Mistake where no task is found, or several are, and for a name that the course or the run does not have.
    """
    given = dict(_pair(one, sources) for one in named)
    found = {}
    for name, course in COURSE_FILES.items():
        alike = [task for task, splits in sources.items() if _begin_with(course.data, splits)]
        if name not in given and len(alike) != 1:
            said = f"those of {', '.join(alike)} do" if alike else "those of no task do"
            raise Mistake(
                f"which task is the course's '{name}'? Its dev and test files begin with '{course.data}', and {said}; "
                f"say it with --course-task {name}=TASK (tasks: {', '.join(sources)})"
            )
        found[name] = given.get(name) or alike[0]
    return found


def write_course_files(
    predictor: Predictor, sources: Mapping[str, Mapping[str, Any]], folder: Path, named: Sequence[str] = ()
) -> list[Path]:
    """Write the six prediction files, for dev and test of the course's three tasks; their paths.

    `sources` is task -> split -> where its rows are. Raises Mistake where one of the six is missing, or a file is not
    to be written over, and as `course_tasks` does.
    """
    contents: dict[Output, str] = {}
    for name, task in course_tasks(sources, named).items():
        for split in ("dev", "test"):
            source = sources[task].get(split)
            if source is None:
                raise Mistake(f"the course's files are of dev and test; this run has no {split} rows of '{task}'")
            place = Output(folder / f"{name}-{split}-output.csv", inputs=[source])
            contents[place] = course_file(predictor.predict_table(task, source), COURSE_FILES[name].title)
    for place, content in contents.items():
        place.write(content)
    return [place.path for place in contents]


def course_file(predictions: Predictions, title: str) -> str:
    """A header, then `id , value` with the index of the class or the score, spaced as the starter code spaces it."""
    number = "{:z.6f}" if predictions.task.scored else "{:.0f}"
    values = zip(predictions.ids, predictions.values, strict=True)
    return "".join([f"id \t {title} \n", *(f"{name} , {number.format(value)} \n" for name, value in values)])


def _pair(given: str, sources: Mapping[str, Any]) -> tuple[str, str]:
    name, equals, task = given.partition("=")
    if not equals:
        raise Mistake(f"--course-task {given}: write NAME=TASK, such as sst={next(iter(sources))}")
    if name not in COURSE_FILES:
        raise Mistake(f"--course-task {given}: {unknown('file of the course', name, COURSE_FILES)}")
    if task not in sources:
        raise Mistake(f"--course-task {given}: {unknown('task', task, sources)}")
    return name, task


def _begin_with(start: str, splits: Mapping[str, Any]) -> bool:
    """Whether the files of a task are named so; a split that has none does not matter."""
    names = [Path(source).name for source in splits.values() if isinstance(source, (str, Path))]
    return bool(names) and all(name.startswith(start) for name in names)
