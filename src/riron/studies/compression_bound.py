"""A compressed network stays within the theorem's distance of its original, and its risk within its guarantee (I1).

One network, every share of its nodes. Dots: how far the outputs are apart, and by how much the error on fresh inputs
grows. Lines: the a-posteriori theorem (norms and residuals of the layers, loose by their product), and the guarantee
from a thousand inputs without labels, which is close.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import xarray as xr

from ..guarantees.disagreement import disagreement_limit
from ..lab.verdict import Below
from ..theory.compression_bound import output_error_bound
from .base import Study, param

INPUTS, CLASSES, TEACHER = 20, 5, 30
CALIBRATION, HELD_OUT, FRESH, LAW = 1000, 1000, 2000, 20_000
KEPT = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])


@dataclass(frozen=True, kw_only=True)
class CompressionBound(Study):
    cites = ("suzuki2020spectral", "clopper1934")
    extra = "torch"
    sizes = {"quick": (64,), "paper": (64, 128, 256)}
    compare = (Below("output_distance"), Below("risk_increase"))
    mutations = {"lipschitz": 0.05, "disagreements": 0.2}
    labels = {
        "size": "nodes of a layer",
        "kept": "share of the nodes kept",
        "output_distance": "distance of the outputs / their spread",
        "risk_increase": "increase of the error",
    }

    samples: int = param(2000, 50, 100000, "training samples")
    steps: int = param(200, 10, 100000, "of the training, full batches")
    confidence: float = param(0.9999, 0.5, 0.999999, "of the guarantee, at each share")

    def simulate(self, d, *, seeds):
        original, cuts = networks(self, d)
        rng = np.random.default_rng((self.seed, d, 1))
        found = {name: np.zeros((seeds, len(KEPT))) for name in ("output_distance", "risk_increase")}
        for seed in range(seeds):
            X, y = draw(rng, FRESH)
            old = outputs(original, X)
            wrong = old.argmax(1) != y
            for k, (cut, _) in enumerate(cuts):
                new = outputs(cut, X)
                found["output_distance"][seed, k] = np.sqrt(((new - old) ** 2).sum(1).mean() / spread(old))
                found["risk_increase"][seed, k] = (new.argmax(1) != y).mean() - wrong.mean()
        dots = {name: (("seed", "kept"), values) for name, values in found.items()}
        return xr.Dataset(dots, {"seed": np.arange(seeds), "kept": KEPT}, {"complete": 1})

    def predict(self, d):
        original, cuts = networks(self, d)
        rng = np.random.default_rng((self.seed, d, 2))
        held_out, inputs = draw(rng, HELD_OUT)[0], draw(rng, LAW)[0]
        old = outputs(original, held_out).argmax(1)
        changed = [int((outputs(cut, held_out).argmax(1) != old).sum()) for cut, _ in cuts]
        return partial(
            lines,
            inputs,
            weights(original),
            [(weights(cut), kept) for cut, kept in cuts],
            unit=spread(outputs(original, inputs)),
            confidence=self.confidence,
            lipschitz=1.0,
            disagreements=np.array(changed, dtype=float),
        )


def lines(inputs, original, cuts, *, unit, confidence, lipschitz, disagreements):
    """The theorem and the guarantee at each share of the nodes."""
    distance = [output_error_bound(inputs, original, cut, kept, lipschitz=lipschitz) for cut, kept in cuts]
    limits = [disagreement_limit(round(s), HELD_OUT, confidence=confidence).upper for s in disagreements]
    found = {"output_distance": ("kept", np.array(distance) / unit**0.5), "risk_increase": ("kept", limits)}
    return xr.Dataset(found, {"kept": KEPT})


def draw(rng, n):
    """n inputs with a decaying spectrum, and the decisions of a fixed random network of two layers."""
    fixed = np.random.default_rng(7)
    first, last = fixed.normal(size=(TEACHER, INPUTS)) * 2 / INPUTS**0.5, fixed.normal(size=(CLASSES, TEACHER))
    X = 2 * rng.normal(size=(n, INPUTS)) / np.arange(1, INPUTS + 1) ** 0.5
    return X, (np.maximum(X @ first.T, 0) @ last.T).argmax(1)


@lru_cache(maxsize=4)
def networks(study, d):
    """The trained network, and its compressions with the nodes that each has kept."""
    from ..torch import compress, train_mlps

    rng = np.random.default_rng((study.seed, d, 0))
    X, y = draw(rng, study.samples)
    ((original, _),) = train_mlps((INPUTS, d, d, CLASSES), X[None], y[None], steps=study.steps, seed=study.seed)
    calibration = draw(rng, CALIBRATION)[0].astype(np.float32)
    found = []
    for share in KEPT:
        done = compress(original, calibration, keep=float(share), criterion="output", holdout=0.0, progress=False)
        found.append((done.model, [np.array(done.kept[name]) for name in sorted(done.kept, key=int)]))
    return original, found


def outputs(model, X):
    """(n, classes) outputs in float64."""
    from ..torch.laboratory import evaluate

    return evaluate(model, X)


def weights(model):
    """The weights of a network's layers."""
    return [p.detach().double().numpy() for p in model.parameters()]


def spread(outputs):
    """Mean squared distance of the outputs from their mean."""
    return float(((outputs - outputs.mean(0)) ** 2).sum(1).mean())
