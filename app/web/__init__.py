"""Pages for people: they show the answers of the API, call its services, and have no rules of their own."""

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from app.web import catalog, comparison, finetunes, rankings, schedules, signing
from app.web.rendering import FOLDER


def install(app: FastAPI) -> None:
    """Have the application show the pages."""
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    for pages in (signing, rankings, comparison, finetunes, schedules, catalog):
        app.include_router(pages.router)
