"""A network read as a chain of layers z = W phi + b with ReLU and pooling between them, or the reason why it is none.

One run in float64 is watched operation by operation; what is not understood is refused with the name of the module,
and the chain that was read must give the network's own outputs on the real inputs.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from ..inputs import Batch, main_output
from .watching import NotFeedForward, Step, Watcher, WithoutCasts

PROBE = 3  # rows of the run that is watched
CHECKED = 2**20  # numbers of the inputs on which the chain is compared with the network
EXACT = 1e-5  # relative error of the outputs that is still the same function


@dataclass
class Layer:
    """What lies between two nonlinear steps: linear steps, one core, linear steps; and the nonlinear steps after it."""

    name: str
    before: list[Step]
    core: Step
    after: list[Step] = field(default_factory=list)
    activation: list[Step] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Shape of what it reads."""
        return (self.before[0] if self.before else self.core).before

    @property
    def outputs(self) -> tuple[int, ...]:
        """Shape of its pre-activation."""
        return (self.after[-1] if self.after else self.core).after

    @property
    def parameters(self) -> int:
        """Weights, biases and the numbers of folded norms."""
        return sum(step.parameters for step in (*self.before, self.core, *self.after))

    def affine(self, x: Any) -> Any:
        """z for rows (n, *inputs)."""
        for step in (*self.before, self.core, *self.after):
            x = step.apply(x)
        return x

    def activate(self, z: Any) -> Any:
        """phi for rows z."""
        for step in self.activation:
            z = step.apply(z)
        return z


@dataclass
class FeedForward:
    """The layers, first to last, and one row's shape."""

    layers: list[Layer]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.activate(layer.affine(x))
        return x

    def steps(self, kind: str) -> list[Step]:
        """The nonlinear steps of a kind."""
        return [step for layer in self.layers for step in layer.activation if step.kind == kind]


def read_network(model: Any, batches: list[Batch]) -> FeedForward:
    """The chain of layers of a network.

    Args:
      model: a module, in evaluation mode. batches: real inputs, on which the chain is checked.

    Raises:
      NotFeedForward: anything but Linear, convolution, BatchNorm, ReLU, LeakyReLU, pooling, reshapes and dropout in one
        chain (the module and the operation are named), or a chain that does not give the network's outputs.
    """
    double = _in_float64(model)
    if any(len(batch.tensors) != 1 for batch in batches):
        raise NotFeedForward("the network reads several tensors", do="these bounds are about a chain of layers")
    if not batches[0].tensors[0].is_floating_point():
        raise NotFeedForward("the network reads whole numbers (an embedding), not vectors")
    probe = Batch((_double(batches[0].tensors[0][:PROBE]),))
    steps = _watch(double, batches[0].rows(slice(0, PROBE)), probe.tensors[0])
    network = FeedForward(_layers(steps))
    _check(network, double, batches)
    return network


def _double(x: Any) -> Any:
    return x.detach().cpu().double()


def _in_float64(model: Any) -> Any:
    try:
        return copy.deepcopy(model).cpu().double().eval()
    except Exception as error:
        raise NotFeedForward(f"the network cannot be copied ({type(error).__name__}: {error})") from error


def _renamed(batch: Batch, x: Any) -> Batch:
    """The batch with its one tensor replaced, by position or by name."""
    if batch.arguments:
        return Batch(tuple(x if isinstance(v, torch.Tensor) else v for v in batch.arguments), batch.named)
    return Batch((), {k: x if isinstance(v, torch.Tensor) else v for k, v in batch.named.items()})


def _watch(model: Any, batch: Batch, x: Any) -> list[Step]:
    watcher, hooks = Watcher(x), []
    for name, module in model.named_modules():
        hooks += [module.register_forward_pre_hook(watcher.enter(name)), module.register_forward_hook(watcher.leave)]
    try:
        with torch.no_grad(), watcher:
            output = main_output(_renamed(batch, x).call(model))
    except NotFeedForward:
        raise
    except Exception as error:
        said = str(error).splitlines()[0][:120] if str(error) else ""
        raise NotFeedForward(f"the network does not run in float64 ({type(error).__name__}: {said})") from error
    finally:
        for hook in hooks:
            hook.remove()
    if output is not watcher.now:
        raise NotFeedForward("the output is not what the last operation on the input gave")
    return watcher.steps


def _layers(steps: list[Step]) -> list[Layer]:
    """Steps grouped around the cores."""
    layers: list[Layer] = []
    waiting: list[Step] = []  # linear steps after a nonlinear one: they belong to the next layer
    for step in steps:
        if step.kind == "core":
            layers.append(Layer(step.where, waiting, step))
            waiting = []
        elif step.kind in ("relu", "max"):
            if not layers:
                raise NotFeedForward(f"'{step.where}' is nonlinear before the first layer")
            if any(part.kind != "reshape" for part in waiting):
                raise NotFeedForward(f"'{waiting[0].where}' stands between two nonlinear steps")
            layers[-1].activation += [*waiting, step]
            waiting = []
        elif layers and not layers[-1].activation:
            layers[-1].after.append(step)
        else:
            waiting.append(step)
    if not layers:
        raise NotFeedForward("the network has no linear or convolution layer")
    if any(step.kind != "reshape" for step in waiting):
        raise NotFeedForward(f"'{waiting[0].where}' comes after the last nonlinear step, without a layer")
    layers[-1].activation += waiting
    if any(step.kind != "reshape" for step in layers[-1].activation):
        raise NotFeedForward(f"'{layers[-1].activation[0].where}' is nonlinear after the last layer")
    return layers


def _check(network: FeedForward, model: Any, batches: list[Batch]) -> None:
    seen = 0
    for batch in batches:
        x = _double(batch.tensors[0])
        with torch.no_grad():
            with WithoutCasts():
                theirs = main_output(_renamed(batch, x.clone()).call(model))
            try:
                ours = network(x)
            except Exception as error:
                raise NotFeedForward(
                    f"the layers that were read do not fit together ({type(error).__name__})"
                ) from error
        scale = float(theirs.abs().max()) or 1.0
        if ours.shape != theirs.shape or not float((ours - theirs).abs().max()) <= EXACT * scale:
            raise NotFeedForward(
                "the layers that were read do not give the network's outputs", why="it computes something else as well"
            )
        seen += x.numel()
        if seen >= CHECKED:
            return
