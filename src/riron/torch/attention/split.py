"""Attention with projections of its own, in place of nn.MultiheadAttention, whose heads cannot be fewer than its width.

The same function, with query, key, value and output as ordinary linear layers: heads, and pairs of query and key
columns, can then be cut. The softmax scale stays that of the original heads.
"""

from collections import Counter
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class SplitAttention(nn.Module):
    """softmax(scale Q K^T) V by heads, called as nn.MultiheadAttention is.

    Args:
      embed_dim, kdim, vdim: width of queries, keys and values that come in; the output has embed_dim.
      inner, inner_v: width of all heads together, for queries and keys, and for values.
      num_heads, bias, batch_first, dropout: as of nn.MultiheadAttention. scale: of the scores.
    """

    def __init__(self, embed_dim, kdim, vdim, inner, inner_v, num_heads, bias, batch_first, dropout, scale):
        super().__init__()
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.dropout, self.scale = dropout, scale
        self.in_proj_bias, self._qkv_same_embed_dim = None, False  # so that encoder layers take no fused path
        self.query, self.key = nn.Linear(embed_dim, inner, bias=bias), nn.Linear(kdim, inner, bias=bias)
        self.value, self.out = nn.Linear(vdim, inner_v, bias=bias), nn.Linear(inner_v, embed_dim, bias=bias)

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
        is_causal=False,
    ):  # fmt: skip
        """(output, weights or None); masks as of nn.MultiheadAttention, `attn_mask` of two axes."""
        alone, first = query.dim() == 2, self.batch_first
        if alone:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        n, rows, columns = query.shape[0], query.shape[1], key.shape[1]
        split = lambda x, count: x.reshape(n, count, self.num_heads, -1).transpose(1, 2)
        q, k = split(self.query(query), rows), split(self.key(key), columns)
        v = split(self.value(value), columns)
        scores = q @ k.transpose(2, 3) * self.scale
        for mask in (attn_mask, None if key_padding_mask is None else key_padding_mask[:, None, None]):
            if mask is not None:
                scores = scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        weights = nn.functional.dropout(scores.softmax(-1), self.dropout, self.training)
        output = self.out((weights @ v).transpose(1, 2).reshape(n, rows, -1))
        if average_attn_weights:
            weights = weights.mean(1)
        if alone:
            output, weights = output[0], weights[0]
        elif not first:
            output = output.transpose(0, 1)
        return output, weights if need_weights else None


def sizes_of(attention: SplitAttention) -> dict[str, Any]:
    """What makes a module of the same sizes."""
    return {
        "embed_dim": attention.query.in_features,
        "kdim": attention.key.in_features,
        "vdim": attention.value.in_features,
        "inner": attention.query.out_features,
        "inner_v": attention.value.out_features,
        "num_heads": attention.num_heads,
        "bias": attention.query.bias is not None,
        "batch_first": attention.batch_first,
        "dropout": attention.dropout,
        "scale": attention.scale,
    }


def split_attentions(model: Any) -> list[str]:
    """Replaces every nn.MultiheadAttention of a model that allows it; the names of those replaced."""
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
        and name
        and module.bias_k is None
        and not module.add_zero_attn
        and places[id(module)] == 1
    ]
    for name, module in found:
        parent, _, key = name.rpartition(".")
        setattr(dict(model.named_modules())[parent], key, _split(module))
    return [name for name, _ in found]


def _split(old: Any) -> SplitAttention:
    width, bias = old.embed_dim, old.in_proj_bias is not None
    new = SplitAttention(
        width, old.kdim, old.vdim, width, width, old.num_heads, bias, old.batch_first, old.dropout, old.head_dim**-0.5
    )
    if old.in_proj_weight is None:
        weights = (old.q_proj_weight, old.k_proj_weight, old.v_proj_weight)
    else:
        weights = old.in_proj_weight.chunk(3)
    with torch.no_grad():
        new.to(old.out_proj.weight)
        for k, part in enumerate((new.query, new.key, new.value)):
            part.weight.copy_(weights[k])
            if bias:
                part.bias.copy_(old.in_proj_bias.chunk(3)[k])
        new.out.weight.copy_(old.out_proj.weight)
        if bias:
            new.out.bias.copy_(old.out_proj.bias)
    return new.train(old.training)
