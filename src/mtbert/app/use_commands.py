"""Commands that use a trained model. Nothing heavy is imported before one runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtbert.app.options import AsJson, DataFolder, Quotes, RunFolder
from mtbert.app.output import print_json
from mtbert.errors import Mistake

if TYPE_CHECKING:
    from mtbert.serving.results import Part


def evaluate(
    run: RunFolder,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="A task to score, once for each; all the run trained by default.")
    ] = None,
    data: DataFolder = None,
    split: Annotated[
        Literal["dev", "test", "train"] | None, typer.Option("--split", help="The rows to score; dev by default.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Score this labelled file instead, for one --task; - for standard input."),
    ] = None,
    quotes: Quotes = None,
    perturbed_by: Annotated[
        int | None, typer.Option("--perturbed", metavar="SEED", help="Put typos and changed case into the texts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run's kept model, class by class, beside a constant predictor and the untrained encoder."""
    from mtbert.app.console import OUTPUT
    from mtbert.app.progress import RowsProgress
    from mtbert.reports.evaluation import evaluation
    from mtbert.serving.given import file_of

    if source is not None and split is not None:
        raise Mistake(f"--input {source} is scored in the place of a --split; give one of the two")
    with file_of(source) as file, RowsProgress() as progress:
        report = evaluation(
            run,
            data,
            tasks,
            split=split or "dev",
            source=file,
            quotes=quotes,
            perturbed_by=perturbed_by,
            told=progress.reached,
        )
    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)


def ensemble(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders with the same tasks.")],
    out: Annotated[Path, typer.Option("--out", help="The run folder to write; absent or empty.")],
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make one run of several: it says what their kept models say on average."""
    from mtbert.app.console import show_scores
    from mtbert.runs.ensemble import ensemble as make

    run = make(runs, out, data)
    if as_json:
        print_json(run.scores)
        return
    show_scores(run.scores["dev"], run.scores["constant"])
    typer.echo(f"run: {run.folder}")


def predict(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Answer these; two are one pair for a pair task.")
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="The task that answers; without it, all whose columns --input has.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="A file with the tasks' text columns; - for standard input.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The file to write: .csv, .tsv, .jsonl, .parquet; - for standard output, CSV."),
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="COLUMN,...", help="Columns of --input to carry through.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Every N-th row of --input, from the I-th on: 1/4.")
    ] = None,
    course: Annotated[
        Path | None, typer.Option("--course", help="Write the course's six prediction files into this folder instead.")
    ] = None,
    course_tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--course-task",
            metavar="NAME=TASK",
            help="Which task is the course's sst, para or sts, where its files are not named as the course's.",
        ),
    ] = None,
    data: DataFolder = None,
    quotes: Quotes = None,
    engine: Annotated[
        Literal["ray"] | None, typer.Option("--engine", help="Let the workers of Ray answer, one for each core.")
    ] = None,
) -> None:
    """Predict every row of a file (id, prediction, one probability a class), or answer texts on the spot."""
    from mtbert.app.progress import RowsProgress
    from mtbert.data.streams import WHOLE, share_named
    from mtbert.reports.base import count
    from mtbert.runs.output import Output
    from mtbert.serving.course import course_sources, write_course_files
    from mtbert.serving.given import file_of
    from mtbert.serving.predictor import Predictor
    from mtbert.serving.ray_engine import ray_engine
    from mtbert.serving.results import writer_for

    if engine is not None and source is None:
        raise Mistake("--engine is for rows of a file or a folder: name it with --input")
    if course is not None:
        for path in write_course_files(Predictor.load(run), course_sources(run, data), course, course_tasks or []):
            typer.echo(path)
        return
    if texts and task is not None and source is None and output is None:
        for line in Predictor.load(run).answers(task, texts):
            typer.echo(line)
        return
    if source is None or output is None or texts:
        raise Mistake("predict needs --input and --output, or --task and texts to answer (or --course)")
    place = Output(output, inputs=[source])
    write = writer_for(place)
    names = [name.strip() for name in keep.split(",") if name.strip()] if keep else []
    with file_of(source) as file, RowsProgress() as progress:
        model, share = Predictor.load(run), WHOLE if shard is None else share_named(shard)
        asked: Callable[..., Iterator[Part]] = model.predict_all_slices
        if task is not None:
            asked = partial(model.predict_slices, task)
        parts = asked(file, quotes, names, share, progress.reached, None if engine is None else ray_engine(run))
        first = next(parts)  # what is wrong with the input is said before anything is written
        with place.opened() as written:
            number = write(written, chain([first], parts))
    typer.echo(f"{count(number, 'prediction')} in {output}", err=place.streams)


def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; the first answers by default.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes one that is free.")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="The address; by default only this machine can ask.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="MTBERT_TOKEN", help="What a request has to bear, from MTBERT_TOKEN."),
    ] = None,
) -> None:
    """Answer requests over HTTP: POST /predict, /tasks, /health, /metrics, /openapi.json, and a page at /."""
    from mtbert.process import take_turns_often
    from mtbert.server.extra import server_parts

    take_turns_often()
    parts = server_parts()
    parts.serve(
        runs, host, port, token, parts.Limits(), lambda address: typer.echo(f"answering at {address}", err=True)
    )


def card(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; standard output by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
    data: DataFolder = None,
) -> None:
    """Write a model card: tasks, scores with intervals, data and its hashes, limits."""
    from mtbert.runs.output import STANDARD_OUTPUT, Output
    from mtbert.shipping.card import card as write

    where = Output(out or STANDARD_OUTPUT)
    if not where.streams and where.path.exists() and not overwrite:  # a README.md is often somebody's work
        raise Mistake(f"{where.path} is there already; --overwrite replaces it, --out names another")
    where.write(write(run, data))
    if not where.streams:
        typer.echo(where.path)


def push(
    run: RunFolder,
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="What it is called on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    data: DataFolder = None,
) -> None:
    """Upload the kept model with its card to the hub; says the commit by which to load it."""
    from mtbert.shipping.hub import push as upload

    commit = upload(run, name, private=not public, data=data)
    typer.echo(f'mtbert.load("{name}", revision="{commit}")')


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", help="The folder to write; must be empty or absent.")],
    task: Annotated[
        str | None,
        typer.Option("--task", help="The task to write; needed with every --format but onnx, which writes all."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="encoder: plain BERT as --task has it, its LoRA inside the weights; onnx: one graph of all tasks; "
            "transformers, sentence-transformers: --task with its head, or what it makes of a text.",
        ),
    ] = "encoder",
    int8: Annotated[bool, typer.Option("--int8", help="For onnx: also a graph with weights of eight bits.")] = False,
    bound: Annotated[
        float, typer.Option("--bound", min=0, help="For onnx: how far the dev score of a task may fall.")
    ] = 0.005,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write the kept model for others: an encoder, an ONNX graph with a certificate, folders of other libraries."""
    from mtbert.app.console import OUTPUT
    from mtbert.shipping.export import Refused, Wanted
    from mtbert.shipping.export import export as write

    try:
        certificate = write(Wanted(run, task, int8, bound, data), form, out)
    except Refused as refused:
        OUTPUT.print(refused.certificate)
        typer.echo(f"refused, nothing was written: scores fall by more than {bound:g}; --bound says how much", err=True)
        raise typer.Exit(1) from None
    if as_json:
        print_json(None if certificate is None else certificate.as_dict())
        return
    if certificate is not None:
        OUTPUT.print(certificate)
    typer.echo(out)
