"""How many samples SGD needs to find a third Hermite polynomial, if they are seen once or again and again.

    python benchmarks/dmft_generative_exponent.py             # the numbers of docs/dmft-accuracy.md

Once: spherical SGD on the correlation loss from a random start, step size 0.2 / sqrt(d), until the overlap is 1/2; a
step enters by its parts along student and teacher and by its length, so the runs are exact in law at any d. Again:
gradient descent on n = delta d samples (12 steps), from overlap 0; n where the mean cosine of the seeds reaches 0.3, by
interpolation in log delta. Slopes of log samples against log d, with t-intervals over groups of seeds.
"""

import argparse

import numpy as np
from scipy.stats import t as student

from riron.lab.compiling import use_persistent_cache
from riron.studies.proportional import ProportionalRun

GROUPS, LEVEL, CONFIDENCE = 8, 0.3, 0.99
DELTAS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)


def once(rng, d: int, seeds: int) -> np.ndarray:
    """Samples until |q| = 1/2 of each seed: teacher and student sqrt(6) He_3, information exponent 3."""
    eta, limit = 0.2 / np.sqrt(d), 400 * d**2
    q, needed = np.abs(rng.normal(size=seeds)) / np.sqrt(d), np.full(seeds, np.inf)
    for step in range(limit):
        needed[(np.abs(q) >= 0.5) & np.isinf(needed)] = step
        if step % 1000 == 0 and np.mean(np.isfinite(needed)) > 0.75:
            return needed  # medians are asked for
        w, u = rng.normal(size=(2, seeds))
        s, length = q * w + np.sqrt(1 - q**2) * u, (w**2 + u**2 + rng.chisquare(d - 2, size=seeds)) / d
        gain = eta * (s**3 - 3 * s) * (3 * w**2 - 3) / 6
        q = (q + gain * s / d) / np.sqrt(1 + (2 * gain * w + gain**2 * length) / d)
    return needed


def again(d: int, seeds: int) -> np.ndarray:
    """Samples of each group of seeds at which the mean cosine after 12 steps reaches the level."""
    cosines = []
    for delta in DELTAS:
        dt = 2.3 / (1 + delta**-0.5) ** 2  # within stability by the same factor
        run = ProportionalRun("hermite", "none", delta, dt, 12 * dt, points=1)
        dots = run.simulate(d, seeds=seeds, seed=d)
        cosine = (dots.overlap / np.sqrt(dots.self_overlap)).values[:, -1]
        cosines.append(cosine.reshape(GROUPS, -1).mean(axis=1))
        print(f"  d={d}, delta={delta}: cosine {cosine.mean():.3f} ± {cosine.std() / seeds**0.5:.3f}", flush=True)
    cosines = np.array(cosines)
    return np.array([d * np.exp(np.interp(LEVEL, np.sort(c), np.log(DELTAS))) for c in cosines.T])


def slope(sizes, samples) -> tuple[float, float]:
    """Mean and half width of the interval, from one slope of each group."""
    slopes = np.polyfit(np.log(sizes), np.log(np.array(samples)), 1)[0]
    factor = student.isf((1 - CONFIDENCE) / 2, len(slopes) - 1)
    return float(slopes.mean()), float(factor * slopes.std(ddof=1) / len(slopes) ** 0.5)


def main(arguments=None) -> None:
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("--seeds", type=int, default=64)
    known.add_argument("--once", nargs="+", type=int, default=[16, 32, 64, 128])
    known.add_argument("--again", nargs="+", type=int, default=[64, 128, 256, 512])
    asked = known.parse_args(arguments)
    use_persistent_cache()
    for name, sizes, function in (("again", asked.again, again), ("once", asked.once, None)):
        samples = []
        for d in sizes:
            if function is None:
                needed = once(np.random.default_rng(d), d, 4 * asked.seeds).reshape(GROUPS, -1)
                found = np.median(needed, axis=1)
            else:
                found = function(d, asked.seeds)
            samples.append(found)
            print(
                f"{name}, d={d}: {np.mean(found):.4g} ± {np.std(found, ddof=1) / GROUPS**0.5:.2g} samples", flush=True
            )
        mean, width = slope(sizes, samples)
        print(f"{name}: samples ~ d^{mean:.2f} ± {width:.2f} ({CONFIDENCE:.1%} interval)", flush=True)


if __name__ == "__main__":
    main()
