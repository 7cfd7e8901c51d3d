"""How far a stage is, as progress in [0, 1], where its length may be settled anew on the way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Progress rises evenly from where it was at step `since` to 1 at the last of `steps`.

    >>> pace = Pace(10)
    >>> pace.at(5), pace.settled(20, step=5).at(5), pace.settled(20, step=5).at(12.5), pace.settled(20, step=5).at(20)
    (0.5, 0.5, 0.75, 1.0)
    """

    steps: int
    since: int = 0
    progress: float = 0.0  # at step `since`

    def at(self, step: float) -> float:
        """How much of the stage is over when so many steps have been taken."""
        return self.progress + (1 - self.progress) * ((step - self.since) / (self.steps - self.since))

    def settled(self, steps: int, step: int) -> Pace:
        """The pace of a stage that turns out, after this step, to have so many steps in all."""
        return Pace(steps, step, self.at(step))
