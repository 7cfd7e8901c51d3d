"""Commands that measure speed. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mtbert.app.options import AsJson, DataFolder, Overrides, RunFolder
from mtbert.app.output import print_json

BenchRecipe = Annotated[
    Path | None, typer.Option("--recipe", help="What to measure on; recipes/three_tasks.yaml, or else the demo.")
]
Against = Annotated[str, typer.Option("--against", help="The peer.")]


def bench_train(
    against: Against = "transformers",
    recipe: BenchRecipe = None,
    overrides: Overrides = None,
    data: DataFolder = None,
    steps: Annotated[int, typer.Option("--steps", min=8, help="Optimiser steps of each side.")] = 120,
    as_json: AsJson = False,
) -> None:
    """A training step against transformers.Trainer ('transformers'), with its length grouping ('trainer-grouped'), or
    either in bfloat16 ('trainer-bfloat16', 'trainer-grouped-bfloat16')."""
    from mtbert.bench.training import bench_train as measure
    from mtbert.recipe.reading import read_recipe
    from mtbert.runs.build import build

    result = measure(build(read_recipe(_bench_recipe(recipe), overrides or [], data)), against, steps)
    _print_facts(result, as_json)


def bench_predict(
    against: Against = "sentence-transformers",
    backend: Annotated[str, typer.Option("--backend", help="Ours: torch, onnx or int8.")] = "torch",
    recipe: BenchRecipe = None,
    data: DataFolder = None,
    texts: Annotated[int, typer.Option("--texts", min=256, help="How many texts.")] = 10_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each side.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Prediction by one of our back ends against 'sentence-transformers' encode, '-onnx', '-onnx-o3', '-onnx-int8' or
    '-openvino' behind its name, a transformers 'pipeline', or another back end of ours."""
    from mtbert.bench.prediction import bench_predict as measure
    from mtbert.bench.prediction import mixed_texts
    from mtbert.recipe.reading import read_recipe
    from mtbert.runs.build import build

    experiment = build(read_recipe(_bench_recipe(recipe), [], data))
    _print_facts(measure(experiment, mixed_texts(experiment, texts), against, rounds, backend), as_json)


def bench_together(
    recipe: BenchRecipe = None,
    data: DataFolder = None,
    tasks: Annotated[int, typer.Option("--tasks", min=2, help="How many tasks.")] = 5,
    texts: Annotated[int, typer.Option("--texts", min=256, help="How many texts.")] = 2_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each side.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Several tasks that read the same texts, in one pass of the encoder and in a pass for each."""
    from mtbert.bench.one_pass import bench_together as measure
    from mtbert.bench.prediction import mixed_texts
    from mtbert.recipe.reading import read_recipe
    from mtbert.runs.build import build

    experiment = build(read_recipe(_bench_recipe(recipe), [], data))
    _print_facts(measure(experiment, mixed_texts(experiment, texts), tasks, rounds), as_json)


def bench_serve(
    run: RunFolder,
    data: DataFolder = None,
    requests: Annotated[int, typer.Option("--requests", min=4, help="Requests, of one text each.")] = 20_000,
    clients: Annotated[int, typer.Option("--clients", min=1, help="Clients that ask at once.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """A server under load, each answer compared with `predict`, while other clients hang up and send garbage."""
    from mtbert.bench.load import bench_serve as measure

    _print_facts(measure(run, requests, clients, data), as_json)


def bench_methods(
    recipe: BenchRecipe = None,
    data: DataFolder = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each method.")] = 12,
    as_json: AsJson = False,
) -> None:
    """What each module, regulariser and combiner costs, as a multiple of the plain step."""
    from mtbert.bench.method_costs import bench_methods as measure

    costs = measure(_bench_recipe(recipe), data, steps)
    if as_json:
        print_json(costs)
    for name, cost in () if as_json else costs.items():
        typer.echo(f"{name:<30} {cost:z.2f} x the plain step")


def bench_frozen(
    recipe: BenchRecipe = None,
    overrides: Overrides = None,
    data: DataFolder = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Epochs of each side.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Training the heads on features computed once, against encoding every text anew in every epoch."""
    from mtbert.bench.feature_cache import bench_frozen as measure

    _print_facts(measure(_bench_recipe(recipe), overrides or [], data, epochs), as_json)


def bench_plain(
    recipe: BenchRecipe = None,
    overrides: Overrides = None,
    data: DataFolder = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="A seed; give several.")] = None,
    as_json: AsJson = False,
) -> None:
    """Dev scores by the fast paths and by their plain twins: torch's own dropout, attention and AdamW, no buckets."""
    from mtbert.bench.accuracy import bench_plain as measure

    _print_facts(measure(_bench_recipe(recipe), overrides or [], data, seeds or [1, 2, 3]), as_json)


def bench_memory(
    pairs: Annotated[int, typer.Option("--pairs", min=32, help="Training pairs to make on the fly.")] = 3_000_000,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")] = 200,
    encoder: Annotated[str, typer.Option("--encoder", help="The encoder, as in a recipe.")] = "minilm",
    as_json: AsJson = False,
) -> None:
    """Start of training and peak memory on very many pairs, in a process of its own."""
    from mtbert.bench.memory import bench_memory as measure

    _print_facts(measure(pairs, steps, encoder), as_json)


def _bench_recipe(given: Path | None) -> Path:
    import mtbert.demo

    usual = Path("recipes/three_tasks.yaml")
    return given or (usual if usual.exists() else mtbert.demo.RECIPE)


def _print_facts(result: Any, as_json: bool) -> None:
    from dataclasses import asdict

    facts = asdict(result)
    if as_json:
        print_json(facts)
    for name, value in () if as_json else facts.items():
        said = ", ".join(f"{one:.4g}" for one in value) if isinstance(value, tuple) else value
        typer.echo(f"{name:<22} {said:z.3f}" if isinstance(said, float) else f"{name:<22} {said}")
