"""Messages that wait for their delivery: stored and enqueued by the transaction that they tell of."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.db.repositories.webhooks import Deliveries
from app.db.tables import now
from app.db.webhook_tables import Delivery
from app.jobs import Jobs
from app.settings import Settings
from app.webhooks.sender import body_of


def announce(
    session: Session, jobs: Jobs, settings: Settings, webhook_id: str, *, kind: str, data: Mapping[str, Any]
) -> Delivery:
    """Have a message delivered once this transaction commits."""
    moment = now()
    delivery = Deliveries(session).add(
        Delivery(
            webhook_id=webhook_id,
            type=kind,
            body=body_of(kind=kind, at=moment, data=data),
            attempts_left=settings.webhook_attempts,
            next_attempt_at=moment,
        )
    )
    jobs.deliver(session, delivery.id, number=1)
    return delivery
