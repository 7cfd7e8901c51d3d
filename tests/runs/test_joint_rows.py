"""One file with several labels a row: one pass of the encoder for all of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import mtbert
from mtbert.data import shared_rows
from mtbert.data.batches import Batch, tokens_of
from mtbert.data.tables import Rows, read_table
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.model.frozen import AnyModel
from mtbert.model.multitask import MultiTask
from mtbert.model.world import World
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.runs import data
from mtbert.runs.build import build
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.distillation import distance
from mtbert.training.regularizers.passes import Passes
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.trainer import StepLosses, Unstable
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, sentence, with_more_kinds, write_small_data


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


@pytest.mark.parametrize("sampler", ["joint_rows", "proportional"])
def test_the_tasks_of_a_table_go_on_to_the_bit_with_a_share_of_it_set_apart(
    recipe: dict[str, Any], sampler: str, tmp_path: Path
) -> None:
    labels = {name: {"kind": task["kind"], "dropout": 0.0} for name, task in recipe.pop("tasks").items()}
    recipe["table"] = {"text": "text", "train": "many-train.parquet", "dev": "20%", "missing": "skip", "labels": labels}
    recipe["stages"][0]["sampler"] = sampler
    assert_goes_on_to_the_bit(recipe, tmp_path, steps=4)


def test_every_row_with_a_label_is_learned_once_an_epoch_by_the_tasks_that_have_one(recipe: dict[str, Any]) -> None:
    trainer = build(read_recipe(recipe)).stage(0).trainer
    assert trainer.sampler.steps_per_epoch == 6  # of 48 rows, each of which has a label of one task at least
    with_label = {"stars": [row for row in range(48) if row % 5 != 4], "topics": [r for r in range(48) if r % 7 != 6]}
    seen: dict[str, list[int]] = {"stars": [], "topics": []}
    for _ in range(6):
        batches = {task: stream.draw() for task, stream in trainer.streams.items()}
        assert torch.equal(batches["stars"].tokens, batches["topics"].tokens)
        for task, batch in batches.items():
            assert batch.labelled is not None
            assert batch.own_rows.tolist() == batch.rows[batch.labelled.numpy()].tolist()
            seen[task] += [with_label[task][row] for row in batch.own_rows]
    assert {task: sorted(rows) for task, rows in seen.items()} == with_label


def test_the_loss_is_the_sum_of_the_tasks_losses_on_their_own_rows(recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(recipe))
    trainer = experiment.stage(0).trainer
    batches = [stream.draw() for stream in trainer.streams.values()]
    found = trainer.objective.of_rows(batches, 0.0)
    for batch in batches:
        torch.testing.assert_close(found[batch.task].total, by_itself(experiment.model, batch))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task of each batch that enters the encoder."""
    passes: list[str] = []
    embed = MultiTask.embed

    def counted(model: MultiTask, batch: Batch) -> Tensor:
        passes.append(batch.task)
        return embed(model, batch)

    monkeypatch.setattr(MultiTask, "embed", counted)
    return passes


@pytest.mark.parametrize(("sampler", "of_five"), [("joint_rows", 1), ("joint", 5)])
def test_five_labels_of_a_row_cost_one_pass_of_the_encoder_and_five_apart(
    tmp_path: Path, passes: list[str], sampler: str, of_five: int
) -> None:
    names = [f"label_{number}" for number in range(5)]
    columns = {name: [(row + number) % 3 for row in range(40)] for number, name in enumerate(names)}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": [sentence(i) for i in range(40)], **columns}), tmp_path / "data" / "rows.parquet")
    one = {"kind": "classification", "text": "text", "classes": 3, "train": "rows.parquet", "dev": "rows.parquet"}
    given = recipe_over(tmp_path / "data") | {"tasks": {name: {**one, "label": name} for name in names}}
    given["stages"][0] |= {"sampler": sampler, "combiner": "sum", "batch_size": 8}
    trainer = build(read_recipe(given)).stage(0).trainer
    for _ in range(3):
        trainer.take_step()
    assert len(passes) == 3 * of_five


def test_files_are_read_once_and_texts_tokenised_once_whichever_tasks_read_them(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, texts = Counter[str](), list[int]()

    def read(source: Any, *asked: Any) -> Any:
        files[Path(source).name] += 1
        return read_table(source, *asked)

    def tokens(rows: Rows, tokenizer: Tokenizer) -> Any:
        texts.append(len(rows))
        return tokens_of(rows, tokenizer)

    monkeypatch.setattr(data, "read_table", read)
    monkeypatch.setattr(shared_rows, "tokens_of", tokens)
    experiment = build(read_recipe(recipe))
    experiment.stage(0)
    assert files == {"many-train.parquet": 1, "many-dev.parquet": 1}
    assert texts == [47, 15]  # of train and dev, those that a task has a label for
    by_itself = build(read_recipe(recipe | {"tasks": {"topics": recipe["tasks"]["topics"]}}))
    for split, by_task in by_itself.sets.items():
        expected, found = by_task["topics"].batch([3, 1, 2]), experiment.sets[split]["topics"].batch([3, 1, 2])
        assert torch.equal(found.tokens, expected.tokens)
        assert torch.equal(found.mask, expected.mask)
        assert [t.flat.tolist() for t in experiment.sets[split]["topics"].tokens] == [
            t.flat.tolist() for t in by_task["topics"].tokens
        ]


def by_itself(model: AnyModel, batch: Batch) -> Tensor:
    """The loss of a task on the rows that have its label, from a pass of its own."""
    assert batch.labelled is not None
    assert batch.targets is not None
    return model.tasks[batch.task].losses(model(batch)[batch.labelled], batch.targets).mean()


def gradients(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """The gradients that are there, taken away."""
    found = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    for p in parameters.values():
        p.grad = None
    return found


def test_every_combiner_combines_the_gradients_that_passes_of_their_own_have(
    recipe: dict[str, Any], subtests: pytest.Subtests
) -> None:
    trainer = build(read_recipe(recipe)).stage(0).trainer
    model, batches = trainer.objective.model.train(), [stream.draw() for stream in trainer.streams.values()]
    for name in COMBINERS:
        with subtests.test(combiner=name):
            trainer.combiner = COMBINERS[name]()
            trainer.combiner.one_graph = True
            torch.manual_seed(3)
            trainer.combiner(StepLosses(trainer, batches, 0.0), trainer.learning)
            found = gradients(trainer.learning)
            torch.manual_seed(3)
            COMBINERS[name]()([(batch.task, by_itself(model, batch)) for batch in batches], trainer.learning)
            expected = gradients(trainer.learning)
            assert found.keys() == expected.keys()
            for parameter, gradient in expected.items():
                torch.testing.assert_close(found[parameter], gradient, rtol=1e-4, atol=1e-6)


def test_every_penalty_is_that_of_a_pass_of_its_own_over_the_same_rows(
    recipe: dict[str, Any], subtests: pytest.Subtests
) -> None:
    trainer = build(read_recipe(recipe)).stage(0).trainer
    objective, batches = trainer.objective, [stream.draw() for stream in trainer.streams.values()]
    objective.model.train()
    for name in REGULARIZERS:
        with subtests.test(regularizer=name):
            objective.regularizers = {name: REGULARIZERS[name](**REGULARIZERS.complete(name, {}))}
            objective.start()
            torch.manual_seed(3)
            found = objective.of_rows(batches, 0.5)
            torch.manual_seed(3)
            for batch in batches:  # in their order, as noise is drawn in it
                loss, penalties = objective._terms(batch, 0.5)
                terms = {"loss": loss, **penalties}
                assert name in terms
                assert found[batch.task].terms == pytest.approx(
                    {term: value.item() for term, value in terms.items()}, rel=1e-3
                )


def test_masks_of_a_pass_that_tasks_share_can_be_drawn_again_for_each_of_them(recipe: dict[str, Any]) -> None:
    recipe["encoder"] |= {"dropout": 0.2}
    for task in recipe["tasks"].values():
        task["dropout"] = 0.5
    trainer = build(read_recipe(recipe)).stage(0).trainer
    model = trainer.objective.model.train()
    assert isinstance(model, MultiTask)
    of_tasks = Passes.together(model, [stream.draw() for stream in trainer.streams.values()])
    for one in of_tasks:
        side = one.under("same_mask", 1.0)
        assert torch.equal(side.again(side.clean.states[0]).outputs, one.clean.outputs)


@pytest.mark.parametrize(
    ("modules", "count"), [([{"name": "adapter", "size": 4}], 2), ([{"name": "adapter", "size": 4, "shared": True}], 1)]
)
def test_tasks_with_modules_of_their_own_have_a_pass_of_their_own_over_the_same_rows(
    recipe: dict[str, Any], passes: list[str], modules: Any, count: int
) -> None:
    recipe["modules"] = modules
    trainer = build(read_recipe(recipe)).stage(0).trainer
    batches = [stream.draw() for stream in trainer.streams.values()]
    model = trainer.objective.model
    found = {
        task: loss
        for some in trainer.objective.sharing(batches)
        for task, loss in trainer.objective.of_rows(some, 0.0).items()
    }
    assert len(passes) == count
    for batch in batches:
        expected = by_itself(model, batch)
        torch.testing.assert_close(found[batch.task].total, expected)


def test_tasks_of_another_length_read_the_same_rows_each_as_far_as_it_does(recipe: dict[str, Any]) -> None:
    recipe["tasks"]["topics"]["max_length"] = 8
    trainer = build(read_recipe(recipe)).stage(0).trainer
    stars, topics = (stream.draw() for stream in trainer.streams.values())
    assert torch.equal(stars.tokens[:, :4], topics.tokens[:, :4])
    assert [len(some) for some in trainer.objective.sharing([stars, topics])] == [1, 1]
    trainer.take_step()


@pytest.mark.parametrize("sampler", ["joint_rows", "joint"])
def test_teachers_are_asked_of_all_rows_that_are_drawn_with_a_label_or_without(
    recipe: dict[str, Any], tmp_path: Path, sampler: str
) -> None:
    teacher = mtbert.train(recipe, out=tmp_path / "teacher")
    recipe["stages"][0] |= {"sampler": sampler, "distill": {"teachers": [str(teacher.folder)], "share": 0.25}}
    experiment = build(read_recipe(recipe))
    trainer = experiment.stage(0).trainer
    trainer.begin()
    experiment.model.eval()
    batches = [stream.draw() for stream in trainer.streams.values()]
    gaps = [len(batch) - len(batch.own_rows) for batch in batches]
    assert any(gaps) == (sampler == "joint_rows")
    model = load_model(teacher.folder / "best")[0].eval()
    found = (
        trainer.objective.of_rows(batches, 0.0)
        if sampler == "joint_rows"
        else {batch.task: trainer.objective(batch, 0.0) for batch in batches}
    )
    for batch in batches:
        task, ours, theirs = model.tasks[batch.task], experiment.model(batch), model(batch)
        have = batch.labelled if batch.labelled is not None else torch.arange(len(batch))
        assert batch.targets is not None
        total = 0.75 * task.losses(ours[have], batch.targets).sum() + 0.25 * distance(task, ours, theirs, 1.0).sum()
        assert found[batch.task].terms["loss"] == pytest.approx(total.item() / len(batch), rel=1e-4)
    if sampler == "joint_rows":  # a row that has no label of `stars` feeds both tasks all the same
        stars, topics = (stream.examples.batch([4]) for stream in trainer.streams.values())
        assert (len(stars.own_rows), len(topics.own_rows)) == (0, 1)
        assert trainer.objective.sharing([stars, topics]) == [[stars, topics]]


def test_the_dry_run_of_such_a_stage_counts_its_batches_and_shows_the_losses(recipe: dict[str, Any]) -> None:
    recipe["stages"][0] |= {"batch_size": 1, "regularizers": ["smart"]}
    (stage,) = check(build(read_recipe(recipe))).stages
    assert stage.batches == {"stars": 6, "topics": 6}
    assert all(math.isfinite(loss) for loss in stage.first_losses.values())
    assert stage.gradient_shares.keys() == {"stars", "topics"}


def test_such_a_stage_with_surgery_penalties_modules_and_observers_goes_on_to_the_bit(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["modules"] = [{"name": "adapter", "size": 4, "tasks": ["stars"]}]
    recipe["stages"][0] |= {
        "combiner": "pcgrad",
        "regularizers": ["smart", "r_drop"],
        "weighting": "famo",
        "observe": [{"name": "conflict", "every": 2}, {"name": "affinity", "every": 3}],
    }
    recipe["encoder"] |= {"dropout": 0.1}
    assert_goes_on_to_the_bit(recipe, tmp_path, steps=4)


def test_a_row_on_which_training_diverges_is_named_by_its_id_in_the_tasks_own_file(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["stages"][0] |= {"optimizer": {"lr": 1e30}, "clip": None, "batch_size": 48}
    with pytest.raises(Unstable) as found:
        mtbert.train(recipe, out=tmp_path / "run")
    ids = {int(one) for said in re.findall(r"ids \[([\d, ]+)\]", str(found.value))[:1] for one in said.split(", ")}
    assert ids == {row for row in range(48) if row % 5 != 4}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": "heads"}, "needs the encoder, not features computed once: set `cache_features: false`"),
        ({"batch_size": {"stars": 4, "topics": 8}}, "one `batch_size`"),
    ],
)
def test_what_does_not_go_with_shared_rows_is_said(recipe: dict[str, Any], change: dict[str, Any], words: str) -> None:
    recipe["stages"][0] |= change
    with pytest.raises(Mistake, match=words):
        build(read_recipe(recipe)).stage(0)


def test_tasks_of_other_files_are_refused_and_so_are_several_processes(recipe: dict[str, Any]) -> None:
    several = World()
    several.size = 2
    with pytest.raises(Mistake, match="trains in one process, and 2 train here"):
        build(read_recipe(recipe)).stage(0, several)
    recipe["tasks"]["topics"]["train"] = "many-dev.parquet"
    with pytest.raises(Mistake, match="do not read the same columns of the same file"):
        build(read_recipe(recipe)).stage(0)
