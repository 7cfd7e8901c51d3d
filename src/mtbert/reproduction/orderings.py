"""What the reports claim of the order of their methods, each claim a comparison of its own with a verdict by rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from rich.console import RenderableType

from mtbert.comparison.budget import Budget
from mtbert.comparison.compare import compare, sampled
from mtbert.comparison.contrasts import Samples
from mtbert.comparison.declare import Asked, declare, training_rows
from mtbert.comparison.execution import Told
from mtbert.comparison.methods import Method, content_of, plain
from mtbert.comparison.plan import Plan
from mtbert.comparison.statistics.intervals import Interval, crossed_interval
from mtbert.comparison.statistics.resampling import Floats
from mtbert.comparison.statistics.significance import sign_flip_test
from mtbert.comparison.statistics.verdict import FEWEST, Verdict, Word, judge
from mtbert.comparison.written import csv_text, markdown
from mtbert.errors import Mistake, unknown
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.reports.base import Report, grid
from mtbert.reports.base import plain as prose
from mtbert.reproduction.rows import chosen
from mtbert.reproduction.sized import share_of_rows, with_share
from mtbert.runs.listener import Listener
from mtbert.runs.writing import write_whole

CLAIMS = Path(__file__).parent / "orderings.yaml"
MARGIN = 0.01


class Ruling(StrEnum):
    """What may be said of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNTOLD = "cannot be told"


OF_A_WORD = {Word.BETTER: Ruling.HOLDS, Word.WORSE: Ruling.FAILS, Word.ALIKE: Ruling.FAILS, Word.UNTOLD: Ruling.UNTOLD}


@dataclass(frozen=True)
class Ordering:
    """A claim about the order of some rows of one report."""

    name: str
    claim: str
    source: str
    report: str
    methods: Mapping[str, Sequence[str]]  # name -> a row, REPORT/ROW, and overrides of its recipe
    measure: str
    holds_if: Sequence[Sequence[str]]  # sums of methods, `-` before what is taken away, that are to be above 0

    def signed(self, terms: Sequence[str]) -> list[tuple[int, str]]:
        """The methods of a sum with their signs, by the names that they have among all of the report."""
        return [(-1 if term.startswith("-") else 1, named(self.methods[term.removeprefix("-")])) for term in terms]

    def words(self, terms: Sequence[str]) -> str:
        """A sum as a person reads it: split1_10ep - baseline_10ep."""
        return " ".join(f"{'-' if sign < 0 else '+'} {one}" for sign, one in self.signed(terms)).removeprefix("+ ")


def named(method: Sequence[str]) -> str:
    """A row and its overrides as one name: the same in every ordering that has it."""
    return " ".join(method).partition("/")[2]


def orderings(asked: Sequence[str] = ()) -> list[Ordering]:
    """The claims of these names, all where none is named; raises Mistake for a name that there is not."""
    found = {name: Ordering(name, **given) for name, given in yaml.safe_load(CLAIMS.read_text("utf-8")).items()}
    for name in asked:
        if name not in found:
            raise Mistake(unknown("ordering", name, found))
    return [one for name, one in found.items() if not asked or name in asked]


def plans(
    claims: Sequence[Ordering],
    recipes: Path,
    data: Path | None,
    encoder: str | None,
    budget: Budget,
    seeds: int,
    folder: Path,
) -> dict[str, Plan]:
    """Report -> the plan of what these claims need of it, each method once.

    `encoder` stands in place of the recipes' own, None for that. Declared is what all claims of a report need, so that
    a folder can be asked for one claim after another. Raises Mistake where a recipe is not there, the budget is too
    small, or the folder holds another comparison.
    """
    common = [] if encoder is None else [f"encoder.name={encoder}"]
    found = {}
    for report in dict.fromkeys(claim.report for claim in claims):
        methods = {
            named(method): method
            for claim in orderings()
            if claim.report == report
            for method in claim.methods.values()
        }
        given = {name: _recipe(method, recipes, data, common) for name, method in methods.items()}
        plan = declare(Asked(_methods(given, budget), seeds, budget, margin=MARGIN), folder / report)
        asked = {named(method) for claim in claims for method in claim.methods.values()}
        found[report] = replace(plan, methods=[method for method in plan.methods if method.name in asked])
    return found


def _recipe(method: Sequence[str], recipes: Path, data: Path | None, common: Sequence[str]) -> Recipe:
    row, *overrides = method
    [path] = chosen([row])[0].files(recipes).values()
    return read_recipe(path, [*overrides, *common], data)


def _methods(recipes: Mapping[str, Recipe], budget: Budget) -> list[Method]:
    """The methods, all with the same share of the rows: the smallest that the budget leaves to any of them."""
    contents = {name: content_of(recipe) for name, recipe in recipes.items()}
    rows = training_rows(next(iter(recipes.values())))
    share = min(share_of_rows(content, rows, budget, name) for name, content in contents.items())
    return [plain(name, with_share(content, rows, share)) for name, content in contents.items()]


def run(declared: Mapping[str, Plan], folder: Path, command: str, listener: Listener, told: Told) -> str | None:
    """Run what the plans lack, report after report; the reason where the listener asked to stop before all was done."""
    for report, plan in declared.items():
        reason = compare(plan, folder / report, command, listener, told)
        if reason is not None:
            return reason
    return None


@dataclass(frozen=True)
class Claims(Report):
    """What can be asked for, before anything runs."""

    claims: Sequence[Ordering]

    def as_dict(self) -> dict[str, Any]:
        return {"orderings": [asdict(claim) for claim in self.claims]}

    def shown(self) -> Iterable[RenderableType]:
        for one in self.claims:
            sums = " and ".join(f"{one.words(terms)} > 0" for terms in one.holds_if)
            yield prose(f"{one.name}: {one.claim} ({one.source})\n  holds if, by {one.measure}, {sums}")


@dataclass(frozen=True)
class Finding:
    """One sum of a claim, measured."""

    ordering: str
    claim: str
    source: str
    difference: str  # of what, in words
    measure: str
    seeds: int
    mean: float
    interval: Interval  # 95 %, over new seeds and new rows
    p: float  # of a sign-flip test over seeds
    verdict: Verdict

    @classmethod
    def of(cls, ordering: Ordering, terms: Sequence[str], samples: Samples, planned: int) -> Self:
        signed = ordering.signed(terms)
        differences: Floats = np.sum([sign * samples.observed(ordering.measure, one) for sign, one in signed], axis=0)
        on_samples: Floats = np.sum([sign * samples.drawn(ordering.measure, one) for sign, one in signed], axis=0)
        p = sign_flip_test(differences)
        return cls(
            ordering.name,
            ordering.claim,
            ordering.source,
            ordering.words(terms),
            ordering.measure,
            len(differences),
            float(differences.mean()),
            crossed_interval(differences, on_samples, np.random.default_rng(0)),
            p,
            judge(differences, p, MARGIN, planned=planned),
        )


@dataclass(frozen=True)
class Orderings(Report):
    """Every claim asked for and what may be said of it."""

    budget: str
    command: str
    claims: list[Ordering]
    findings: list[Finding]

    @classmethod
    def of(cls, claims: Sequence[Ordering], declared: Mapping[str, Plan], folder: Path, command: str) -> Self:
        """What the results in a folder say; claims without a whole block have no finding yet."""
        samples = {report: sampled(plan, folder / report) for report, plan in declared.items()}
        findings = [
            Finding.of(claim, terms, found, declared[claim.report].blocks)
            for claim in claims
            if (found := samples[claim.report]) is not None
            for terms in claim.holds_if
        ]
        budget = next(iter(declared.values())).asked["budget"]
        return cls(budget, command, list(claims), findings)

    def ruling(self, claim: Ordering) -> Ruling:
        """A claim holds if all of its sums are above 0, and does not hold if one of them is not."""
        found = {OF_A_WORD[one.verdict.word] for one in self.findings if one.ordering == claim.name} or {Ruling.UNTOLD}
        return next(ruling for ruling in (Ruling.FAILS, Ruling.UNTOLD, Ruling.HOLDS) if ruling in found)

    def as_dict(self) -> dict[str, Any]:
        return {
            "budget": self.budget,
            "command": self.command,
            "orderings": [
                asdict(claim)
                | {
                    "verdict": self.ruling(claim),
                    "findings": [asdict(one) for one in self.findings if one.ordering == claim.name],
                }
                for claim in self.claims
            ],
        }

    def shown(self) -> Iterable[RenderableType]:
        yield from map(prose, self.words())
        if not self.findings:
            return
        yield prose("")
        head, *rows = [[name, *numbers] for name, _, *numbers in self.table()]
        yield grid(head[0], head[1:], [row[0] for row in rows], [row[1:] for row in rows])

    def words(self) -> list[str]:
        """The claims, each with its verdict."""
        return [
            *(f"{claim.claim} ({claim.source}): {self.ruling(claim)}" for claim in self.claims),
            f"budget: {self.budget}; a claim holds where p is below 0.05 over {FEWEST} seeds or more, and does not "
            f"hold where the order is the other way round or within {MARGIN:g}; each claim is a question of its own, "
            "so that no correction is made for their number",
            f"made by: {self.command}",
        ]

    def table(self) -> list[list[str]]:
        """Head and rows: the measured differences."""
        rows = [
            [
                one.ordering,
                one.difference,
                one.measure,
                str(one.seeds),
                f"{one.mean:+z.4f}",
                f"{one.interval.low:+z.4f} to {one.interval.high:+z.4f}",
                f"{one.p:z.3f}",
                str(one.verdict),
            ]
            for one in self.findings
        ]
        return [["ordering", "difference", "measure", "seeds", "mean", "95 % interval", "p", "verdict"], *rows]

    def write(self, folder: Path) -> list[Path]:
        """orderings.md, orderings.csv and orderings.json; their paths."""
        files = {
            "orderings.md": (markdown(self.table()) + "\n\n" if self.findings else "")
            + "\n".join(f"- {line}" for line in self.words())
            + "\n",
            "orderings.csv": csv_text(self.table()),
            "orderings.json": json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n",
        }
        for name, content in files.items():
            write_whole(folder / name, content)
        return [folder / name for name in files]
