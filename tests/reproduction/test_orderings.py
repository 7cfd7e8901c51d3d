"""mtbert orderings: what the reports claim, what is run for it, and the verdict by rule."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mtbert.comparison.budget import Budget
from mtbert.comparison.measured import read_measured
from mtbert.comparison.methods import WHOLE
from mtbert.comparison.statistics.verdict import Verdict, Word
from mtbert.errors import Mistake
from mtbert.reproduction.orderings import Finding, Ordering, Orderings, Ruling, orderings, plans, run
from mtbert.reproduction.rows import rows
from mtbert.runs.listener import Listener
from tests.support.course_data import write_course_data

RECIPES = Path(__file__).parents[2] / "recipes" / "reports"
BUDGET = Budget("steps", 30)


def test_every_ordering_is_of_rows_that_there_are_and_compares_only_its_methods() -> None:
    found = orderings()
    assert len(found) == 8
    for claim in found:
        assert {method[0] for method in claim.methods.values()} <= {row.name for row in rows()}
        assert {method[0].split("/")[0] for method in claim.methods.values()} == {claim.report}
        terms = [term for terms in claim.holds_if for term in terms]
        assert {term.removeprefix("-") for term in terms} == set(claim.methods)
        for sum_ in claim.holds_if:  # what is taken away weighs as much as what is added up
            assert sum(-1 if term.startswith("-") else 1 for term in sum_) == 0


def test_an_ordering_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(Mistake, match="unknown ordering 'pals_topp'; did you mean 'pals_top'"):
        orderings(["pals_topp"])


# ---- the verdict


def claim(*sums: list[str]) -> Ordering:
    methods = {name: [f"R9/{name}"] for terms in sums for name in (term.removeprefix("-") for term in terms)}
    return Ordering("one", "a beats b", "table 1", "R9", methods, "overall", sums)


def samples(**scores: list[float]) -> Any:
    """Scores by seed, and samples of the rows that move all methods alike."""
    return SimpleNamespace(
        observed=lambda _, method: np.array(scores[method]),
        drawn=lambda _, method: np.array(scores[method]) + np.linspace(-0.01, 0.01, 50)[:, None],
    )


def test_a_difference_of_differences_is_what_it_says() -> None:
    a, b = [0.70, 0.72, 0.71, 0.73, 0.70, 0.74], [0.69, 0.70, 0.71, 0.70, 0.69, 0.70]
    c, d = [0.60, 0.61, 0.62, 0.60, 0.63, 0.61], [0.60, 0.60, 0.60, 0.61, 0.61, 0.60]
    found = Finding.of(claim(["a", "-b", "-c", "d"]), ["a", "-b", "-c", "d"], samples(a=a, b=b, c=c, d=d), 6)
    differences = np.array(a) - b - c + d
    assert found.difference == "a - b - c + d"
    assert found.mean == pytest.approx(differences.mean())
    signs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.p == pytest.approx(signs.pvalue)


@pytest.mark.parametrize(
    ("words", "ruling"),
    [
        ([Word.BETTER], Ruling.HOLDS),
        ([Word.WORSE], Ruling.FAILS),
        ([Word.ALIKE], Ruling.FAILS),
        ([Word.UNTOLD], Ruling.UNTOLD),
        ([Word.BETTER, Word.BETTER], Ruling.HOLDS),
        ([Word.BETTER, Word.UNTOLD], Ruling.UNTOLD),
        ([Word.WORSE, Word.UNTOLD], Ruling.FAILS),
        ([], Ruling.UNTOLD),
    ],
)
def test_a_claim_holds_only_if_all_of_its_sums_do(words: list[Word], ruling: Ruling) -> None:
    one = claim(["a", "-b"])
    scores = samples(a=[0.5] * 6, b=[0.4] * 6)
    findings = [replace(Finding.of(one, ["a", "-b"], scores, 6), verdict=Verdict(word, "")) for word in words]
    assert Orderings("", "", [one], findings).ruling(one) is ruling


@pytest.mark.parametrize(
    ("gain", "seeds", "ruling"),
    [(0.05, 6, Ruling.HOLDS), (-0.05, 6, Ruling.FAILS), (0.0, 6, Ruling.FAILS), (0.05, 5, Ruling.UNTOLD)],
)
def test_the_rule_from_scores_to_the_verdict(gain: float, seeds: int, ruling: Ruling) -> None:
    one, noise = claim(["a", "-b"]), [0.001, -0.001, 0.002, -0.002, 0.0015, -0.0005][:seeds]
    scores = samples(a=[0.5 + gain + some for some in noise], b=[0.5] * seeds)
    found = Orderings("", "", [one], [Finding.of(one, ["a", "-b"], scores, seeds)])
    assert found.ruling(one) is ruling


# ---- what is run


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_course_data(tmp_path_factory.mktemp("course") / "data")


def test_claims_of_one_report_share_their_runs_and_a_folder(course: Path, tmp_path: Path) -> None:
    one, both = orderings(["pals_top"]), orderings(["pals_top", "top_parallel_same"])
    first = plans(one, RECIPES, course, "random", BUDGET, 1, tmp_path)
    assert [method.name for method in first["R4"].methods] == ["pals_top", "pals_parallel"]
    told: list[str] = []
    assert run(first, tmp_path, "mtbert orderings", Listener(), lambda measured: told.append(measured.run)) is None
    assert told == ["pals_top-block-1", "pals_parallel-block-1"]

    second = plans(both, RECIPES, course, "random", BUDGET, 1, tmp_path)
    run(second, tmp_path, "mtbert orderings", Listener(), lambda measured: told.append(measured.run))
    assert told[2:] == ["top_parallel_same-block-1"]

    found = Orderings.of(both, second, tmp_path, "mtbert orderings")
    sums = {one.difference: one for one in found.findings}
    assert list(sums) == [
        "pals_top - pals_parallel",
        "top_parallel_same - pals_top",
        "top_parallel_same - pals_parallel",
    ]
    reported = {name: read_measured(tmp_path / "R4", name).reported for name in told}

    def overall(name: str) -> float:
        metrics = reported[f"{name}-block-1"]
        return (metrics["sst"]["accuracy"] + metrics["quora"]["accuracy"] + (metrics["sts"]["pearson"] + 1) / 2) / 3

    assert sums["pals_top - pals_parallel"].mean == pytest.approx(overall("pals_top") - overall("pals_parallel"))
    assert {found.ruling(claim) for claim in both} == {Ruling.UNTOLD}  # one seed

    files = {path.name: path for path in found.write(tmp_path)}
    with files["orderings.csv"].open(encoding="utf-8") as file:
        assert [line["verdict"] for line in csv.DictReader(file)] == ["cannot be told"] * 3
    said = json.loads(files["orderings.json"].read_text(encoding="utf-8"))
    assert [one["verdict"] for one in said["orderings"]] == ["cannot be told"] * 2
    assert "30 steps a run" in files["orderings.md"].read_text(encoding="utf-8")


def test_who_stops_before_the_second_report_is_told_what_the_first_says(course: Path, tmp_path: Path) -> None:
    claims = orderings(["pals_top", "adapter_before"])
    declared = plans(claims, RECIPES, course, "random", BUDGET, 1, tmp_path)
    run({"R4": declared["R4"]}, tmp_path, "", Listener(), lambda measured: None)
    found = Orderings.of(claims, declared, tmp_path, "")
    assert [one.ordering for one in found.findings] == ["pals_top"]
    assert not (tmp_path / "R0").exists()
    assert "adaptbefore beats adaptafter (R0, table 1): cannot be told" in found.words()


def test_a_budget_in_seconds_is_steps_by_a_rate_that_is_measured(course: Path, tmp_path: Path) -> None:
    plan = plans(orderings(["pals_top"]), RECIPES, course, "random", Budget("seconds", 60), 1, tmp_path)["R4"]
    paces = plan.asked["seconds_a_step"]
    for planned in plan.runs({method.name: WHOLE for method in plan.methods}):
        [stage], [pace] = planned.content["stages"], paces[planned.method.name]
        assert abs(stage["steps"] - 60 / pace) <= 1


def test_where_the_budget_is_less_than_an_epoch_all_methods_have_the_same_fewer_rows(
    course: Path, tmp_path: Path
) -> None:
    plan = plans(orderings(["adapter_before"]), RECIPES, course, "random", Budget("steps", 30), 1, tmp_path)["R0"]
    limits = [
        {name: task["limit"] for name, task in run.content["tasks"].items()}
        for run in plan.runs({method.name: WHOLE for method in plan.methods})
    ]
    assert limits[0] == limits[1]
    assert limits[0]["quora"]["train"] < 136
