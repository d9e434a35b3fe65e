"""How heavy the pages are: `python -m benchmarks.pages`, with the system's Chromium.

Makes a ranking of 300 models with five metrics, made-up scores and intervals, straight in a new database, starts an API
on it, and prints the bytes and the time of the first page, and how long the browser takes to sort and to filter the
table, with its long tasks (over 50 ms).
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
from playwright.sync_api import Page, sync_playwright

from app import jobs
from app.contracts.datasets import BuiltinSpec
from app.contracts.models import TimmSpec
from app.contracts.question import IntervalChoice, MetricChoice, SampleChoice
from app.contracts.rankings import RankingRequest
from app.contracts.states import ModelRunState, RankingState, ResourceState
from app.contracts.summary import ConsensusSummary, Interval, Summary
from app.db.migrate import upgrade
from app.db.session import Database
from app.db.tables import Dataset, Model, Ranking, RankingModel, RankingScore, Score, now
from app.settings import Settings

PORT = 8766
MODELS = 300
METRICS = ("nce", "logme", "tmi", "leep", "regularized_h_score")
LICENSES = ("apache-2.0", "mit", "bsd-3-clause")
REPEATS = 10
# The table's work begins with the event and ends when the next frame is on the screen.
MEASURE = """async (act) => {
  const tasks = [];
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
  observer.observe({ type: "longtask" });
  const begin = performance.now();
  new Function(act)();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const end = performance.now();
  await new Promise((done) => setTimeout(done, 100));
  observer.disconnect();
  return { milliseconds: end - begin, longest: Math.max(0, ...tasks.map((task) => task.duration)) };
}"""


def make_ranking(database: Database, *, models: int = MODELS) -> str:
    """The id of a ranking of this many models that has succeeded."""
    random = np.random.default_rng(0)
    values = random.normal(size=(models, len(METRICS)))
    with database.transaction() as session:
        target = Dataset(name="many", spec=BuiltinSpec(name="digits"), state=ResourceState.READY)
        rows = [
            Model(
                name=f"architecture_{index:03d}.recipe_in1k",
                spec=TimmSpec(name=f"architecture_{index:03d}"),
                state=ResourceState.READY,
                license=LICENSES[index % len(LICENSES)],
                parameters=int(1e6 * (1 + random.random() * 300)),
            )
            for index in range(models)
        ]
        session.add_all([target, *rows])
        session.flush()
        ids = [row.id for row in rows]
        ranks = (-values).argsort(axis=0).argsort(axis=0) + 1
        means = ranks.mean(axis=1)
        order = means.argsort(kind="stable")
        summary = Summary(
            order=tuple(ids[index] for index in order),
            ranks={metric: _by_model(ids, ranks[:, column]) for column, metric in enumerate(METRICS)},
            intervals={
                model: {metric: _interval(value) for metric, value in zip(METRICS, row, strict=True)}
                for model, row in zip(ids, values.tolist(), strict=True)
            },
            consensus=ConsensusSummary(
                ranks=_by_model(ids, order.argsort() + 1),
                mean_ranks=dict(zip(ids, means.tolist(), strict=True)),
                method="mean rank",
                citation="Borda",
            ),
        )
        ranking = Ranking(
            name="many",
            target_id=target.id,
            request=RankingRequest(
                target=target.name,
                zoo=None,
                metrics=tuple(MetricChoice(name=metric) for metric in METRICS),
                sample=SampleChoice(),
                priority="normal",
                layers=(),
                reference=None,
                sources={},
                intervals=IntervalChoice(),
                ensembles=(),
                given_ensembles=(),
            ),
            priority=100,
            state=RankingState.SUCCEEDED,
            summary=summary,
            started_at=now(),
            finished_at=now(),
        )
        session.add(ranking)
        session.flush()
        for position, (model, row) in enumerate(zip(ids, values.tolist(), strict=True)):
            scores = [
                Score(
                    evidence_key=model,
                    metric=metric,
                    parameters_key=ranking.id,
                    value=value,
                    warnings=(),
                    details={},
                    seconds=0.1,
                )
                for metric, value in zip(METRICS, row, strict=True)
            ]
            session.add_all(scores)
            session.add(
                RankingModel(
                    ranking_id=ranking.id,
                    model_id=model,
                    position=position,
                    state=ModelRunState.SUCCEEDED,
                    seconds={"forward": 1.0},
                    images_per_second=float(10 + position),
                )
            )
            session.flush()
            session.add_all(
                RankingScore(
                    ranking_id=ranking.id, model_id=model, layer="head", metric=score.metric, score_id=score.id
                )
                for score in scores
            )
        return ranking.id


def _by_model(ids: list[str], ranks: np.ndarray) -> dict[str, int]:
    return dict(zip(ids, ranks.tolist(), strict=True))


def _interval(value: float) -> Interval:
    return Interval(low=value - 0.3, high=value + 0.3, level=0.9, resamples=20, method="subsampling")


def measure_first_page(url: str) -> None:
    """Bytes and time of `/rankings` to a program, without what browsers keep."""
    times = []
    with httpx2.Client(base_url=url) as http:
        for _ in range(REPEATS):
            begin = time.perf_counter()
            page = http.get("/rankings")
            times.append(1000 * (time.perf_counter() - begin))
        files = [http.get(f"/static/{name}") for name in ("style.css", "table.js", "icon.svg")]
    total = len(page.content) + sum(len(file.content) for file in files)
    print(f"first page: {total / 1000:.1f} kB with style and scripts, answered in {statistics.median(times):.0f} ms")


def measure_loading(page: Page, address: str) -> None:
    """Time until the first contents are on the screen, and until everything is loaded."""
    page.goto(address)
    painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    loaded = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    print(f"{address}: painted after {page.evaluate(painted):.0f} ms, loaded after {page.evaluate(loaded):.0f} ms")


def measure_table(page: Page) -> None:
    """Sorting and filtering, repeated."""
    acts = {
        "sort": "document.querySelector('th[data-column=logme] button').click()",
        "filter": "const box = document.querySelector('[data-filter=text]'); box.value = box.value ? '' : '_1'; "
        "box.dispatchEvent(new Event('input'))",
    }
    for name, act in acts.items():
        found = [page.evaluate(MEASURE, act) for _ in range(REPEATS)]
        times, longest = [one["milliseconds"] for one in found], max(one["longest"] for one in found)
        tasks = f"longest task {longest:.0f} ms" if longest else "no long task"
        print(f"{name}: median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms, {tasks}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        database = Database(settings.url)
        upgrade(database)
        jobs.upgrade(settings)
        ranking = make_ranking(database)
        database.close()
        environment = (
            os.environ
            | settings.environment()
            | {
                "FORERANK_PORT": str(PORT),
                "FORERANK_LOG_LEVEL": "warning",
            }
        )
        server = subprocess.Popen([sys.executable, "-m", "app.cli", "serve", "--no-worker"], env=environment)
        url = f"http://127.0.0.1:{PORT}"
        try:
            while True:
                try:
                    httpx2.get(f"{url}/livez")
                    break
                except httpx2.HTTPError:
                    time.sleep(0.2)
            measure_first_page(url)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_page(base_url=url, viewport={"width": 1600, "height": 900}, bypass_csp=True)
                measure_loading(page, "/rankings")
                measure_loading(page, f"/rankings/{ranking}")
                print(f"the table: {page.locator('tr[data-model]').count()} rows")
                measure_table(page)
                browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


if __name__ == "__main__":
    main()
