"""The commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtbert.errors import Mistake
from mtbert.reports.table import REPORTS, Reader

if TYPE_CHECKING:
    from mtbert.runs.folder import Run
    from mtbert.runs.listener import Listener

app = typer.Typer(
    help="One small BERT, many text tasks: one recipe, one command, one model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

bench = typer.Typer(help="Measure speed, beside what people would use instead.", no_args_is_help=True)
app.add_typer(bench, name="bench")

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder of the data files; overrides the recipe's.")]
BenchRecipe = Annotated[
    Path | None, typer.Option("--recipe", help="What to measure on; recipes/three_tasks.yaml, or else the demo.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/<recipe's name> by default.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")]
Against = Annotated[str, typer.Option("--against", help="The peer.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as stages.0.batch_size=64.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results and problems only.")]


def main() -> None:
    """Run a command; a Mistake is shown as one message, exit code 2."""
    try:
        app()
    except Mistake as mistake:
        from mtbert.app.console import fail

        fail(str(mistake))
        sys.exit(2)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Where the run goes; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
    quiet: Quiet = False,
) -> None:
    """Train the embedded encoder on the embedded three tasks, and use it."""
    import mtbert.demo

    _follow(
        lambda told: mtbert.train(mtbert.demo.RECIPE, out=out, overwrite=True, listener=told), quiet, resumable=False
    )
    model = mtbert.load(out)
    for task, texts in mtbert.demo.QUESTIONS.items():
        for text, answer in zip(texts, model.predict(task, texts), strict=True):
            said = answer if isinstance(answer, str) else f"{answer:.1f}"
            typer.echo(f"{task}: {text if isinstance(text, str) else ' | '.join(text)} -> {said}")


@app.command()
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: OutFolder = None,
    data: DataFolder = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a recipe into a run folder."""
    import mtbert

    _follow(
        lambda told: mtbert.train(
            recipe, data, out, overrides or [], resume=resume, overwrite=overwrite, listener=told
        ),
        quiet,
        as_json,
    )


@app.command("add-task")
def add_task(
    run: RunFolder,
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: OutFolder = None,
    data: DataFolder = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add a recipe's tasks to a run's model, as a new run: what is there stays as it is, bit for bit."""
    import mtbert

    given = overrides or []
    _follow(
        lambda told: mtbert.add_task(run, recipe, data, out, given, resume=resume, overwrite=overwrite, listener=told),
        quiet,
        as_json,
    )


@app.command()
def check(
    recipe: RecipeFile,
    overrides: Overrides = None,
    add_to: Annotated[Path | None, typer.Option("--add-to", help="A run: look at what add-task would do.")] = None,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Dry run: what would be read and trained, what it would cost, what looks wrong."""
    from mtbert.app.console import OUTPUT
    from mtbert.recipe.reading import read_recipe
    from mtbert.reports.check import check as look
    from mtbert.runs.add_task import join
    from mtbert.runs.build import build

    given = overrides or []
    read = read_recipe(recipe, given, data) if add_to is None else join(add_to, recipe, data, given)
    report = look(build(read))
    if as_json:
        _print_json(report.as_dict())
    else:
        for shown in report.problems_shown() if quiet else [report]:
            OUTPUT.print(shown)


@app.command()
def evaluate(
    run: RunFolder,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="A task to score, once for each; all the run trained by default.")
    ] = None,
    data: DataFolder = None,
    perturbed_by: Annotated[
        int | None, typer.Option("--perturbed", metavar="SEED", help="Put typos and changed case into the texts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run's kept model on its dev sets, as they are or with typos."""
    from mtbert.app.console import show_scores
    from mtbert.runs.evaluate import evaluate_run

    scores = evaluate_run(run, data, tasks, perturbed_by).as_dict()
    if as_json:
        _print_json(scores)
    else:
        show_scores(scores)


@app.command()
def predict(
    run: RunFolder,
    task: Annotated[str | None, typer.Option("--task", help="The task whose head answers.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="A file with the task's text columns.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="The CSV file to write.")] = None,
    course: Annotated[
        Path | None, typer.Option("--course", help="Write the course's six prediction files into this folder instead.")
    ] = None,
    data: DataFolder = None,
) -> None:
    """Predict every row of a file: id, prediction, and one probability a class."""
    from mtbert.runs.folder import write_whole
    from mtbert.serving.course import course_sources, write_course_files
    from mtbert.serving.predictor import Predictor

    if course is not None:
        for path in write_course_files(Predictor.load(run), course_sources(run, data), course):
            typer.echo(path)
        return
    if task is None or source is None or output is None:
        raise Mistake("predict needs --task, --input and --output (or --course)")
    predictions = Predictor.load(run).predict_table(task, source)
    write_whole(output, predictions.as_csv())
    typer.echo(f"{len(predictions.ids):,} predictions in {output}")


@app.command()
def export(
    run: RunFolder,
    task: Annotated[str, typer.Option("--task", help="The task whose LoRA goes into the weights.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; must be empty or absent.")],
) -> None:
    """Write the encoder as one task uses it, plain BERT for transformers and sentence-transformers."""
    from mtbert.model.checkpoints import load_model, merged, save_encoder
    from mtbert.runs.folder import BEST, Run, write_folder

    model, tokenizer = load_model(Run.open(run).part(BEST))
    encoder = merged(model, task)
    write_folder(out, lambda folder: save_encoder(encoder, tokenizer, folder))
    typer.echo(out)


@app.command()
def affinity(
    recipe: RecipeFile,
    overrides: Overrides = None,
    data: DataFolder = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the shared run.")] = 200,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between two looks.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Which tasks help each other: a short shared run that measures each one's steps on every other's loss."""
    from mtbert.app.console import OUTPUT
    from mtbert.recipe.reading import read_recipe
    from mtbert.reports.affinity import measure_affinity
    from mtbert.runs.build import build

    report = measure_affinity(build(read_recipe(recipe, overrides or [], data)), steps, every)
    if as_json:
        _print_json(report.as_dict())
    else:
        OUTPUT.print(report)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Explain this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every table a recipe can name things from, one line a method; or all about one of them."""
    from mtbert.app.console import explain, show_methods
    from mtbert.recipe.catalogue import find_methods, list_methods

    if name is not None:
        found = find_methods(name)
        if as_json:
            _print_json([method.as_dict() for method in found])
        for method in () if as_json else found:
            explain(method)
        return
    families = list_methods()
    if as_json:
        _print_json(
            {
                family: {name: method.as_dict() for name, method in by_name.items()}
                for family, by_name in families.items()
            }
        )
    else:
        show_methods(families)


@bench.command("train")
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


@bench.command("predict")
def bench_predict(
    against: Against = "sentence-transformers",
    recipe: BenchRecipe = None,
    data: DataFolder = None,
    texts: Annotated[int, typer.Option("--texts", min=256, help="How many texts.")] = 10_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each side.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Prediction against 'sentence-transformers' encode, or a transformers 'pipeline'."""
    from mtbert.bench.prediction import bench_predict as measure
    from mtbert.bench.prediction import mixed_texts
    from mtbert.recipe.reading import read_recipe
    from mtbert.runs.build import build

    experiment = build(read_recipe(_bench_recipe(recipe), [], data))
    _print_facts(measure(experiment, mixed_texts(experiment, texts), against, rounds), as_json)


@bench.command("methods")
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
        _print_json(costs)
    for name, cost in () if as_json else costs.items():
        typer.echo(f"{name:<30} {cost:.2f} x the plain step")


@bench.command("frozen")
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


@bench.command("plain")
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


@bench.command("memory")
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
        _print_json(facts)
    for name, value in () if as_json else facts.items():
        said = ", ".join(f"{one:.4g}" for one in value) if isinstance(value, tuple) else value
        typer.echo(f"{name:<22} {said:.3f}" if isinstance(said, float) else f"{name:<22} {said}")


def _follow(train: Callable[[Listener], Run], quiet: bool, as_json: bool = False, resumable: bool = True) -> None:
    """Show how training goes and what came of it; a signal to end saves the state and says how to go on."""
    from mtbert.app.console import TrainingProgress, show_scores
    from mtbert.app.signals import Signals
    from mtbert.process import keep_freed_memory
    from mtbert.runs.listener import Listeners

    keep_freed_memory()
    progress = [] if quiet else [TrainingProgress()]
    try:
        with Signals() as signals:
            run = train(Listeners([*progress, signals]))
    finally:
        for shown in progress:
            shown.close()
    if run.stopped is not None:
        again = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        go_on = shlex.join(["mtbert", *again, *(["--resume"] if resumable else [])])
        typer.echo(f"stopped by {run.stopped}; the state is saved in {run.folder}; go on with: {go_on}", err=True)
        raise typer.Exit(signals.exit_code)
    if as_json:
        _print_json(run.scores)
        return
    show_scores(run.scores["dev"], run.scores["constant"])
    typer.echo(f"run: {run.folder}")


def _add_report(name: str, reader: Reader) -> None:
    """A command for a report of the table."""

    def command(run: RunFolder, as_json: AsJson = False) -> None:
        from mtbert.app.console import OUTPUT
        from mtbert.runs.folder import Run

        opened = Run.open(run)
        report = reader.read(opened)
        drawn = report.draw(opened.folder)
        if as_json:
            _print_json(report.as_dict())
            return
        OUTPUT.print(report)
        for path in drawn:
            typer.echo(path)

    app.command(name, help=reader.help)(command)


for _name, _reader in REPORTS.items():
    _add_report(_name, _reader)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
