"""A model card: what a run's model answers, how well, what it learned from, and where it ends."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.reports.evaluation import TaskScores, evaluation
from mtbert.runs.folder import BEST, Run


def card(folder: Path, data: Path | None = None) -> str:
    """The card of a run's kept model in Markdown, with the front matter that the hub reads.

    Scores are taken anew on the dev rows, for their intervals; where these rows are gone it holds the scores of
    training, and says so. Raises Mistake where the run has no kept model.
    """
    run = Run.open(folder)
    model, _ = load_model(run.part(BEST))
    try:
        scores: Mapping[str, TaskScores] | None = evaluation(folder, data).tasks
    except Mistake:
        scores = None
    kept = run.scores["dev"]["tasks"]
    parts = [
        _front(run, model.tasks, kept),
        f"# {run.folder.resolve().name}\n\nOne encoder, and a head for each of {len(model.tasks)} tasks, by mtbert.",
        "\n".join(_use(model.tasks)),
        "\n".join(_tasks(model.tasks)),
        "\n".join(_scores(kept, scores)),
        "\n".join(_data(run)),
        "\n".join(_limits(model.tasks)),
    ]
    return "\n\n".join(parts) + "\n"


def _front(run: Run, tasks: Mapping[str, Task], kept: Mapping[str, Mapping[str, float]]) -> str:
    """The front matter, as https://huggingface.co/docs/hub/model-cards describes it."""
    recipe = run.recipe()
    results = [
        {
            "task": {"type": "text-classification", "name": name},
            "dataset": {"name": f"{name} (dev)", "type": name},
            "metrics": [{"type": metric, "value": round(value, 4)} for metric, value in metrics.items()],
        }
        for name, metrics in kept.items()
    ]
    content: dict[str, Any] = {"library_name": "mtbert", "tags": ["mtbert", "multi-task", *tasks]}
    if "/" in recipe.encoder.name and not Path(recipe.encoder.name).exists():
        content["base_model"] = recipe.encoder.name
    content["model-index"] = [{"name": run.folder.resolve().name, "results": results}]
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _use(tasks: Mapping[str, Task]) -> Iterator[str]:
    first = next(iter(tasks.values()))
    text = '"a text"' if len(first.text) == 1 else '("a text", "another")'
    yield "## Use\n\n```python\nimport mtbert\n"
    yield 'model = mtbert.load("this folder, or ORG/NAME", revision="a commit")'
    yield f'model.predict("{first.name}", [{text}])\n```'


def _tasks(tasks: Mapping[str, Task]) -> Iterator[str]:
    yield "## Tasks\n\n| task | kind | reads | says |\n|---|---|---|---|"
    for task in tasks.values():
        yield f"| {task.name} | {task.kind} | {_cell(' and '.join(task.text))} | {_cell(task.meaning)} |"


def _scores(kept: Mapping[str, Mapping[str, float]], scores: Mapping[str, TaskScores] | None) -> Iterator[str]:
    yield "## Scores on dev rows\n"
    if scores is None:
        yield "The rows were not there when this was written: these are the scores of training, without intervals.\n"
    yield "| task | metric | score | 95 % interval | a constant answer |\n|---|---|---|---|---|"
    for name, metrics in kept.items():
        one = scores.get(name) if scores is not None else None
        for metric, value in (metrics if one is None else one.metrics).items():
            around = one.intervals[metric] if one is not None else None
            span = "" if around is None else f"{around[0]:z.4f} to {around[1]:z.4f}"
            constant = one.constant.get(metric) if one is not None and one.constant is not None else None
            yield f"| {name} | {metric} | {value:z.4f} | {span} | {'' if constant is None else f'{constant:z.4f}'} |"
    yield "\nThe kept model was chosen by these rows, so new ones may score a little lower."


def _data(run: Run) -> Iterator[str]:
    recipe, environment = run.recipe(), run.environment
    commit = (environment.get("encoder") or {}).get("commit")
    yield "## What it learned from\n"
    at = f" at commit {commit}" if commit else ""
    yield f"The encoder began as `{recipe.encoder.name}`{at}: whatever that one was trained on, this one has seen too,"
    yield "texts of the tables below perhaps among it.\n"
    yield "| rows | how many | left out | SHA-256 |\n|---|---|---|---|"
    for name, one in environment["data"].items():
        yield f"| {name} | {one['rows']:,} | {one['skipped']:,} | `{one['sha256'] or 'not taken'}` |"
    yield f"\nTrained by mtbert {environment['versions']['mtbert']}, written by {importlib.metadata.version('mtbert')};"
    yield "`recipe.yaml` has every setting."


def _limits(tasks: Mapping[str, Task]) -> Iterator[str]:
    yield "## Limits\n"
    for task in tasks.values():
        yield f"- {task.name}: texts are cut off after {task.max_length} tokens; it answers whatever it is given, also"
        yield "  texts of a kind that it has never seen, and its probabilities are then worth little."


def _cell(text: str) -> str:
    """What stands in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
