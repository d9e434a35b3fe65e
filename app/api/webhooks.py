"""Webhooks: receivers, their secrets, and the log of what was sent."""

from datetime import timedelta

from fastapi import APIRouter, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import ListingDep, PlaceDep
from app.api.paths import DeliveryPath, WebhookPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.contracts.states import DeliveryState
from app.schemas.page import Page
from app.schemas.webhooks import (
    DeliveryAnswer,
    WebhookAnswer,
    WebhookCreate,
    WebhookRotate,
    WebhookSecretAnswer,
)
from app.services import webhooks

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=Route)


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(409))
def create_webhook(
    body: WebhookCreate, response: Response, session: SessionDep, settings: SettingsDep, caller: SubmitterDep
) -> WebhookSecretAnswer:
    """Name a receiver, for schedules to tell what changed. The answer holds its secret, which is shown this once.

    Messages are signed as Standard Webhooks says (`webhook-id`, `webhook-timestamp`, `webhook-signature`), delivered at
    least once, and tried again with growing pauses until the receiver answers 2xx.
    """
    webhook = webhooks.create(session, settings, caller, body)
    response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
    return webhook


@router.get("")
def list_webhooks(session: ReadSessionDep, caller: ReaderDep, listing: ListingDep) -> Page[WebhookAnswer]:
    """Your receivers, newest first."""
    return webhooks.page(session, caller, listing)


@router.get("/{webhook}", responses=problem_responses(404))
def get_webhook(webhook: WebhookPath, session: ReadSessionDep, caller: ReaderDep) -> WebhookAnswer:
    """One receiver, by id or name."""
    return webhooks.show(session, caller, webhook)


@router.delete("/{webhook}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_webhook(webhook: WebhookPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a receiver and its log. Schedules that name it go on without notifying anyone."""
    webhooks.delete(session, caller, webhook)


@router.post("/{webhook}/rotate", responses=problem_responses(404, 409))
def rotate_secret(
    webhook: WebhookPath, body: WebhookRotate, session: SessionDep, caller: SubmitterDep
) -> WebhookSecretAnswer:
    """Make a new secret. Until the overlap is over, messages carry a signature of each, so that none is lost."""
    return webhooks.rotate(session, caller, webhook, overlap=timedelta(hours=body.overlap_hours))


@router.post("/{webhook}/test", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404))
def test_webhook(
    webhook: WebhookPath, session: SessionDep, jobs: JobsDep, settings: SettingsDep, caller: SubmitterDep
) -> DeliveryAnswer:
    """Send a message of the type `webhook.test`; the log says how it went."""
    return webhooks.test(session, jobs, settings, caller, webhook)


@router.get("/{webhook}/deliveries", responses=problem_responses(404))
def list_deliveries(
    webhook: WebhookPath,
    session: ReadSessionDep,
    caller: ReaderDep,
    place: PlaceDep,
    state: DeliveryState | None = None,
) -> Page[DeliveryAnswer]:
    """What was sent to a receiver, newest first, with every attempt."""
    return webhooks.deliveries(session, caller, webhook, place, state=state)


@router.get("/{webhook}/deliveries/{delivery}", responses=problem_responses(404))
def get_delivery(
    webhook: WebhookPath, delivery: DeliveryPath, session: ReadSessionDep, caller: ReaderDep
) -> DeliveryAnswer:
    """One message with every attempt."""
    return webhooks.show_delivery(session, caller, webhook, delivery)


@router.post(
    "/{webhook}/deliveries/{delivery}/redeliver",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(404, 409),
)
def redeliver(
    webhook: WebhookPath,
    delivery: DeliveryPath,
    session: SessionDep,
    jobs: JobsDep,
    settings: SettingsDep,
    caller: SubmitterDep,
) -> DeliveryAnswer:
    """Send a message that has ended once more, under the same id. 409 while it is still being delivered."""
    return webhooks.redeliver(session, jobs, settings, caller, webhook, delivery)
