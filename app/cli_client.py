"""A client of the API for terminals and cron jobs: `forerank rank`, `results`, `leaderboard`, `schedule`, `retention`.

Exit codes: 0 done; 1 the ranking or the run did not succeed; 2 wrong usage; 3 the API refused; 4 no server answered.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.settings import Settings

REFUSED, UNREACHABLE = 3, 4
RUN_ENDED = {"succeeded", "failed", "skipped"}
POLLING_SECONDS = 0.5

schedule_commands = typer.Typer(no_args_is_help=True, help="Rankings that a cron expression repeats.")

UrlOption = Annotated[str | None, typer.Option("--url", envvar="FORERANK_URL", help="Of a running API.")]


class Output(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Of what is printed on standard output.")]


@contextmanager
def connected(url: str | None, *, target: str | None = None, zoo: str | None = None) -> Iterator[Any]:
    """A client of the named server or, if none is named, of one that is started for this command alone.

    Such a server may read the folder ``target``, and has the offline zoo if that is the one asked for.
    """
    import httpx2

    from app.client import ApiError, Client
    from app.embedded import FORERANK, server

    try:
        if url is not None:
            with Client(url, key=os.environ.get("FORERANK_API_KEY")) as client:
                yield client
            return
        settings = Settings()
        if zoo == "offline":
            subprocess.run([*FORERANK, "zoo", "install", "offline"], check=True, stdout=sys.stderr)  # noqa: S603
        more = {}
        if target is not None and Path(target).is_dir():
            roots = [str(root) for root in settings.data_roots]
            more["FORERANK_DATA_ROOTS"] = os.pathsep.join([*roots, str(Path(target).resolve().parent)])
        with server(settings, more=more) as address, Client(address) as client:
            yield client
    except ApiError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    except (httpx2.HTTPError, RuntimeError, subprocess.CalledProcessError) as error:
        typer.echo(f"no server answered: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from error


def rank(
    target: Annotated[str, typer.Argument(help="A folder of images, or id, name or location of a data set.")],
    zoo: Annotated[str, typer.Option(help="Id or name of a zoo.")] = "offline",
    metric: Annotated[list[str] | None, typer.Option(help="A metric; may be given again.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="Images of a stratified sample.")] = None,
    output: OutputOption = Output.TABLE,
    url: UrlOption = None,
) -> None:
    """Register the images, rank a zoo for them, follow it, print the table. Without a server, one is started."""
    from rich.console import Console

    from app.client import follow

    location = str(Path(target).resolve()) if Path(target).is_dir() else target
    with connected(url, target=target, zoo=zoo) as client:
        ranking = client.rank(location, zoo=zoo, metrics=metric, max_samples=max_samples)
        state = follow(client, ranking, Console(stderr=True))
        _print_results(client, ranking, output)
    if state != "succeeded":
        raise typer.Exit(1)


def results(
    ranking: Annotated[str, typer.Argument(help="Id or name of a ranking.")],
    output: OutputOption = Output.TABLE,
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Print the table of a ranking."""
    with connected(url) as client:
        found = client.call("GET", f"/v1/rankings/{quote(ranking, safe='')}")
        _print_results(client, found, output)
    if found["state"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _print_results(client: Any, ranking: dict[str, Any], output: Output) -> None:
    from app.client import show

    address = ranking["links"]["results"]
    if output is Output.TABLE:
        show(client, ranking)
    elif output is Output.CSV:
        typer.echo(client.text(f"{address}.csv"), nl=False)
    else:
        typer.echo(json.dumps(client.call("GET", address), indent=1))


def leaderboard(
    target: Annotated[str, typer.Argument(help="Id or name of a data set.")],
    metric: Annotated[str, typer.Option(help="A metric, or `consensus`.")] = "consensus",
    license_name: Annotated[list[str] | None, typer.Option("--license", help="May be given again.")] = None,
    max_parameters: Annotated[int | None, typer.Option(help="Number of weights.")] = None,
    min_images_per_second: Annotated[float | None, typer.Option(help="Measured on this deployment.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    output: OutputOption = Output.TABLE,
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Print the best models for a target over all rankings."""
    query: dict[str, Any] = {
        "metric": metric,
        "limit": limit,
        "license": license_name,
        "max_parameters": max_parameters,
        "min_images_per_second": min_images_per_second,
    }
    given = {name: value for name, value in query.items() if value is not None}
    with connected(url) as client:
        board = client.call("GET", f"/v1/leaderboards/{quote(target, safe='')}", query=given)
    columns = ("rank", "model", "value", "parameters", "images_per_second", "license")
    print_rows(board["rows"], columns, output, board)


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...], output: Output, whole: Any) -> None:
    """The named members of each row as a table or as CSV, or the whole answer as JSON."""
    if output is Output.JSON:
        typer.echo(json.dumps(whole, indent=1))
    elif output is Output.CSV:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[column] for column in columns] for row in rows)
    else:
        from rich.console import Console
        from rich.table import Column, Table

        # In a narrow window a name goes on in the next line: cut short it could not be used.
        table = Table(*(Column(column.replace("_", " "), overflow="fold") for column in columns))
        for row in rows:
            table.add_row(*(_cell(row[column]) for column in columns))
        Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)


def create_zoo(
    name: Annotated[str, typer.Argument(help="A label of your own.")],
    models: Annotated[list[str] | None, typer.Argument(help="Ids or names; what is missing is registered.")] = None,
    query: Annotated[str | None, typer.Option(help='In place of names, JSON as in `{"max_gmacs": 2}`.')] = None,
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Name a set of models, listed or found by a query."""
    body: dict[str, Any] = {"name": name}
    try:
        body |= {"query": json.loads(query)} if query is not None else {"models": models or []}
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--query is not JSON: {error}") from error
    with connected(url) as client:
        zoo = client.call("POST", "/v1/zoos", body)
    for entry in zoo["unavailable"]:
        typer.echo(f"{entry['name']}: {entry['problem']['detail']}", err=True)
    print_rows(zoo["models"], ("name", "state", "id"), Output.TABLE, zoo)


def list_zoos(output: OutputOption = Output.TABLE, url: UrlOption = "http://127.0.0.1:8000") -> None:
    """Print the zoos."""
    with connected(url) as client:
        zoos = client.call("GET", "/v1/zoos?limit=200")["items"]
    rows = [{**zoo, **{name: len(zoo[name]) for name in ("models", "unavailable")}} for zoo in zoos]
    print_rows(rows, ("name", "models", "unavailable", "id"), output, zoos)


def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, say what would go.")] = False,
    output: OutputOption = Output.TABLE,
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Have a worker remove what is past its time by its settings, and print what went."""
    with connected(url) as client:
        run = client.call("POST", "/v1/retention/runs", {"dry_run": dry_run})
        while run["state"] not in RUN_ENDED:
            time.sleep(POLLING_SECONDS)
            run = client.call("GET", f"/v1/retention/runs/{run['id']}")
    rows = [{**removal, **removal["rule"]} for removal in run["removals"]]
    print_rows(rows, ("kind", "days", "newest", "removed", "bytes", "kept"), output, run)
    if run["state"] != "succeeded":
        raise typer.Exit(1)


@schedule_commands.command("create")
def create_schedule(
    name: Annotated[str, typer.Argument(help="A label of your own.")],
    cron: Annotated[str, typer.Option(help="Five fields, as in `0 2 * * *`.")],
    target: Annotated[list[str], typer.Option(help="Id or name of a data set; may be given again.")],
    zoo: Annotated[str, typer.Option(help="Id or name of a zoo.")] = "offline",
    time_zone: Annotated[str, typer.Option(help="Whose clock the expression reads.")] = "UTC",
    metric: Annotated[list[str] | None, typer.Option(help="A metric; may be given again.")] = None,
    max_samples: Annotated[int | None, typer.Option(help="Images of a stratified sample.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Id or name of a webhook.")] = None,
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Rank a zoo for targets whenever the expression is due."""
    body: dict[str, Any] = {
        "name": name,
        "cron": cron,
        "time_zone": time_zone,
        "zoo": zoo,
        "targets": target,
        "sample": {"max_samples": max_samples},
        "webhook": webhook,
        **({"metrics": metric} if metric else {}),
    }
    with connected(url) as client:
        created = client.call("POST", "/v1/schedules", body)
    typer.echo(f"{created['name']} ({created['id']}) runs next at {created['next_run_at']}")


@schedule_commands.command("list")
def list_schedules(output: OutputOption = Output.TABLE, url: UrlOption = "http://127.0.0.1:8000") -> None:
    """Print the schedules."""
    with connected(url) as client:
        found = client.call("GET", "/v1/schedules?limit=200")["items"]
    print_rows(found, ("name", "state", "cron", "time_zone", "next_run_at", "id"), output, found)


@schedule_commands.command("run")
def run_schedule(
    name: Annotated[str, typer.Argument(help="Id or name of a schedule.")],
    url: UrlOption = "http://127.0.0.1:8000",
) -> None:
    """Run now, wait for the end, print the report."""
    with connected(url) as client:
        address = f"/v1/schedules/{quote(name, safe='')}/runs"
        run = client.call("POST", address)
        while run["state"] not in RUN_ENDED:
            time.sleep(POLLING_SECONDS)
            run = client.call("GET", f"{address}/{run['id']}")
        typer.echo(client.text(f"{address}/{run['id']}/report.md"), nl=False)
    if run["state"] != "succeeded":
        raise typer.Exit(1)


def _change(name: str, action: str, url: str | None) -> None:
    with connected(url) as client:
        row = client.call("POST", f"/v1/schedules/{quote(name, safe='')}/{action}")
    typer.echo(f"{row['name']} is {row['state']}")


@schedule_commands.command("pause")
def pause_schedule(name: str, url: UrlOption = "http://127.0.0.1:8000") -> None:
    """Let no run start by the clock."""
    _change(name, "pause", url)


@schedule_commands.command("resume")
def resume_schedule(name: str, url: UrlOption = "http://127.0.0.1:8000") -> None:
    """Let runs start again."""
    _change(name, "resume", url)


@schedule_commands.command("delete")
def delete_schedule(name: str, url: UrlOption = "http://127.0.0.1:8000") -> None:
    """Forget a schedule and its runs."""
    with connected(url) as client:
        client.call("DELETE", f"/v1/schedules/{quote(name, safe='')}")
    typer.echo(f"{name} is forgotten")
