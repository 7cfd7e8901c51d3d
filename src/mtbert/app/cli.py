"""The program `mtbert`: which commands there are, and how a mistake ends one."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mtbert.app import (
    bench_commands,
    compare_commands,
    look_commands,
    page_commands,
    reproduce_commands,
    search_commands,
    start_commands,
    train_commands,
    use_commands,
)
from mtbert.app.notes import notes_shown
from mtbert.errors import Mistake
from mtbert.reports.table import REPORTS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# in the order in which the help shows them
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": train_commands.demo,
    "init": start_commands.init,
    "train": train_commands.train,
    "add-task": train_commands.add_task,
    "check": train_commands.check,
    "evaluate": use_commands.evaluate,
    "predict": use_commands.predict,
    "serve": use_commands.serve,
    "ensemble": use_commands.ensemble,
    "report": page_commands.report,
    "errors": page_commands.errors,
    "calibrate": page_commands.calibrate,
    "export": use_commands.export,
    "card": use_commands.card,
    "push": use_commands.push,
    "compare": compare_commands.compare,
    "search": search_commands.search,
    "reproduce": reproduce_commands.reproduce,
    "orderings": reproduce_commands.orderings,
    "verify": look_commands.verify,
    "affinity": train_commands.affinity,
    "methods": look_commands.methods,
    "schema": start_commands.schema,
    "cache": look_commands.cache,
}
BENCHMARKS: dict[str, Callable[..., None]] = {
    "train": bench_commands.bench_train,
    "predict": bench_commands.bench_predict,
    "together": bench_commands.bench_together,
    "serve": bench_commands.bench_serve,
    "methods": bench_commands.bench_methods,
    "frozen": bench_commands.bench_frozen,
    "plain": bench_commands.bench_plain,
    "memory": bench_commands.bench_memory,
}


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mtbert {importlib.metadata.version('mtbert')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """One small BERT, many text tasks: one recipe, one command, one model."""


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _name, _reader in REPORTS.items():
    app.command(_name, help=_reader.help)(look_commands.report_command(_reader))

bench = typer.Typer(help="Measure speed, beside what people would use instead.", no_args_is_help=True)
for _name, _command in BENCHMARKS.items():
    bench.command(_name)(_command)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run a command; a Mistake is shown as one message, exit code 2."""
    try:
        with notes_shown():
            app()
    except Mistake as mistake:
        from mtbert.app.console import fail
        from mtbert.process import tell_launcher

        fail(str(mistake))
        tell_launcher(str(mistake))
        sys.exit(2)
