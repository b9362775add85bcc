"""`fraudline serve` and `score`: what `serving` does, started as a process of its own."""

import json
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
        Path | None,
        typer.Option(help="File to write: .csv, .csv.gz or .parquet. By default FILE with .scored before its suffix."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Score with this version instead of the serving model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a file of any size with the serving model. Nothing is recorded.

    Example: fraudline score june.csv.gz --output june.scored.parquet
    """
    options = {"file": str(file), "home": home, "output": output and str(output), "model": model, "as_json": as_json}
    exec_module("serving.files", json.dumps(options))
