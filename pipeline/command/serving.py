"""`fraudline serve` and `score`: what `serving` does, started as a process of its own."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.command.exec import exec_module
from pipeline.command.options import DEFAULT_HOME, HomeOption, JsonOption


def serve(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free port.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of worker processes.")] = None,
) -> None:
    """Start the scoring API with the serving model, and follow promotions, until Ctrl-C.

    Example: fraudline serve --port 8080
    """
    settings = {"FRAUDLINE_HOST": host, "FRAUDLINE_PORT": port, "FRAUDLINE_WORKERS": workers, "FRAUDLINE_HOME": home}
    exec_module("serving", **{name: str(value) for name, value in settings.items() if value is not None})


def score(
    file: Annotated[Path, typer.Argument(help="Transactions: .csv, .csv.gz or .parquet; the label may be missing.")],
    home: HomeOption = DEFAULT_HOME,
    output: Annotated[
        Path | None, typer.Option(help="Where to, .csv, .csv.gz or .parquet; beside the file by default.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A version, in place of the one that serves.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a file of any size with the model that serves. Nothing is recorded.

    Example: fraudline score june.csv.gz --output june.scored.parquet
    """
    arguments = [str(file), "--home", home]
    arguments += ["--output", str(output)] if output else []
    arguments += ["--model", model] if model else []
    arguments += ["--json"] if as_json else []
    exec_module("serving.files.score_file", *arguments)
