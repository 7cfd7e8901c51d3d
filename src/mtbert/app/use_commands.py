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
        print_json(scores)
    else:
        show_scores(scores)


def predict(
    run: RunFolder,
    task: Annotated[str | None, typer.Option("--task", help="The task whose head answers.")] = None,
    source: Annotated[Path | None, typer.Option("--input", help="A file with the task's text columns.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The CSV file to write; - for standard output.")
    ] = None,
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
    from mtbert.runs.output import Output
    from mtbert.serving.course import course_sources, write_course_files
    from mtbert.serving.predictor import Predictor

    if course is not None:
        for path in write_course_files(Predictor.load(run), course_sources(run, data), course):
            typer.echo(path)
        return
    if task is None or source is None or output is None:
        raise Mistake("predict needs --task, --input and --output (or --course)")
    place = Output(output, inputs=[source])
    predictions = Predictor.load(run).predict_table(task, source, quotes)
    place.write(predictions.as_csv())
    typer.echo(f"{len(predictions.ids):,} predictions in {output}", err=place.streams)


def export(
    run: RunFolder,
    task: Annotated[str, typer.Option("--task", help="The task whose LoRA goes into the weights.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; must be empty or absent.")],
) -> None:
    """Write the encoder as one task uses it, plain BERT for transformers and sentence-transformers."""
    from mtbert.model.checkpoints import load_model, merged, save_encoder
    from mtbert.runs.folder import BEST, Run
    from mtbert.runs.output import refuse_run
    from mtbert.runs.writing import write_folder

    refuse_run(out)
    model, tokenizer = load_model(Run.open(run).part(BEST))
    encoder = merged(model, task)
    write_folder(out, lambda folder: save_encoder(encoder, tokenizer, folder))
    typer.echo(out)
