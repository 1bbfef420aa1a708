"""Layers as products of smaller ones: Tucker-2, canonical polyadic, truncated singular values."""
