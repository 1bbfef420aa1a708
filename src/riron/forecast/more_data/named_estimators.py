"""Estimators by name: scikit-learn's, with its defaults, behind a scaler where units matter."""

import importlib
from typing import Any

from ...checks import nearest
from ...errors import InputError

# name: (class of a classifier, class of a regressor, keywords of both, whether features are scaled first)
KNOWN: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "hist-gradient-boosting": (
        "ensemble.HistGradientBoostingClassifier",
        "ensemble.HistGradientBoostingRegressor",
        {"early_stopping": False},
        False,
    ),
    "gradient-boosting": (
        "ensemble.GradientBoostingClassifier",
        "ensemble.GradientBoostingRegressor",
        {},
        False,
    ),
    "random-forest": ("ensemble.RandomForestClassifier", "ensemble.RandomForestRegressor", {}, False),
    "extra-trees": ("ensemble.ExtraTreesClassifier", "ensemble.ExtraTreesRegressor", {}, False),
    "decision-tree": (
        "tree.DecisionTreeClassifier",
        "tree.DecisionTreeRegressor",
        {"min_samples_leaf": 5},
        False,
    ),
    "logistic-regression": ("linear_model.LogisticRegression", "", {"max_iter": 1000}, True),
    "lasso": ("", "linear_model.LassoCV", {}, True),
    "elastic-net": ("", "linear_model.ElasticNetCV", {}, True),
    "linear-regression": ("", "linear_model.LinearRegression", {}, True),
    "knn": ("neighbors.KNeighborsClassifier", "neighbors.KNeighborsRegressor", {"n_neighbors": 10}, True),
    "svm": ("svm.SVC", "svm.SVR", {}, True),
    "mlp": ("neural_network.MLPClassifier", "neural_network.MLPRegressor", {"max_iter": 500}, True),
    "naive-bayes": ("naive_bayes.GaussianNB", "", {}, False),
}
SCALED_TARGET = ("svm", "mlp")  # as regressors these want targets of unit variance
ALONE = {"ridge": "it is what is forecast when no estimator is named"}


def named_estimator(name: str, *, classes: bool) -> Any:
    """A new scikit-learn estimator for the task.

    Args:
      name: one of KNOWN.
      classes: whether classes are to be told apart.

    Raises:
      InputError: unknown name, or one that does not fit the task.
    """
    if name in ALONE:
        raise InputError(f"estimator '{name}' need not be named", why=ALONE[name], do="leave estimator out")
    if name not in KNOWN:
        known = ", ".join(KNOWN)
        raise InputError(f"no estimator is called '{name}'", do=nearest(name, KNOWN) or f"the names are {known}")
    classifier, regressor, keywords, scaled = KNOWN[name]
    path = classifier if classes else regressor
    if not path:
        task, other = ("classes", "numbers") if classes else ("numbers", "classes")
        fitting = ", ".join(k for k, entry in KNOWN.items() if entry[0 if classes else 1])
        raise InputError(
            f"estimator '{name}' forecasts {other} and the target holds {task}", do=f"name one of {fitting}"
        )
    module, kind = path.split(".")
    estimator = getattr(importlib.import_module(f"sklearn.{module}"), kind)(**keywords)
    if scaled:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        estimator = make_pipeline(StandardScaler(), estimator)
    if not classes and name in SCALED_TARGET:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.preprocessing import StandardScaler

        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    return estimator
