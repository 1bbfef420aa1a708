"""Small networks written as torchvision, timm and transformers write theirs."""

import torch
import torch.nn.functional as F
from torch import nn


class Chain(nn.Module):
    """Convolutions, flatten, linear layers."""

    def __init__(self, widths=(8, 12, 20), classes=5):
        super().__init__()
        a, b, c = widths
        self.conv1 = nn.Conv2d(1, a, 3, padding=1)
        self.conv2 = nn.Conv2d(a, b, 3, padding=1)
        self.fc1 = nn.Linear(b * 4, c)
        self.fc2 = nn.Linear(c, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class BasicBlock(nn.Module):
    """torchvision's: in-place ReLU used twice, sum in place, downsample after the main branch."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """torchvision's ResNet, small."""

    def __init__(self, widths=(8, 12), classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(BasicBlock(widths[0], widths[0], 1), BasicBlock(widths[0], widths[0], 1))
        self.layer2 = nn.Sequential(BasicBlock(widths[0], widths[1], 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[1], classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class PreActivation(nn.Module):
    """timm's pre-activation block: the stream is read through a norm of its own at each reader."""

    def __init__(self, width=8, inner=12, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, 1, 1)
        self.norm3 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return self.head(F.relu(self.norm3(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """timm's MobileNet block: expand, depthwise, squeeze-excite, project; then a dense concatenation."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.expand = nn.Conv2d(6, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.se_reduce = nn.Conv2d(24, 6, 1)
        self.se_expand = nn.Conv2d(6, 24, 1)
        self.project = nn.Conv2d(24, 6, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(6)
        self.grow = nn.Conv2d(6, 10, 3, 1, 1)
        self.join = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = F.silu(self.stem(x))
        h = F.silu(self.bn1(self.expand(x)))
        h = F.silu(self.bn2(self.depthwise(h)))
        h = h * torch.sigmoid(self.se_expand(F.silu(self.se_reduce(h.mean((2, 3), keepdim=True)))))
        x = x + self.bn3(self.project(h))
        x = torch.cat([x, F.relu(self.grow(x))], 1)
        return self.head(F.relu(self.join(x)).mean((2, 3)))


class SelfAttention(nn.Module):
    """transformers' BertSelfAttention."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, width // heads
        self.all_head_size = width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def split(self, x):
        return x.view(*x.shape[:2], self.num_attention_heads, self.attention_head_size).permute(0, 2, 1, 3)

    def forward(self, x, mask=None):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = q @ k.transpose(-1, -2) / self.attention_head_size**0.5
        if mask is not None:
            scores = scores + mask
        context = (scores.softmax(-1) @ v).permute(0, 2, 1, 3).contiguous()
        return context.view(*context.shape[:2], self.all_head_size)


class EncoderLayer(nn.Module):
    """BERT's post-norm layer."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.dense = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.intermediate = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.dropout = nn.Dropout(0.1)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x, mask=None):
        x = self.norm1(self.dropout(self.dense(self.attention(x, mask))) + x)
        return self.norm2(self.dropout(self.output(F.gelu(self.intermediate(x)))) + x)


class Encoder(nn.Module):
    """A small BERT that is called with named tensors and returns a dictionary."""

    def __init__(self, words=50, width=16, heads=4, inner=32, layers=2, classes=3):
        super().__init__()
        self.embeddings = nn.Embedding(words, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner) for _ in range(layers))
        self.classifier = nn.Linear(width, classes)

    def forward(self, input_ids, attention_mask=None):
        x = self.embeddings(input_ids)
        mask = None if attention_mask is None else (1.0 - attention_mask[:, None, None].float()) * -1e4
        for layer in self.layers:
            x = layer(x, mask)
        return {"logits": self.classifier(x[:, 0]), "hidden": x}


class GatedMLP(nn.Module):
    """Llama's MLP: two producers multiply."""

    def __init__(self, width=12, inner=30, classes=4):
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.norm(x + self.down(F.silu(self.gate(x)) * self.up(x))))


class Grouped(nn.Module):
    """Grouped convolutions as in ResNeXt: 1x1, grouped 3x3, another number of groups, 1x1."""

    def __init__(self, classes=5):
        super().__init__()
        self.reduce = nn.Conv2d(3, 16, 1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 24, 3, 1, 1, groups=4)
        self.bn2 = nn.BatchNorm2d(24)
        self.again = nn.Conv2d(24, 16, 3, 1, 1, groups=2, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.expand = nn.Conv2d(16, 12, 1)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.reduce(x)))
        x = F.relu(self.bn2(self.conv(x)))
        x = F.relu(self.bn3(self.again(x)))
        return self.head(F.relu(self.expand(x)).mean((2, 3)))


class FusedBlock(nn.Module):
    """timm's block: one projection to query, key and value, laid out by `order`."""

    def __init__(self, width=16, heads=4, inner=24, classes=3, order="3hd", fixed=False):
        super().__init__()
        self.num_heads, self.head_dim, self.order, self.fixed = heads, width // heads, order, fixed
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        n, t, width = x.shape
        qkv = self.qkv(self.norm1(x))
        if self.order == "3hd":
            q, k, v = qkv.reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = qkv.reshape(n, t, self.num_heads, 3, self.head_dim).permute(3, 0, 2, 1, 4).unbind(0)
        y = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(n, t, width if self.fixed else -1)
        x = x + self.proj(y)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder, whose layers take a fused path in evaluation mode."""

    def __init__(self, width=16, heads=4, inner=32, classes=3, first=True, before=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, inner, batch_first=first, norm_first=before)
        self.embed, self.first = nn.Linear(6, width), first
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=first and not before)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.embed(x)
        return self.head((self.encoder(x) if self.first else self.encoder(x.transpose(0, 1)).transpose(0, 1)).mean(1))


class FusedScores(nn.Module):
    """Query, key and value apart, and a scale that is taken from the size of what they give."""

    def __init__(self, width=16, heads=4, classes=3):
        super().__init__()
        self.num_heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = (part(x).view(n, t, self.num_heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1)
        return self.head((x + self.o(y)).mean(1))


class RootNorm(nn.Module):
    """Llama's RMSNorm."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.rand(width) + 0.5), 1e-6

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


RootNorm.__name__ = "LlamaRMSNorm"


class Decoder(nn.Module):
    """Two blocks as Llama writes them, without rotary embeddings."""

    def __init__(self, width=16, heads=4, inner=24, words=50, classes=7, norm=RootNorm):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(words, width), nn.ModuleList()
        for _ in range(2):
            block = nn.Module()
            block.norm1, block.norm2, block.num_heads = norm(width), norm(width), heads
            block.q, block.k, block.v, block.o = (nn.Linear(width, width, bias=False) for _ in range(4))
            block.gate, block.up, block.down = nn.Linear(width, inner), nn.Linear(width, inner), nn.Linear(inner, width)
            self.blocks.append(block)
        self.norm, self.head = norm(width), nn.Linear(width, classes)

    def forward(self, words):
        x = self.embed(words)
        for b in self.blocks:
            y = b.norm1(x)
            q, k, v = (f(y).view(*words.shape, b.num_heads, -1).transpose(1, 2) for f in (b.q, b.k, b.v))
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(*words.shape, -1)
            x = x + b.o(y)
            y = b.norm2(x)
            x = x + b.down(F.silu(b.gate(y)) * b.up(y))
        return self.head(self.norm(x)[:, -1])


def settled(model, *inputs, seed=0):
    """The model with BatchNorm statistics and scales that are not the default, in evaluation mode."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(*inputs)
    return model.eval()


def made(make, *inputs, seed=0):
    """A fresh model with seeded weights."""
    torch.manual_seed(seed)
    return settled(make(), *inputs)


def relative(new, old):
    """Relative squared error of outputs."""
    return float(((new - old) ** 2).sum() / ((old - old.mean(0)) ** 2).sum())
