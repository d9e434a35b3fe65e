"""Full fine-tunings: the list, one as it runs and when it has ended, and a new one of what a ranking advises."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery
from app.contracts.finetunes import FineTuneCreate
from app.contracts.listing import Listing
from app.services import finetunes
from app.web.forms import filled
from app.web.rendering import render
from app.web.route import GenuineForm, PageRoute
from app.web.schedules import may_change

router = APIRouter(route_class=PageRoute, include_in_schema=False)

LISTED = 50


@router.get("/finetunes")
def list_finetunes(
    request: Request, session: ReadSessionDep, caller: ReaderDep, cursor: CursorQuery = None
) -> Response:
    """All that the reader may see, newest first."""
    page = finetunes.page(session, caller, Listing(limit=LISTED, after=cursor))
    next_address = page.next_cursor and f"/finetunes?cursor={page.next_cursor}"
    return render(request, "finetunes.html", rows=page.items, next_address=next_address)


@router.post("/finetunes", dependencies=[GenuineForm])
def create_finetune(
    request: Request,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
    ranking: Annotated[str, Form(max_length=300)],
) -> Response:
    """Fine-tune what a ranking advises, and show it."""
    body = filled(FineTuneCreate, ranking=ranking)
    answer = finetunes.create(session, jobs, settings, caller, body, request_id=request.state.request_id)
    return RedirectResponse(f"/finetunes/{answer.id}", 303)


@router.get("/finetunes/{finetune}")
def show_finetune(finetune: str, request: Request, session: ReadSessionDep, caller: ReaderDep) -> Response:
    """What its models reached, and how its runs went."""
    answer = finetunes.show(session, caller, finetune)
    return render(request, "finetune.html", finetune=answer, may_change=may_change(caller, answer.owner))


@router.post("/finetunes/{finetune}/cancel", dependencies=[GenuineForm])
def cancel_finetune(finetune: str, session: SessionDep, jobs: JobsDep, caller: SubmitterDep) -> Response:
    """End it early."""
    answer = finetunes.cancel(session, jobs, caller, finetune)
    return RedirectResponse(f"/finetunes/{answer.id}", 303)


@router.post("/finetunes/{finetune}/delete", dependencies=[GenuineForm])
def delete_finetune(finetune: str, session: SessionDep, settings: SettingsDep, caller: SubmitterDep) -> Response:
    """Forget it, and the weights that it kept."""
    finetunes.delete(session, settings, caller, finetune)
    return RedirectResponse("/finetunes", 303)
