"""The ImageNet example runs as it stands, with small networks and images in the place of torchvision's."""

import importlib.util
import sys
import types
from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "examples" / "imagenet_spectral_pruning.py"


class VGG(nn.Module):
    """torchvision's names: features, avgpool, classifier; thirteen convolutions."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in (4, 4, "M", 6, 6, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8):
            if width == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 6))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Bottleneck(nn.Module):
    """torchvision's names of a block."""

    def __init__(self, before, inner):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, before, 1, bias=False), nn.BatchNorm2d(before)
        self.relu = nn.ReLU()

    def forward(self, x):
        h = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(h)) + x)


class ResNet(nn.Module):
    """A stem, two blocks and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.layer1 = nn.Sequential(Bottleneck(16, 8), Bottleneck(16, 8))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 6)

    def forward(self, x):
        return self.fc(self.avgpool(self.layer1(self.relu(self.bn1(self.conv1(x))))).flatten(1))


class Images:
    """120 random images of six classes."""

    def __init__(self, folder, transform):
        generator = torch.Generator().manual_seed(0 if "train" in folder else 1)
        self.X = torch.randn(120, 3, 32, 32, generator=generator)
        self.y = torch.randint(6, (120,), generator=generator)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, k):
        return self.X[k], int(self.y[k])


@pytest.fixture
def example(monkeypatch):
    """The script as a module, beside a stand-in for torchvision."""
    vision, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    for name in (
        "Compose", "Resize", "CenterCrop", "ToTensor", "Normalize", "RandomResizedCrop", "RandomHorizontalFlip",
    ):  # fmt: skip
        setattr(transforms, name, lambda *arguments: None)
    vision.transforms = transforms
    vision.datasets = types.SimpleNamespace(ImageFolder=Images)
    vision.models = types.SimpleNamespace(vgg16=lambda weights: VGG(), resnet50=lambda weights: ResNet())
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    spec = importlib.util.spec_from_file_location("imagenet_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("network", ["vgg16", "resnet50"])
def test_example_cuts_repairs_trains_and_prints_the_published_numbers(example, network, tmp_path, capsys):
    options = ["--imagenet", "x", "--calibration", "80", "--epochs", "1", "--workers", "0", "--device", "cpu"]
    example.main([network, *options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if "top-1" in line]
    assert lines[0].startswith("original")
    assert lines[-1].startswith("published")
    assert "after 1 epochs" in printed
    assert (tmp_path / "out" / "finetuned.pt").exists()


def test_published_sizes_are_those_of_the_halved_networks(example):
    # VGG-16: thirteen 3x3 convolutions with biases, the first ten halved, and a pooled head of 1000 classes.
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    cut = [3, *[w // 2 for w in widths[:10]], *widths[10:]]
    vgg = sum(9 * a * b + b for a, b in pairwise(cut)) + 512 * 1000 + 1000
    # ResNet-50: stem, blocks of 1x1, 3x3, 1x1 convolutions with BatchNorm, inner ones halved, 1000 classes.
    resnet, before = 3 * 64 * 49 + 2 * 64, 64
    for inner, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        half, after = inner // 2, 4 * inner
        for k in range(blocks):
            resnet += before * half + 9 * half * half + half * after + 4 * half + 2 * after
            resnet += before * after + 2 * after if k == 0 else 0
            before = after
    resnet += 2048 * 1000 + 1000
    assert round(vgg / 1e6, 2) == example.EXPECTED["vgg16"][0]
    assert round(resnet / 1e6, 2) == example.EXPECTED["resnet50"][0]


def test_pooled_head_is_the_least_squares_fit_to_the_original(example):
    torch.manual_seed(0)
    images = torch.randn(200, 3, 32, 32)
    features = VGG().features.eval()
    true = example.PooledHead(features, 8, 6).eval()
    head = example.with_pooled_head(types.SimpleNamespace(features=features), true, images, ridge=1e-9)
    with torch.no_grad():
        assert torch.allclose(head(images), true(images), atol=1e-3)
