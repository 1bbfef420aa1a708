"""Data sets by name: `sklearn:digits` on this machine, `openml:ID` and `hf:NAME` from the network, only when asked."""

import importlib
from collections.abc import Callable
from typing import Any

import pandas as pd

from ...checks import nearest
from ...errors import InputError

SKLEARN = ("iris", "wine", "breast_cancer", "diabetes", "digits")


def read_named(source: str, max_bytes: int) -> tuple[pd.DataFrame, str | None, str]:
    """A data frame, the name of its target where the collection states one, and a sentence on where it is from."""
    collection, _, name = source.partition(":")
    return _COLLECTIONS[collection](name.strip(), max_bytes)


def is_named(source: str) -> bool:
    """Whether a source is one of a collection rather than a file."""
    return source.partition(":")[0] in _COLLECTIONS and ":" in source


def _sklearn(name: str, max_bytes: int) -> tuple[pd.DataFrame, str, str]:
    if name == "linnerud":
        raise InputError(
            "sklearn:linnerud has three targets", why="one target is forecast at a time", do="save one as CSV"
        )
    if name not in SKLEARN:
        raise InputError(
            f"scikit-learn brings no set called '{name}'; it brings {', '.join(SKLEARN)}", do=nearest(name, SKLEARN)
        )
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame.copy()
    if name != "diabetes":
        frame["target"] = pd.Categorical.from_codes(bunch.target, list(bunch.target_names))
    return frame, "target", f"'{name}' is the set that comes with scikit-learn."


def _openml(name: str, max_bytes: int) -> tuple[pd.DataFrame, str | None, str]:
    from sklearn.datasets import fetch_openml

    if not name:
        raise InputError(
            "openml: names no data set", do="pass openml:ID, a number or a name (for example openml:40945)"
        )
    which: dict[str, Any] = {"data_id": int(name)} if name.isdigit() else {"name": name}
    try:
        bunch: Any = fetch_openml(**which, as_frame=True, parser="auto")
    except Exception as error:  # network, name, format: any library's own
        raise _unreachable(f"openml:{name}", "OpenML", error) from None
    frame = bunch.frame
    target = str(bunch.target.name) if isinstance(bunch.target, pd.Series) else None
    return frame, target, f"'{name}' was fetched from OpenML (version {bunch.details.get('version', 'unknown')})."


def _hugging_face(name: str, max_bytes: int) -> tuple[pd.DataFrame, None, str]:
    if not name:
        raise InputError("hf: names no data set", do="pass hf:NAME (for example hf:scikit-learn/iris)")
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        raise InputError(f"hf:{name} needs the package 'datasets'", do="pip install datasets, or pass a file") from None
    if int(datasets.__version__.split(".")[0]) < 3:
        raise InputError(
            f"hf:{name} needs datasets 3 or later and {datasets.__version__} is installed",
            why="older ones run code that comes with the data",
            do="pip install -U datasets",
        )
    try:
        data = datasets.load_dataset(name, split="train")
        if (data.dataset_size or 0) > max_bytes:
            raise InputError(f"hf:{name} has {data.dataset_size / 2**30:.1f} GiB", do="pass a smaller set, as a file")
        frame = data.to_pandas()
    except InputError:
        raise
    except Exception as error:  # network, name, format: any library's own
        raise _unreachable(f"hf:{name}", "Hugging Face", error) from None
    return frame, None, f"'{name}' (its split 'train') was fetched from Hugging Face."


def _unreachable(source: str, place: str, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
    return InputError(
        f"{source} could not be fetched from {place}: {reason}",
        do="check the name and the network, or download the table and pass the file",
    )


_COLLECTIONS: dict[str, Callable] = {"sklearn": _sklearn, "openml": _openml, "hf": _hugging_face}
