"""Contrasts of methods whose predictions are made up."""

from __future__ import annotations

import numpy as np

from mtbert.comparison.contrasts import OVERALL, Samples, contrasts
from mtbert.comparison.measured import Measured
from mtbert.comparison.outcomes import Outcome
from mtbert.data.kinds.classification import Classification

MOOD = Classification(name="mood", text="text", label="label", classes=3)
ROWS, BLOCKS = 60, 7


def outcome(method: str, block: int, labels: np.ndarray) -> Outcome:
    """A method that is right in about two rows of three."""
    generator = np.random.default_rng([block, *method.encode()])
    said = np.where(generator.random(ROWS) < 0.6, labels, generator.integers(0, 3, ROWS).astype(float))
    metrics = {"mood": MOOD.metrics(said, labels)}
    run = Measured(
        run=f"{method}-block-{block}",
        method=method,
        candidate="all",
        part="all",
        block=block,
        seed=100 * block,
        reported=metrics,
        selected=metrics,
        last=metrics,
        kept_at=(0, 1),
        steps=1,
        examples=8,
        wall_seconds=1.0,
        processor_seconds=1.0,
        parameters=10,
        failure=None,
    )
    return Outcome([run], {"mood": said})


def test_a_check_is_judged_as_the_one_test_that_it_is() -> None:
    labels = np.random.default_rng(1).integers(0, 3, ROWS).astype(float)
    methods = ["plain", "a", "b", "c", "d", "plain again"]
    outcomes = {method: [outcome(method, block, labels) for block in range(1, BLOCKS + 1)] for method in methods}
    samples = Samples({"mood": MOOD}, [{"mood": labels}], outcomes, [0] * BLOCKS)
    found = contrasts(samples, methods[1:], "plain", 1e-6, BLOCKS, ["plain again"])
    why = {one.method: one.verdict.why for one in found if one.measure == OVERALL}
    assert why["a"].endswith("after correction; 7 pairs cannot reach p < 0.05 with 4 tests, 8 could")
    [check] = [one for one in found if one.measure == OVERALL and one.method == "plain again"]
    assert check.p_corrected == check.p
    assert check.verdict.why == f"p = {check.p:.2g}"
