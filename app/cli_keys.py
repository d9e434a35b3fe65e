"""`forerank key`: make, list and revoke API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer

from app.settings import Settings

commands = typer.Typer(no_args_is_help=True, help="API keys. A server that others can reach needs one.")


@contextmanager
def _errors_shown() -> Iterator[None]:
    from app.errors import ForerankError

    try:
        yield
    except ForerankError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(2) from error


@commands.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, submit or admin; each includes those before it. Default: submit.")
    ] = None,
) -> None:
    """Make a key. Its secret is shown once, on standard output, and stored nowhere."""
    from app.db.migrate import upgrade
    from app.db.session import Database
    from app.services import keys

    database = Database(Settings().url)
    try:
        upgrade(database)
        with _errors_shown(), database.transaction() as session:
            key, secret = keys.create(session, name=name, scopes=scope or ["submit"])
            typer.echo(f"{key.id} {key.name!r} may {', '.join(key.scopes)}. This is shown once; keep it:", err=True)
        typer.echo(secret)
    finally:
        database.close()


@commands.command("list")
def list_keys() -> None:
    """Show every key: its id, the first characters of its secret, scopes, and when it was last used."""
    from rich.console import Console
    from rich.table import Table

    from app.db.repositories.keys import Keys
    from app.db.session import Database

    database = Database(Settings().url)
    try:
        with database.reading() as session:
            rows = Keys(session).all()
    finally:
        database.close()
    table = Table("id", "name", "secret", "scopes", "made", "last used", "revoked")
    for key in rows:
        moments = [_shown(moment) for moment in (key.created_at, key.last_used_at, key.revoked_at)]
        table.add_row(key.id, key.name, key.prefix + "…", " ".join(key.scopes), *moments)
    Console(width=None if Console().is_terminal else 200).print(table)


def _shown(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else ""


@commands.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="Its id, its name, or the first characters of its secret.")],
) -> None:
    """Revoke this key. What it made stays, and admins see it."""
    from app.db.session import Database
    from app.services import keys

    database = Database(Settings().url)
    try:
        with _errors_shown(), database.transaction() as session:
            revoked = keys.revoke(session, key)
        typer.echo(f"{revoked.id} {revoked.name!r} is revoked", err=True)
    finally:
        database.close()


def check_bind(settings: Settings) -> None:
    """End the command with a reason if others could reach the server without a key."""
    from app.db.session import Database
    from app.services import keys

    database = Database(settings.url)
    try:
        keys.check_bind(settings, database)
    except keys.UnsafeBind as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    finally:
        database.close()
