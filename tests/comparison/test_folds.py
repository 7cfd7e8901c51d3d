"""Comparisons over folds: whose rows are learned from, select and report in each block, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mtbert.comparison.budget import Budget
from mtbert.comparison.compare import compare, findings
from mtbert.comparison.contrasts import OVERALL
from mtbert.comparison.declare import Asked, declare, first_recipe
from mtbert.comparison.execution import run_folder
from mtbert.comparison.measured import read_predictions, readings
from mtbert.comparison.methods import read_methods
from mtbert.comparison.outlook import outlook
from mtbert.comparison.plan import Plan
from mtbert.comparison.result import Comparison
from mtbert.data.kinds.classification import Classification
from mtbert.data.splitting import folds_of, place_of
from mtbert.data.tables import read_rows, read_table
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from tests.support.small import recipe_over, with_more_kinds, write_small_data

FOLDS = 3


def rows_of(texts: Sequence[tuple[str, ...]]) -> Any:
    columns = {f"text_{side}": [row[side] for row in texts] for side in range(len(texts[0]))}
    task = Classification(name="t", text=tuple(columns), label="label", classes=("a", "b"))
    return read_rows(task, pa.table(columns | {"label": ["a", "b"] * (len(texts) // 2)}))


# ---- folds


def test_a_text_alone_is_in_the_fold_of_its_hash_whatever_stands_beside_it() -> None:
    texts = [f"a text of number {number}" for number in range(60)]
    whole = folds_of({"t": rows_of([(text,) for text in texts])}, 5)["t"]
    assert whole.tolist() == [int(place_of(text) * 5) for text in texts]
    backwards = folds_of({"t": rows_of([(text,) for text in texts[:30][::-1]])}, 5)["t"]
    assert backwards.tolist() == whole[:30].tolist()[::-1]


def test_rows_that_share_a_text_are_in_one_fold_also_those_of_several_tasks() -> None:
    pairs = [(f"left {number // 2}", f"right {number}") for number in range(60)]
    singles = [(f"RIGHT  {number}",) for number in range(60)]
    found = folds_of({"pairs": rows_of(pairs), "singles": rows_of(singles)}, 4)
    assert (found["pairs"][::2] == found["pairs"][1::2]).all()
    assert found["pairs"].tolist() == found["singles"].tolist()


def test_folds_without_rows_are_refused() -> None:
    with pytest.raises(Mistake, match="in 9 folds one has no row of task 't': its 4 rows are too few"):
        folds_of({"t": rows_of([(f"text {number}",) for number in range(4)])}, 9)
    with pytest.raises(Mistake, match="10 of its 10 rows hang together"):
        folds_of({"t": rows_of([("the same", f"text {number}") for number in range(10)])}, 3)


# ---- comparisons


def planned(folder: Path, recipe: dict[str, Any], seeds: int = 2, **asked: Any) -> Plan:
    for name, modules in {"plain": [], "adapter": [{"name": "adapter", "shared": True}]}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"modules": modules}))
    methods = read_methods([str(folder / "plain.yaml"), str(folder / "adapter.yaml")], None)
    return declare(Asked(methods, seeds, Budget("steps", 3), **asked), folder / "out")


def run(plan: Plan, folder: Path) -> Comparison:
    assert compare(plan, folder / "out", "mtbert compare", Listener(), lambda one: None) is None
    found = findings(plan, folder / "out")
    assert found is not None
    return found


def kinds(folder: Path) -> dict[str, Any]:
    """Two tasks of rows that they share, one of words, and a pair; no dev is named, and not all classes."""
    recipe = with_more_kinds(recipe_over(write_small_data(folder / "data")))
    recipe["tasks"] = {name: recipe["tasks"][name] for name in ("stars", "topics", "names", "same")}
    for task in recipe["tasks"].values():
        del task["dev"], task["test"]
        if task["kind"] == "multilabel":
            del task["classes"]
    shared = {"tasks": ["stars", "topics"], "sampler": "joint_rows", "batch_size": 8, "steps": 2}
    recipe["stages"] = [shared, {"sampler": "joint", "batch_size": 4, "steps": 1}]
    return recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan, Comparison]:
    folder = tmp_path_factory.mktemp("folds")
    plan = planned(folder, kinds(folder), seeds=1, folds=FOLDS)
    return folder, plan, run(plan, folder)


def texts_in(path: str | list[str] | None) -> list[str]:
    assert path is not None
    return read_table([path] if isinstance(path, str) else path).columns.column("text").to_pylist()


def test_each_fold_reports_once_a_seed_and_no_text_is_learned_from_and_judged(
    done: tuple[Path, Plan, Comparison],
) -> None:
    folder, plan, found = done
    assert plan.blocks == 3
    assert found.rows[0].seeds == [100, 100, 100]
    texts = read_table(folder / "data" / "many-train.parquet").columns.column("text").to_pylist()
    whole = [text for row, text in enumerate(texts) if row % 5 != 4 or row % 7 != 6]  # with a label of stars or topics
    reported = [texts_in(splits["stars"].reporting) for splits in plan.by_fold]
    assert sorted(text for fold in reported for text in fold) == sorted(whole)
    for splits in plan.by_fold:
        parts = [
            texts_in(path) for path in (splits["stars"].learning, splits["stars"].selecting, splits["stars"].reporting)
        ]
        assert sorted(text for part in parts for text in part) == sorted(whole)
        assert not any(set(one) & set(other) for one, other in combinations(parts, 2))


def test_a_run_learns_from_the_other_folds_and_tasks_still_share_their_rows(
    done: tuple[Path, Plan, Comparison],
) -> None:
    folder, plan, _ = done
    for block in (1, 2, 3):
        recipe = Run.open(run_folder(folder / "out", f"plain-block-{block}")).recipe()
        splits = plan.by_fold[(block - 1) % FOLDS]
        assert [str(path) for path in recipe.source("stars", "train")] == splits["stars"].learning
        assert recipe.source("stars", "train") == recipe.source("topics", "train")
        assert str(recipe.source("names", "dev")) == splits["names"].selecting
        assert recipe.tasks["topics"].class_names == ("art", "food", "home")


def test_scores_are_those_of_each_fold_and_differences_are_paired_by_block(
    done: tuple[Path, Plan, Comparison],
) -> None:
    folder, plan, found = done
    tasks = first_recipe(plan.methods).tasks
    for block in range(1, 4):
        said = read_predictions(folder / "out", f"plain-block-{block}")
        for name, task in tasks.items():
            rows = read_rows(task, plan.by_fold[(block - 1) % FOLDS][name].reporting)
            assert rows.labels is not None
            assert found.rows[0].blocks[block - 1][name] == pytest.approx(
                task.metrics(said[name], rows.labels)[task.main]
            )
    for one in found.contrasts:
        rows_by_method = {row.method: row.blocks for row in found.rows}
        expected = [
            mine[one.measure] - other[one.measure]
            for mine, other in zip(rows_by_method[one.method], rows_by_method["plain"], strict=True)
        ]
        assert one.differences == pytest.approx(expected)
        assert one.interval.low - 1e-9 <= one.mean <= one.interval.high + 1e-9
        assert np.isfinite([*one.interval]).all()
    assert {one.measure for one in found.contrasts} == {OVERALL, *tasks}
    assert set(found.constant) == {OVERALL, *tasks}
    assert readings(folder / "out") == 6


def test_what_folds_mean_for_the_numbers_is_said(done: tuple[Path, Plan, Comparison]) -> None:
    words = "\n".join(done[2].words())
    assert "3 blocks, 3 folds x seeds 100" in words
    assert "rows of stars: 39 in 3 folds of the training file: each reports once a seed, the next one selects" in words
    assert "caution: folds share their training rows" in words
    assert not [leak for leak in done[2].leaks if leak.task == leak.learned]


def test_a_look_at_the_plan_writes_nothing_and_needs_no_dev(tmp_path: Path) -> None:
    plan = planned(tmp_path, kinds(tmp_path), seeds=1, folds=FOLDS)
    seen = outlook(plan, first_recipe(plan.methods).tasks, tmp_path / "out")
    assert [prospect.runs for prospect in seen.prospects] == [3, 3]
    assert seen.power[0] == "each of 3 blocks, 3 folds x 1 seeds, counts as a seed here"
    assert not (tmp_path / "out").exists()


def test_all_folds_run_with_one_seed_before_the_next_begins(tmp_path: Path) -> None:
    plan = planned(tmp_path, kinds(tmp_path), seeds=2, folds=FOLDS)
    runs = [one for one in plan.runs({method.name: "all" for method in plan.methods}) if one.method.name == "plain"]
    assert [(one.block, one.seed, one.splits) for one in runs] == [
        (number + 1, seed, plan.by_fold[number % FOLDS]) for number, seed in enumerate([100] * 3 + [200] * 3)
    ]


def test_two_folds_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="--folds 2: there are three at least"):
        planned(tmp_path, kinds(tmp_path), folds=2)


# ---- all kinds, with dev and test as they are


def test_tasks_that_share_their_rows_do_so_too_where_a_share_of_the_file_is_set_apart(tmp_path: Path) -> None:
    recipe = kinds(tmp_path)
    for task in recipe["tasks"].values():
        task |= {"dev": "20%", "test": "20%"}
    plan = planned(tmp_path, recipe, seeds=1)
    assert run(plan, tmp_path).facts["blocks"] == 1
    assert plan.splits["stars"] == plan.splits["topics"]
    parts = [texts_in(path) for path in (plan.splits["stars"].learning, plan.splits["stars"].selecting)]
    assert not set(parts[0]) & set(parts[1])


def test_labels_of_words_and_several_labels_are_compared_as_others_are(tmp_path: Path) -> None:
    recipe = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    recipe["tasks"] = {name: recipe["tasks"][name] for name in ("topics", "names")}
    recipe["tasks"]["names"]["dev"] = ["many-dev.parquet"]
    recipe["stages"][0] |= {"sampler": "joint", "steps": 3, "evaluate_every": 3}
    found = run(planned(tmp_path, recipe, seeds=2), tmp_path)
    assert set(found.constant) == {OVERALL, "topics", "names"}
    for row in found.rows:
        assert all(0 <= row.scores[name] <= 1 for name in ("topics", "names"))
    assert all(np.isfinite([*one.interval, one.p]).all() for one in found.contrasts)
    assert all(one.p_rows is None or 0 <= one.p_rows <= 1 for one in found.contrasts)
