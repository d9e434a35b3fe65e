"""Queries on receivers and on what was sent to them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contracts.listing import Listing
from app.contracts.states import DeliveryState
from app.db.repositories.owned import OwnedRepository
from app.db.webhook_tables import Delivery, DeliveryAttempt, Webhook


class Webhooks(OwnedRepository[Webhook]):
    """Receivers by id and name."""

    table = Webhook


class Deliveries:
    """Messages and their log."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, delivery: Delivery) -> Delivery:
        """Store a new message."""
        self.session.add(delivery)
        self.session.flush()
        return delivery

    def get(self, delivery_id: str) -> Delivery | None:
        """The message with this id."""
        return self.session.get(Delivery, delivery_id)

    def lock(self, delivery_id: str) -> Delivery | None:
        """As `get`, and nobody else changes it until this transaction ends."""
        return self.session.get(Delivery, delivery_id, with_for_update=True, populate_existing=True)

    def page(self, webhook_id: str, listing: Listing, *, state: DeliveryState | None = None) -> list[Delivery]:
        """Up to ``limit + 1`` messages of a receiver, newest first, older than the id ``after``."""
        query = select(Delivery).where(Delivery.webhook_id == webhook_id)
        if listing.after is not None:
            query = query.where(Delivery.id < listing.after)
        if state is not None:
            query = query.where(Delivery.state == state)
        return list(self.session.scalars(query.order_by(Delivery.id.desc()).limit(listing.limit + 1)))

    def attempts(self, delivery_ids: Sequence[str]) -> dict[str, list[DeliveryAttempt]]:
        """Message -> its attempts, oldest first."""
        found: dict[str, list[DeliveryAttempt]] = {identifier: [] for identifier in delivery_ids}
        rows = self.session.scalars(
            select(DeliveryAttempt)
            .where(DeliveryAttempt.delivery_id.in_(delivery_ids))
            .order_by(DeliveryAttempt.delivery_id, DeliveryAttempt.number)
        )
        for row in rows:
            found[row.delivery_id].append(row)
        return found


def secrets_in_force(webhook: Webhook, moment: datetime) -> list[str]:
    """The secret of a receiver, and the one before it while the overlap lasts."""
    previous, until = webhook.previous_secret, webhook.previous_secret_until
    return [webhook.secret, *([previous] if previous and until and moment < until else [])]
