"""Texts without labels beside those that have one: what a stage with `distill` learns from them, worked out by hand."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit, log_softmax, logit, rel_entr, softmax

import mtbert
from mtbert.comparison.baselines import APART, SUM, WEIGHTS, baselines
from mtbert.comparison.budget import lengths, spent
from mtbert.comparison.methods import WHOLE, Method, content_of
from mtbert.data.batches import Batch, Examples, Stream
from mtbert.data.kinds.table import KINDS
from mtbert.data.samplers.table import SAMPLERS
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.runs.build import Experiment, build
from mtbert.runs.folder import Run
from mtbert.runs.log import Step
from mtbert.training.objective import Objective
from mtbert.training.trainer import Trainer
from tests.support.cases import each
from tests.support.cut_off import Kill, Killed, assert_same_run
from tests.support.screen import shown_lines
from tests.support.small import recipe_over, sentence, with_more_kinds, write_small_data

MORE = 24  # texts without a label


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data, and beside it a file of texts for every task."""
    folder = write_small_data(tmp_path_factory.mktemp("unlabelled") / "data")
    rows = range(300, 300 + MORE)
    # a column of labels is there and holds none
    texts = [f"{i}\t{sentence(i)}\tunknown" for i in rows]
    (folder / "mood-more.tsv").write_text("\n".join(["id\ttext\tmood", *texts]) + "\n")
    pairs = [f'"{sentence(i)}, {sentence(i + 1)}",{sentence(i + 2)}' for i in rows]
    (folder / "same-more.csv").write_text("\n".join(["first,second", *pairs]) + "\n")
    near = [{"a": sentence(i), "b": sentence(i + 3)} for i in rows]
    (folder / "near-more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in near))
    longer = [f"{sentence(i)} {sentence(i + 4)}" for i in rows]  # the longest of a batch has no label
    pq.write_table(pa.table({"text": longer, "words": [text.split() for text in longer]}), folder / "many-more.parquet")
    return folder


@pytest.fixture(scope="module")
def teachers(data: Path) -> list[Run]:
    recipe = every_kind(data)
    recipe["stages"][0] |= {"steps": 6, "evaluate_every": 6, "optimizer": {"lr": 0.01}}
    return [mtbert.train(recipe | {"seed": seed}, out=data.parent / f"teacher{seed}") for seed in (1, 2)]


FILES = {"mood": "mood-more.tsv", "same": "same-more.csv", "near": "near-more.jsonl"}


def every_kind(data: Path) -> dict[str, Any]:
    recipe = with_more_kinds(recipe_over(data))
    recipe["tasks"]["tags"] = copy.deepcopy(recipe["tasks"]["names"]) | {"scheme": "none"}
    recipe["encoder"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    for task in recipe["tasks"].values():
        task["dropout"] = 0.0
    return recipe


def recipe_of(teachers: list[Run], share: Any = 0.25, tasks: Any = None, **stage: Any) -> dict[str, Any]:
    """A recipe whose tasks all have texts without labels, and whose stage distils."""
    recipe = every_kind(teachers[0].folder.parent / "data")
    recipe["tasks"] = {name: task for name, task in recipe["tasks"].items() if tasks is None or name in tasks}
    for name, task in recipe["tasks"].items():
        task["unlabelled"] = FILES.get(name, "many-more.parquet")
    distill = {"teachers": [str(run.folder) for run in teachers], "share": share}
    recipe["stages"][0] |= {"steps": 8, "evaluate_every": 4, "distill": distill} | stage
    return recipe


class Student:
    """A stage before its first step, in evaluation mode, and its teachers beside."""

    def __init__(self, recipe: dict[str, Any], teachers: list[Run]) -> None:
        self.experiment: Experiment = build(read_recipe(recipe))
        self.trainer: Trainer = self.experiment.stage(0).trainer
        self.trainer.begin()
        self.model = self.experiment.model.eval()
        self.teachers = [load_model(run.folder / "best")[0].eval() for run in teachers]

    def batch(self, task: str, rows: list[int]) -> Batch:
        return self.trainer.streams[task].examples.batch(rows)

    def labelled(self, task: str) -> int:
        return len(self.experiment.sets["train"][task])

    def loss(self, batch: Batch, progress: float = 0.0) -> float:
        return self.trainer.objective(batch, progress).terms["loss"]

    @torch.no_grad()
    def outputs(self, batch: Batch) -> tuple[np.ndarray, list[np.ndarray]]:
        """Those of the student, and those of each teacher, in float64."""
        return self.model(batch).double().numpy(), [one(batch).double().numpy() for one in self.teachers]


def by_hand(kind: str, ours: np.ndarray, theirs: list[np.ndarray]) -> np.ndarray:
    """The distance of each example from the mean of the teachers, by numpy and scipy: (B, ...) -> (B,)."""
    if kind == "classification":
        return rel_entr(np.mean([softmax(one, axis=1) for one in theirs], axis=0), softmax(ours, axis=1)).sum(1)
    if kind == "regression":
        return np.square(ours - np.mean(theirs, axis=0))[:, 0]
    if kind == "multilabel":
        p, q = expit(ours), np.mean([expit(one) for one in theirs], axis=0)
        return ((p - q) * (logit(p) - logit(q))).mean(1)
    if kind == "ordinal":
        p, q = shares_of_corn(ours), np.mean([shares_of_corn(one) for one in theirs], axis=0)
        return ((p - q) * (np.log(p) - np.log(q))).sum(1)
    assert kind == "tokens"
    there = ours[..., 0] > 0
    log_q = np.log(np.mean([softmax(one[..., 1:], axis=-1) for one in theirs], axis=0))
    log_p = log_softmax(ours[..., 1:], axis=-1)
    by_word = ((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(-1)
    return np.where(there, by_word, 0).sum(1) / there.sum(1)


def shares_of_corn(outputs: np.ndarray) -> np.ndarray:
    """The classes' probabilities where each output says whether a class is passed, given that it is reached."""
    above = expit(outputs).cumprod(axis=1)
    return -np.diff(np.pad(above, [(0, 0), (1, 1)], constant_values=[(0, 0), (1, 0)]), axis=1)


@pytest.fixture(scope="module")
def student(teachers: list[Run]) -> Student:
    return Student(recipe_of(teachers), teachers)


TASK_OF = {"classification": "mood", "regression": "near", "ordinal": "stars", "multilabel": "topics", "tokens": "tags"}


@each(kind=KINDS, rows=[[0, 1, 2, 3], [1, -1, 5, -2, -7, 9], [-1, -2, -3]])
def test_the_loss_is_the_mean_over_labelled_and_unlabelled_rows(student: Student, kind: str, rows: list[int]) -> None:
    name = TASK_OF[kind]
    task, count = student.model.tasks[name], student.labelled(name)
    batch = student.batch(name, [row if row >= 0 else count - 1 - row for row in rows])  # below 0: those behind
    assert batch.own_rows.tolist() == [row for row in rows if row >= 0]
    ours, theirs = student.outputs(batch)
    soft = by_hand(kind, ours, theirs)
    hard = np.zeros(len(rows))
    for place, row in enumerate(rows):  # each labelled row in a batch of its own, of the plain training set
        if row >= 0:
            alone = student.experiment.sets["train"][name].batch([row])
            assert alone.targets is not None
            with torch.no_grad():
                hard[place] = task.losses(student.model(alone), alone.targets).item()
    weights = np.array([0.75 if row >= 0 else 0.0 for row in rows])
    expected = (weights * hard + 0.25 * soft).mean()
    assert student.loss(batch) == pytest.approx(expected, rel=1e-4)
    assert soft.min() > 0


def test_with_a_share_of_0_unlabelled_rows_count_as_0(teachers: list[Run]) -> None:
    ours = Student(recipe_of(teachers, share={"name": "linear", "value": 1.0, "warmup": 0}, tasks=["mood"]), teachers)
    plain = recipe_of(teachers, tasks=["mood"])
    del plain["stages"][0]["distill"], plain["tasks"]["mood"]["unlabelled"]
    hard = build(read_recipe(plain)).stage(0).trainer.objective
    hard.model.load_state_dict(ours.model.state_dict())
    hard.model.eval()
    of_labels = hard(build(read_recipe(plain)).sets["train"]["mood"].batch([3, 9, 27]), 1.0).terms["loss"]
    assert ours.loss(ours.batch("mood", [3, 9, 27, 41, 50]), progress=1.0) == pytest.approx(3 / 5 * of_labels)
    assert ours.loss(ours.batch("mood", [41, 50]), progress=1.0) == 0


@each(divisor=[None, 9], size=[1, 5, 8], task=["mood", "near", "names"])
def test_the_parts_of_a_batch_make_up_the_whole(student: Student, divisor: int | None, size: int, task: str) -> None:
    given = student.trainer.objective
    divisors = {} if divisor is None else {task: divisor}
    objective = Objective(given.model, {}, given.weighting, divisors, given.distillation)
    stream = Stream(student.trainer.streams[task].examples, size, [1])
    unlike = False
    for position in range(stream.batches_per_pass):
        drawn = []
        for number, of in ((0, 1), (0, 2), (1, 2)):
            stream.position = position
            drawn.append(stream.draw(number, of))
        whole, *parts = drawn
        unlike |= len({len(part.own_rows) for part in parts}) > 1
        found = sum(objective._terms(part, 0.0)[0].item() * (part.share or 0) for part in parts)
        assert found == pytest.approx(objective._terms(whole, 0.0)[0].item(), rel=1e-5)
    assert unlike or size == 1  # parts of one size with other numbers of labels


# ---- which texts are drawn


def test_an_epoch_draws_every_text_once_with_its_label_or_without(student: Student) -> None:
    assert student.trainer.epoch == sum(-(-(student.labelled(name) + MORE) // 8) for name in student.trainer.streams)
    for name, stream in student.trainer.streams.items():
        stream.position = 0
        batches = [stream.draw() for _ in range(stream.batches_per_pass)]
        own = np.concatenate([batch.own_rows for batch in batches])
        assert sorted(own) == list(range(student.labelled(name)))
        assert sum(map(len, batches)) == student.labelled(name) + MORE


@each(name=["mood", "same", "near", "names"])
def test_the_texts_behind_the_labelled_ones_are_those_of_the_file(student: Student, data: Path, name: str) -> None:
    tokenizer, count = student.experiment.tokenizer, student.labelled(name)
    found = student.batch(name, [0, *range(count, count + MORE)])
    texts: dict[str, list[list[Any]]] = {
        "mood": [[sentence(i) for i in range(300, 300 + MORE)]],
        "same": [
            [f"{sentence(i)}, {sentence(i + 1)}" for i in range(300, 300 + MORE)],
            [sentence(i + 2) for i in range(300, 300 + MORE)],
        ],
        "near": [[sentence(i + step) for i in range(300, 300 + MORE)] for step in (0, 3)],
        "names": [[f"{sentence(i)} {sentence(i + 4)}".split() for i in range(300, 300 + MORE)]],
    }
    expected = Examples.from_texts(student.model.tasks[name], texts[name], tokenizer, 512).batch(range(MORE))
    of_first = student.experiment.sets["train"][name].batch([0])
    for side in range(found.sequences):
        ours = found.tokens[side * (MORE + 1) : (side + 1) * (MORE + 1)]
        assert torch.equal(ours[1:, : expected.tokens.shape[1]], expected.tokens[side * MORE : (side + 1) * MORE])
        assert torch.equal(ours[0, : of_first.tokens.shape[1]], of_first.tokens[side])
    if name == "names":
        assert found.words is not None
        assert expected.words is not None
        assert torch.equal(found.words[1:], expected.words)


def test_tasks_that_read_one_file_of_such_texts_hold_its_tokens_once(student: Student) -> None:
    stars, topics, names, tags = (
        student.experiment.sets["unlabelled"][n] for n in ("stars", "topics", "names", "tags")
    )
    assert stars.texts[0] is topics.texts[0]
    assert names.texts[0] is tags.texts[0]


def test_features_beside_the_vector_are_those_of_each_text(teachers: list[Run]) -> None:
    recipe = recipe_of(teachers, tasks=["same", "mood"])
    recipe["tasks"]["same"]["head"] = {"name": "linear", "beside": ["cosine"]}
    recipe["stages"][0]["distill"]["teachers"] = 1
    experiment = build(read_recipe(recipe))
    batch = experiment.stage(0).trainer.streams["same"].examples.batch([2, 45, 40, 63])
    original = experiment.model.original
    assert original is not None
    for side in (0, 1):
        train, more = (experiment.sets[split]["same"].tokens[side] for split in ("train", "unlabelled"))
        expected = torch.cat([original.vectors(train)[[2]], original.vectors(more)[[5, 0, 23]]]).float()
        assert batch.beside is not None
        torch.testing.assert_close(batch.beside[:, side], expected, rtol=2e-3, atol=2e-3)
    found = check(experiment)
    assert found.beside is not None
    assert found.beside.texts == (40 + 12 + MORE) * 2


def test_who_looks_on_sees_the_labelled_rows_and_what_teachers_say_of_them(student: Student) -> None:
    own = student.trainer.streams["mood"].reshuffled([1]).examples
    assert len(own) == 40
    found = own.batch([7, 3])
    with torch.no_grad():
        plain = student.experiment.sets["train"]["mood"].batch([7, 3])
        said = student.model.tasks["mood"].mean_of([one(plain) for one in student.teachers])
    assert torch.equal(found.tokens, plain.tokens)
    assert found.taught is not None
    torch.testing.assert_close(found.taught.softmax(-1), said.softmax(-1))


# ---- what it costs


@pytest.fixture(scope="module")
def limited(teachers: list[Run]) -> dict[str, Any]:
    """A recipe whose second stage learns from texts without labels, and of whose first task there are 30 with one."""
    recipe = recipe_of(teachers[:1], tasks=["mood", "same"], steps=30)
    recipe["tasks"]["mood"]["limit"] = 30
    recipe["stages"].insert(0, {**recipe["stages"][0], "distill": None})
    return recipe


@pytest.fixture(scope="module")
def two_stages(limited: dict[str, Any]) -> Experiment:
    return build(read_recipe(limited))


@each(sampler=[name for name in SAMPLERS if name != "joint_rows"])
def test_a_budget_counts_what_training_draws(limited: dict[str, Any], two_stages: Experiment, sampler: str) -> None:
    options = {"weights": {"mood": 2.0, "same": 1.0}} if sampler == "weighted" else {}
    recipe = copy.deepcopy(limited)
    for stage in recipe["stages"]:
        stage["sampler"] = {"name": sampler, **options}
    trained = replace(two_stages, recipe=read_recipe(recipe))
    found = lengths(read_recipe(recipe), {"mood": 40, "same": 40})
    for index, length in enumerate(found):
        trainer = trained.stage(index).trainer
        assert (length.steps, length.epoch) == (trainer.steps, trainer.epoch)
        assert {task: len(stream.examples) for task, stream in trainer.streams.items()} == {
            "mood": 30 + index * MORE,
            "same": 40 + index * MORE,
        }
    assert found[1].epoch > found[0].epoch


def test_baselines_without_teachers_have_no_texts_without_labels(teachers: list[Run]) -> None:
    rows = {"mood": 40, "same": 40}
    content = content_of(read_recipe(recipe_of(teachers, tasks=["mood", "same"])))
    made = {one.name: one for one in baselines(Method("it", {WHOLE: {WHOLE: content}}), content, rows)}
    for parts in [*made[SUM].candidates.values(), *made[WEIGHTS].candidates.values()]:
        assert all(task.unlabelled is None for task in read_recipe(parts[WHOLE]).tasks.values())
    alone = made[APART].candidates[WHOLE]["mood"]
    assert read_recipe(alone).tasks["mood"].unlabelled == FILES["mood"]
    assert spent(lengths(read_recipe(alone), rows), "examples") == pytest.approx(
        lengths(read_recipe(content), rows)[0].examples_by_task["mood"], abs=8
    )


# ---- whole runs


def test_a_killed_student_of_unlabelled_texts_goes_on_to_the_bit(teachers: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(
        teachers,
        tasks=["mood", "near", "names"],
        steps=6,
        evaluate_every=2,
        regularizers=["r_drop"],
        observe=[{"name": "penalties", "every": 2}, {"name": "conflict", "every": 3}],
        sampler="joint",
        combiner="pcgrad",
        average="ema",
    )
    recipe["tasks"]["near"]["symmetric"] = "both"
    recipe["encoder"] |= {"dropout": 0.1}
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=3))
    torch.manual_seed(12345)
    assert_same_run(mtbert.train(recipe, out=tmp_path / "cut", resume=True), whole)
    assert all(line.terms[task]["loss"] > 0 for line in whole.log.only(Step) for task in line.terms)


def test_teachers_that_are_trained_first_read_no_texts_without_labels(teachers: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(teachers, tasks=["mood", "same"], steps=4, evaluate_every=2)
    recipe["tasks"]["same"]["head"] = {"name": "linear", "beside": ["product"]}
    recipe["stages"][0]["distill"]["teachers"] = 2
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "own", listener=Kill(steps=10))  # in the student
    own = mtbert.train(recipe, out=tmp_path / "own", resume=True)
    names = [own.folder / "teachers" / name for name in ("1", "2")]
    assert all(task.unlabelled is None for name in names for task in Run(name).recipe().tasks.values())
    recipe["stages"][0]["distill"]["teachers"] = [str(name) for name in names]
    assert_same_run(own, mtbert.train(recipe, out=tmp_path / "named"))


def test_a_student_of_texts_without_labels_comes_nearer_to_its_teacher_on_them(teachers: list[Run]) -> None:
    recipe = recipe_of(teachers[:1], share=1.0, tasks=["mood"], steps=60, optimizer={"lr": 0.01})
    student = Student(recipe, teachers[:1])
    batch = student.batch("mood", list(range(40, 40 + MORE)))
    before = student.loss(batch)
    for _ in student.trainer:
        pass
    student.model.eval()
    assert student.loss(batch) < 0.2 * before


def test_a_table_in_memory_serves_as_well_and_a_changed_one_is_noticed(teachers: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(teachers, tasks=["mood"], steps=2, evaluate_every=2)
    from_file = mtbert.train(recipe, out=tmp_path / "file")
    recipe["tasks"]["mood"]["unlabelled"] = pa.table({"text": [sentence(i) for i in range(300, 300 + MORE)]})
    run = mtbert.train(recipe, out=tmp_path / "table")
    assert_same_run(run, from_file)
    held = json.loads((run.folder / "environment.json").read_text())["data"]
    assert held["mood.unlabelled"]["rows"] == MORE
    recipe["tasks"]["mood"]["unlabelled"] = pa.table({"text": [sentence(i) for i in range(400, 400 + MORE)]})
    with pytest.raises(Mistake, match=r"mood\.unlabelled has 24 rows as before, but not the same"):
        mtbert.train(recipe, out=tmp_path / "table", resume=True)


def test_tasks_that_others_are_added_to_leave_their_texts_behind(teachers: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(teachers, tasks=["mood"], steps=1, evaluate_every=1)
    run = mtbert.train(recipe, out=tmp_path / "run")
    added = {"data": recipe["data"], "tasks": {"near": every_kind(Path(recipe["data"]))["tasks"]["near"]}}
    more = mtbert.add_task(run.folder, added | {"stages": [{"steps": 1, "train": "heads"}]}, out=tmp_path / "more")
    assert more.recipe().tasks["mood"].unlabelled is None


# ---- what is said


def test_check_shows_the_texts_and_notes_those_of_dev(teachers: list[Run], data: Path) -> None:
    recipe = recipe_of(teachers, tasks=["mood"])
    texts = [sentence(i) for i in (100, 101, 300, 301)]  # the first two are those of dev rows 100 and 101
    recipe["tasks"]["mood"]["unlabelled"] = pa.table({"text": texts})
    found = check(build(read_recipe(recipe)))
    (split,) = (one for one in found.splits if one.split == "unlabelled")
    assert (split.task, split.rows, split.examples[0]) == ("mood", 4, ((texts[0],), "?"))
    in_dev = sum(sentence(i) in texts for i in range(100, 112))
    (note,) = (sight for sight in found.sights if sight.what == "texts of unlabelled")
    assert (note.rows, note.problem, note.split) == (in_dev, False, "dev")
    assert any("mood unlabelled: 4 rows" in line for line in shown_lines(found, 100))


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (lambda one: one["stages"][0].pop("distill"), "tasks.mood.unlabelled", "but a stage with `distill`"),
        (lambda one: one["stages"][0].update(tasks=["same"]), "tasks.mood.unlabelled", "and none trains 'mood'"),
        (lambda one: one["tasks"]["mood"].update(unlabelled="10%"), "tasks.mood.unlabelled", "not a share"),
        (lambda one: one["tasks"]["mood"].update(unlabelled=3), "tasks.mood.unlabelled", "a file, a list of files"),
        (lambda one: one["tasks"]["mood"].update(unlabelled="gone.tsv"), "", "there is no file"),
        (
            lambda one: one["tasks"]["mood"].update(unlabelled="same-more.csv"),
            "",
            "unknown column for the text: 'text'",
        ),
        (lambda one: one["tasks"]["mood"].update(balance=0.5), "stages.0.distill", "have no class that `balance`"),
        (lambda one: one["stages"][0].update(train="heads"), "stages.0.distill", "set `cache_features: false`"),
        (
            lambda one: (
                one["tasks"].update(same={**one["tasks"]["mood"], "unlabelled": None})
                or one["stages"][0].update(sampler="joint_rows")
            ),
            "stages.0.distill",
            "take 'joint'",
        ),
    ],
)
def test_what_does_not_go_with_texts_without_labels_is_a_mistake(
    teachers: list[Run], tmp_path: Path, change: Any, place: str, said: str
) -> None:
    recipe = recipe_of(teachers, tasks=["mood", "same"])
    del recipe["tasks"]["same"]["unlabelled"]
    change(recipe)
    with pytest.raises(Mistake) as refusal:
        mtbert.train(recipe, out=tmp_path / "run")
    assert said in str(refusal.value)
    assert place in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_a_stage_of_heads_alone_may_come_before_one_that_learns_from_such_texts(teachers: list[Run]) -> None:
    recipe = recipe_of(teachers, tasks=["mood"])
    recipe["stages"].insert(0, {"steps": 2, "train": "heads"})
    experiment = build(read_recipe(recipe))
    counts = [len(experiment.stage(index).trainer.streams["mood"].examples) for index in range(2)]
    assert counts == [40, 40 + MORE]
