"""What can be said of one trained object: a number with its assumptions and its confidence, never a bare float."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Guarantee"],
        "binomial_limits": ["clopper_pearson", "kl_inverse", "occam_limit"],
        "code_length": ["CodeLength"],
        "disagreement": ["Disagreement", "disagreement", "disagreement_limit"],
        "dual_newton": ["DualNewton", "dual_newton"],
        "generalisation": ["Bound"],
        "loss_floor": ["LossFloor", "loss_floor"],
        "missing_neurons": ["Improved", "improve"],
        "network_norms": ["LayerNorms", "NetworkNorms", "margin_quantile"],
        "norm_bounds": ["bartlett_2017", "golowich_2018", "neyshabur_2015", "neyshabur_2018", "parameter_count"],
        "order_bounds": ["arora_2018", "suzuki_2020"],
        "pac_bayes": ["gaussian_kl", "gibbs_monte_carlo_limit", "pac_bayes_kl_limit"],
        "optimality_gap": ["Certificate", "optimality_gap"],
        "relu_networks": ["ReLUNetwork", "read_network"],
    },
)
