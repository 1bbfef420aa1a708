"""Estimators in the form of scikit-learn, made of the theory. Every public name stands once, loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "logistic_regression_alo": ["LogisticRegressionALO"],
        "mean_field": ["MeanFieldClassifier", "MeanFieldRegressor"],
    },
)
