"""Which tasks feed a step: what holds for every sampler, and what each one promises, with the reports' sizes."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from mtbert.data.batches import Stream
from mtbert.data.samplers.base import BatchSize, Sampler
from mtbert.data.samplers.table import SAMPLERS
from mtbert.errors import Mistake

BATCHES = {"sentiment": 6, "paraphrase": 11, "similarity": 3}
REPORTS = {"sst": 8544, "quora": 141498, "sts": 6040}
FOUR = {"sst": 8544, "cfimdb": 1707, "quora": 141498, "sts": 6040}
RANDOM = [name for name in SAMPLERS if hasattr(SAMPLERS[name], "chances")]


def needed(name: str, tasks: dict[str, int]) -> dict[str, Any]:
    """The options that a sampler has no default for."""
    return {"weights": {task: index + 1.0 for index, task in enumerate(tasks)}} if name == "weighted" else {}


def made(
    name: str, examples: dict[str, int] | None = None, batch: BatchSize = 1, seed: int = 11711, **given: Any
) -> Sampler:
    examples = examples or BATCHES
    options = SAMPLERS.complete(name, needed(name, examples) | given)
    return SAMPLERS[name](examples, batch, seed, **options)


def drawn(sampler: Sampler, steps: int) -> list[list[str]]:
    return [sampler.draw(step, step / steps) for step in range(steps)]


def chosen(sampler: Sampler, steps: int) -> Counter[str]:
    return Counter(itertools.chain(*drawn(sampler, steps)))


def epoch(sampler: Sampler, number: int = 0) -> list[str]:
    """The tasks of an epoch in order, for samplers whose epochs are alike."""
    steps = range(number * sampler.steps_per_epoch, (number + 1) * sampler.steps_per_epoch)
    return list(itertools.chain(*(sampler.draw(step, 0.0) for step in steps)))


class Numbered:
    """A set whose batches are the numbers of their rows."""

    def __init__(self, count: int) -> None:
        self.lengths = np.zeros(count, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(rows=rows.tolist())


def streams(sampler: Sampler, examples: dict[str, int], seed: int = 11711) -> dict[str, Any]:
    return {
        task: Stream(Numbered(count), sampler.batch_sizes[task], (seed, number), sampler.examples[task])  # type: ignore
        for number, (task, count) in enumerate(examples.items())
    }


# ---- what holds for every sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_the_tasks_there_are(name: str) -> None:
    for tasks in drawn(made(name), 100):
        assert tasks
        assert set(tasks) <= set(BATCHES)
        assert len(set(tasks)) == len(tasks)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_forget_what_they_drew(name: str) -> None:
    expected = drawn(made(name), 100)
    fresh = made(name)
    backwards = [fresh.draw(step, step / 100) for step in reversed(range(100))]
    assert backwards[::-1] == expected
    assert [fresh.draw(57, 0.57) for _ in range(3)] == [expected[57]] * 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_repeat_themselves_for_the_same_seed(name: str) -> None:
    assert drawn(made(name), 100) == drawn(made(name), 100)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_reach_every_task(name: str) -> None:
    sampler = made(name)
    assert set(chosen(sampler, 5 * sampler.steps_per_epoch)) == set(BATCHES)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_one_task_draw_it(name: str) -> None:
    sampler = made(name, {"alone": 4})
    assert drawn(sampler, 20) == [["alone"]] * 20


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_is_a_whole_number_of_steps(name: str) -> None:
    steps = made(name).steps_per_epoch
    assert isinstance(steps, int)
    assert steps >= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_says_whether_a_step_has_several_tasks(name: str) -> None:
    assert SAMPLERS[name].several == any(len(tasks) > 1 for tasks in drawn(made(name), 100))  # type: ignore


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_uses_no_more_examples_and_no_larger_batches_than_there_are(name: str) -> None:
    sampler = made(name, REPORTS, 64)
    for task, count in REPORTS.items():
        assert 1 <= sampler.examples[task] <= count
        assert 1 <= sampler.batch_sizes[task] <= 64


@pytest.mark.parametrize("cut", [0, 7, 23, 41, 59])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_resumed_run_sees_the_batches_that_the_uninterrupted_one_sees(name: str, cut: int) -> None:
    examples = {"sentiment": 23, "paraphrase": 45, "similarity": 9}

    def rows(sampler: Sampler, feeds: dict[str, Any], steps: range) -> list[tuple[str, list[int]]]:
        return [(task, feeds[task].draw().rows) for step in steps for task in sampler.draw(step, step / 60)]

    whole_sampler = made(name, examples, 4)
    whole = rows(whole_sampler, streams(whole_sampler, examples), range(60))
    first_sampler = made(name, examples, 4)
    first_feeds = streams(first_sampler, examples)
    first = rows(first_sampler, first_feeds, range(cut))
    second_sampler = made(name, examples, 4)
    second_feeds = streams(second_sampler, examples)
    for task, feed in second_feeds.items():
        feed.position = first_feeds[task].position
    assert first + rows(second_sampler, second_feeds, range(cut, 60)) == whole


# ---- at random


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_as_frequent_as_their_chances_say(name: str) -> None:
    sampler: Any = made(name, FOUR, 8)
    counts: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for stretch in range(10):
        progress = (stretch + 0.5) / 10
        counts.update(sampler.draw(step, progress)[0] for step in range(stretch * 10_000, (stretch + 1) * 10_000))
        expected.update({task: 10_000 * chance for task, chance in sampler.chances(progress).items()})
    assert counts.total() == 100_000
    assert chisquare([counts[task] for task in FOUR], [expected[task] for task in FOUR]).pvalue > 0.01


@pytest.mark.parametrize("name", RANDOM)
def test_random_draws_do_not_depend_on_each_other(name: str) -> None:
    sampler: Any = made(name, seed=2)
    tasks = [sampler.draw(step, 0.5)[0] for step in range(10_000)]
    chances = sampler.chances(0.5)
    pairs = Counter(itertools.pairwise(tasks))
    observed = [pairs[a, b] for a in BATCHES for b in BATCHES]
    expected = [9999 * chances[a] * chances[b] for a in BATCHES for b in BATCHES]
    assert chisquare(observed, expected).pvalue > 0.01


@pytest.mark.parametrize("name", RANDOM)
def test_random_draws_depend_on_the_seed(name: str) -> None:
    assert drawn(made(name, seed=1), 50) != drawn(made(name, seed=2), 50)


@pytest.mark.parametrize("name", RANDOM)
def test_an_epoch_of_random_draws_has_as_many_steps_as_all_tasks_have_batches(name: str) -> None:
    assert made(name).steps_per_epoch == 20
    assert made(name, REPORTS, 8).steps_per_epoch == 1068 + 17688 + 755


def chances(name: str, examples: dict[str, int], progress: float = 0.0, **options: Any) -> list[float]:
    sampler: Any = made(name, examples, 8, **options)
    return list(sampler.chances(progress).values())


def test_proportional_chances_are_the_reports_at_its_first_epoch() -> None:
    assert chances("proportional", FOUR) == pytest.approx([0.0541, 0.0108, 0.8968, 0.0383], abs=5e-5)


def test_square_root_chances_are_the_published_ones() -> None:
    assert chances("square_root", REPORTS) == pytest.approx([0.1692, 0.6885, 0.1423], abs=5e-5)
    glue = dict(zip("abcdefgh", [6680, 2865, 306798, 1945, 4491, 52616, 284257, 84715], strict=True))
    published = [0.0441, 0.0289, 0.2988, 0.0238, 0.0361, 0.1237, 0.2876, 0.157]
    assert chances("square_root", glue) == pytest.approx(published, abs=5e-5)


def test_temperature_is_the_reciprocal_of_its_power() -> None:
    assert chances("temperature", REPORTS) == pytest.approx([0.2713, 0.4756, 0.2531], abs=5e-5)
    assert chances("temperature", REPORTS, power=1.0) == pytest.approx(chances("proportional", REPORTS))
    assert chances("temperature", REPORTS, power=0.5) == pytest.approx(chances("square_root", REPORTS))
    assert chances("temperature", REPORTS, power=0) == pytest.approx([1 / 3] * 3)
    assert chances("temperature", REPORTS, power=1e3) == pytest.approx([0, 1, 0])


def test_the_power_of_a_temperature_may_change_during_training() -> None:
    power = {"name": "linear", "value": 1.0, "warmup": 0.0}
    for progress, fixed in [(0.0, 1.0), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]:
        expected = chances("temperature", FOUR, power=fixed)
        assert chances("temperature", FOUR, progress, power=power) == pytest.approx(expected)


def test_annealed_powers_are_the_reports_ten() -> None:
    sampler: Any = made("annealed", FOUR, 8, levels=10)
    published = [1.0, 0.9111, 0.8222, 0.7333, 0.6444, 0.5556, 0.4667, 0.3778, 0.2889, 0.2]
    for number, power in enumerate(published):
        for step in (0, 1, 200, 399):  # every step of an epoch of 400, its first one too, has the epoch's power
            assert sampler.power((400 * number + step) / 4000) == pytest.approx(power, abs=5e-5)
    assert sampler.power(1.0) == pytest.approx(0.2)


def test_every_level_of_an_annealed_sampler_begins_at_its_step() -> None:
    for levels, steps in itertools.product((3, 7, 49, 100), (1, 3, 10)):
        sampler: Any = made("annealed", FOUR, levels=levels)
        for level in range(levels):
            expected = 1 - 0.8 * level / (levels - 1)
            assert sampler.power(level * steps / (levels * steps)) == pytest.approx(expected)


def test_annealed_chances_are_the_reports_at_its_first_and_last_epoch() -> None:
    assert chances("annealed", FOUR, 0.0, levels=10) == pytest.approx([0.0541, 0.0108, 0.8968, 0.0383], abs=5e-5)
    assert chances("annealed", FOUR, 0.95, levels=10) == pytest.approx([0.2267, 0.1643, 0.3975, 0.2115], abs=5e-5)


def test_annealed_draws_the_reports_number_of_batches_of_each_task() -> None:
    sampler: Any = made("annealed", FOUR, 8, levels=10)
    expected = np.sum([list(sampler.chances(step / 4000).values()) for step in range(4000)], axis=0)
    assert expected == pytest.approx([543.7, 262.8, 2733.6, 459.9], abs=0.05)
    counts = chosen(sampler, 4000)
    assert chisquare([counts[task] for task in FOUR], expected).pvalue > 0.01


def test_annealed_without_levels_falls_in_a_line() -> None:
    sampler: Any = made("annealed", FOUR, end=0.4)
    assert [sampler.power(progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.85, 0.7, 0.4])


def test_annealing_over_one_level_stays_proportional() -> None:
    sampler: Any = made("annealed", FOUR, levels=1)
    assert {sampler.power(progress) for progress in (0.0, 0.5, 1.0)} == {1.0}


def test_weights_are_shares_whatever_the_order_they_are_written_in() -> None:
    weights = {"sts": 5, "sst": 1.0, "quora": 2.0}
    assert chances("weighted", REPORTS, weights=weights) == pytest.approx([1 / 8, 2 / 8, 5 / 8])


# ---- in turn


def test_round_robin_takes_task_step_modulo_the_number_of_tasks() -> None:
    first, second, third = (["sentiment"], ["paraphrase"], ["similarity"])
    assert drawn(made("round_robin"), 7) == [first, second, third, first, second, third, first]
    assert made("round_robin").steps_per_epoch == 20


@pytest.mark.parametrize(("name", "rounds"), [("cycle_to_longest", 17688), ("stop_at_shortest", 755)])
def test_rounds_last_as_long_as_the_longest_or_the_shortest_task(name: str, rounds: int) -> None:
    tasks = epoch(made(name, REPORTS, 8))
    assert tasks == [*REPORTS] * rounds


@pytest.mark.parametrize(("batch", "rounds"), [(64, 94), (16, 377), (8, 755)])
def test_equal_round_robin_has_the_reports_iterations(batch: int, rounds: int) -> None:
    sampler = made("equal_round_robin", REPORTS, batch)
    assert epoch(sampler) == [*REPORTS] * rounds
    assert sampler.examples == dict.fromkeys(REPORTS, rounds * batch)


def test_equal_round_robin_shows_the_same_examples_in_every_epoch() -> None:
    sampler = made("equal_round_robin", REPORTS, 64)
    for task, feed in streams(sampler, REPORTS).items():
        first, second = ([feed.draw().rows for _ in range(94)] for _ in range(2))
        assert first != second
        rows = set(itertools.chain(*first))
        assert rows == set(itertools.chain(*second))
        assert len(rows) == 6016
        spread = np.sort(list(rows)) / REPORTS[task]  # a sample of the whole set, not its beginning
        assert np.abs(spread - np.arange(6016) / 6016).max() < 1.63 / math.sqrt(6016)  # Kolmogorov and Smirnov, 1 %


@pytest.mark.parametrize(
    ("batch", "rounds", "sizes", "examples"),
    [(64, 2210, (3, 64, 2), (6630, 141440, 4420)), (16, 6040, (1, 16, 1), (6040, 96640, 6040))],
)
def test_interleaved_has_the_reports_batches(
    batch: int, rounds: int, sizes: tuple[int, ...], examples: tuple[int, ...]
) -> None:
    sampler = made("interleaved", REPORTS, batch)
    assert tuple(sampler.batch_sizes.values()) == sizes
    assert epoch(sampler) == [*REPORTS] * rounds
    assert tuple(rounds * size for size in sampler.batch_sizes.values()) == examples


@pytest.mark.parametrize(("batch", "rounds", "joins"), [(64, 2210, (2077, 0, 2116)), (16, 8843, (8309, 0, 8466))])
def test_tail_lets_tasks_join_where_the_report_does(batch: int, rounds: int, joins: tuple[int, ...]) -> None:
    expected = [task for turn in range(rounds) for task, join in zip(REPORTS, joins, strict=True) if turn >= join]
    sampler = made("tail", REPORTS, batch)
    assert epoch(sampler) == expected
    assert epoch(sampler, 3) == expected
    assert Counter(expected) == {task: count // batch for task, count in REPORTS.items()}


@pytest.mark.parametrize("name", ["equal_round_robin", "tail"])
def test_full_batches_need_a_task_that_fills_one(name: str) -> None:
    with pytest.raises(Mistake, match="task 'sts' has 6040 examples, fewer than one batch of 6041"):
        made(name, REPORTS, 6041)


def test_interleaved_needs_one_task_that_fills_a_batch() -> None:
    assert made("interleaved", REPORTS, 141498).batch_sizes == REPORTS
    with pytest.raises(Mistake, match="task 'quora' has 141498 examples, fewer than one batch of 141499"):
        made("interleaved", REPORTS, 141499)


# ---- one after the other


def test_sequential_takes_all_batches_of_one_task_and_then_of_the_next() -> None:
    sampler = made("sequential", REPORTS, 8)
    assert sampler.steps_per_epoch == 19511
    expected = ["sst"] * 1068 + ["quora"] * 17688 + ["sts"] * 755
    assert epoch(sampler) == expected
    assert epoch(sampler, 2) == expected


def split_epochs(sampler: Sampler, sizes: list[dict[str, int]]) -> None:
    """An epoch has these many batches of each task, one task after the other; the next epoch follows it."""
    step = 0
    for counts in sizes:
        for task, count in counts.items():
            assert {sampler.draw(step + turn, 0.0)[0] for turn in range(count)} == {task}
            step += count


def test_equal_split_gives_every_epoch_the_reports_part_of_the_largest_task() -> None:
    full, last = {"sst": 1068, "quora": 1041, "sts": 755}, {"sst": 1068, "quora": 17688 - 16 * 1041, "sts": 755}
    split_epochs(made("equal_split", REPORTS, 8, parts={"quora": 17}), [*[full] * 16, last, full])
    assert 1041 * 8 == 8328


def test_equal_split_splits_any_task() -> None:
    sampler = made("equal_split", REPORTS, 8, parts={"quora": 17, "sts": 17})
    assert sampler.steps_per_epoch == 1068 + 1041 + 45
    full, last = {"sst": 1068, "quora": 1041, "sts": 45}, {"sst": 1068, "quora": 1032, "sts": 35}
    split_epochs(sampler, [*[full] * 16, last, full])


def test_equal_split_splits_tasks_into_different_numbers_of_parts() -> None:
    sampler = made("equal_split", {"a": 5, "b": 7, "c": 1}, 1, parts={"a": 2, "b": 3})
    a, b = [3, 2] * 6, [3, 3, 1] * 4
    split_epochs(sampler, [{"a": of_a, "b": of_b, "c": 1} for of_a, of_b in zip(a, b, strict=True)])


def test_equal_split_cuts_the_largest_task_into_the_reports_17_parts_unless_told_otherwise() -> None:
    assert drawn(made("equal_split", REPORTS, 8), 9000) == drawn(
        made("equal_split", REPORTS, 8, parts={"quora": 17}), 9000
    )


def test_the_parts_of_a_split_are_disjoint_and_cover_the_set() -> None:
    sampler = made("equal_split", REPORTS, 8, parts={"quora": 17})
    feed = streams(sampler, REPORTS)["quora"]
    step, passes = 0, []
    for _ in range(2):
        parts = []
        for number in range(17):
            size = 1068 + (1041 if number < 16 else 1032) + 755
            tasks = [sampler.draw(step + turn, 0.0)[0] for turn in range(size)]
            parts.append([row for task in tasks if task == "quora" for row in feed.draw().rows])
            step += size
        assert sorted(itertools.chain(*parts)) == list(range(141498))
        passes.append(parts)
    assert set(passes[0][0]) != set(passes[1][0])  # the second pass is split anew


# ---- jointly


@pytest.mark.parametrize(("until", "steps"), [("longest", 17688), ("shortest", 755)])
def test_joint_steps_have_a_batch_of_every_task(until: str, steps: int) -> None:
    sampler = made("joint", REPORTS, 8, until=until)
    assert sampler.steps_per_epoch == steps
    assert drawn(sampler, 50) == [[*REPORTS]] * 50


@pytest.mark.parametrize(("batch", "steps"), [(8, 64), (16, 32), (32, 16), (64, 8)])
def test_joint_by_ratio_has_the_reports_steps(batch: int, steps: int) -> None:
    sampler = made("joint_by_ratio", REPORTS, batch)
    assert sampler.steps_per_epoch == steps
    assert drawn(sampler, 50) == [[*REPORTS]] * 50


def test_joint_by_ratio_refers_to_any_task() -> None:
    assert made("joint_by_ratio", REPORTS, 8, reference="sts").steps_per_epoch == 755 * 6040 // 141498
    assert made("joint_by_ratio", REPORTS, 8, reference="quora").steps_per_epoch == 17688


# ---- bad input


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("temperature", {"power": -1}, "power of sampler 'temperature' is -1: .*at least 0"),
        ("temperature", {"power": math.inf}, "power of sampler 'temperature' is inf"),
        ("temperature", {"power": True}, "power of sampler 'temperature' is True"),
        ("temperature", {"power": {"name": "liner"}}, "unknown schedule 'liner'; did you mean 'linear'"),
        ("annealed", {"end": 1.5}, "end of sampler 'annealed' is 1.5"),
        ("annealed", {"levels": 0}, "levels of sampler 'annealed' is 0"),
        ("weighted", {"weights": {}}, "missing: sst, quora, sts"),
        ("weighted", {"weights": {"sst": 1, "quora": 1}}, "missing: sts"),
        (
            "weighted",
            {"weights": {"sst": 1, "quora": 1, "sts": 1, "stsb": 1}},
            r"'stsb'; did you mean 'sts'\? \(valid: sst, quora, sts\)",
        ),
        ("weighted", {"weights": {"sst": 0, "quora": 1, "sts": 1}}, "weights of sampler 'weighted'"),
        ("equal_split", {"parts": {"qoura": 17}}, r"'qoura'; did you mean 'quora'\? \(valid: sst, quora, sts\)"),
        ("equal_split", {"parts": {"quora": 0}}, "parts of sampler 'equal_split'"),
        ("equal_split", {"parts": {"sts": 756}}, "755 batches of task 'sts' do not fill 756 parts; they fill 755"),
        ("equal_split", {"parts": {"sts": 700}}, "do not fill 700 parts; they fill 378 parts of 2"),
        ("joint", {"until": "middle"}, "until of sampler 'joint' is 'middle'"),
        ("joint_by_ratio", {"reference": "qqp"}, r"'qqp'.*\(valid: sst, quora, sts\)"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_that_shows_what_would(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(Mistake, match=message):
        made(name, REPORTS, 8, **options)


def test_weights_are_needed() -> None:
    with pytest.raises(Mistake, match="sampler 'weighted' needs the option 'weights'"):
        SAMPLERS.complete("weighted", {})


def test_a_reference_may_be_too_small_for_a_step() -> None:
    with pytest.raises(Mistake, match="reference 'few' is too small beside 'many'"):
        made("joint_by_ratio", {"few": 9, "many": 90})


def test_as_many_parts_as_are_named_in_the_message_can_be_filled() -> None:
    assert made("equal_split", REPORTS, 8, parts={"sts": 378}).steps_per_epoch == 1068 + 17688 + 2


def test_parts_that_are_kept_hold_the_same_examples_whenever_their_turn_comes() -> None:
    counts = {"many": 50, "few": 9}
    sampler = made("equal_split", counts, 4, parts={"many": 4}, keep_parts=True)
    rows: Any = Numbered(50)  # 13 batches: parts of 4, 4, 4 and 1
    feed = Stream(rows, 4, (1, 0), sampler.examples["many"], sampler.kept_parts["many"])
    passes = [[[feed.draw().rows for _ in range(count)] for count in (4, 4, 4, 1)] for _ in range(2)]
    parts = [[sorted(itertools.chain(*part)) for part in one] for one in passes]
    assert parts[0] == parts[1]
    assert sorted(itertools.chain(*parts[0])) == list(range(50))
    assert passes[0] != passes[1]  # in another order
    assert parts[0][0] != list(range(16))  # drawn at random
    feed.position = 5
    assert feed.draw().rows == passes[0][1][1]  # a position is all that a stream remembers


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_batch_size_by_task_of_one_number_is_that_number(name: str) -> None:
    one, each = made(name, REPORTS, 8), made(name, REPORTS, dict.fromkeys(REPORTS, 8))
    assert (one.batch_sizes, one.examples, one.steps_per_epoch) == (
        each.batch_sizes,
        each.examples,
        each.steps_per_epoch,
    )
    assert drawn(one, 40) == drawn(each, 40)


def test_batch_sizes_differ_by_task() -> None:
    sizes = {"sst": 64, "quora": 32, "sts": 16}
    sampler = made("sequential", REPORTS, sizes)
    assert sampler.batches == {"sst": 134, "quora": 4422, "sts": 378}
    assert epoch(sampler) == ["sst"] * 134 + ["quora"] * 4422 + ["sts"] * 378
    equal = made("equal_round_robin", REPORTS, sizes)
    assert equal.examples == {"sst": 133 * 64, "quora": 133 * 32, "sts": 133 * 16}
