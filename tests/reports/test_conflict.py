"""What a run's log says about the conflict between its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mtbert
from mtbert.errors import Mistake
from mtbert.reports import conflict
from mtbert.reports.conflict import ConflictReport, summary
from mtbert.runs.log import Look
from tests.support.screen import assert_fits, shown_lines

GROUPS = ["embeddings", "layer 0", "layer 1", "layer 2", "layer 3", "pooler"]


def looks(pairs: dict[tuple[int, int], list[float]], spread: float = 0.0, count: int = 10) -> np.ndarray:
    """Cosines of three tasks over so many looks, with these means in the six parts."""
    matrices = np.tile(np.eye(3), (count, len(GROUPS), 1, 1))
    for (one, other), means in pairs.items():
        values = np.array(means) + spread * np.where(np.arange(count) % 2, 1, -1)[:, None]
        matrices[:, :, one, other] = matrices[:, :, other, one] = values
    return matrices


def test_words_say_which_tasks_pull_against_each_other_and_where() -> None:
    found = summary(
        ["mood", "same", "near"],
        GROUPS,
        looks({(0, 1): [-0.2, -0.3, -0.1, 0, -0.2, 0], (0, 2): [0.01] * 6, (1, 2): [0.1, 0, 0, 0.2, 0.3, 0.4]}),
    )
    assert found == [
        "mood and same pull against each other in embeddings, layers 0 to 1 and layer 3: mean cosine -0.20, "
        "most in layer 0 (-0.30); below 0 in 100% of the looks there",
        "same and near pull along with each other in embeddings, layers 2 to 3 and pooler: mean cosine 0.25, "
        "most in pooler (0.40)",
        "mood and near neither pull against each other nor along: no mean cosine is surely further than 0.05 from 0",
    ]


def test_words_call_nothing_a_conflict_that_looks_do_not_agree_on() -> None:
    unsure = looks({(0, 1): [-0.1] * 6}, spread=0.5)
    assert "neither" in summary(["a", "b", "c"], GROUPS, unsure)[0]
    sure = looks({(0, 1): [-0.1] * 6}, spread=0.05)
    assert (
        "against each other in every part of the model: mean cosine -0.10" in summary(["a", "b", "c"], GROUPS, sure)[0]
    )


def test_a_pair_may_pull_against_each_other_in_one_part_and_along_in_another() -> None:
    found = summary(["a", "b", "c"], GROUPS, looks({(0, 1): [-0.3, 0, 0, 0, 0, 0.3]}, count=1))
    assert found[0].startswith("a and b pull against each other in embeddings: mean cosine -0.30")
    assert found[1].startswith("a and b pull along with each other in pooler: mean cosine 0.30")


def test_the_conflict_of_a_run_is_read_from_its_log_and_drawn(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    small_recipe["stages"][0] |= {"steps": 4, "evaluate_every": 4, "observe": {"name": "conflict", "every": 2}}
    small_recipe["stages"].append(small_recipe["stages"][0])
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    report = conflict.read(run)
    assert (report.tasks, report.steps) == (["mood", "same", "near"], [2, 4, 6, 8])
    logged = [look.seen["cosines"]["layer 0"] for look in run.log.only(Look)]
    np.testing.assert_allclose(report.mean[report.groups.index("layer 0")], np.mean(logged, axis=0))
    png, svg = report.draw(tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()


def test_a_run_that_observed_nothing_has_no_conflict_to_show(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    with pytest.raises(Mistake, match="observed no conflict: train with"):
        conflict.read(run)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("tasks", [2, 3, 5, 20])
def test_what_is_said_of_many_tasks_fits_a_terminal(tasks: int, width: int) -> None:
    generator = np.random.default_rng(0)
    cosines = generator.normal(size=(10, len(GROUPS), tasks, tasks)) * 0.1 - 0.1
    report = ConflictReport([f"a_long_name_of_task_{n}" for n in range(tasks)], GROUPS, list(range(10)), cosines)
    lines = shown_lines(report, width)
    assert_fits(lines, width)
    assert len(lines) < 80


def test_of_many_pairs_the_strongest_are_shown_first() -> None:
    cosines = np.full((3, len(GROUPS), 20, 20), 0.01)
    cosines[:, :, 4, 17] = cosines[:, :, 17, 4] = -0.5
    lines = shown_lines(ConflictReport([f"t{n}" for n in range(20)], GROUPS, [1, 2, 3], cosines), 80)
    assert lines[1].split()[:3] == ["t4,", "t17", "-0.500"]
    assert "the 15 strongest pairs; 175 more with --json" in lines
    assert sum("neither pull against each other" in line for line in lines) == 1


def test_a_finding_in_one_part_is_said_once() -> None:
    found = summary(["a", "b", "c"], GROUPS, looks({(0, 1): [-0.3, 0, 0, 0, 0, 0]}, count=1))
    assert found[0].count("-0.30") == 1
    assert found[0].count("embeddings") == 1
