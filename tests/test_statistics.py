"""Intervals cover, tests find what is there and not what is not, and both equal the plain way of working them out."""

import numpy as np
import pytest
from scipy import stats

from compactbio.errors import UserError
from compactbio.tasks import outcome as statistics
from compactbio.tasks.outcome import STATISTICS, f1, holm, interval, mrr, paired, score


def counted(rng: np.random.Generator, n: int, right: float, seeds: int = 1) -> np.ndarray:
    """Made-up (tp, fp, fn) of `n` sentences with up to four mentions, each found with probability `right`."""
    gold = rng.integers(0, 5, size=(seeds, n))
    hits = rng.binomial(gold, right)
    false = rng.binomial(gold, 1 - right)
    return np.stack([hits, false, gold - hits], axis=-1).astype(float)


def test_f1_and_mrr_are_ratios_of_sums_and_0_where_there_is_nothing():
    assert f1(np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])).tolist() == [pytest.approx(6 / 9), 0.0]
    assert mrr(np.array([[1.0, 2.0, 1.5, 4.0], [0.0, 0.0, 0.0, 0.0]])).tolist() == [0.375, 0.0]
    assert set(STATISTICS) == {"f1", "mrr"}


def test_a_score_is_the_mean_over_seeds_and_then_over_folds():
    one = np.array([[[1.0, 0, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]])
    other = np.array([[[0.0, 1, 1]]])
    assert score(one, f1) == pytest.approx((2 / 3 + 1) / 2)
    assert score([one, other], f1) == pytest.approx((2 / 3 + 1) / 4)


def test_the_interval_equals_a_plain_loop_over_the_same_draws():
    units = counted(np.random.default_rng(3), 40, 0.8, seeds=3)
    draws = np.random.default_rng([7, 0]).integers(0, 40, size=(500, 40))
    looped = [np.mean([f1(units[s, draw].sum(axis=0)) for s in range(3)]) for draw in draws]
    assert interval(units, f1, level=0.9, repeats=500, seed=7) == pytest.approx(
        tuple(np.quantile(looped, [0.05, 0.95]))
    )


def test_the_size_of_a_block_does_not_change_the_interval(monkeypatch):
    units = counted(np.random.default_rng(4), 33, 0.7, seeds=2)
    whole = interval(units, f1, repeats=101)
    monkeypatch.setattr(statistics, "_BLOCK", 100)
    assert interval(units, f1, repeats=101) == whole


def test_the_interval_of_a_mean_agrees_with_scipy():
    ranks = np.random.default_rng(5).choice([0, 0.2, 0.5, 1.0], size=150)
    units = np.stack([ranks, ranks, ranks, np.ones(150)], axis=-1)[None]
    theirs = stats.bootstrap((ranks,), np.mean, method="percentile", n_resamples=8000, rng=1).confidence_interval
    assert interval(units, mrr, repeats=8000) == pytest.approx(tuple(theirs), abs=0.004)


def test_the_interval_holds_the_true_score_about_as_often_as_it_says():
    rng = np.random.default_rng(6)
    true = score(counted(rng, 400_000, 0.8), f1)
    found = [interval(counted(rng, 150, 0.8), f1, repeats=300) for _ in range(300)]
    covered = np.mean([low <= true <= high for low, high in found])
    assert 0.90 <= covered <= 0.98


def test_more_units_make_the_interval_narrower_and_more_seeds_of_the_same_run_do_not():
    units = counted(np.random.default_rng(8), 400, 0.8)
    low, high = interval(units, f1)
    few_low, few_high = interval(units[:, :100], f1)
    assert high - low < few_high - few_low
    assert interval(np.repeat(units, 3, axis=0), f1) == pytest.approx((low, high))


def test_folds_are_drawn_each_by_itself():
    fold = counted(np.random.default_rng(9), 60, 0.8)
    (low, high), (both_low, both_high) = interval(fold, f1), interval([fold, fold], f1)
    assert score([fold, fold], f1) == score(fold, f1)
    # The chance of two independent draws averages out, by the root of two; that of one draw for both would not.
    assert 0.6 < (both_high - both_low) / (high - low) < 0.8


def test_a_real_difference_is_found_and_has_its_sign():
    rng = np.random.default_rng(10)
    better, worse = counted(rng, 500, 0.88, seeds=2), counted(rng, 500, 0.80, seeds=3)
    found = paired(better, worse, f1)
    assert found.difference == pytest.approx(score(better, f1) - score(worse, f1))
    assert found.low > 0 and found.p == pytest.approx(2 / 2001)
    turned = paired(worse, better, f1)
    assert (turned.difference, turned.p) == (pytest.approx(-found.difference), found.p)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_no_difference_is_found_where_there_is_none():
    rng = np.random.default_rng(11)
    p = [paired(counted(rng, 120, 0.8), counted(rng, 120, 0.8), f1, repeats=300).p for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) <= 0.10
    assert 0.35 < np.mean(p) < 0.65
    same = counted(rng, 120, 0.8)
    assert paired(same, same, f1) == statistics.Paired(0.0, 0.0, 0.0, 1.0)
    # The same seeds in another order, whose sums differ in their last bits.
    three = np.stack([counted(rng, 120, share)[0] for share in (0.6, 0.7, 0.8)])
    turned = paired(three, three[::-1], f1)
    assert (turned.low, turned.high, turned.p) == (0.0, 0.0, 1.0)


def test_pairing_sees_what_two_separate_intervals_cannot():
    rng = np.random.default_rng(12)
    a = counted(rng, 300, 0.8)
    b = a.copy()
    lost = np.flatnonzero(a[0, :, 0] > 0)[:20]
    b[0, lost] += np.array([-1, 0, 1])
    assert interval(a, f1)[0] < score(b, f1)
    assert paired(a, b, f1).p < 0.01


def test_models_scored_on_other_units_are_not_compared():
    a = np.ones((1, 5, 3))
    with pytest.raises(UserError, match="scored on 5 and 4 units"):
        paired(a, a[:, :4], f1)
    with pytest.raises(UserError, match=r"5 and 5 \+ 5 units"):
        paired(a, [a, a], f1)


def test_an_empty_test_set_has_no_interval():
    with pytest.raises(UserError, match="nothing to score"):
        interval(np.zeros((2, 0, 3)), f1)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        # 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04 raised to the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # 3 x 0.5 is above 1.
        ([0.5, 0.9, 0.6], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.3], [0.3]),
        ([], []),
    ],
)
def test_holm_equals_worked_values(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)
