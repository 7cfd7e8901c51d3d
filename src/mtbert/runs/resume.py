"""Whether what goes on is still the run that was begun: the same recipe, data and tokenizer, and on what machine."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from typing import Any

from mtbert.errors import Mistake
from mtbert.recipe.schema import Recipe
from mtbert.runs.environment import bits_changes, changes, data_changes
from mtbert.runs.folder import ENVIRONMENT, RECIPE, Run
from mtbert.runs.listener import Listener

BOUND = ("data", "tokenizer")  # another one makes another experiment of a run
CHANGES = "changes"  # the key of environment.json under which a resumed run records what is no longer as it was


def commit_then(run: Run) -> str | None:
    """The hub's commit that a run's encoder came from, where it came from there."""
    encoder = run.environment.get("encoder")
    return encoder["commit"] if encoder else None


def check_recipe(run: Run, recipe: Recipe) -> None:
    """Raise Mistake where a run was begun with another recipe."""
    before, now = run.recipe().as_yaml(), recipe.as_yaml()
    changed = [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "+-"]
    if changed:
        said = "; ".join(f"{'now' if line[0] == '+' else 'then'}: `{line[2:].strip()}`" for line in changed[:2])
        again = ["mtbert", "train", str(run.folder / RECIPE), "--out", str(run.folder), "--resume"]
        raise Mistake(
            f"{run.folder} was begun with another recipe ({said}); `{shlex.join(again)}` goes on with that one, "
            "--overwrite begins anew"
        )


def check_environment(run: Run, now: Mapping[str, Any], force: bool, listener: Listener) -> None:
    """Raise Mistake where the data or the tokenizer changed, unless forced; say and record what changed otherwise.

    Of what only moves the last bits, such as the number of threads, the listener is told in one line.
    """
    recorded = run.environment
    then = _latest(recorded)
    wrong = data_changes(then.get("data", {}), now["data"])
    wrong += ["the encoder's tokenizer is another"] if "tokenizer" in changes(then, now, BOUND) else []
    if wrong and not force:
        raise Mistake(
            f"{run.folder} was begun with other data ({'; '.join(wrong)}); put it back, or --force goes on with what "
            f"there is now and records both in {ENVIRONMENT}, or --overwrite begins anew"
        )
    moved = bits_changes(then, now)
    if moved:
        listener.note(
            f"this is another environment than that of {run.folder} ({'; '.join(moved)}): the last bits may differ"
        )
    if wrong or moved:
        changed = changes(then, now, [name for name in now if name not in ("git", "parameters", "encoder")])
        run.write_json(ENVIRONMENT, {**recorded, CHANGES: [*recorded.get(CHANGES, []), changed]})


def _latest(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The environment that a run was last trained in."""
    then = {name: value for name, value in recorded.items() if name != CHANGES}
    for changed in recorded.get(CHANGES, []):
        then |= changed
    return then
