"""A few numbers that say most about an input, learnt from inputs without labels: kernel principal components."""

import math
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from .pairs import ROWS

FEWEST = 40  # inputs from which coordinates are worth learning
LANDMARKS = 1000  # inputs that are kept at most
STORED = 5e7  # numbers of the landmarks
WHITENING = 0.25  # power of the singular value by which a coordinate is divided
SIZE = 3.0  # root mean square of a coordinate


class Coordinates(nn.Module):
    """Input -> (k + 1) numbers: the first k principal components of a Gaussian kernel on the landmarks, and a 1.

    Args:
      landmarks: (m, ...) inputs that are independent of the labelled rows. k: components, at most m - 1.

    Source: Schoelkopf, Smola & Mueller, Nonlinear component analysis as a kernel eigenvalue problem, Neural
      Computation 1998; the width is the median distance.
    """

    landmarks: Any
    width: Any
    centre: Any
    directions: Any

    def __init__(self, landmarks: Any, k: int):
        super().__init__()
        most = min(LANDMARKS, max(FEWEST, int(STORED / landmarks[0].numel())))
        rows = landmarks[:most].flatten(1).double()
        square = torch.cdist(rows, rows) ** 2
        width = square[square > 0].median() if bool((square > 0).any()) else torch.tensor(1.0, dtype=rows.dtype)
        self.register_buffer("landmarks", rows)
        self.register_buffer("width", width)
        kernel = torch.exp(-square / width)
        centre = kernel.mean(0)
        _, singular, right = torch.linalg.svd(kernel - centre, full_matrices=False)
        singular, right = singular[:k] / math.sqrt(len(rows)), right[:k]
        weight = singular.clamp_min(1e-9 * float(singular[0])) ** -WHITENING
        weight = weight * SIZE * math.sqrt(len(singular)) / (singular * weight).norm().clamp_min(1e-12)
        self.register_buffer("centre", centre)
        self.register_buffer("directions", right.mT * weight)
        self.count = len(singular) + 1

    def forward(self, x: Any) -> Any:
        return torch.cat([self._part(part) for part in x.split(ROWS)])

    def _part(self, x: Any) -> Any:
        rows = x.reshape(len(x), -1).double()
        kernel = torch.exp(-(torch.cdist(rows, self.landmarks) ** 2) / self.width)
        z = (kernel - self.centre) @ self.directions
        return torch.cat([z, torch.ones_like(z[:, :1])], 1).to(x.dtype)
