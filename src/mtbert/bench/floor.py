"""The floor of a training step: its matrix products alone, at the shapes that were met."""

from __future__ import annotations

from functools import partial

import torch

from mtbert.cost import seconds
from mtbert.model.devices import wait_for
from mtbert.model.shape import Shape


class Floor:
    """Times the products of one step's forward and backward pass on a device; buffers are made once and reused."""

    def __init__(self, shape: Shape, longest: int, precision: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        randn = self.randn = partial(torch.randn, dtype=precision, device=device)
        self.device = device
        d, inner = shape.width, shape.inner
        self.sizes = [(d, 3 * d), (d, d), (d, inner), (inner, d)]  # to_qkv, mix_heads, expand, contract
        self.weights = [randn(rows, columns) * 0.02 for rows, columns in self.sizes]
        self.inputs = {rows: randn(longest, rows) for rows, _ in self.sizes}
        self.outputs = {columns: randn(longest, columns) for _, columns in self.sizes}

    def seconds(self, sequences: int, length: int) -> float:
        """Seconds for one step over S sequences of length L."""
        tokens = sequences * length
        heads, size = self.shape.heads, self.shape.width // self.shape.heads
        q = self.randn(sequences * heads, length, size)
        scores = self.randn(sequences * heads, length, length)

        def linear() -> None:
            for (rows, columns), weight in zip(self.sizes, self.weights, strict=True):
                x, y = self.inputs[rows][:tokens], self.outputs[columns][:tokens]
                torch.mm(x, weight)  # forward
                torch.mm(y, weight.t())  # gradient of the input
                torch.mm(x.t(), y)  # gradient of the weight

        def attention() -> None:
            for _ in range(2):  # forward: scores and mix; backward: twice as much
                torch.bmm(q, q.transpose(1, 2))
                torch.bmm(scores, q)
            torch.bmm(scores.transpose(1, 2), q)
            torch.bmm(q, q.transpose(1, 2))

        def whole() -> None:
            for _ in range(self.shape.layers):
                linear()
                attention()
            wait_for(self.device)

        with torch.no_grad():
            wait_for(self.device)
            return seconds(whole)
