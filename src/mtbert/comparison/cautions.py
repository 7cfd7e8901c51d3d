"""What makes a comparison less than fair without anybody meaning it: differences between its recipes and its runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtbert.comparison.execution import run_folder
from mtbert.comparison.methods import Content, Method
from mtbert.runs.folder import ENVIRONMENT


def cautions(methods: Sequence[Method], tuned: bool) -> list[str]:
    """Sentences about settings in which a method's recipe differs from the first one's, baselines left out."""
    first, *others = [method for method in methods if not method.baseline]
    reference = _content(first)
    found = [
        f"{method.name} {said}, {first.name} {usual}"
        for method in others
        for said, usual in _differences(_content(method), reference)
    ]
    rates = {method.name: _rates(_content(method)) for method in (first, *others)}
    if not tuned and len(rates) > 1:
        same = len(set(map(tuple, rates.values()))) == 1
        how = "all have the same" if same else "; ".join(f"{name}: {_listed(some)}" for name, some in rates.items())
        found.append(
            f"learning rates were not tuned here ({how}): a difference may be the rate's (--rates tunes alike)"
        )
    return found


def about_folds(tried: bool) -> list[str]:
    """What is to be minded where blocks are folds; `tried` where candidates were chosen by trials."""
    said = [
        "folds share their training rows, so that their differences hang together: intervals and p are smaller than "
        "those of as many independent blocks (Bengio and Grandvalet, 2004)"
    ]
    chosen = "candidates were chosen on the rows of one fold, which report in another block"
    return [*said, chosen] if tried else said


def differing_machines(folder: Path, runs: Iterable[str]) -> list[str]:
    """Facts of the environment that are not the same for all runs, which makes their seconds incomparable."""
    seen: dict[str, set[str]] = {}
    for environment in environments(folder, runs).values():
        for fact in ("processor", "device", "threads", "versions", "git"):
            seen.setdefault(fact, set()).add(json.dumps(environment.get(fact)))
    return [
        f"the runs differ in {fact}: {'; '.join(sorted(values))}" for fact, values in seen.items() if len(values) > 1
    ]


def environments(folder: Path, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Run -> versions, hardware and hashes of the data that it was trained on."""
    paths = {run: run_folder(folder, run) / ENVIRONMENT for run in runs}
    return {run: json.loads(path.read_text(encoding="utf-8")) for run, path in paths.items() if path.exists()}


def _content(method: Method) -> Content:
    return next(iter(next(iter(method.candidates.values())).values()))


def _differences(content: Content, reference: Content) -> Iterator[tuple[str, str]]:
    """What the two do differently, each said in words."""
    for words, what in ASKED.items():
        ours, theirs = what(content), what(reference)
        if ours != theirs:
            yield f"{words} {ours}", theirs


def _rates(content: Content) -> list[float]:
    return [stage["optimizer"]["lr"] for stage in content["stages"]]


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _stopping(content: Content) -> str:
    return _listed(f"keep {stage['keep']['name']}, patience {stage['patience']}" for stage in content["stages"])


def _cached(content: Content) -> str:
    stages = enumerate(content["stages"])
    return (
        _listed(number for number, stage in stages if stage["train"] == ["heads"] and stage["cache_features"]) or "none"
    )


ASKED: dict[str, Callable[[Content], str]] = {
    "trains in": lambda content: str(content["precision"]),
    "keeps the best by": lambda content: str(content["keep"]),
    "has the stopping rule": _stopping,
    "limits rows to": lambda content: _listed(f"{name} {task['limit']}" for name, task in content["tasks"].items()),
    "clips gradients at": lambda content: _listed(stage["clip"] for stage in content["stages"]),
    "trains on cached features in stages": _cached,
}
