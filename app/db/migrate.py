"""Bring a database to the present shape: our tables by Alembic, the engine's by the engine."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.db.session import Database

MIGRATIONS = Path(__file__).parent / "migrations"


def configuration(database: Database) -> Config:
    """Alembic's settings for this database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = database.engine
    return config


def upgrade(database: Database) -> None:
    """Bring our tables to the newest revision; nothing happens if they are already there."""
    command.upgrade(configuration(database), "head")


def is_current(database: Database) -> bool:
    """Whether our tables are at the newest revision."""
    with database.engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    return present == ScriptDirectory.from_config(configuration(database)).get_current_head()
