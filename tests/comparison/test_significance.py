"""Tests of significance against scipy, hand computations and simulated tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mtbert.comparison.statistics.power import (
    blocks_needed,
    expected_best,
    fewest_for_a_verdict,
    power_of,
    smallest_seen,
)
from mtbert.comparison.statistics.significance import (
    across_blocks,
    better_on_a_new_block,
    bootstrap_test,
    equivalence_test,
    holm,
    mcnemar_test,
    sign_flip_test,
)
from mtbert.comparison.statistics.verdict import Verdict, Word, judge

SPREAD = 0.003


def paired(blocks: int, shift: float, tables: int, seed: int = 0) -> np.ndarray:
    """Differences of two runs a block, each with the usual spread."""
    generator = np.random.default_rng(seed)
    return shift + SPREAD * (generator.standard_normal((tables, blocks)) - generator.standard_normal((tables, blocks)))


def verdict(differences: np.ndarray, tests: int = 1) -> Verdict:
    p = min(1.0, tests * sign_flip_test(differences))
    return judge(differences, p, margin=0.01, planned=len(differences))


# ---- simulated tables


def test_a_a_tables_have_few_false_verdicts() -> None:
    words = [verdict(table).word for table in paired(8, 0.0, 1000)]
    assert np.mean([word in (Word.BETTER, Word.WORSE) for word in words]) < 0.05


def test_a_family_of_a_a_tables_has_few_false_verdicts_after_holm() -> None:
    false = 0
    for tables in paired(8, 0.0, 900, seed=1).reshape(300, 3, 8):
        corrected = holm([sign_flip_test(table) for table in tables])
        false += any(p < 0.05 for p in corrected)
    assert false / 300 < 0.05


@pytest.mark.parametrize("blocks", [6, 10])
def test_twice_the_smallest_difference_seen_is_found(blocks: int) -> None:
    seen = smallest_seen(blocks, SPREAD)
    assert seen is not None
    words = [verdict(table).word for table in paired(blocks, 2 * seen, 200)]
    assert words.count(Word.BETTER) / 200 >= 0.9


def test_equivalence_is_seldom_found_at_its_margin_and_mostly_within_it() -> None:
    at_margin = [equivalence_test(table, 0.01) < 0.05 for table in paired(6, 0.01, 1000)]
    within = [equivalence_test(table, 0.01) < 0.05 for table in paired(6, 0.0, 1000)]
    assert np.mean(at_margin) < 0.065  # 0.05 and two standard errors of 1,000 tables
    assert np.mean(within) > 0.9


# ---- against other implementations


def test_the_sign_flip_test_counts_all_ways_to_flip() -> None:
    differences = np.array([0.3, -0.1, 0.25, 0.4, 0.05, 0.2, -0.15])
    means = [np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=7)]
    expected = np.mean(np.abs(means) >= abs(differences.mean()) - 1e-12)
    assert sign_flip_test(differences) == pytest.approx(expected)


def test_flipped_means_that_are_equal_but_for_rounding_count_as_equal() -> None:
    rows, generator = 118, np.random.default_rng(7)
    for _ in range(50):
        ours, theirs = generator.integers(60, 68, size=(2, 7))
        whole = [sum(signs * (ours - theirs)) for signs in itertools.product((1, -1), repeat=7)]  # no rounding there
        expected = np.mean(np.abs(whole) >= abs(sum(ours - theirs)))
        assert sign_flip_test(ours / rows - theirs / rows) == expected


@pytest.mark.parametrize(("blocks", "least"), [(1, 1.0), (5, 0.0625), (6, 0.03125), (9, 0.00390625)])
def test_few_pairs_cannot_have_a_small_p(blocks: int, least: float) -> None:
    assert sign_flip_test(np.linspace(1, 2, blocks)) == pytest.approx(least)


def test_many_pairs_are_flipped_at_random_and_always_alike() -> None:
    differences = np.random.default_rng(4).normal(0.5, 1.0, 20)
    assert sign_flip_test(differences) == sign_flip_test(differences)
    assert sign_flip_test(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_mcnemar_is_the_binomial_test_of_the_rows_that_only_one_has_right() -> None:
    ours, theirs = (np.array([*map(int, bits)], dtype=bool) for bits in ("1111111111000", "1100000000100"))
    # 8 rows ours alone, 1 row theirs alone: twice the tail of 8 or more heads of 9
    assert mcnemar_test(ours, theirs) == pytest.approx(2 * (9 + 1) / 2**9)
    assert mcnemar_test(ours, ours) == 1.0


def test_the_bootstrap_test_of_a_correlation_is_calibrated() -> None:
    generator = np.random.default_rng(7)
    found = []
    for _ in range(300):
        draws = generator.normal(generator.normal(0, 1), 1, 999)  # a difference of 0 seen with its own error
        found.append(bootstrap_test(draws))
    assert np.mean(np.array(found) < 0.05) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert bootstrap_test(np.ones(999)) == pytest.approx(0.002)


def test_p_values_of_the_same_rows_join_as_twice_their_median() -> None:
    assert across_blocks([0.01, 0.2, 0.04]) == pytest.approx(0.08)
    assert across_blocks([0.03]) == pytest.approx(0.03)
    assert across_blocks([0.9, 0.8]) == 1.0


def test_holm_by_hand() -> None:
    # 4 x 0.005; 3 x 0.01; 2 x 0.03; then no smaller than what stands before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.6]) == [1.0, 1.0]


def test_equivalence_is_a_90_percent_interval_inside_the_margin() -> None:
    differences = np.array([0.002, -0.001, 0.004, 0.0, 0.003, -0.002])
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    edge = max(abs(interval.low), abs(interval.high))
    assert equivalence_test(differences, edge * 1.001) < 0.05 < equivalence_test(differences, edge * 0.999)
    assert equivalence_test(np.zeros(6), 0.01) == 0.0
    assert equivalence_test(np.full(6, 0.02), 0.01) == 1.0


def test_the_chance_of_a_new_block_is_what_new_blocks_do() -> None:
    tables = paired(6, 0.004, 4000)
    said = np.mean([better_on_a_new_block(table[:5]) for table in tables])
    assert said == pytest.approx(np.mean(tables[:, 5] > 0), abs=0.04)
    assert better_on_a_new_block(np.array([0.1])) is None
    assert better_on_a_new_block(np.full(3, 0.1)) == 1.0
    assert better_on_a_new_block(np.zeros(3)) == 0.5


# ---- power


def test_the_seeds_that_a_difference_needs() -> None:
    assert [blocks_needed(size, SPREAD) for size in (0.01, 0.006, 0.004, 0.003)] == [4, 7, 11, 18]
    assert smallest_seen(4, SPREAD) == pytest.approx(0.01, abs=0.001)
    assert smallest_seen(1) is None


def test_every_number_of_seeds_sees_a_difference_that_more_seeds_see_better() -> None:
    for spread in (1e-5, SPREAD, 0.3):
        seen = [smallest_seen(blocks, spread) or 0.0 for blocks in range(2, 60)]
        assert all(later < earlier for earlier, later in itertools.pairwise(seen))
        assert [power_of(size, blocks, spread) for blocks, size in enumerate(seen, 2)] == pytest.approx([0.8] * 58)


def test_power_is_the_share_of_t_tests_that_find_the_difference() -> None:
    found = stats.ttest_1samp(paired(6, 0.006, 4000), 0, axis=1).pvalue < 0.05
    assert power_of(0.006, 6, SPREAD) == pytest.approx(found.mean(), abs=0.02)


def test_more_tests_need_more_seeds_for_any_verdict() -> None:
    for tests in (1, 2, 3, 9, 20):
        fewest = fewest_for_a_verdict(tests)
        assert holm([2.0 ** (1 - fewest)] + [1.0] * (tests - 1))[0] < 0.05
        assert holm([2.0 ** (2 - fewest)] + [1.0] * (tests - 1))[0] >= 0.05


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    scores = [0.1, 0.5, 0.2, 0.9]
    for trials in (1, 2, 3):
        draws = itertools.product(scores, repeat=trials)
        assert expected_best(scores, trials) == pytest.approx(np.mean([max(draw) for draw in draws]))


# ---- verdicts


def test_the_four_verdicts() -> None:
    sure = np.array([0.02, 0.03, 0.025, 0.021, 0.03, 0.02])
    assert verdict(sure).word is Word.BETTER
    assert verdict(-sure).word is Word.WORSE
    alike = verdict(np.array([0.001, -0.001, 0.0015, -0.002, 0.001, -0.0005]))
    assert (alike.word, str(alike)) == (Word.ALIKE, "no difference larger than 0.01")
    assert verdict(np.array([0.05, -0.04, 0.03, -0.06, 0.02, 0.01])).word is Word.UNTOLD


def test_below_six_pairs_and_before_the_end_nothing_is_told() -> None:
    few = verdict(np.full(5, 0.5) + np.arange(5) / 100)
    assert few.word is Word.UNTOLD
    assert "5 pairs" in few.why
    early = judge(np.full(8, 0.5), p=0.001, margin=0.01, planned=10)
    assert early.word is Word.UNTOLD
    assert "8 of 10 blocks" in early.why


def test_a_verdict_that_no_p_could_reach_says_so() -> None:
    wide = np.array([0.05, 0.04, 0.03, 0.06, 0.02, 0.01])
    said = judge(wide, p=0.3, margin=0.01, planned=6, tests=12).why
    assert said == "p = 0.3 after correction; 6 pairs cannot reach p < 0.05 with 12 tests, 9 could"
    assert judge(wide, p=0.3, margin=0.01, planned=6).why == "p = 0.3"
