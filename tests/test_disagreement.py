"""The disagreement guarantee covers, in both forms, and says when it does not."""

import numpy as np
import pytest

from riron.errors import InputError
from riron.guarantees import disagreement, disagreement_limit


def test_numbers_of_the_literature():
    assert disagreement_limit(5, 1000).upper == pytest.approx(0.0105, abs=5e-5)
    assert disagreement_limit(5, 1000, kind="anytime").upper == pytest.approx(0.0180, abs=5e-5)
    assert disagreement_limit(0, 59).upper == pytest.approx(1 - 0.05 ** (1 / 59))
    assert disagreement_limit(7, 7).upper == 1.0


@pytest.mark.parametrize("p", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("n", [200, 1000])
def test_it_covers(p, n):
    draws, delta = 20_000, 0.05
    s = np.random.default_rng(0).binomial(n, p, size=draws)
    uppers = np.array([disagreement_limit(int(k), n, confidence=1 - delta).upper for k in range(s.max() + 1)])
    missed = (uppers[s] < p).mean()
    assert missed <= delta + 4 * np.sqrt(delta / draws)
    assert missed > 0.005 or n * p < 3  # not uselessly wide


def test_looking_at_every_hundred_inputs_needs_the_anytime_form():
    rng, p, delta = np.random.default_rng(1), 0.02, 0.05
    looks = np.arange(100, 2001, 100)
    counts = rng.binomial(100, p, size=(400, len(looks))).cumsum(axis=1)
    limits = {
        kind: {(s, n): disagreement_limit(int(s), int(n), kind=kind).upper < p for n in looks for s in np.unique(counts)
               if s <= n}
        for kind in ("clopper-pearson", "anytime")
    }  # fmt: skip
    missed = {
        kind: np.mean([any(table[s, n] for s, n in zip(path, looks, strict=True)) for path in counts])
        for kind, table in limits.items()
    }
    assert missed["anytime"] <= delta
    assert missed["clopper-pearson"] > delta + 4 * np.sqrt(delta / 400)


def test_choosing_among_networks_on_the_held_out_inputs_voids_it():
    rng, p, n, delta, many = np.random.default_rng(2), 0.02, 500, 0.05, 20
    best = rng.binomial(n, p, size=(4000, many)).min(axis=1)
    naive = np.array([disagreement_limit(s, n).upper for s in range(60)])
    divided = np.array([disagreement_limit(s, n, candidates=many).upper for s in range(60)])
    assert (naive[best] < p).mean() > 0.3
    assert (divided[best] < p).mean() <= delta + 4 * np.sqrt(delta / 4000)


def test_outputs_are_compared_by_their_decision():
    a = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    found = disagreement(a, np.array([[0.0, 9.0], [0.0, 1.0], [0.0, 0.1]]))
    assert (found.disagreements, found.n) == (1, 3)
    assert disagreement(np.array([[0.2], [-1.0]]), np.array([[0.1], [3.0]])).disagreements == 1
    assert "at 95% confidence" in str(found)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: disagreement_limit(5, 3), "5 disagreements among 3"),
        (lambda: disagreement_limit(0, 0), "among 0"),
        (lambda: disagreement_limit(0, 5, confidence=1.0), "outside"),
        (lambda: disagreement_limit(0, 5, kind="x"), "unknown"),
        (lambda: disagreement_limit(0, 5, candidates=0), "at least 1"),
        (lambda: disagreement(np.zeros((3, 2)), np.zeros((4, 2))), "same inputs"),
        (lambda: disagreement(np.full((3, 2), np.nan), np.zeros((3, 2))), "not finite"),
        (lambda: disagreement(np.zeros((0, 2)), np.zeros((0, 2))), "no outputs"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(InputError, match=said):
        call()
