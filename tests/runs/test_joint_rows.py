"""One file with several labels a row: one pass of the encoder for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, with_more_kinds, write_small_data


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """Two tasks of one Parquet file with gaps."""
    given = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    given["tasks"] = {name: given["tasks"][name] for name in ("stars", "topics")}
    given["encoder"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    for task in given["tasks"].values():
        task["dropout"] = 0.0
    given["stages"][0] |= {"sampler": "joint_rows", "batch_size": 8, "steps": 6, "evaluate_every": 3}
    return given


def test_a_run_on_shared_rows_goes_on_to_the_bit(recipe: dict[str, Any], tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(recipe, tmp_path, steps=4)


def test_every_row_with_a_label_is_learned_once_an_epoch_by_the_tasks_that_have_one(recipe: dict[str, Any]) -> None:
    trainer = build(read_recipe(recipe)).stage(0).trainer
    assert trainer.sampler.steps_per_epoch == 6  # of 48 rows, each of which has a label of one task at least
    seen: dict[str, list[int]] = {"stars": [], "topics": []}
    for _ in range(6):
        batches = {task: stream.draw() for task, stream in trainer.streams.items()}
        assert torch.equal(batches["stars"].tokens, batches["topics"].tokens)
        for task, batch in batches.items():
            assert batch.labelled is not None
            seen[task] += batch.rows[batch.labelled.numpy()].tolist()
    assert {task: sorted(rows) for task, rows in seen.items()} == {
        "stars": [row for row in range(48) if row % 5 != 4],
        "topics": [row for row in range(48) if row % 7 != 6],
    }


def test_the_loss_is_the_sum_of_the_tasks_losses_on_their_own_rows(recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(recipe))
    trainer = experiment.stage(0).trainer
    batches = [stream.draw() for stream in trainer.streams.values()]
    found = trainer.objective.of_rows(batches, 0.0)
    for batch in batches:
        assert batch.labelled is not None
        assert batch.targets is not None
        outputs = experiment.model(batch)[batch.labelled]  # a pass of its own
        expected = experiment.model.tasks[batch.task].losses(outputs, batch.targets).mean()
        torch.testing.assert_close(found[batch.task].total, expected)


def test_a_step_passes_the_encoder_once(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(read_recipe(recipe)).stage(0).trainer
    passes: list[str] = []
    embed = MultiTask.embed

    def counted(model: MultiTask, batch: Batch) -> Tensor:
        passes.append(batch.task)
        return embed(model, batch)

    monkeypatch.setattr(MultiTask, "embed", counted)
    trainer.take_step()
    assert len(passes) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"combiner": "pcgrad"}, "`combiner: sum`"),
        ({"regularizers": ["smart"]}, "no regularizers"),
        ({"batch_size": {"stars": 4, "topics": 8}}, "one `batch_size`"),
    ],
)
def test_what_does_not_go_with_shared_rows_is_said(recipe: dict[str, Any], change: dict[str, Any], words: str) -> None:
    recipe["stages"][0] |= change
    with pytest.raises(Mistake, match=words):
        build(read_recipe(recipe)).stage(0)


def test_tasks_of_other_files_or_with_modules_of_their_own_are_refused(recipe: dict[str, Any]) -> None:
    recipe["modules"] = [{"name": "adapter", "size": 4}]
    with pytest.raises(Mistake, match="need `shared: true`"):
        build(read_recipe(recipe)).stage(0)
    recipe["modules"] = []
    recipe["tasks"]["topics"]["train"] = "many-dev.parquet"
    with pytest.raises(Mistake, match="do not read the same columns of the same file"):
        build(read_recipe(recipe)).stage(0)
