"""One job an attempt: a receiver that is down for hours holds no thread, and a crash costs one attempt at most."""

import random
from datetime import timedelta

import structlog
from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from app.contracts.states import DeliveryState
from app.db.repositories.webhooks import Deliveries, Webhooks, secrets_in_force
from app.db.tables import now
from app.db.webhook_tables import DeliveryAttempt
from app.jobs import APPLICATION_VERSION, SOONEST, Queue, Workflow, delivery_job
from app.settings import Settings
from app.webhooks.sender import send
from workers.durable import step
from workers.runtime import current

GROWTH = 5.0
LONGEST_PAUSE_SECONDS = 12 * 3600.0
JITTER = 0.1

log = structlog.stdlib.get_logger(__name__)


@DBOS.workflow(name=Workflow.DELIVER.value, max_recovery_attempts=None)
def deliver(delivery_id: str, number: int) -> str:
    """Try once; have the next try enqueued if this one failed."""
    pause = attempt_step(delivery_id, number)
    if pause is None:
        return "over"
    with (
        SetWorkflowID(delivery_job(delivery_id, number + 1)),
        SetEnqueueOptions(priority=SOONEST, app_version=APPLICATION_VERSION, delay_seconds=pause),
    ):
        DBOS.enqueue_workflow(Queue.DELIVERIES.value, deliver, delivery_id, number + 1)
    return "again"


def pause_after(settings: Settings, failures: int) -> float:
    """Seconds to wait after this many failures in a row: growing, bounded, and not the same for all messages."""
    pause = min(settings.webhook_first_pause_seconds * GROWTH ** (failures - 1), LONGEST_PAUSE_SECONDS)
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads the load, protects nothing


def attempt(delivery_id: str, number: int) -> float | None:
    """Send a message once and write how it went.

    Returns:
        Seconds until the next try; None: there is none.
    """
    runtime = current()
    with runtime.database.reading() as session:
        row = Deliveries(session).get(delivery_id)
        webhook = Webhooks(session).get(row.webhook_id) if row is not None else None
    if row is None or webhook is None or row.state is not DeliveryState.PENDING or row.attempts >= number:
        return None
    outcome = send(
        runtime.settings,
        url=webhook.url,
        message_id=row.id,
        body=row.body,
        secrets_in_force=secrets_in_force(webhook, now()),
    )
    with runtime.transaction() as session:
        deliveries = Deliveries(session)
        row = deliveries.lock(delivery_id)
        if row is None or row.attempts >= number:
            return None
        session.add(
            DeliveryAttempt(
                delivery_id=row.id,
                number=number,
                status=outcome.status,
                problem=outcome.problem,
                seconds=outcome.seconds,
            )
        )
        row.attempts = number
        row.attempts_left -= 1
        if outcome.problem is None or outcome.is_final or row.attempts_left <= 0:
            row.state = DeliveryState.DELIVERED if outcome.problem is None else DeliveryState.FAILED
            row.next_attempt_at, row.ended_at = None, now()
            pause = None
        else:
            pause = pause_after(runtime.settings, runtime.settings.webhook_attempts - row.attempts_left)
            row.next_attempt_at = now() + timedelta(seconds=pause)
        state = row.state
    log.info(
        "delivery attempt", delivery=delivery_id, number=number, state=state.value, problem=outcome.problem or "none"
    )
    return pause


attempt_step = step("attempt_delivery", attempt)
