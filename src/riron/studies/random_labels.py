"""Bounds from norms and margins are at least twice as large for random labels as for true ones; a count is not (I4).

The same small network is trained to no error on true and on random labels of handwritten digits. Bounds from norms and
margins tell the two apart, although all of them are vacuous; the count of parameters does not. No bound lies below the
error on fresh digits, which for random labels is that of guessing. In the pictures: Neyshabur et al. 2015 (N15) and
2018 (N18), Golowich et al. 2018 (G18), Bartlett et al. 2017 from zero (B17) and from the initial weights, and Arora et
al. 2018 (A18), of which only the order is known.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr

from ..lab.verdict import Below, Equal
from .base import Study, param

CLASSES, PIXELS = 10, 64
FRESH = 400  # digits for the test-set bound; the error is measured on all others
MARGIN = ("neyshabur-2015", "golowich-2018", "bartlett-2017", "bartlett-2017 init", "neyshabur-2018", "arora-2018")
BOUNDS = (*MARGIN[:-1], "parameter-count", "test-set")  # of Arora et al. 2018 only the order is known
NAMES = {
    "parameter-count": "parameter count",
    "neyshabur-2015": "Neyshabur et al. 2015",
    "golowich-2018": "Golowich et al. 2018",
    "bartlett-2017": "Bartlett et al. 2017, from zero",
    "bartlett-2017 init": "Bartlett et al. 2017, from the initial weights",
    "neyshabur-2018": "Neyshabur et al. 2018",
    "arora-2018": "Arora et al. 2018",
    "test-set": "test set, Clopper-Pearson",
}

SHORT = {
    "neyshabur-2015": "N15",
    "golowich-2018": "G18",
    "bartlett-2017": "B17",
    "bartlett-2017 init": "B17 init",
    "neyshabur-2018": "N18",
    "arora-2018": "A18",
    "parameter-count": "count",
    "test-set": "test set",
}


@dataclass(frozen=True, kw_only=True)
class RandomLabels(Study):
    cites = (
        "zhang2017rethinking",
        "neyshabur2015norm",
        "bartlett2017spectrally",
        "golowich2018size",
        "neyshabur2018pac",
        "arora2018stronger",
    )
    extra = "torch"
    sizes = {"quick": (128,), "paper": (128, 256, 512)}
    compare = (
        Below("true_over_random"),
        Equal("count_over_count", rates=(), atol=0.01),
        Equal("guessing", rates=(), resolution=0.03),
        Below("error_over_bound"),
        Below("random_error_over_bound"),
    )
    mutations = {"most": 0.2, "count": 1.1, "classes": 0.6, "level": 0.5}
    labels = {
        "size": "n",
        "true_over_random": "bound, true / random labels",
        "count_over_count": "parameter count, true / random",
        "guessing": "random labels: test error",
        "error_over_bound": "test error / bound",
        "random_error_over_bound": "random labels: test error / bound",
        "margin_bound": "bound",
        "bound": "bound",
        "classes": "classes",
    }

    steps: int = param(150, 10, 100000, "of the training, full batches")
    rate: float = param(1e-2, 1e-5, 1.0, "step size of Adam at the start")
    delta: float = param(0.05, 1e-6, 0.5, "allowed probability of failure of each bound")
    quantile: float = param(0.1, 0.01, 0.9, "of the training margins, for bounds with a margin")

    def simulate(self, n, *, seeds):
        from ..torch import train_mlps

        X, y = digits()
        train, fresh, rest = split(len(y), n, seeds, [self.seed, n])
        shuffled = np.random.default_rng([self.seed, n, 1]).integers(0, CLASSES, (seeds, n))
        widths = (PIXELS, n // 2, n // 4, CLASSES)
        options = {"steps": self.steps, "rate": self.rate, "seed": self.seed}
        pairs = train_mlps(widths, X[np.tile(train, (2, 1))], np.concatenate([y[train], shuffled]), **options)
        found: dict[str, list] = {"true": [], "random": []}
        for k, (model, start) in enumerate(pairs):
            s, kind = k % seeds, "true" if k < seeds else "random"
            labels = y[train[s]] if kind == "true" else shuffled[s]
            found[kind].append(self.bounds(model, start, (X[train[s]], labels), (X[fresh[s]], y[fresh[s]])))
            found[kind][-1]["error"] = wrong(model, X[rest[s]], y[rest[s]])
        true, random = ({key: np.array([row[key] for row in rows]) for key in rows[0]} for rows in found.values())
        columns = lambda table, names: np.stack([table[name] for name in names], axis=1)
        variables = {
            "true_over_random": (("seed", "margin_bound"), columns(true, MARGIN) / columns(random, MARGIN)),
            "count_over_count": (("seed", "classes"), (true["uncapped"] / random["uncapped"])[:, None]),
            "guessing": (("seed", "classes"), random["error"][:, None]),
            "error_over_bound": (("seed", "bound"), true["error"][:, None] / columns(true, BOUNDS)),
            "random_error_over_bound": (("seed", "bound"), random["error"][:, None] / columns(random, BOUNDS)),
        }
        return xr.Dataset(variables, record(), {"complete": 1})

    def bounds(self, model, start, train, fresh):
        """Value of each bound, and the count of parameters without its cap."""
        from ..torch import bounds

        which = [name for name in NAMES if " " not in name]
        options = {"delta": self.delta, "margin_quantile": self.quantile, "progress": False}
        report = bounds(model, train, heldout=fresh, init=start, which=which, **options)
        values = {b.name: b for b in report.bounds}
        found = {key: values[name].value if name in values else np.nan for key, name in NAMES.items()}
        return found | {"uncapped": values[NAMES["parameter-count"]].terms["uncapped"]}

    def predict(self, n):
        return partial(line, most=0.5, count=1.0, classes=float(CLASSES), level=1.0)


def line(*, most, count, classes, level):
    """What is claimed: ratios of at most a half, a ratio of 1, the error of guessing, errors below their bounds."""
    variables = {
        "true_over_random": ("margin_bound", np.full(len(MARGIN), most)),
        "count_over_count": ("classes", [count]),
        "guessing": ("classes", [1 - 1 / classes]),
        "error_over_bound": ("bound", np.full(len(BOUNDS), level)),
        "random_error_over_bound": ("bound", np.full(len(BOUNDS), level)),
    }
    return xr.Dataset(variables, record())


def record():
    """Names of the bounds along the axes."""
    return {"margin_bound": [SHORT[k] for k in MARGIN], "bound": [SHORT[k] for k in BOUNDS], "classes": [CLASSES]}


def digits():
    """Scikit-learn's handwritten digits: (1797, 64) in [0, 1], and labels."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return np.asarray(X) / 16, np.asarray(y)


def split(rows, n, seeds, key):
    """Indices of n training rows, of those for the test-set bound, and of all others, for each seed."""
    order = np.random.default_rng(key).permuted(np.tile(np.arange(rows), (seeds, 1)), axis=1)
    return order[:, :n], order[:, n : n + FRESH], order[:, n + FRESH :]


def wrong(model, X, y):
    """Share of wrong decisions."""
    from ..torch import predict

    return float((predict(model, X) != y).mean())
