"""What the database says of the whole deployment at this moment, for Prometheus."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from app.db.repositories.queues import STATES, jobs_in_flight
from app.db.repositories.rankings import Rankings
from app.db.repositories.workers import Workers
from app.db.session import Database
from app.jobs import Queue
from app.settings import Settings


def exposition(settings: Settings, database: Database) -> bytes:
    """Jobs, rankings that have not ended, and workers, in Prometheus' text format. Every API process tells the same."""
    registry = CollectorRegistry()
    jobs = Gauge("forerank_jobs", "Jobs in the queues.", ("queue", "state"), registry=registry)
    rankings = Gauge("forerank_rankings", "Rankings that have not ended.", ("state",), registry=registry)
    workers = Gauge("forerank_workers", "Workers that are known.", ("state",), registry=registry)
    with database.reading() as session:
        in_flight = jobs_in_flight(session)
        for queue in Queue:
            for state in STATES.values():
                jobs.labels(queue.value, state).set(in_flight.get((queue.value, state), 0))
        for ranking_state, number in Rankings(session).unfinished_counts().items():
            rankings.labels(ranking_state.value).set(number)
        alive = Workers(session).alive(limit_seconds=settings.heartbeat_limit_seconds)
        workers.labels("alive").set(alive)
        workers.labels("silent").set(len(Workers(session).identifiers()) - alive)
    return generate_latest(registry)
