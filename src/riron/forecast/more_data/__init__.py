"""How much more data will help: the learning curve at hand, carried to up to four times the rows.

`sample_size` answers for tuned ridge regression (`riron.forecast.learning_curve`), by `extrapolation` of its
leave-one-out errors; `estimator_curve` for any scikit-learn estimator, by cross-validated scores (`estimator_scores`)
of an object or of a name (`named_estimators`); `classification_error` for logistic regression, by
`classification_extrapolation`. They share `power_law`, `splits` (rows that stay together), `curve_targets` (what the
target holds), `arguments` (what is asked, checked) and `curve_warnings` (when the forecast is not to be trusted).
"""
