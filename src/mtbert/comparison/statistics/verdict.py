"""What may be said of a difference, by rule: better, worse, no difference larger than X, cannot be told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mtbert.comparison.statistics.power import ALPHA, fewest_for_a_verdict
from mtbert.comparison.statistics.resampling import Floats
from mtbert.comparison.statistics.significance import equivalence_test

FEWEST = 6  # five pairs cannot have a sign-flip p below 0.0625


class Word(StrEnum):
    """The four verdicts."""

    BETTER = "better"
    WORSE = "worse"
    ALIKE = "no difference larger than"
    UNTOLD = "cannot be told"


@dataclass(frozen=True)
class Verdict:
    """A word, the margin that it is about, and why it was chosen."""

    word: Word
    why: str
    margin: float | None = None

    def __str__(self) -> str:
        return self.word if self.margin is None else f"{self.word} {self.margin:g}"


def judge(differences: Floats, p: float, margin: float, *, planned: int, tests: int = 1) -> Verdict:
    """The verdict on the paired differences of S blocks, given their p, corrected for being one of so many tests.

    `margin` is the difference that would not matter, `planned` the number of blocks that was declared: who judges
    earlier may stop where it suits.
    """
    blocks = len(differences)
    if blocks < planned:
        return Verdict(Word.UNTOLD, f"{blocks} of {planned} blocks are done")
    if blocks < FEWEST:
        return Verdict(Word.UNTOLD, f"{blocks} pairs: below {FEWEST} no test over seeds can reach p < {ALPHA:g}")
    said = f"p = {p:.2g}" + (" after correction" if tests > 1 else "")
    if p < ALPHA:
        return Verdict(Word.BETTER if differences.mean() > 0 else Word.WORSE, said)
    alike = equivalence_test(differences, margin)
    if alike < ALPHA:
        return Verdict(Word.ALIKE, f"two one-sided tests, p = {alike:.2g}", margin)
    fewest = fewest_for_a_verdict(tests)
    short = f"; {blocks} pairs cannot reach p < {ALPHA:g} with {tests} tests, {fewest} could" if blocks < fewest else ""
    return Verdict(Word.UNTOLD, said + short)
