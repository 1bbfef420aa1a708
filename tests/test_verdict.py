"""Verdicts: false alarms and power by simulation, each kind of claim in its three outcomes, and every refusal."""

import json
from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom, skew, t

from riron.errors import InputError
from riron.lab.verdict import (
    Below,
    Equal,
    Instead,
    Ordered,
    Rate,
    Vanishes,
    describe,
    double_until_decided,
    judge,
    judge_mutations,
    mutated,
    notices,
)
from riron.lab.verdict.curves import Curve
from riron.lab.verdict.gaps import at_one_size, in_the_limit
from riron.lab.verdict.statistics import critical, hall, heavy, intercept_weights, moments, satterthwaite

POINTS = np.geomspace(0.1, 5.0, 8)
SIZES = (32, 64, 128)


def correlated(rng, seeds, count, points=16, rho=0.9):
    """(seeds, count * points) standard normals: `count` curves, whose neighbouring points have correlation rho."""
    z = rng.standard_normal((seeds, count, points))
    for k in range(1, points):
        z[:, :, k] = rho * z[:, :, k - 1] + np.sqrt(1 - rho**2) * z[:, :, k]
    return z.reshape(seeds, -1)


def curve(dots, line=1.0, size=None, **parts):
    """A Curve of plain arrays."""
    shape = dots.shape[1]
    zero = np.zeros(shape)
    base = {"stderr": zero, "freedom": zero + np.inf, "tolerance": zero, "rounding": zero}
    return Curve(
        "v", size, dots, np.full(shape, line), **(base | parts), points=[{}] * shape, seeds=np.arange(len(dots))
    )


def truth(size, finite=0.0, rate=1.0):
    """A loss curve whose finite-size term is `finite` times itself at size 1."""
    return (np.exp(-POINTS) + 0.2) * (1 + finite * size**-rate)


def experiment(seeds=64, sizes=SIZES, noise=0.1, finite=0.0, rate=1.0, wrong=1.0, key=0, line_of=None):
    """Dots with multiplicative Gaussian noise, common to all points of a run by nine tenths, and the limit as line."""
    rng = np.random.default_rng(key)
    dots, line = {}, {}
    for size in sizes:
        z = correlated(rng, seeds, 1, len(POINTS))
        values = truth(size, finite, rate) * (1 + noise * z)
        dots[size] = xr.Dataset(
            {"train_loss": (("seed", "epoch"), values)}, {"epoch": POINTS, "seed": np.arange(seeds)}
        )
        values = truth(np.inf) if line_of is None else line_of(size)
        line[size] = xr.Dataset({"train_loss": ("epoch", wrong * values)}, {"epoch": POINTS})
    return dots, line


def one(report):
    """The only comparison of a report, which must be strict JSON."""
    json.dumps(report, allow_nan=False)
    (comparison,) = report["comparisons"]
    return comparison


# ---- the statistics -------------------------------------------------------------------------------------------------


def test_critical_values_of_the_guide():
    found = [float(critical(1e-4 / 16, seeds - 1)) for seeds in (6, 8, 16, 32, 64, 128)]
    np.testing.assert_allclose(found, t.isf(1e-4 / 32, np.array([5, 7, 15, 31, 63, 127])), rtol=1e-9)
    np.testing.assert_allclose(found, [19.7, 12.0, 6.8, 5.4, 4.9, 4.7], atol=0.05)


def test_moments_agree_with_scipy_and_survive_huge_losses():
    samples = np.random.default_rng(0).lognormal(size=(50, 3)) * np.array([1.0, 1e-200, 1e200])
    mean, variance, skewness = moments(samples)
    np.testing.assert_allclose(mean, samples.mean(axis=0))
    np.testing.assert_allclose(variance[0], samples[:, 0].var(ddof=1) / 50)
    np.testing.assert_allclose(skewness, skew(samples / samples.max(axis=0)))


def test_intercept_weights_are_the_weighted_least_squares_fit():
    sizes, errors = np.array([32.0, 64.0, 128.0, 512.0]), np.array([3.0, 1.0, 2.0, 0.7])
    gaps = np.array([0.4, 0.1, 0.3, -0.2])
    for rate in (0.5, 1.0):
        design = np.stack([np.ones(4), (sizes / 512) ** -rate], axis=1) / errors[:, None]
        expected = np.linalg.lstsq(design, gaps / errors, rcond=None)[0][0]
        weights = intercept_weights(sizes, errors[:, None], rate)[:, 0]
        np.testing.assert_allclose(weights @ gaps, expected)


def test_error_of_the_intercept_with_equal_errors_at_sizes_1_2_4():
    equal = np.ones((3, 1))
    inflation = [np.sqrt((intercept_weights(np.array([1.0, 2, 4]), equal, rate) ** 2).sum()) for rate in (1.0, 0.5)]
    np.testing.assert_allclose(inflation, [1.22, 2.15], atol=0.005)


def test_satterthwaite_against_its_formula():
    freedom = satterthwaite(np.array([[2.0], [3.0]]), np.array([[63.0], [7.0]]))
    np.testing.assert_allclose(freedom, 25 / (4 / 63 + 9 / 7))


# ---- false alarms and power -----------------------------------------------------------------------------------------


def alarms(gaps, count, alpha):
    """How many of `count` curves of 16 points are refuted at false-alarm rate alpha a curve."""
    agrees = gaps.table(alpha / 16)["agrees"].reshape(count, 16)
    return sum(any(answer is False for answer in row) for row in agrees.tolist())


@pytest.mark.parametrize("seeds", [16, 64])
@pytest.mark.parametrize("rates", [(), (1.0,), (0.5, 1.0)])
def test_a_perfect_theory_is_refuted_no_more_often_than_stated(seeds, rates):
    rng, alpha, count = np.random.default_rng(seeds), 0.02, 500
    sizes = SIZES if rates else (128,)
    curves = [
        curve(1 + 0.3 * size**-0.5 * bool(0.5 in rates) + 0.1 * correlated(rng, seeds, count), size=size)
        for size in sizes
    ]
    zero = np.zeros(count * 16)
    gaps = in_the_limit(curves, rates, zero, [zero] * 3) if rates else at_one_size(curves[0], zero, zero)
    assert alarms(gaps, count, alpha) <= binom.isf(1e-4, count, alpha)


@pytest.mark.parametrize(("sigma", "seeds"), [(0.3, 32), (0.5, 128), (0.8, 256)])
def test_halls_correction_mends_what_t_does_with_lognormal_losses(sigma, seeds):
    rng, alpha, count = np.random.default_rng(1), 0.01, 64_000 // seeds
    gap = np.exp(sigma * correlated(rng, seeds, count)) - np.exp(sigma**2 / 2)
    mean, variance, skewness = moments(gap)
    error, c = np.sqrt(variance), critical(alpha / 16, seeds - 1)
    alarmed = lambda t: (np.abs(t) > c).reshape(count, 16).any(axis=1).sum()
    plain, corrected = alarmed(mean / error), alarmed(hall(mean, error, skewness, seeds))
    assert corrected < plain
    assert corrected <= binom.isf(1e-4, count, alpha)
    light = ~heavy(skewness, seeds).reshape(count, 16)
    assert (light.mean(axis=1) >= 0.75).mean() > 0.7  # few such studies are called heavy-tailed


def test_a_noisy_line_is_judged_with_its_few_degrees_of_freedom():
    rng, alpha, count, seeds, groups = np.random.default_rng(2), 0.02, 800, 64, 8
    noise = correlated(rng, groups, count)
    parts = {"stderr": noise.std(axis=0, ddof=1) / np.sqrt(groups), "freedom": np.full(count * 16, groups - 1.0)}
    dots = 1 + 0.1 * correlated(rng, seeds, count) - noise.mean(axis=0)  # a line with an error of its own
    zero = np.zeros(count * 16)
    assert alarms(at_one_size(curve(dots, **parts), zero, zero), count, alpha) <= binom.isf(1e-4, count, alpha)
    parts["freedom"] = np.full(count * 16, seeds - 1.0)
    assert alarms(at_one_size(curve(dots, **parts), zero, zero), count, alpha) > binom.isf(1e-4, count, alpha)


@pytest.mark.parametrize("key", range(5))
def test_a_limit_theorem_holds_and_a_wrong_limit_fails(key):
    setting = {"noise": 0.04, "finite": 0.3, "rate": 0.5, "key": key}
    holds = judge(Equal("train_loss", rates=(0.5, 1)), *experiment(**setting))
    assert holds["verdict"] == "holds", holds["reason"]
    assert one(holds)["would_notice"] <= 0.1
    for wrong in (0.8, 1.2):
        assert judge(Equal("train_loss", rates=(0.5, 1)), *experiment(**setting, wrong=wrong))["verdict"] == "fails"


def test_an_exact_line_holds_and_a_wrong_one_fails_at_every_size():
    claim = Equal("train_loss", rates=())
    assert judge(claim, *experiment())["verdict"] == "holds"
    report = judge(claim, *experiment(wrong=0.8))
    comparison = one(report)
    assert report["verdict"] == "fails"
    assert comparison["tests"] == len(POINTS) * len(SIZES)
    assert set(comparison["worst"]["at"]) == {"epoch", "size"}
    assert "the line says" in report["reason"]


def test_one_size_with_a_fixed_bias_would_refute_a_true_limit_theorem():
    dots, line = experiment(seeds=256, noise=0.05, finite=5.0)
    assert judge(Equal("train_loss", rates=(1,)), dots, line)["verdict"] == "holds"
    assert judge(Equal("train_loss", rates=()), dots[128], line[128])["verdict"] == "fails"


def test_a_wrong_rate_alone_refutes_a_true_theorem_and_admitting_both_does_not():
    dots, line = experiment(seeds=256, noise=0.01, finite=0.5, rate=0.5)
    assert judge(Equal("train_loss", rates=(1,)), dots, line)["verdict"] == "fails"
    assert judge(Equal("train_loss", rates=(0.5, 1)), dots, line)["verdict"] != "fails"
    entries = one(judge(Equal("train_loss", rates=(0.5, 1)), dots, line))["finite_size"]
    assert [entry["rate"] for entry in entries] == [0.5, 1]
    assert abs(entries[0]["intercept"]) < 5 * entries[0]["intercept_stderr"] < abs(entries[1]["intercept"])


# ---- Equal: what is undecided, and why ------------------------------------------------------------------------------


def test_too_few_seeds_are_inconclusive_and_the_number_that_is_named_decides():
    claim = Equal("train_loss", rates=())
    report = judge(claim, *experiment(noise=0.2))
    needed = report["seeds_that_would_decide"]
    assert report["verdict"] == "inconclusive"
    assert f"about {needed} seeds would decide" in report["reason"]
    assert judge(claim, *experiment(seeds=int(1.2 * needed), noise=0.2, key=1))["verdict"] == "holds"
    assert judge(claim, *experiment(seeds=int(0.6 * needed), noise=0.2, key=1))["verdict"] == "inconclusive"


def test_a_large_finite_size_term_asks_for_larger_sizes():
    report = judge(Equal("train_loss", rates=(0.5, 1)), *experiment(seeds=256, noise=0.02, finite=20.0))
    assert report["verdict"] == "inconclusive"
    assert "larger sizes, not more seeds" in report["reason"]
    assert report["seeds_that_would_decide"] is None


def test_a_noisy_line_asks_for_more_paths():
    dots, line = experiment()
    line = {
        size: data.assign(train_loss_stderr=0.05 * data.train_loss, train_loss_stderr_df=7.0)
        for size, data in line.items()
    }
    report = judge(Equal("train_loss", rates=()), dots, line)
    assert report["verdict"] == "inconclusive"
    assert "more paths" in report["reason"]
    assert report["seeds_that_would_decide"] is None


def test_heavy_tails_are_inconclusive():
    dots, line = experiment(seeds=128)
    tails = np.random.default_rng(0).pareto(1.1, (128, 3))
    dots[64].train_loss[:, 5] *= tails[:, 0]
    one_point = judge(Equal("train_loss", rates=()), dots, line)
    assert one_point["verdict"] == "holds"  # 23 of 24 points are sound
    assert one(one_point)["points"][13]["agrees"] is None
    for size, tail in zip(SIZES, tails.T, strict=True):
        dots[size].train_loss[:] *= tail[:, None]
    report = judge(Equal("train_loss", rates=()), dots, line)
    assert report["verdict"] == "inconclusive"
    assert "heavy tails: the mean is carried by few runs" in report["reason"]
    assert report["seeds_that_would_decide"] > 128
    assert one(report)["skewness"] > 2.83


def test_diverged_seeds_are_counted_and_named():
    dots, line = experiment()
    dots[64].train_loss[[3, 9], 6:] = np.inf
    dots[128].train_loss[9, 7:] = np.nan
    for rates in ((), (1,)):
        report = judge(Equal("train_loss", rates=rates), dots, line)
        assert report["verdict"] == "inconclusive"
        assert report["diverged"] == 2
        assert report["diverged_seeds"] == [3, 9]
        assert "2 of 64 seeds diverged (3, 9)" in report["reason"]
        json.dumps(report, allow_nan=False)
    wrong = judge(Equal("train_loss", rates=()), dots, {size: 0.7 * data for size, data in line.items()})
    assert wrong["verdict"] == "fails"  # seen where no seed has diverged


def test_a_stated_tolerance_is_allowed_and_not_more():
    dots, line = experiment(noise=0.02, wrong=1.05)
    claim = Equal("train_loss", rates=())
    assert judge(claim, dots, line)["verdict"] == "fails"
    with_tolerance = {size: data.assign(train_loss_tolerance=0.06) for size, data in line.items()}
    comparison = one(judge(claim, dots, with_tolerance))
    assert comparison["verdict"] == "holds"
    assert comparison["tolerance"] == 0.06
    assert 0.06 < comparison["would_notice"] < 0.1
    assert judge(Equal("train_loss", rates=(), tolerance=0.06), dots, line)["verdict"] == "holds"
    assert (
        judge(claim, dots, {s: 1.1 * d.assign(train_loss_tolerance=0.05) for s, d in line.items()})["verdict"]
        == "fails"
    )


def test_dots_that_do_not_vary_are_compared_with_an_absolute_tolerance():
    dots, line = experiment(noise=0.0)
    assert judge(Equal("train_loss", rates=()), dots, line)["verdict"] == "holds"
    off = {size: data + 1e-3 for size, data in line.items()}
    report = judge(Equal("train_loss", rates=()), dots, off)
    assert report["verdict"] == "fails"
    assert "without any noise" in report["reason"]
    assert judge(Equal("train_loss", rates=(), atol=2e-3), dots, off)["verdict"] == "holds"
    assert judge(Equal("train_loss", rates=(1,)), *experiment(noise=0.0, finite=2.0))["verdict"] == "holds"
    assert judge(Equal("train_loss", rates=(1,)), *experiment(noise=0.0, finite=2.0, wrong=1.2))["verdict"] == "fails"


def test_rounding_of_float32_dots_is_no_deviation():
    dots, line = experiment(noise=0.0)
    rng = np.random.default_rng(0)
    single = {
        size: (data * (1 + 5e-7 + 1e-7 * rng.standard_normal((64, 8)))).astype(np.float32)
        for size, data in dots.items()
    }
    assert judge(Equal("train_loss", rates=()), single, line)["verdict"] == "holds"


def test_a_start_that_all_seeds_share_does_not_disturb():
    dots, line = experiment()
    for size in SIZES:
        dots[size].train_loss[:, 0] = float(line[size].train_loss[0])
    assert judge(Equal("train_loss", rates=()), dots, line)["verdict"] == "holds"
    assert judge(Equal("train_loss", rates=(1,)), dots, line)["verdict"] == "holds"


def test_several_claims_share_one_false_alarm_rate():
    dots, line = experiment()
    single = judge(Equal("train_loss", rates=()), dots, line)
    double = judge([Equal("train_loss", rates=())] * 2, dots, line)
    later = judge(Equal("train_loss", rates=()), dots, line, looks=2)
    c = [report["comparisons"][0]["critical"] for report in (single, double, later)]
    np.testing.assert_allclose(c, t.isf(1e-4 / np.array([48, 96, 96]), 63), rtol=1e-9)


def test_numbers_without_a_record_and_sweeps_of_records_are_judged():
    rng = np.random.default_rng(0)
    dots = xr.Dataset({"a": ("seed", 1 + 0.1 * rng.standard_normal(64))})
    assert judge(Equal("a", rates=()), dots, xr.Dataset({"a": 1.0}))["verdict"] == "holds"
    assert judge(Equal("a", rates=()), dots, xr.Dataset({"a": 1.2}))["verdict"] == "fails"
    grid = {"point": [1.0, 2.0], "step": [0, 5, 9]}
    dots = xr.Dataset({"a": (("point", "seed", "step"), 1 + 0.1 * rng.standard_normal((2, 64, 3)))}, grid)
    line = xr.Dataset({"a": (("step", "point"), np.array([[1, 1], [1, 1], [1, 1.5]]))}, grid)
    comparison = one(judge(Equal("a", rates=()), dots, line))
    assert comparison["verdict"] == "fails"
    assert comparison["worst"]["at"] == {"point": 2.0, "step": 9}


# ---- Below ----------------------------------------------------------------------------------------------------------


def test_below():
    dots, line = experiment(sizes=(32, 64))
    assert one(judge(Below("train_loss"), dots, {s: 1.5 * d for s, d in line.items()}))["looseness"]["median"] > 1.4
    assert judge(Below("train_loss"), dots, {s: 1.5 * d for s, d in line.items()})["verdict"] == "holds"
    assert judge(Below("train_loss"), dots, {s: 0.8 * d for s, d in line.items()})["verdict"] == "fails"
    report = judge(Below("train_loss"), dots, {s: 1.02 * d for s, d in line.items()})
    assert report["verdict"] == "inconclusive"
    assert report["seeds_that_would_decide"] > 64


def test_below_without_noise_and_with_divergence():
    dots, line = experiment(sizes=(32,), noise=0.0)
    assert judge(Below("train_loss"), dots, line)["verdict"] == "holds"  # a bound that is attained is kept
    assert judge(Below("train_loss"), dots, {32: line[32] * 0.99})["verdict"] == "fails"
    dots[32].train_loss[4, 7] = np.inf
    assert "1 of 64 seeds diverged (4)" in judge(Below("train_loss"), dots, line)["reason"]


# ---- Rate -----------------------------------------------------------------------------------------------------------


def powers(exponent, seeds=64, noise=0.1, sizes=(16, 32, 64, 128), floor=0.0, key=0):
    rng = np.random.default_rng(key)
    return {
        size: xr.Dataset(
            {
                "gap": (
                    ("seed", "epoch"),
                    (floor + size**exponent * np.array([1.0, 0.5])) * rng.lognormal(0, noise, (seeds, 2)),
                )
            },
            {"epoch": [1.0, 2.0]},
        )
        for size in sizes
    }


def test_rate_along_the_size():
    claim = Rate("gap", "size", -0.5, 0.1)
    holds = judge(claim, powers(-0.5), {})
    assert holds["verdict"] == "holds", holds["reason"]
    comparison = one(holds)
    assert abs(comparison["slope"] + 0.5) < 5 * comparison["slope_stderr"]
    assert len(comparison["worst"]["local_slopes"]) == 3
    assert judge(claim, powers(-1.0), {})["verdict"] == "fails"
    report = judge(claim, powers(-0.5, noise=0.8), {})
    assert report["verdict"] == "inconclusive"
    assert report["seeds_that_would_decide"] > 64


def test_error_of_a_slope_is_that_of_many_repetitions():
    claim = Rate("gap", "size", -0.5, 0.1)
    found = [one(judge(claim, powers(-0.5, noise=0.4, key=key), {}))["worst"] for key in range(40)]
    slopes, errors = (np.array([entry[name] for entry in found]) for name in ("slope", "slope_stderr"))
    chosen = slopes.std(ddof=1) / np.sqrt((errors**2).mean())  # of the worse of two slopes, so a little below 1.4
    assert 0.6 < chosen < 1.8


def test_a_rate_that_drifts_is_not_yet_asymptotic():
    report = judge(Rate("gap", "size", -0.5, 0.2), powers(-1.0, floor=0.05, noise=0.02), {})
    assert report["verdict"] == "inconclusive"
    assert "not yet asymptotic" in report["reason"]
    assert report["seeds_that_would_decide"] is None


def test_rate_along_the_record():
    rng = np.random.default_rng(0)
    steps = np.array([0, 1, 3, 10, 30, 100])
    values = np.where(steps > 0, np.maximum(steps, 1) ** -1.0, 5.0) * rng.lognormal(0, 0.1, (64, 6))
    dots = xr.Dataset({"gap": (("seed", "step"), values)}, {"step": steps})
    assert judge(Rate("gap", "step", -1.0, 0.05), dots, {})["verdict"] == "holds"
    assert judge(Rate("gap", "step", -0.5, 0.05), dots, {})["verdict"] == "fails"


def test_the_exponent_may_come_from_the_theory():
    dots = powers(-0.5)
    line = lambda exponent: {size: xr.Dataset({"gap_exponent": exponent}) for size in dots}
    assert judge(Rate("gap", atol=0.1), dots, line(-0.5))["verdict"] == "holds"
    assert judge(Rate("gap", atol=0.1), dots, line(-0.8))["verdict"] == "fails"


def test_no_logarithm_of_what_is_not_positive():
    dots = powers(-0.5)
    dots[32].gap[:, 0] -= 10
    assert "no log-log slope" in judge(Rate("gap", exponent=-0.5), dots, {})["reason"]


# ---- Vanishes -------------------------------------------------------------------------------------------------------


def test_vanishes():
    sizes = (16, 64, 256, 1024)
    assert judge(Vanishes("gap"), powers(-0.5, sizes=sizes, noise=0.05), {})["verdict"] == "holds"
    assert judge(Vanishes("gap"), powers(-1.0, sizes=sizes, noise=0.05), {})["verdict"] == "holds"
    stuck = judge(Vanishes("gap"), powers(-1.0, sizes=sizes, floor=0.5, noise=0.05), {})
    assert stuck["verdict"] == "fails"
    assert "does not vanish" in stuck["reason"]
    assert judge(Vanishes("gap"), powers(0.3, sizes=sizes, noise=0.05), {})["verdict"] == "fails"
    unclear = judge(Vanishes("gap"), powers(-0.5, sizes=(16, 32, 64), noise=0.3), {})
    assert unclear["verdict"] == "inconclusive"
    json.dumps([stuck, unclear], allow_nan=False)


# ---- Ordered --------------------------------------------------------------------------------------------------------


def methods(ratio, seeds=64, noise=0.3):
    """Two algorithms whose objective falls exponentially with the gradients spent, one `ratio` times as fast."""
    rng = np.random.default_rng(0)
    spent = np.tile(np.arange(0, 200, 10.0), (2, 1))
    luck = np.exp(noise * rng.standard_normal((seeds, 1, 1)) + 0.1 * rng.standard_normal((seeds, 2, 1)))
    objective = np.exp(-spent * np.array([[0.05], [0.05 / ratio]]) * luck)
    return xr.Dataset(
        {
            "objective": (("seed", "method", "step"), objective),
            "gradient_evaluations": (("method", "step"), spent),
            "excess_risk": (("seed", "method", "step"), 0.1 + objective),
        },
        {"method": ["svrg", "full"], "step": np.arange(20)},
    )


def test_ordered_by_what_is_needed_to_reach_a_level():
    claim = Ordered("svrg", "full", "gradient_evaluations", at={"objective": 0.2})
    report = judge(claim, methods(1.5), {})
    assert report["verdict"] == "holds"
    np.testing.assert_allclose(one(report)["ratio"], 1 / 1.5, rtol=0.1)
    assert judge(claim, methods(0.7), {})["verdict"] == "fails"
    assert judge(claim, methods(1.0), {})["verdict"] == "inconclusive"
    never = judge(Ordered("svrg", "full", "gradient_evaluations", at={"objective": 1e-6}), methods(1.5), {})
    assert never["verdict"] == "inconclusive"
    assert "do not reach objective <= 1e-06" in never["reason"]


def test_ordered_at_a_record_point():
    assert judge(Ordered("svrg", "full", "excess_risk"), methods(1.5), {})["verdict"] == "holds"
    assert judge(Ordered("full", "svrg", "excess_risk", at={"step": 4}), methods(1.5), {})["verdict"] == "fails"
    with pytest.raises(InputError, match=r"no record point lies at step=4\.5"):
        judge(Ordered("full", "svrg", "excess_risk", at={"step": 4.5}), methods(1.5), {})
    with pytest.raises(InputError, match="no dimension of excess_risk is labelled with both 'adam'"):
        judge(Ordered("adam", "svrg", "excess_risk"), methods(1.5), {})


# ---- mutations ------------------------------------------------------------------------------------------------------


def decay(rate, level=0.2, clock="steps", *, size):
    """A stand-in for a theory function."""
    if level < 0:
        raise InputError("level must be >= 0")
    scale = 1.3 if clock == "brownian" else 1.0
    return xr.Dataset({"train_loss": ("epoch", np.exp(-rate * scale * POINTS) + level)}, {"epoch": POINTS})


def nothing(rate, level=0.2, clock="steps", *, size):
    return xr.Dataset({"train_loss": ("epoch", np.full(len(POINTS), np.inf))}, {"epoch": POINTS})


def test_mutations_fail_and_are_labelled():
    dots, _ = experiment(noise=0.03)
    prediction = {size: partial(decay, 1.0, size=size) for size in SIZES}
    assert judge(Equal("train_loss"), dots, {s: call() for s, call in prediction.items()})["verdict"] == "holds"
    changes = {"rate": 1.3, "level": 1.5, "clock": Instead("brownian"), "theory": Instead(nothing)}
    found = judge_mutations(Equal("train_loss"), dots, prediction, changes)
    assert found == dict.fromkeys(("rate x 1.3", "level x 1.5", "clock = brownian", "theory = nothing"), "fails")
    calls = mutated(prediction[32], changes)
    assert list(calls) == list(found)
    assert calls["level x 1.5"].func is decay
    np.testing.assert_allclose(calls["level x 1.5"]().train_loss, np.exp(-POINTS) + 0.3)


def test_a_keyword_that_the_theory_passes_on_is_mutated_too():
    theory = lambda rate, **others: decay(rate, **others)
    calls = mutated(partial(theory, 1.0, level=0.2, size=32), {"level": 1.5, "rate": 2.0})
    np.testing.assert_allclose(calls["level x 1.5"]().train_loss, np.exp(-POINTS) + 0.3)
    np.testing.assert_allclose(calls["rate x 2"]().train_loss, np.exp(-2 * POINTS) + 0.2)


def test_the_smallest_factor_that_is_noticed():
    dots, _ = experiment(noise=0.03)
    prediction = {size: partial(decay, 1.0, size=size) for size in SIZES}
    claim = Equal("train_loss", rates=(1,))
    low, high = notices(claim, dots, prediction, "rate")
    assert 0.7 < low < 1 < high < 1.4
    for factor, verdict in [(low, "fails"), (low * 1.02, "holds"), (high, "fails"), (high / 1.02, "holds")]:
        assert judge_mutations(claim, dots, prediction, {"rate": factor}) == {f"rate x {factor:g}": verdict}
    assert notices(claim, dots, prediction, "size") == (None, None)  # a number that the theory does not use


def test_a_mutation_of_what_is_not_there_is_refused():
    call = {32: partial(decay, 1.0, size=32)}
    dots, _ = experiment(sizes=(32,))
    with pytest.raises(InputError, match=r"decay has no parameter 'rat'; did you mean 'rate'\?"):
        notices(Equal("train_loss", rates=()), dots, call, "rat")
    with pytest.raises(InputError, match="decay has no parameter 'rat'"):
        mutated(call[32], {"rat": 1.2})
    with pytest.raises(InputError, match=r"clock='steps' cannot be scaled by 1.2; replace it with Instead"):
        mutated(call[32], {"clock": 1.2})


# ---- how many seeds -------------------------------------------------------------------------------------------------


def test_seeds_double_until_decided():
    asked = []

    def run(seeds):
        asked.append(seeds)
        return experiment(seeds=seeds, noise=0.25)

    _, _, report = double_until_decided(run, partial(judge, Equal("train_loss", rates=())), start=16)
    assert report["verdict"] == "holds"
    assert asked == [16, 32, 64, 128, 256][: len(asked)]
    assert report["seeds"] == asked[-1] > 16
    assert report["looks"] == 5
    assert report["looks_taken"] == len(asked)


def test_seeds_do_not_double_where_they_cannot_help():
    for setting in ({"noise": 0.02, "finite": 20.0}, {"noise": 10.0}):
        asked = []
        _, _, report = double_until_decided(
            lambda seeds, setting=setting, asked=asked: asked.append(seeds) or experiment(seeds=seeds, **setting),
            partial(judge, Equal("train_loss")),
        )
        assert report["verdict"] == "inconclusive"
        assert asked == [64]


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_judged_is_refused_in_one_sentence():
    dots, line = experiment()
    few = {size: data.isel(seed=slice(3)) for size, data in dots.items()}
    claim = Equal("train_loss", rates=(1,))
    cases = [
        (lambda: judge(claim, few, line), "3 seeds of train_loss at size 32 give no error bar; use at least 16"),
        (
            lambda: judge(claim, *({s: d[s] for s in SIZES[:2]} for d in (dots, line))),
            "there are 2 sizes; give at least 3",
        ),
        (lambda: judge(claim, dots[32], line[32]), "there are 0 sizes; give at least 3"),
        (
            lambda: judge(claim, {32: dots[32]}, line),
            r"the dots have the sizes \[32\] and the line has \[32, 64, 128\]",
        ),
        (lambda: judge(Equal("test_loss"), dots, line), "no variable 'test_loss'; did you mean 'train_loss'"),
        (lambda: judge([], dots, line), "no claim to judge"),
        (lambda: judge(claim, dots, {}), "line must be an xarray.Dataset, or a mapping"),
        (lambda: judge(claim, {"a": dots[32]}, {"a": line[32]}), "the size 'a'; use numbers"),
        (lambda: judge(claim, dots, line, alpha=0), r"alpha=0 is outside \(0, 1\)"),
        (lambda: judge(claim, dots, line, looks=0), "looks=0"),
        (lambda: Equal("a", tolerance=0.2), r"tolerance=0.2; give one in \[0, 0.1\]"),
        (lambda: Equal("a", rates=(0,)), "rates > 0"),
        (lambda: Equal("a", resolution=0), "resolution=0"),
        (lambda: Rate("a", exponent=1.0, atol=0), "atol=0"),
        (lambda: Vanishes("a", rates=()), "rates"),
        (lambda: Ordered("a", "b", "c", at={}), "one coordinate or one variable"),
        (lambda: judge(Rate("train_loss", "epcoh", -1.0), dots, line), "not labelled by 'epcoh' alone.*'epoch'"),
        (
            lambda: judge(Rate("train_loss"), dots, line),
            "no exponent and the line has no variable 'train_loss_exponent'",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_a_line_that_is_not_finite_names_theory_and_point():
    dots, line = experiment()
    line[64].train_loss[3] = np.nan
    line[64].attrs["theory"] = "homogenized_sgd"
    with pytest.raises(InputError, match=f"train_loss at size 64 by homogenized_sgd is nan at epoch={POINTS[3]:.4g}"):
        judge(Equal("train_loss"), dots, line)


def test_coordinates_that_differ_are_refused():
    dots, line = experiment()
    shifted = {size: data.assign_coords(epoch=POINTS * (1 + 1e-9)) for size, data in line.items()}
    with pytest.raises(InputError, match=r"lie at different points: epoch=0\.1 and"):
        judge(Equal("train_loss"), dots, shifted)
    shorter = {size: data.isel(epoch=slice(5)) for size, data in line.items()}
    with pytest.raises(InputError, match="8 points along epoch and the line has 5"):
        judge(Equal("train_loss"), dots, shorter)
    renamed = {size: data.rename(epoch="step") for size, data in line.items()}
    with pytest.raises(InputError, match=r"record \('epoch',\) and the line has \('step',\)"):
        judge(Equal("train_loss"), dots, renamed)
    uneven = (
        {s: d.assign_coords(epoch=s * POINTS) for s, d in dots.items()},
        {s: d.assign_coords(epoch=s * POINTS) for s, d in line.items()},
    )
    with pytest.raises(InputError, match="means the same at every size"):
        judge(Equal("train_loss"), *uneven)
    assert judge(Equal("train_loss", rates=()), *uneven)["verdict"] == "holds"  # each size by itself


def test_a_closure_that_states_too_much_is_refused():
    dots, line = experiment()
    line[32] = line[32].assign(train_loss_tolerance=0.3)
    with pytest.raises(InputError, match="states a tolerance of 30 %"):
        judge(Equal("train_loss"), dots, line)


def test_a_report_is_described_in_one_line_a_variable():
    dots, line = experiment()
    both = [{s: d.assign(test_loss=d.train_loss) for s, d in data.items()} for data in (dots, line)]
    report = judge([Equal("train_loss", rates=()), Below("test_loss")], *both)
    lines = describe(report)
    assert len(lines) == 2
    assert lines[0].startswith("train_loss  holds ")
    assert "would notice" in lines[0]
