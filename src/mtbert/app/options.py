"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder of the data files; overrides the recipe's.")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/<recipe's name> by default.")]
Quotes = Annotated[
    Literal["checked", "trusted", "none"] | None,
    typer.Option("--quotes", help="What quotes in --input mean; as in the task's recipe by default."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")]
Force = Annotated[
    bool, typer.Option("--force", help="With --resume: go on although the data has changed; both are recorded.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as stages.0.batch_size=64.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Train for so long, whatever the recipe says of its stages.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results and problems only.")]
