"""A search over a tiny recipe: resumed after kills, pruned, and refused where it makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages.journal import JournalFileBackend, JournalStorage

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Step
from mtbert.scoring.evaluation import Scores
from mtbert.search.search import Asked, score_of, search
from mtbert.search.space import Ends, read_space
from mtbert.training.trainer import Record
from tests.support.cut_off import Killed
from tests.support.small import recipe_over, write_small_data

SPACE = {
    "stages.0.optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "tasks.*.dropout": [0.0, 0.5],
    "stages.0.batch_size": {"low": 4, "high": 12, "step": 4},
}


class KillAt(Listener):
    """Ends the process after so many steps of all trials together."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, record: Record) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def asked(folder: Path, trials: int, space: dict[str, Any] = SPACE, **options: Any) -> Asked:
    if not (folder / "data").exists():
        write_small_data(folder / "data")
    recipe = recipe_over(folder / "data")
    recipe["stages"][0] |= {"steps": 4, "evaluate_every": 2}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    return Asked(folder / "recipe.yaml", folder / "space.yaml", trials, **options)


def journal(out: Path) -> list[tuple[int, str, dict[str, Any], float | None]]:
    storage = JournalStorage(JournalFileBackend(str(out / "journal.log")))
    study = optuna.load_study(study_name="search", storage=storage)
    return [(trial.number, trial.state.name, trial.params, trial.value) for trial in study.trials]


def test_a_search_killed_twice_is_the_one_that_nothing_disturbed(tmp_path: Path) -> None:
    wanted = asked(tmp_path, trials=7, finalists=1, seeds=2)
    whole = search(wanted, tmp_path / "whole")
    for steps in (6, 9):
        with pytest.raises(Killed):
            search(wanted, tmp_path / "cut", KillAt(steps))
    cut = search(wanted, tmp_path / "cut")
    assert journal(tmp_path / "cut") == journal(tmp_path / "whole")
    assert [number for number, *_ in journal(tmp_path / "cut")] == list(range(7))
    assert (cut.done, cut.evaluations) == (whole.done, whole.evaluations)
    assert cut.finalists == whole.finalists
    assert (tmp_path / "cut" / "best.yaml").read_text() == (tmp_path / "whole" / "best.yaml").read_text()
    best = max(value for _, state, _, value in journal(tmp_path / "whole") if state == "COMPLETE" and value is not None)
    assert whole.finalists[0].scores[0] == best
    assert len(whole.finalists[0].scores) == 2
    chosen = read_recipe(tmp_path / "whole" / "best.yaml")
    params = journal(tmp_path / "whole")[whole.finalists[0].trial][2]
    assert chosen.stages[0].optimizer.options["lr"] == params["stages.0.optimizer.lr"]
    assert {task.dropout for task in chosen.tasks.values()} == {float(params["tasks.*.dropout"])}
    page = (tmp_path / "whole" / "search.md").read_text()
    assert f"scored on dev {whole.evaluations} times" in page
    assert (tmp_path / "whole" / "parallel.png").exists()
    assert not list((tmp_path / "whole").rglob("*.safetensors"))
    # once more: nothing is left to do
    assert search(wanted, tmp_path / "whole", KillAt(1)).finalists == whole.finalists


def test_a_trial_below_the_median_is_ended_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mtbert.runs.stage

    seen: list[int] = []

    def evaluate(model: Any, sets: Any, world: Any) -> Scores:
        seen.append(1)
        value = 1.0 - 0.01 * len(seen)  # every trial worse than all before
        metrics = {name: {task.main: value} for name, task in model.tasks.items()}
        return Scores(metrics, dict.fromkeys(model.tasks, value))

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)
    found = search(asked(tmp_path, trials=7, finalists=1, seeds=1), tmp_path / "out")
    assert (found.done, found.pruned) == (7, 2)
    states = [state for _, state, *_ in journal(tmp_path / "out")]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * 2
    steps = [len(list(Run(tmp_path / "out" / "trials" / f"{one:04d}").log.only(Step))) for one in range(7)]
    assert steps == [4] * 5 + [2] * 2
    assert found.evaluations == len(seen)


def test_trials_are_judged_by_any_measure_of_a_recipe_and_of_errors_less_is_better(tmp_path: Path) -> None:
    wanted = asked(tmp_path, trials=1, finalists=1, seeds=1, overrides=["tasks.near.metric=rmse", "overall={same: 2}"])
    search(wanted, tmp_path / "out")
    run = Run(tmp_path / "out" / "trials" / "0000")
    dev = run.scores["dev"]["tasks"]
    mood, same, near = dev["mood"]["accuracy"], dev["same"]["accuracy"], 1 - dev["near"]["rmse"] / 5
    assert score_of(run, "near") == score_of(run, "near.rmse") == pytest.approx(near)
    assert score_of(run, "mood.macro_f1") == dev["mood"]["macro_f1"]
    assert score_of(run, "mean") == pytest.approx((mood + same + near) / 3)
    assert score_of(run, "overall") == pytest.approx((mood + 2 * same + near) / 4)


def test_minutes_stop_a_search_that_can_go_on(tmp_path: Path) -> None:
    found = search(asked(tmp_path, trials=2, minutes=1e-6), tmp_path / "out")
    assert (found.done, found.finalists) == (0, [])
    assert found.stopped is not None
    assert not (tmp_path / "out" / "best.yaml").exists()
    assert search(asked(tmp_path, trials=2, finalists=1, seeds=1), tmp_path / "out").done == 2


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"stages.0.optimizer.rate": [1, 2]}, "unknown option of optimizer 'adamw': 'rate'"),
        ({"stages.4.batch_size": [1, 2]}, "stages.4.batch_size=1 makes no recipe"),
        ({"stages.0.batch_size": {"low": 0, "high": 8}}, "stages.0.batch_size=0 makes no recipe"),
        ({"seed": 5}, "space.yaml, line 1: seed: holds 5"),
        ({"seed": [5]}, "two different choices"),
        ({"seed": {"low": 5}}, "high: field required"),
        ({"seed": {"low": 5, "high": 5}}, "low is below high"),
        ({"tasks.*.dropout": {"low": 0.0, "high": 0.5, "log": True}}, "above 0"),
        ({}, "names no key"),
    ],
)
def test_a_space_that_makes_no_sense_is_a_mistake_before_anything_is_written(
    tmp_path: Path, space: dict[str, Any], said: str
) -> None:
    with pytest.raises(Mistake) as refusal:
        search(asked(tmp_path, 2, space), tmp_path / "out")
    assert said in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(Mistake, match=r"holds no search \(it holds thesis\.txt\)"):
        search(asked(tmp_path, 2), tmp_path / "out")
    search(asked(tmp_path, 1, finalists=1, seeds=1), tmp_path / "there")
    other = {**SPACE, "tasks.*.dropout": [0.0, 0.25]}
    with pytest.raises(Mistake, match="holds a search over another recipe or space"):
        search(asked(tmp_path, 1, other), tmp_path / "there")


def test_a_space_reads_whole_numbers_numbers_and_choices(tmp_path: Path) -> None:
    asked(tmp_path, 1)
    by_key = {one.key: one.values for one in read_space(tmp_path / "space.yaml")}
    assert by_key == {
        "stages.0.optimizer.lr": Ends(low=1e-5, high=0.1, log=True),
        "tasks.*.dropout": ["0.0", "0.5"],
        "stages.0.batch_size": Ends(low=4, high=12, step=4),
    }
