"""VGG-16 and ResNet-50 on ImageNet, cut by half and repaired with riron.torch, beside the published numbers.

    pip install "riron[torch]" torchvision
    python examples/imagenet_spectral_pruning.py resnet50 --imagenet FOLDER [--epochs 10] [--device cuda] [--out DIR]

FOLDER holds `train` and `val`, one folder a class, as torchvision's ImageFolder reads them. Without --epochs nothing is
trained: what is printed is what the reconstruction alone gives. Calibration takes images of `train` without labels;
accuracies are those of the central crop of `val`.

Expected (Suzuki, Abe, Murata, Horiuchi, Ito, Wachi, Hirai, Yukishima & Nishimura, Spectral pruning, IJCAI-PRICAI 2020;
top-1 / top-5 after fine-tuning, from an original of 68.34 / 88.44 % for VGG-16 and 72.89 / 91.07 % for ResNet-50;
torchvision's weights start higher, at 71.59 / 90.38 % and 76.13 / 92.86 %):

    VGG-16, first ten convolutions halved, global average pooling instead of the dense layers (Spec-GAP):
        8.32 M of 138.34 M parameters, 67.54 / 88.27 %
    ResNet-50, both inner convolutions of every block halved (Spec-ResA):
        12.38 M of 25.56 M parameters, 72.99 / 91.56 %
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import riron.torch

EXPECTED = {"vgg16": (8.32, 67.54, 88.27), "resnet50": (12.38, 72.99, 91.56)}


class PooledHead(nn.Module):
    """Global average pooling and one linear layer."""

    def __init__(self, features: nn.Module, channels: int, classes: int):
        super().__init__()
        self.features = features
        self.linear = nn.Linear(channels, classes)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels) means over the image."""
        return self.features(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.pooled(x))


def halved_vgg16(model: nn.Module) -> dict[str, int]:
    """Widths of Spec-GAP: half of the first ten convolutions."""
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    return {name: module.out_channels // 2 for name, module in convolutions[:10]}


def halved_resnet50(model: nn.Module) -> dict[str, int]:
    """Widths of Spec-ResA: half of both inner convolutions of every block."""
    inner = (".conv1", ".conv2")
    convolutions = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    return {name: module.out_channels // 2 for name, module in convolutions if name.endswith(inner)}


@torch.no_grad()
def with_pooled_head(cut: nn.Module, original: nn.Module, images: torch.Tensor, *, ridge: float = 1e-2) -> PooledHead:
    """The cut convolutions with a pooled head, fitted by least squares to the original's logits; no labels."""
    features: nn.Module = cut.features  # pyright: ignore[reportAssignmentType]
    batches = images.split(32)
    target = torch.cat([original(batch) for batch in batches])
    pooled = torch.cat([features(batch).mean((2, 3)) for batch in batches])
    head = PooledHead(features, pooled.shape[1], target.shape[1]).to(images.device).eval()
    x, y = pooled.double(), target.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    gram = (x - mean_x).T @ (x - mean_x)
    gram += ridge * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram, (x - mean_x).T @ (y - mean_y)).T
    head.linear.weight.copy_(weight)
    head.linear.bias.copy_(mean_y - weight @ mean_x)
    return head


@torch.no_grad()
def accuracy(model: nn.Module, loader, device: str) -> tuple[float, float]:
    """Top-1 and top-5 accuracy in percent."""
    model.eval()
    first = fifth = count = 0
    for x, y in loader:
        best = model(x.to(device)).topk(5).indices.cpu()
        first += int((best[:, 0] == y).sum())
        fifth += int((best == y[:, None]).any(1).sum())
        count += len(y)
    return 100 * first / count, 100 * fifth / count


def finetune(model: nn.Module, loader, device: str, *, epochs: int, rate: float = 1e-3) -> None:
    """SGD with momentum and a cosine schedule."""
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(loader))
    for epoch in range(epochs):
        model.train()
        for step, (x, y) in enumerate(loader):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 100 == 0:
                print(f"epoch {epoch + 1} step {step} loss {loss.item():.3f}", file=sys.stderr)


def loaders(folder: Path, *, batch: int, workers: int, seed: int):
    """Training batches, training images with the transform of `val` (to calibrate), and validation batches."""
    from torchvision import datasets, transforms

    normal = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    centre = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normal]
    )  # fmt: skip
    augmented = transforms.Compose(
        [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normal]
    )
    train = datasets.ImageFolder(str(folder / "train"), augmented)
    plain = datasets.ImageFolder(str(folder / "train"), centre)
    val = datasets.ImageFolder(str(folder / "val"), centre)
    make = torch.utils.data.DataLoader
    shuffle = torch.Generator().manual_seed(seed)
    return (
        make(train, batch, shuffle=True, num_workers=workers, generator=shuffle),
        plain,
        make(val, batch, num_workers=workers),
    )


def main(arguments: list[str] | None = None) -> None:
    """Cuts, repairs, measures, trains if asked, and prints the published numbers beside its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(EXPECTED))
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=1000, help="images without labels; half of them measure")
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="compressed")
    options = parser.parse_args(arguments)

    from torchvision import models

    torch.manual_seed(options.seed)
    original = getattr(models, options.network)(weights="IMAGENET1K_V1").to(options.device).eval()
    train, plain, val = loaders(options.imagenet, batch=options.batch, workers=options.workers, seed=options.seed)
    chosen = torch.randperm(len(plain))[: options.calibration]
    images = torch.stack([plain[int(k)][0] for k in chosen]).to(options.device)

    widths = halved_vgg16(original) if options.network == "vgg16" else halved_resnet50(original)
    done = riron.torch.compress(original, images, widths=widths, device=options.device)
    print(done)
    done.save(options.out)
    network = done.model
    rows = [("original", original), ("cut and repaired, no training", network)]
    if options.network == "vgg16":
        network = with_pooled_head(network, original, images)
        rows.append(("with a pooled head, no labels", network))
    measured = [(name, size(model), *accuracy(model, val, options.device)) for name, model in rows]
    if options.epochs:
        finetune(network, train, options.device, epochs=options.epochs)
        measured.append(
            (f"after {options.epochs} epochs", size(network), *accuracy(network, val, options.device))
        )  # fmt: skip
        torch.save(network.state_dict(), Path(options.out) / "finetuned.pt")
    measured.append(("published, fine-tuned", *EXPECTED[options.network]))
    for name, millions, first, fifth in measured:
        print(f"{name:34} {millions:7.2f} M parameters   top-1 {first:6.2f} %   top-5 {fifth:6.2f} %")


def size(model: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for p in model.parameters()) / 1e6


if __name__ == "__main__":
    main()
