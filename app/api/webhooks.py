"""Webhooks: receivers, their secrets, and the log of what was sent."""

import json
from collections.abc import Sequence
from datetime import timedelta

from fastapi import APIRouter, Response, status

from app.api.dependencies import JobsDep, ReaderDep, ReadSessionDep, SessionDep, SettingsDep, SubmitterDep
from app.api.pagination import CursorQuery, LimitQuery, page_of
from app.api.paths import DeliveryPath, WebhookPath
from app.api.problems import problem_responses
from app.api.route import Route
from app.db.repositories.webhooks import Deliveries, Webhooks
from app.db.webhook_tables import Delivery, DeliveryAttempt, DeliveryState
from app.schemas.page import Page
from app.schemas.webhooks import (
    AttemptAnswer,
    DeliveryAnswer,
    WebhookAnswer,
    WebhookCreate,
    WebhookRotate,
    WebhookSecretAnswer,
)
from app.services import webhooks

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=Route)


def delivery_answer(row: Delivery, attempts: Sequence[DeliveryAttempt]) -> DeliveryAnswer:
    """A message as its owner sees it."""
    columns = ("id", "webhook_id", "type", "state", "next_attempt_at", "created_at", "ended_at")
    return DeliveryAnswer(
        **{name: getattr(row, name) for name in columns},
        body=json.loads(row.body),
        attempts=[AttemptAnswer.model_validate(attempt) for attempt in attempts],
    )


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(409))
def create_webhook(
    body: WebhookCreate, response: Response, session: SessionDep, settings: SettingsDep, caller: SubmitterDep
) -> WebhookSecretAnswer:
    """Name a receiver, for schedules to tell what changed. The answer holds its secret, which is shown this once.

    Messages are signed as Standard Webhooks says (`webhook-id`, `webhook-timestamp`, `webhook-signature`), delivered at
    least once, and tried again with growing pauses until the receiver answers 2xx.
    """
    row = webhooks.create(session, settings, caller, body)
    response.headers["Location"] = f"/v1/webhooks/{row.id}"
    return WebhookSecretAnswer.model_validate(row)


@router.get("")
def list_webhooks(
    session: ReadSessionDep, caller: ReaderDep, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> Page[WebhookAnswer]:
    """Your receivers, newest first."""
    rows = Webhooks(session).page(caller, limit=limit, before=cursor)
    return page_of(rows, limit, WebhookAnswer.model_validate)


@router.get("/{webhook}", responses=problem_responses(404))
def get_webhook(webhook: WebhookPath, session: ReadSessionDep, caller: ReaderDep) -> WebhookAnswer:
    """One receiver, by id or name."""
    return WebhookAnswer.model_validate(webhooks.get(session, caller, webhook))


@router.delete("/{webhook}", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(404, 409))
def delete_webhook(webhook: WebhookPath, session: SessionDep, caller: SubmitterDep) -> None:
    """Forget a receiver and its log. Schedules that name it go on without telling anybody."""
    webhooks.delete(session, caller, webhook)


@router.post("/{webhook}/rotate", responses=problem_responses(404))
def rotate_secret(
    webhook: WebhookPath, body: WebhookRotate, session: SessionDep, caller: SubmitterDep
) -> WebhookSecretAnswer:
    """Make a new secret. Until the overlap is over, messages carry a signature of each, so that none is lost."""
    row = webhooks.rotate(session, caller, webhook, overlap=timedelta(hours=body.overlap_hours))
    return WebhookSecretAnswer.model_validate(row)


@router.post("/{webhook}/test", status_code=status.HTTP_202_ACCEPTED, responses=problem_responses(404))
def test_webhook(
    webhook: WebhookPath, session: SessionDep, jobs: JobsDep, settings: SettingsDep, caller: SubmitterDep
) -> DeliveryAnswer:
    """Send a message of the type `webhook.test`; the log says how it went."""
    return delivery_answer(webhooks.test(session, jobs, settings, caller, webhook), [])


@router.get("/{webhook}/deliveries", responses=problem_responses(404))
def list_deliveries(
    webhook: WebhookPath,
    session: ReadSessionDep,
    caller: ReaderDep,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: DeliveryState | None = None,
) -> Page[DeliveryAnswer]:
    """What was sent to a receiver, newest first, with every attempt."""
    row = webhooks.own(session, caller, webhook)
    deliveries = Deliveries(session)
    rows = deliveries.page(row.id, limit=limit, before=cursor, state=state)
    attempts = deliveries.attempts([delivery.id for delivery in rows])
    return page_of(rows, limit, lambda delivery: delivery_answer(delivery, attempts[delivery.id]))


@router.get("/{webhook}/deliveries/{delivery}", responses=problem_responses(404))
def get_delivery(
    webhook: WebhookPath, delivery: DeliveryPath, session: ReadSessionDep, caller: ReaderDep
) -> DeliveryAnswer:
    """One message with every attempt."""
    row = webhooks.delivery(session, caller, webhook, delivery)
    return delivery_answer(row, Deliveries(session).attempts([row.id])[row.id])


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
    row = webhooks.redeliver(session, jobs, settings, caller, webhook, delivery)
    return delivery_answer(row, Deliveries(session).attempts([row.id])[row.id])
