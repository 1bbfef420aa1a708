"""A network whose weights are independent Gaussians: its scores with a fresh network for every input.

Linear layers that see each input once need no draw of weights: their pre-activations are independent Gaussians given
the layer's input (local reparametrisation, exact). Other layers get whole networks.
"""

import math
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.func import functional_call, vmap  # pyright: ignore[reportMissingImports]

from ...errors import InputError
from .pairs import as_scores

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
AT_ONCE = 2e7  # normal numbers drawn in one go
AT_MOST = 5e8  # normal numbers for one estimate


class RandomNetwork:
    """Draws around a frozen network.

    Attributes:
      names: of the weights, in the order of the module. local: whether local reparametrisation is exact here.
    """

    def __init__(self, network: Any, example: Any):
        self.network = network
        self.names = [name for name, _ in network.named_parameters()]
        self.size = sum(p.numel() for p in network.parameters())
        self.sd: dict[str, Any] | None = None
        self.generator: Any = None
        self.local = _every_input_once(network, example)
        if self.local:
            for prefix, module in network.named_modules():
                if module._parameters:
                    module.register_forward_hook(self._noise(prefix))

    def centre(self) -> dict[str, Any]:
        """The network's own weights."""
        return {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def fresh(self, X: Any, mean: dict[str, Any], sd: dict[str, Any], generator: Any) -> Any:
        """(n, K) scores, one independent network for each input."""
        if self.local:
            return self._locally(X, mean, sd, generator)
        rows = max(1, int(AT_ONCE / max(self.size, 1)))
        return torch.cat([self._each(part, mean, sd, generator) for part in X.split(rows)])

    def shared(self, X: Any, mean: dict[str, Any], sd: dict[str, Any], generator: Any) -> Any:
        """(n, K) scores of one whole network, the same for all inputs."""
        weights = {name: mean[name] + sd[name] * _normal(mean[name].shape, mean[name], generator) for name in mean}
        return as_scores(functional_call(self.network, weights, (X,)))

    def training(self, X: Any, mean: dict[str, Any], sd: dict[str, Any], generator: Any) -> Any:
        """Scores with the least noise that is cheap: for gradients."""
        return (self._locally if self.local else self.shared)(X, mean, sd, generator)

    def affordable(self, wanted: int) -> int:
        """How many fresh networks may be drawn, at most `wanted`."""
        return wanted if self.local else max(1, min(wanted, int(AT_MOST / max(self.size, 1))))

    def _locally(self, X: Any, mean: dict[str, Any], sd: dict[str, Any], generator: Any) -> Any:
        self.sd, self.generator = sd, generator
        try:
            return as_scores(functional_call(self.network, mean, (X,)))
        finally:
            self.sd = None

    def _each(self, X: Any, mean: dict[str, Any], sd: dict[str, Any], generator: Any) -> Any:
        weights = {
            name: mean[name] + sd[name] * _normal((len(X), *mean[name].shape), mean[name], generator) for name in mean
        }
        one = lambda w, x: as_scores(functional_call(self.network, w, (x[None],)))[0]
        try:
            return vmap(one)(weights, X)
        except RuntimeError:  # an operation that vmap does not know
            return torch.stack([one({k: v[i] for k, v in weights.items()}, X[i]) for i in range(len(X))])

    def _noise(self, prefix: str) -> Any:
        start = f"{prefix}." if prefix else ""

        def hook(module: Any, inputs: Any, output: Any) -> Any:
            if self.sd is None:
                return None
            square = inputs[0] ** 2
            weight = self.sd[f"{start}weight"] ** 2
            bias = self.sd.get(f"{start}bias")
            variance = square @ weight.T if isinstance(module, nn.Linear) else square * weight
            variance = variance if bias is None else variance + bias**2
            # the root has no slope at zero, where every input of the layer is zero
            return output + (variance + 1e-30).sqrt() * _normal(output.shape, output, self.generator)

        return hook


def with_plain_norms(network: Any) -> Any:
    """BatchNorm in evaluation mode as what it is, x gamma + beta; gamma and beta take up the statistics.

    The statistics are learnt from the data, so that they have to be weights with a prior too. Changes `network`.
    """
    for name, found in network.named_modules():
        if isinstance(found, NORMS):
            module: Any = found
            if module.running_mean is None:
                raise InputError(
                    f"'{name}' normalises by the batch in evaluation mode too", do="use running statistics"
                )
            gamma = torch.ones_like(module.running_var) if module.weight is None else module.weight.detach()
            beta = torch.zeros_like(module.running_var) if module.bias is None else module.bias.detach()
            gamma = gamma / (module.running_var + module.eps).sqrt()
            beta = beta - module.running_mean * gamma
            module.weight, module.bias = (nn.Parameter(v, requires_grad=False) for v in (gamma, beta))
            module.affine = True
            module.running_mean, module.running_var = torch.zeros_like(gamma), torch.full_like(gamma, 1 - module.eps)
    return network


def scales(weights: dict[str, Any]) -> dict[str, float]:
    """The size of a weight in each tensor: the root mean square of its layer's `weight`; 1/sqrt(inputs) if zero."""
    found = {}
    for name, value in weights.items():
        layer = name.rpartition(".")[0]
        guide = weights.get(f"{layer}.weight" if layer else "weight", value)
        rms = float(guide.detach().double().pow(2).mean().sqrt())
        found[name] = rms if rms > 0 else 1 / math.sqrt(max(guide[0].numel(), 1))
    return found


def _normal(shape: Any, like: Any, generator: Any) -> Any:
    return torch.randn(shape, generator=generator, dtype=like.dtype)


def _every_input_once(network: Any, example: Any) -> bool:
    """Whether all weights are in Linear and BatchNorm layers that read each input as one vector, once."""
    owners = [m for m in network.modules() if m._parameters and any(p is not None for p in m._parameters.values())]
    if not all(isinstance(m, (nn.Linear, *NORMS)) for m in owners):
        return False
    if len(list(network.parameters())) != len(list(network.named_parameters(remove_duplicate=False))):
        return False
    calls: list[tuple[Any, int]] = []
    hooks = [m.register_forward_hook(lambda m, i, o: calls.append((m, i[0].ndim))) for m in owners]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return len(calls) == len(owners) and len({id(m) for m, _ in calls}) == len(owners) and all(d == 2 for _, d in calls)
