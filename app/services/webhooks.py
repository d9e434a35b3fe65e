"""Rules of webhooks: where a message may go, how a secret is replaced, when a message is sent again."""

import json
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.contracts.caller import Caller
from app.contracts.listing import Listing
from app.contracts.states import DeliveryState
from app.db.repositories.webhooks import Deliveries, Webhooks
from app.db.tables import now
from app.db.webhook_tables import Delivery, DeliveryAttempt, Webhook
from app.errors import Conflict, Invalid, NotFound
from app.jobs import Jobs
from app.schemas.page import Page, page_of
from app.schemas.webhooks import AttemptAnswer, DeliveryAnswer, WebhookAnswer, WebhookCreate, WebhookSecretAnswer
from app.services.ownership import check_owner
from app.settings import Settings
from app.webhooks.addresses import Refused, check_host
from app.webhooks.outbox import announce
from app.webhooks.signature import new_secret

TEST_MESSAGE = "webhook.test"


def _delivery_answer(row: Delivery, attempts: Sequence[DeliveryAttempt]) -> DeliveryAnswer:
    columns = ("id", "webhook_id", "type", "state", "next_attempt_at", "created_at", "ended_at")
    return DeliveryAnswer(
        **{name: getattr(row, name) for name in columns},
        body=json.loads(row.body),
        attempts=[AttemptAnswer.model_validate(attempt) for attempt in attempts],
    )


def page(session: Session, caller: Caller, listing: Listing) -> Page[WebhookAnswer]:
    """The receivers that the caller may see."""
    return page_of(Webhooks(session).page(caller, listing), listing.limit, WebhookAnswer.model_validate)


def show(session: Session, caller: Caller, reference: str) -> WebhookAnswer:
    """The webhook of this id or name, as users see it."""
    return WebhookAnswer.model_validate(get(session, caller, reference))


def create(session: Session, settings: Settings, caller: Caller, body: WebhookCreate) -> WebhookSecretAnswer:
    """Store a receiver with a new secret."""
    webhooks = Webhooks(session)
    if webhooks.name_is_taken(caller.owner, body.name):
        raise Conflict(f"you have a webhook named {body.name!r} already; give another `name`, or delete that one")
    check_url(body.url, settings)
    row = webhooks.add(Webhook(name=body.name, url=body.url, secret=new_secret(), owner=caller.owner))
    return WebhookSecretAnswer.model_validate(row)


def check_url(url: str, settings: Settings) -> None:
    """Refuse what can never be sent to.

    Raises:
        Invalid: it is not an http(s) address of a public host.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid.at("/url", f"not a URL: {error}") from error
    if parts.scheme not in ("https", "http") or not host:
        raise Invalid.at("/url", "give an address that begins with https:// and names a host")
    if parts.scheme == "http" and not settings.webhook_private_addresses:
        raise Invalid.at("/url", "give an https:// address, so that nobody on the way reads or changes the message")
    if parts.username is not None or parts.fragment or not url.isascii():
        raise Invalid.at("/url", "give a plain ASCII address without a user name or a fragment")
    try:
        check_host(host, allow_private=settings.webhook_private_addresses)
    except Refused as error:
        raise Invalid.at("/url", f"{error}; FORERANK_WEBHOOK_PRIVATE_ADDRESSES allows it") from error


def get(session: Session, caller: Caller, reference: str) -> Webhook:
    """The webhook of this id or name."""
    row = Webhooks(session).find(caller, reference)
    if row is None:
        raise NotFound(f"there is no webhook {reference!r}; GET /v1/webhooks lists them")
    return row


def own(session: Session, caller: Caller, reference: str) -> Webhook:
    """As `get`; only its key or an admin may go on."""
    row = get(session, caller, reference)
    check_owner(caller, row.owner, f"{row.name!r}", to="use")
    return row


def rotate(session: Session, caller: Caller, reference: str, *, overlap: timedelta) -> WebhookSecretAnswer:
    """Give the receiver a new secret; messages are signed with both until the overlap is over.

    Raises:
        Conflict: an earlier overlap is not over, so that a receiver may know only the secret that would go. Without
            overlap, for a secret that others may know, it is replaced at any time.
    """
    row = own(session, caller, reference)
    until = row.previous_secret_until
    if overlap and until is not None and until > now():
        raise Conflict(
            f"messages carry a signature of the secret before this one until {until.isoformat()}: rotate again after "
            "that, or with `overlap_hours` 0, which ends the validity of both at once"
        )
    row.previous_secret, row.previous_secret_until = row.secret, now() + overlap
    row.secret = new_secret()
    session.flush()
    return WebhookSecretAnswer.model_validate(row)


def test(session: Session, jobs: Jobs, settings: Settings, caller: Caller, reference: str) -> DeliveryAnswer:
    """Send a message that says nothing, so that the receiver can be tried."""
    row = own(session, caller, reference)
    sent = announce(session, jobs, settings, row.id, kind=TEST_MESSAGE, data={"webhook": row.name})
    return _delivery_answer(sent, [])


def delete(session: Session, caller: Caller, reference: str) -> None:
    """Forget a receiver and its log; what is still to be delivered is not."""
    row = own(session, caller, reference)
    Webhooks(session).delete(row)


def deliveries(
    session: Session, caller: Caller, reference: str, listing: Listing, *, state: DeliveryState | None = None
) -> Page[DeliveryAnswer]:
    """What was sent to a receiver of the caller's."""
    log = Deliveries(session)
    rows = log.page(own(session, caller, reference).id, listing, state=state)
    attempts = log.attempts([delivery.id for delivery in rows])
    return page_of(rows, listing.limit, lambda delivery: _delivery_answer(delivery, attempts[delivery.id]))


def show_delivery(session: Session, caller: Caller, webhook: str, delivery_id: str) -> DeliveryAnswer:
    """One message to a receiver of the caller's, with every attempt."""
    row = _delivery(session, caller, webhook, delivery_id)
    return _delivery_answer(row, Deliveries(session).attempts([row.id])[row.id])


def _delivery(session: Session, caller: Caller, webhook: str, delivery_id: str) -> Delivery:
    row = own(session, caller, webhook)
    found = Deliveries(session).lock(delivery_id)
    if found is None or found.webhook_id != row.id:
        raise NotFound(f"there is no delivery {delivery_id!r}; GET /v1/webhooks/{row.id}/deliveries lists them")
    return found


def redeliver(
    session: Session, jobs: Jobs, settings: Settings, caller: Caller, webhook: str, delivery_id: str
) -> DeliveryAnswer:
    """Send a message that has ended once more, under the same id, retried as the first time."""
    row = _delivery(session, caller, webhook, delivery_id)
    if row.state is DeliveryState.PENDING:
        raise Conflict(f"{row.id} is still being delivered; its next attempt is at {row.next_attempt_at}")
    row.state, row.ended_at = DeliveryState.PENDING, None
    row.attempts_left, row.next_attempt_at = settings.webhook_attempts, now()
    session.flush()
    jobs.deliver(session, row.id, number=row.attempts + 1)
    return _delivery_answer(row, Deliveries(session).attempts([row.id])[row.id])
