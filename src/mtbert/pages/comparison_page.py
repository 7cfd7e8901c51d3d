"""The page of a comparison: what each method is worth beside the first, with intervals, verdicts and costs."""

from __future__ import annotations

from collections.abc import Sequence

from mtbert.comparison.contrasts import OVERALL, Contrast
from mtbert.comparison.pictures import pareto_front
from mtbert.comparison.result import Comparison
from mtbert.pages import drawing
from mtbert.pages.drawing import Span
from mtbert.pages.render import render
from mtbert.pages.run_page import Fact
from mtbert.pages.views import Shown


def comparison_page(comparison: Comparison) -> str:
    """The page as HTML."""
    first = comparison.rows[0].method
    points = [(row.costs["processor_seconds"], row.scores[OVERALL], row.method) for row in comparison.rows]
    front = pareto_front([(cost, score) for cost, score, _ in points])
    pareto = drawing.pareto("Overall beside its cost", points, front)
    tables = [
        ("Scores on the reporting rows", comparison.scores()),
        ("Differences by task", comparison.by_task()),
        ("Costs of a run", comparison.costs()),
        ("All that is known of every difference", comparison.in_full()),
    ]
    return render(
        "comparison.html",
        title=f"comparison with {first}",
        first=first,
        verdicts=[one for one in comparison.contrasts if one.measure == OVERALL],
        unfinished=comparison.unfinished,
        forests=_forests(comparison.contrasts, comparison.measures, first),
        pareto=Shown("Worth and cost", pareto, "On the stairs are those that none beats in both."),
        tables=[(name, table) for name, table in tables if table.cells],
        words=comparison.words(),
        commands=[Fact("made by", command) for command in comparison.commands],
    )


def _forests(contrasts: Sequence[Contrast], measures: Sequence[str], first: str) -> list[Shown]:
    found = []
    for measure in measures:
        spans = [Span(one.method, one.mean, *one.interval) for one in contrasts if one.measure == measure]
        if spans:
            title = f"{measure}: difference from {first}"
            body = drawing.intervals(title, spans, zero=0.0, form="+z.4f")
            found.append(Shown(measure, body, f"Difference from {first}, 95 % interval over seeds and rows."))
    return found
