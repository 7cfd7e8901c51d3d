"""Every combiner from its table: what it leaves on the parameters, and at what cost in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchjd import aggregation as peers
from torchjd.linalg import QuadprogProjector

from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training import gramian
from mtbert.training.combiners.balance import IMTLG, MGDA, AlignedMTL, CAGrad, UPGrad
from mtbert.training.combiners.base import Combiner
from mtbert.training.combiners.surgery import GradDrop, GradVac, PCGrad
from mtbert.training.combiners.table import COMBINERS
from tests.support.cases import each
from tests.support.cut_off import assert_goes_on_to_the_bit

SEVERAL = [name for name in COMBINERS if name not in ("sum", "mean")]
ORDER_DRAWN = ("pcgrad", "gradvac")  # of three tasks or more these draw an order, and it matters
Matrix = Sequence[Sequence[float]] | Tensor
NAMES = ("encoder.layers.0.weight", "encoder.layers.1.weight")


def make(name: str, **options: Any) -> Combiner:
    return COMBINERS[name](**COMBINERS.complete(name, options))


def combine(combiner: Combiner, gradients: Matrix, tasks: Sequence[str] | None = None, cut: int = 1) -> Tensor:
    """What the combiner makes of these gradients, one row a task, over two parameters of the lengths cut and rest."""
    rows = gradients if isinstance(gradients, Tensor) else torch.tensor(gradients, dtype=torch.float64)
    values = {
        name: nn.Parameter(torch.zeros_like(part)) for name, part in zip(NAMES, halves(rows[0], cut), strict=True)
    }

    def losses() -> Iterator[tuple[str, Tensor]]:
        for task, row in zip(tasks or [f"task{index}" for index in range(len(rows))], rows, strict=True):
            yield task, sum((p * g).sum() for p, g in zip(values.values(), halves(row, cut), strict=True))  # type: ignore[misc]

    combiner(losses(), values)
    return torch.cat([p.grad for p in values.values() if p.grad is not None])


def halves(row: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    return row[:cut], row[cut:]


def random_gradients(tasks: int, seed: int, numbers: int = 9) -> Tensor:
    """Of very different lengths, some in conflict."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, numbers, generator=generator, dtype=torch.float64)
    return rows * torch.rand(tasks, 1, generator=generator, dtype=torch.float64) * 3


def weights(combiner: Combiner, gradients: Matrix) -> np.ndarray:
    rows = torch.as_tensor(gradients, dtype=torch.float64).numpy()
    products = rows @ rows.T
    return combiner.weights(products / np.trace(products))


def close(found: Tensor | np.ndarray | None, expected: Any, tolerance: float = 1e-6) -> None:
    assert found is not None
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected, dtype=torch.float64), atol=tolerance, rtol=0
    )


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random orders are ascending."""
    monkeypatch.setattr(torch, "randperm", torch.arange)


def five() -> dict[str, nn.Parameter]:
    """Two parameters of the encoder, a head each for the tasks a and b, and one that nothing reaches."""
    generator = torch.Generator().manual_seed(5)
    shapes = {
        "encoder.layers.0.weight": (3, 2),
        "encoder.layers.1.weight": (2,),
        "heads.a": (4,),
        "heads.b": (4,),
        "heads.c": (4,),
    }
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in shapes.items()
    }


def loss(values: Mapping[str, nn.Parameter], task: str, scale: float = 1.0) -> Tensor:
    encoder, above = values["encoder.layers.0.weight"], values["encoder.layers.1.weight"]
    head = values[f"heads.{task}"]
    features = (encoder @ above).tanh()
    return scale * ((features * head[:3]).sum() + head[3]).square()


# --- what all of them promise


@pytest.mark.parametrize("name", COMBINERS)
def test_one_task_alone_gives_its_own_gradient(name: str) -> None:
    values = five()
    make(name)([("a", loss(values, "a"))], values)
    reached = [values[one] for one in ("encoder.layers.0.weight", "encoder.layers.1.weight", "heads.a")]
    for p, gradient in zip(reached, torch.autograd.grad(loss(values, "a"), reached), strict=True):
        close(p.grad, gradient, 1e-12)


@pytest.mark.parametrize("name", COMBINERS)
def test_heads_keep_the_gradient_of_their_own_task(name: str) -> None:
    values = five()
    make(name)([("a", loss(values, "a")), ("b", loss(values, "b", -3.0))], values)
    for task, scale in (("a", 1.0), ("b", -3.0)):
        head = values[f"heads.{task}"]
        close(head.grad, torch.autograd.grad(loss(values, task, scale), head)[0], 1e-12)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_parameter_that_no_loss_reaches_gets_no_gradient(name: str) -> None:
    values = five()
    make(name)([("a", loss(values, "a")), ("b", loss(values, "b"))], values)
    assert values["heads.c"].grad is None


@pytest.mark.parametrize("name", COMBINERS)
def test_losses_are_drawn_once_and_one_graph_is_freed_before_the_next_is_built(name: str) -> None:
    values, drawn = five(), []

    def losses() -> Iterator[tuple[str, Tensor]]:
        for task in ("a", "b", "c"):
            drawn.append(task)
            one = loss(values, task)
            yield task, one
            with pytest.raises(RuntimeError, match="second time"):
                one.backward()

    make(name)(losses(), values)
    assert drawn == ["a", "b", "c"]


@pytest.mark.parametrize("name", COMBINERS)
def test_the_batches_of_a_task_count_as_one(name: str) -> None:
    whole, parts = five(), five()
    torch.manual_seed(1)
    make(name)([(task, loss(whole, task, scale)) for task, scale in (("a", 1.0), ("b", -2.0), ("c", 1.0))], whole)
    torch.manual_seed(1)
    pieces = [("a", 0.5), ("b", -1.0), ("c", 0.25), ("b", -1.0), ("a", 0.5), ("c", 0.75)]
    make(name)(((task, loss(parts, task, scale)) for task, scale in pieces), parts)
    for p, q in zip(whole.values(), parts.values(), strict=True):
        close(q.grad, p.grad.detach(), 1e-12)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_task_that_does_not_reach_a_shared_parameter_counts_as_zero_there(name: str) -> None:
    rows = random_gradients(3, seed=2)
    rows[2, :4] = 0

    def gradients(reach: bool) -> Tensor:
        values = {
            one: nn.Parameter(torch.zeros(size, dtype=torch.float64)) for one, size in zip(NAMES, (4, 5), strict=True)
        }
        first, second = values.values()
        terms = [(first * row[:4]).sum() + (second * row[4:]).sum() for row in rows[:2]]
        terms.append((second * rows[2, 4:]).sum() + (0 * first.sum() if reach else 0))
        torch.manual_seed(4)
        make(name)(zip("abc", terms, strict=True), values)
        return torch.cat([first.grad, second.grad])  # type: ignore[list-item]

    close(gradients(reach=False), gradients(reach=True), 1e-12)


@pytest.mark.parametrize("name", [name for name in COMBINERS if name != "graddrop"])  # draws number by number
def test_the_order_of_the_parameters_does_not_matter(name: str, in_order: None) -> None:
    found = []
    for backwards in (False, True):
        values = five()
        order = dict(reversed(values.items())) if backwards else values
        make(name)([(task, loss(values, task, scale)) for task, scale in (("a", 1.0), ("b", -2.0), ("c", 1.0))], order)
        found.append(torch.cat([p.grad.flatten() for p in values.values() if p.grad is not None]))
    close(found[1], found[0], 1e-12)


@pytest.mark.parametrize(
    ("name", "tasks"), [(name, tasks) for name in COMBINERS for tasks in ([2] if name in ORDER_DRAWN else [2, 3])]
)
def test_the_order_of_the_tasks_does_not_matter(name: str, tasks: int) -> None:
    rows = random_gradients(tasks, seed=3)
    torch.manual_seed(6)
    forth = combine(make(name), rows)
    torch.manual_seed(6)
    close(combine(make(name), rows.flip(0)), forth, 1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
@pytest.mark.parametrize("name", COMBINERS)
def test_gradients_all_scaled_alike_scale_the_result(name: str, scale: float, in_order: None) -> None:
    rows = random_gradients(3, seed=4)
    torch.manual_seed(6)
    plain = combine(make(name), rows)
    torch.manual_seed(6)
    close(combine(make(name), rows * scale) / scale, plain, 1e-5)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_task_without_gradient_leaves_no_number_undefined(name: str) -> None:
    rows = random_gradients(3, seed=5)
    rows[1] = 0
    assert torch.isfinite(combine(make(name), rows)).all()
    assert not combine(make(name), torch.zeros(3, 4)).any()


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
@pytest.mark.parametrize("name", COMBINERS)
def test_gradients_that_are_no_numbers_are_left_for_the_trainer_to_report(name: str, wrong: float) -> None:
    rows = random_gradients(3, seed=5)
    rows[1, 0] = wrong
    assert not torch.isfinite(combine(make(name), rows)).all()


@pytest.mark.parametrize("name", COMBINERS)
def test_under_bfloat16_gradients_are_float32_and_combined_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    layer, heads = nn.Linear(6, 5), [nn.Linear(5, 1) for _ in range(3)]
    x = torch.randn(7, 6)

    def losses() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return [(head(layer(x).tanh()).float() - index).square().mean() for index, head in enumerate(heads)]

    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(one, list(layer.parameters()))]) for one in losses()]
    torch.manual_seed(3)
    expected = combine(make(name), torch.stack(rows), cut=30)
    torch.manual_seed(3)
    named = {f"encoder.layers.{index}.weight": p for index, p in enumerate(layer.parameters())}
    make(name)(zip("abc", losses(), strict=True), named)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in named.values())
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in named.values()]), expected, rtol=1e-4, atol=1e-5)


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors made while it looks on that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                reference = StorageWeakRef(one.untyped_storage())
                self.storages[reference.cdata] = reference, one.untyped_storage().nbytes()
        self.storages = {key: (one, size) for key, (one, size) in self.storages.items() if not one.expired()}
        self.most = max(self.most, sum(size for _, size in self.storages.values()))
        return out


def copies_held(combiner: Combiner, tasks: int) -> float:
    """How many copies of the shared gradients a step holds at most."""
    values = {f"encoder.layers.{index}.weight": nn.Parameter(torch.zeros(1000)) for index in range(20)}
    torch.manual_seed(0)
    rows = list(torch.randn(tasks, 1000))
    with Alive() as alive:
        combiner(((str(task), sum((p * row).sum() for p in values.values())) for task, row in enumerate(rows)), values)
    return alive.most / (20 * 1000 * 4)


@pytest.mark.parametrize("tasks", [2, 3, 5])
@pytest.mark.parametrize("name", COMBINERS)
def test_a_step_holds_one_copy_of_the_gradients_a_task(name: str, tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gramian, "CACHED", 250)  # pieces smaller than the tensors, as in a real model
    assert copies_held(make(name), tasks) < tasks + 0.2


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_a_sum_holds_one_copy_of_the_gradients_however_many_tasks_there_are(tasks: int) -> None:
    assert 1 <= copies_held(make("sum"), tasks) < 1.2


@pytest.mark.parametrize("name", SEVERAL)
def test_combiners_that_need_several_tasks_in_a_step_say_so(name: str) -> None:
    assert COMBINERS[name].needs_several  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMBINERS)
def test_combiners_train_with_accumulation_clipping_and_bfloat16(small_recipe: dict[str, Any], name: str) -> None:
    small_recipe["precision"] = "bfloat16"
    small_recipe["stages"][0] |= {"combiner": name, "sampler": "joint", "accumulate": 2, "clip": 0.5, "steps": 3}
    experiment = build(read_recipe(small_recipe))
    before = {key: p.detach().clone() for key, p in experiment.model.named_parameters()}
    records = list(experiment.stage(0).trainer)
    assert all(math.isfinite(record.gradient_norm) and record.gradient_norm > 0 for record in records)
    moved = {key for key, p in experiment.model.named_parameters() if not torch.equal(p, before[key])}
    assert {"encoder.word_embedding.weight", "heads.mood.output.weight", "heads.near.output.weight"} <= moved


@pytest.mark.parametrize("name", COMBINERS)
def test_a_run_cut_off_goes_on_to_the_bit(small_recipe: dict[str, Any], tmp_path: Path, name: str) -> None:
    small_recipe["stages"][0] |= {"combiner": name, "sampler": "joint", "steps": 8}
    assert_goes_on_to_the_bit(small_recipe, tmp_path, steps=6)


# --- second implementations


@pytest.mark.parametrize(
    ("name", "options", "peer", "tolerance"),
    [
        ("sum", {}, lambda: peers.Sum(), 1e-12),
        ("mean", {}, lambda: peers.Mean(), 1e-12),
        ("pcgrad", {}, lambda: peers.PCGrad(), 1e-12),
        ("gradvac", {"granularity": "model"}, lambda: peers.GradVac(beta=0.01, eps=0.0), 1e-6),
        ("graddrop", {}, lambda: peers.GradDrop(), 1e-12),
        ("graddrop", {"leak": 0.3}, lambda: peers.GradDrop(leak=torch.full((6,), 0.3)), 1e-6),
        ("imtl_g", {}, lambda: peers.IMTLG(), 1e-9),
        ("aligned_mtl", {}, lambda: peers.AlignedMTL(), 1e-9),
        # these solve a problem of optimisation: theirs as far as their tolerance, ours by the certificates below
        ("mgda", {}, lambda: peers.MGDA(epsilon=1e-9, max_iters=300), 1e-2),
        ("cagrad", {"radius": 0.4}, lambda: peers.CAGrad(c=0.4, norm_eps=1e-9), 1e-2),
    ],
)
@each(tasks=[2, 3, 6], seed=range(10))
def test_combiners_equal_torchjd(
    name: str, options: dict[str, Any], peer: Any, tolerance: float, tasks: int, seed: int, in_order: None
) -> None:
    rows = random_gradients(tasks, seed)
    theirs, ours = peer(), make(name, **options)
    if getattr(theirs, "leak", None) is not None:
        theirs.leak = theirs.leak[:tasks].double()
    for step in range(3):  # what is learned from the first steps shows in the later ones
        torch.manual_seed(seed)
        expected = theirs(rows + step)
        torch.manual_seed(seed)
        close(combine(ours, rows + step), expected, tolerance * rows.norm().item())


@each(tasks=[2, 3, 6], seed=range(10))
def test_upgrad_equals_torchjd(tasks: int, seed: int) -> None:
    projector = QuadprogProjector(norm_eps=0.0, reg_eps=1e-13)
    rows = random_gradients(tasks, seed)
    close(combine(UPGrad(), rows), peers.UPGrad(projector=projector)(rows), 1e-6)


# --- PCGrad


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [-1, 1]], [0.5, 1.5]),
        ([[3, 1], [-2, 2]], [1.2, 4.4]),
        ([[1, 0], [1, 1]], [2, 1]),
    ],
)
def test_pcgrad_of_two_tasks_is_the_closed_form(rows: Matrix, expected: Sequence[float]) -> None:
    close(combine(PCGrad(), rows), expected)


def test_pcgrad_of_three_tasks_is_the_closed_form_of_each_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 0, 0], [-1, 1, 0], [-1, -1, 1]]
    monkeypatch.setattr(torch, "randperm", torch.arange)
    close(combine(PCGrad(), rows), [-2 / 3, 1 / 3, 5 / 3])
    monkeypatch.setattr(torch, "randperm", lambda count: torch.arange(count).flip(0))
    close(combine(PCGrad(), rows), [1 / 6, 1 / 6, 4 / 3])


def test_pcgrad_takes_the_others_in_an_order_drawn_from_torchs_generator() -> None:
    rows = [[1, 0, 0], [-1, 1, 0], [-1, -1, 1]]

    def after(seed: int) -> tuple[float, ...]:
        torch.manual_seed(seed)
        return tuple(combine(PCGrad(), rows).tolist())

    assert len({after(seed) for seed in range(20)}) > 1
    assert after(3) == after(3)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_without_conflict_surgery_is_the_plain_sum(name: str) -> None:
    rows = random_gradients(3, seed=1).abs()
    close(combine(make(name), rows), rows.sum(0), 1e-12)


@each(seed=range(5))
def test_pcgrad_leaves_no_conflict_between_two_tasks(seed: int) -> None:
    one, other = random_gradients(2, seed)
    other = other - (1 + other @ one / (one @ one)) * one  # now surely in conflict
    found = combine(PCGrad(), torch.stack([one, other]))
    close(found @ one, one @ one - (one @ other) ** 2 / (other @ other), 1e-9)
    close(found @ other, other @ other - (one @ other) ** 2 / (one @ one), 1e-9)


# --- GradVac


def turned(ours: Tensor, theirs: Tensor, wanted: float) -> Tensor:
    """One gradient turned towards another, straight from the definition."""
    cosine = (ours @ theirs) / (ours.norm() * theirs.norm())
    if cosine >= wanted:
        return ours
    push = ours.norm() * (wanted * (1 - cosine**2).sqrt() - cosine * math.sqrt(1 - wanted**2))
    return ours + push / (theirs.norm() * math.sqrt(1 - wanted**2)) * theirs


@pytest.mark.parametrize(
    ("one", "other", "wanted", "expected"),
    [
        ([1, 0], [0, 1], 0.5, [1, 0.57735027]),
        ([3, 1], [-2, 2], 0.5, [0.84529946, 3.15470054]),
        ([3, 1], [-2, 2], 0.0, [2, 2]),
    ],
)
def test_gradvac_is_the_closed_form(one: list[float], other: list[float], wanted: float, expected: list[float]) -> None:
    first, second = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    close(turned(first, second, wanted), expected)
    whole = turned(first, second, wanted) + turned(second, first, wanted)
    close(combine(GradVac(target=wanted, granularity="model"), torch.stack([first, second])), whole)


@each(wanted=[-0.3, 0.0, 0.5, 0.9], seed=range(5))
def test_after_gradvac_the_cosine_is_what_was_wanted(seed: int, wanted: float) -> None:
    one, other = random_gradients(2, seed)
    other = other - (1 + other @ one / (one @ one)) * one
    found = combine(GradVac(target=wanted, granularity="model"), torch.stack([one, other]))
    close(found, turned(one, other, wanted) + turned(other, one, wanted), 1e-9)
    if torch.cosine_similarity(one, other, dim=0) < wanted:
        close(torch.cosine_similarity(turned(one, other, wanted), other, dim=0), wanted, 1e-9)


@each(seed=range(5))
def test_gradvac_with_a_target_of_zero_is_pcgrad(seed: int) -> None:
    rows = random_gradients(4, seed)
    torch.manual_seed(seed)
    expected = combine(PCGrad(), rows)
    for one in (GradVac(target=0.0, granularity="model"), GradVac(granularity="model")):  # 0 is also where it starts
        torch.manual_seed(seed)
        close(combine(one, rows), expected, 1e-9)


def test_gradvac_learns_what_is_usual_for_each_pair_after_it_was_used(in_order: None) -> None:
    one, other = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0, 1.0]).double()
    vaccine = GradVac(rate=0.25, granularity="model")
    for looks in (1, 2, 3):
        combine(vaccine, torch.stack([one, other]), tasks=["x", "y"])
        usual = math.sqrt(0.5) * (1 - 0.75**looks)
        assert {pair: value.item() for pair, value in vaccine.state().items()} == pytest.approx(
            {"model/x/y": usual, "model/y/x": usual}
        )
    against = torch.tensor([0.0, 1.0]).double()
    usual_now = math.sqrt(0.5) * (1 - 0.75**3)
    expected = turned(one, against, usual_now) + turned(against, one, usual_now)
    close(combine(vaccine, torch.stack([one, against]), tasks=["x", "y"]), expected)


def test_gradvac_goes_on_from_its_state() -> None:
    rows = random_gradients(2, seed=1).abs()
    first = GradVac(rate=0.5)
    combine(first, rows)
    second = GradVac(rate=0.5)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    against = rows * torch.tensor([[1.0], [-1.0]])
    expected = combine(first, against)
    close(combine(second, against), expected, 0)
    assert (combine(GradVac(rate=0.5), against) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("granularity", "parts"),
    [
        ("model", {"model"}),
        ("layer", {"layer 0", "layer 1"}),
        ("tensor", {"encoder.layers.0.weight", "encoder.layers.1.weight"}),
    ],
)
def test_gradvac_looks_at_each_part_of_the_model_alone(granularity: str, parts: set[str]) -> None:
    rows = random_gradients(2, seed=7)
    rows[1, :4] = -rows[0, :4] + rows[1, :4] / 3  # conflict below, none above
    vaccine = make("gradvac", granularity=granularity)
    found = combine(vaccine, rows, cut=4)
    assert {pair.split("/")[0] for pair in vaccine.state()} == parts
    alone = [rows] if granularity == "model" else [rows[:, :4], rows[:, 4:]]
    close(found, torch.cat([combine(GradVac(granularity="model"), part) for part in alone]), 1e-9)
    assert (found - rows.sum(0)).abs().max() > 0.1


# --- GradDrop


def test_graddrop_keeps_a_sign_as_likely_as_its_share_of_the_gradient() -> None:
    torch.manual_seed(0)
    rows = torch.tensor([[3.0], [-1.0], [0.0]]).expand(3, 100_000)
    found = combine(GradDrop(), rows)
    assert set(found.tolist()) == {3.0, -1.0}
    # 3 with probability (1 + 2 / 4) / 2 = 0.75, within four standard errors
    assert (found == 3).double().mean().item() == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 100_000))


def test_graddrop_keeps_what_all_tasks_agree_on_and_all_of_what_leaks() -> None:
    rows = random_gradients(3, seed=1)
    agreed = rows.abs() * rows[0].sign()
    close(combine(GradDrop(), agreed), agreed.sum(0), 1e-12)
    close(combine(GradDrop(leak=1.0), rows), rows.sum(0), 1e-12)


# --- balance


def test_mgda_of_two_orthogonal_gradients_weighs_by_the_inverse_of_their_squares() -> None:
    close(weights(MGDA(), [[1, 0], [0, 10]]), [100 / 101, 1 / 101], 1e-12)
    close(combine(MGDA(), [[1, 0], [0, 10]]), [100 / 101, 10 / 101], 1e-12)


@each(tasks=[2, 3, 8], seed=range(10))
def test_mgda_is_the_shortest_mean(tasks: int, seed: int) -> None:
    rows = random_gradients(tasks, seed, numbers=6)
    shares = torch.from_numpy(weights(MGDA(), rows))
    assert shares.min() >= 0
    assert shares.sum().item() == pytest.approx(1, abs=1e-12)
    found = combine(MGDA(), rows)
    close(found, shares @ rows, 1e-12)
    # the certificate: every gradient lies beyond the plane through the shortest point, those in use in it
    beyond = rows @ found - found @ found
    assert beyond.min() > -1e-9
    assert beyond[shares > 1e-9].abs().max() < 1e-9


def test_mgda_stands_still_where_no_step_helps_all() -> None:
    close(combine(MGDA(), [[1, 0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]), [0, 0], 1e-9)


@each(radius=[0.1, 0.5, 0.9], tasks=[2, 3, 8], seed=range(10))
def test_cagrad_gives_the_task_that_gains_least_the_most_that_is_possible(tasks: int, seed: int, radius: float) -> None:
    rows = random_gradients(tasks, seed, numbers=12)
    mean, found = rows.mean(0), combine(CAGrad(radius=radius), rows)
    assert (found - mean).norm().item() == pytest.approx(radius * mean.norm().item(), rel=1e-9)  # on the ball
    # the certificate: for any shares w the least gain is at most w . G mean + radius |mean| |w . rows|; here it is that
    direction = (found - mean) / (found - mean).norm()
    shares = torch.linalg.lstsq(rows.T, direction).solution
    shares = shares / shares.sum()
    assert shares.min() > -1e-6
    bound = shares @ rows @ mean + radius * mean.norm() * (shares @ rows).norm()
    assert (rows @ found).min().item() == pytest.approx(bound.item(), abs=1e-6 * rows.square().sum().item())


def test_cagrad_within_a_radius_of_zero_is_the_mean() -> None:
    rows = random_gradients(4, seed=1)
    close(combine(CAGrad(radius=0.0), rows), rows.mean(0), 1e-9)


def test_cagrad_takes_the_mean_where_no_step_in_reach_helps_all() -> None:
    star: Matrix = [[2, 0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]
    close(combine(CAGrad(radius=1.5), star), [1 / 3, 0], 1e-9)
    close(combine(CAGrad(radius=0.5), star), [1 / 6, 0], 1e-6)


def test_cagrad_steps_where_the_gradient_of_a_task_is_small() -> None:
    # by hand: the task that gains least is the second, so the step is the mean and half its length along that task
    for size in (9e-5, 1e-6):
        found = combine(CAGrad(radius=0.5), [[1, 0], [0, size]])
        close(found, [0.5, size / 2 + 0.5 * math.hypot(0.5, size / 2)], 1e-6)


@each(tasks=[2, 3, 6], seed=range(10))
def test_upgrad_harms_no_task(tasks: int, seed: int) -> None:
    rows = random_gradients(tasks, seed)
    assert (rows @ combine(UPGrad(), rows)).min() > -1e-9


def test_upgrad_is_the_mean_without_conflict_and_half_of_pcgrad_for_two_tasks() -> None:
    rows = random_gradients(3, seed=1)
    close(combine(UPGrad(), rows.abs()), rows.abs().mean(0), 1e-9)
    close(combine(UPGrad(), [[3, 1], [-2, 2]]), [0.6, 2.2], 1e-9)


@each(tasks=[2, 3, 6], seed=range(10))
def test_imtl_g_projects_equally_on_all_gradients_and_its_weights_add_up_to_one(tasks: int, seed: int) -> None:
    rows = random_gradients(tasks, seed)
    along = torch.nn.functional.normalize(rows) @ combine(IMTLG(), rows)
    close(along, along.mean().expand(tasks), 1e-9)
    assert weights(IMTLG(), rows).sum() == pytest.approx(1, abs=1e-9)


def test_imtl_g_points_the_same_way_however_large_one_tasks_gradient_is() -> None:
    rows = random_gradients(3, seed=1)
    scaled = rows * torch.tensor([[1.0], [50.0], [1.0]])
    cosine = torch.cosine_similarity(combine(IMTLG(), rows), combine(IMTLG(), scaled), dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-9)


def test_aligned_mtl_makes_orthogonal_gradients_as_long_as_the_shortest() -> None:
    close(combine(AlignedMTL(), [[1, 0], [0, 10]]), [0.5, 0.5], 1e-9)


@each(seed=range(10))
def test_aligned_mtl_is_the_mean_of_the_nearest_orthogonal_gradients(seed: int) -> None:
    rows = random_gradients(3, seed)
    left, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    close(combine(AlignedMTL(), rows), (sizes.min() * left @ right).mean(0), 1e-9)


def test_a_combiner_of_means_weighs_alike() -> None:
    rows = random_gradients(4, seed=1)
    close(combine(make("mean"), rows), rows.mean(0), 1e-12)
    close(combine(make("sum"), rows), rows.sum(0), 1e-12)


@pytest.mark.parametrize("tasks", [2, 4])
def test_inner_products_over_pieces_are_those_of_the_whole(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gramian, "CACHED", 7)
    generator = torch.Generator().manual_seed(1)
    shapes = {"a": (5, 13), "b": (3,), "c": (20,), "d": ()}
    names = [f"task{index}" for index in range(tasks)]
    gradients = {
        name: {task: torch.randn(shape, generator=generator) for task in names[: tasks - (name == "c")]}
        for name, shape in shapes.items()
    }
    flat = torch.stack(
        [
            torch.cat([by.get(task, torch.zeros(shapes[name])).flatten() for name, by in gradients.items()])
            for task in names
        ]
    ).double()
    close(gramian.gramian(gradients, names), flat @ flat.T, 1e-5)
