"""Commands that use a trained model. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtbert.app.options import AsJson, DataFolder, RunFolder
from mtbert.app.output import print_json
from mtbert.errors import Mistake


def evaluate(
    run: RunFolder,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="A task to score, once for each; all the run trained by default.")
    ] = None,
    data: DataFolder = None,
    split: Annotated[Literal["dev", "test", "train"], typer.Option("--split", help="The rows to score.")] = "dev",
    source: Annotated[
        Path | None, typer.Option("--input", help="Score this labelled file instead, for the one --task named.")
    ] = None,
    perturbed_by: Annotated[
        int | None, typer.Option("--perturbed", metavar="SEED", help="Put typos and changed case into the texts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run's kept model, class by class, beside a constant predictor and the untrained encoder."""
    from mtbert.app.console import OUTPUT
    from mtbert.app.progress import RowsProgress
    from mtbert.reports.evaluation import evaluation

    with RowsProgress() as progress:
        report = evaluation(
            run, data, tasks, split=split, source=source, perturbed_by=perturbed_by, told=progress.reached
        )
    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)


def predict(
    run: RunFolder,
    task: Annotated[str | None, typer.Option("--task", help="The task whose head answers.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="A file with the task's text columns.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="The CSV file to write.")] = None,
    course: Annotated[
        Path | None, typer.Option("--course", help="Write the course's six prediction files into this folder instead.")
    ] = None,
    data: DataFolder = None,
    quotes: Annotated[
        Literal["checked", "trusted", "none"] | None,
        typer.Option("--quotes", help="What quotes in --input mean; as in the task's recipe by default."),
    ] = None,
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
    predictions = Predictor.load(run).predict_table(task, source, quotes)
    write_whole(output, predictions.as_csv())
    typer.echo(f"{len(predictions.ids):,} predictions in {output}")


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
