"""Tables that had no part in choosing anything, for `learning_curve_backtest.py --fresh`.

scikit-learn's own, CIFAR-10 (the JPEG archive in the data folder) and tables that packages ship. A package that is not
installed is skipped; its files are read where they lie and it is never imported. All of them:

    pip install --no-deps ISLP river statsmodels scikit-lego vega-datasets Pillow
"""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

IMAGES, FILTERS, PATCH = 6000, 100, 6
LEVELS = 20  # a text column with more is dropped

PACKAGED = (  # package, file, target, whether it is a class, columns that give the target away
    ("ISLP", "data/Caravan.csv", "Purchase", True, ()),
    ("ISLP", "data/Default.csv", "default", True, ()),
    ("ISLP", "data/OJ.csv", "Purchase", True, ()),
    ("ISLP", "data/Bikeshare.csv", "bikers", False, ("casual", "registered")),
    ("ISLP", "data/Wage.csv", "logwage", False, ("wage",)),
    ("ISLP", "data/College.csv", "Outstate", False, ()),
    ("river", "datasets/segment.csv.zip", "category", True, ()),
    ("river", "datasets/phishing.csv.gz", "is_phishing", True, ()),
    ("river", "datasets/solar-flare.csv.zip", "c-class-flares", False, ("m-class-flares", "x-class-flares")),
    ("river", "datasets/yeast.csv.gz", "Class1", True, tuple(f"Class{k}" for k in range(2, 15))),
    ("river", "datasets/shuttle.csv.gz", "anomaly", True, ()),
    ("statsmodels", "datasets/randhie/randhie.csv", "mdvis", False, ()),
    ("statsmodels", "datasets/fair/fair.csv", "rate_marriage", True, ()),
    ("sklego", "data/abalone.zip", "rings", False, ()),
    ("sklego", "data/abalone.zip", "sex", True, ()),
    ("vega_datasets", "_data/seattle-weather.csv", "temp_max", False, ()),
)


def fresh_tables(folder: str | None):
    """Name, features (not scaled) and target (text or integers: classes; floats: numbers) of each table found."""
    X, y = load_breast_cancer(return_X_y=True)
    yield "breast cancer", np.asarray(X), np.asarray(y)
    X, y = load_diabetes(return_X_y=True)
    yield "diabetes", np.asarray(X), np.asarray(y, dtype=float)
    for package, file, target, is_class, away in PACKAGED:
        path = _installed(package, file)
        if path is not None:
            name = path.name.split(".")[0] + (f" {target}" if file.endswith("abalone.zip") else "")
            yield name, *_encoded(pd.read_csv(path), target, is_class, away)
    yield from _cifar(Path(folder or ".") / "cifar10" / "cifar10_jpeg.npz")


def _installed(package: str, file: str) -> Path | None:
    """The file of a package, where both are there."""
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent / file if found is not None and found.origin else None
    return path if path is not None and path.exists() else None


def _encoded(frame: pd.DataFrame, target: str, is_class: bool, away: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as they are, text of few levels as indicators; rows with gaps are dropped."""
    frame = frame.drop(columns=list(away)).dropna()
    y: Any = frame.pop(target)
    text = frame.select_dtypes(exclude=["number", "bool"])
    frame = frame.drop(columns=[name for name in text if frame[name].nunique() > LEVELS])
    X = pd.get_dummies(frame, dtype=float).to_numpy(dtype=float)
    return X, y.astype(str).to_numpy() if is_class else y.to_numpy(dtype=float)


def _cifar(path: Path):
    """Pixels of 8 x 8 means, and random patches of the images as filters, rectified and pooled over quarters."""
    if not path.exists() or importlib.util.find_spec("PIL") is None:
        return
    from PIL import Image

    with np.load(path) as file:
        data, offset, label = file["train_jpeg"], file["train_offset"], file["train_y"]
        chosen = np.random.default_rng(0).permutation(len(label))[:IMAGES]
        pieces = [data[offset[i] : offset[i + 1]].tobytes() for i in chosen]
    images = np.stack([np.asarray(Image.open(io.BytesIO(piece)).convert("RGB")) for piece in pieces]) / 255.0
    pixels = images.reshape(IMAGES, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(IMAGES, -1)
    patches, label = _patch_features(images), label[chosen]
    animal = np.isin(label, (2, 3, 4, 5, 6, 7))
    for name, X in (("pixels", pixels), ("patches", patches)):
        yield f"cifar {name}", X, label.astype(int)
        yield f"cifar {name}, animal", X, animal.astype(int)


def _patch_features(images: np.ndarray) -> np.ndarray:
    """(rows, 4 FILTERS): random whitened patches as filters (Coates, Ng & Lee 2011), rectified, mean over quarters."""
    rng = np.random.default_rng(1)
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(1, 2))[:, ::2, ::2]
    rows, high, wide = windows.shape[:3]
    some = windows[rng.integers(rows, size=5000), rng.integers(high, size=5000), rng.integers(wide, size=5000)]
    some = some.reshape(len(some), -1)
    mean = some.mean(axis=0)
    h, V = np.linalg.eigh(np.cov(some.T))
    whiten = V / np.sqrt(h + 0.01) @ V.T
    filters = (some[:FILTERS] - mean) @ whiten
    filters = whiten @ (filters / np.linalg.norm(filters, axis=1, keepdims=True)).T
    out, half = [], (high + 1) // 2
    for block in np.array_split(np.arange(rows), 30):
        patches = windows[block].reshape(len(block), high, wide, -1) - mean
        active = np.maximum(patches @ filters - 0.3, 0)
        parts = [active[:, a, b].mean(axis=(1, 2)) for a in _halves(half) for b in _halves(half)]
        out.append(np.concatenate(parts, axis=1))
    return np.concatenate(out)


def _halves(half: int) -> tuple[slice, slice]:
    return slice(None, half), slice(half, None)
