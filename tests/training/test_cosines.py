"""The geometry of the tasks' gradients, in numbers and in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtbert.model.parameters.names import place_of
from mtbert.training.cosines import cosines

NAMES = [
    "encoder.word_embedding.weight",
    "encoder.layers.0.expand.weight",
    "encoder.layers.0.expand.bias",
    "encoder.layers.1.expand.weight",
    "encoder.pooler.weight",
    "heads.mood.output.weight",
]
SHAPES = [(30, 4), (4, 8), (8,), (4, 8), (4, 4), (3, 4)]


def gradients(task: int) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(task)
    found: list[torch.Tensor | None] = [torch.randn(shape, generator=generator) for shape in SHAPES]
    if task:
        found[-1] = None  # a head of one task
    return found


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("encoder.position_embedding.weight", "embeddings"),
        ("encoder.embedding_norm.bias", "embeddings"),
        ("encoder.layers.0.to_qkv.weight", "layer 0"),
        ("encoder.layers.11.output_norm.bias", "layer 11"),
        ("encoder.pooler.bias", "pooler"),
        ("modules_by_task.entries.0.shared.gain", "modules"),
        ("heads.mood.output.weight", "heads"),
    ],
)
def test_every_parameter_has_a_part(name: str, group: str) -> None:
    assert place_of(name) == group


def test_cosines_are_those_of_the_flat_gradients_of_each_part() -> None:
    by_task = {"mood": gradients(0), "same": gradients(1), "near": gradients(2)}
    by_task["same"][-1] = by_task["mood"][-1]  # nor do heads count that two tasks read
    found = cosines(by_task, NAMES)
    assert list(found) == ["embeddings", "layer 0", "layer 1", "pooler"]
    for part, members in {"embeddings": [0], "layer 0": [1, 2], "layer 1": [3], "pooler": [4]}.items():
        flat = torch.stack([torch.cat([some[i].flatten() for i in members]).double() for some in by_task.values()])
        unit = torch.nn.functional.normalize(flat)
        torch.testing.assert_close(torch.tensor(found[part]).double(), unit @ unit.T, atol=1e-6, rtol=0)


def test_parts_that_only_one_task_reaches_are_left_out_and_empty_gradients_have_no_direction() -> None:
    one, other, third = gradients(1), gradients(2), gradients(3)
    other[4] = third[4] = None
    third[3] = torch.zeros(4, 8)
    found = cosines({"a": one, "b": other, "c": third}, NAMES)
    assert list(found) == ["embeddings", "layer 0", "layer 1"]
    assert found["layer 1"][2] == [0, 0, 0]
    assert found["layer 1"][0][1] != 0


def test_a_gradient_lies_along_itself_and_against_its_opposite() -> None:
    one = gradients(1)
    opposite = [None if g is None else -3 * g for g in one]
    for matrix in cosines({"a": one, "b": opposite}, NAMES).values():
        np.testing.assert_allclose(matrix, [[1, -1], [-1, 1]], atol=1e-6)
