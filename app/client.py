"""A client of the API for the terminal: ask for a ranking, follow it, show the table."""

import time
from typing import Any, Self

import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

FINAL = {"succeeded", "failed", "cancelled"}
POLLING_SECONDS = 0.5
COUNTED_STAGES = {"decode", "forward"}
NARROWEST = 132
STAGES = {"queued": "waits", "extracting": "forward pass", "scoring": "scoring", "succeeded": "done"}


class ApiError(Exception):
    """The API refused; the message is its problem document's detail."""


class Client:
    """Calls to one server."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, Any] | None = None
    ) -> Any:
        """The JSON answer of one request.

        Raises:
            ApiError: the answer is a problem.
        """
        answer = self._http.request(method, path, json=body, params=query)
        content: Any = answer.json() if answer.content else {}
        if answer.is_error:
            details = [f"{item['pointer']}: {item['detail']}" for item in content.get("errors", [])]
            raise ApiError("; ".join([content.get("detail", answer.reason_phrase), *details]))
        return content

    def text(self, path: str) -> str:
        """The answer of one request that is not JSON.

        Raises:
            ApiError: the answer is a problem.
        """
        answer = self._http.get(path)
        if answer.is_error:
            raise ApiError(answer.json().get("detail", answer.reason_phrase))
        return str(answer.text)

    def dataset(self, target: str) -> dict[str, Any]:
        """The registered data set of this id, name or location; a location is registered if it is new."""
        items = self.call("GET", "/v1/datasets?limit=200")["items"]
        for item in items:
            if target in (item["id"], item["name"], item["location"]):
                return dict(item)
        return dict(self.call("POST", "/v1/datasets", {"location": target}))

    def rank(
        self,
        target: str,
        *,
        zoo: str,
        metrics: list[str] | None = None,
        max_samples: int | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Submit a ranking of a zoo; ``more`` are further members of the request."""
        body: dict[str, Any] = {
            "target": self.dataset(target)["id"],
            "zoo": zoo,
            "sample": {"max_samples": max_samples},
            **more,
        }
        if metrics:
            body["metrics"] = metrics
        return dict(self.call("POST", "/v1/rankings", body))


def follow(client: Client, ranking: dict[str, Any], console: Console | None = None) -> str:
    """Show a live bar for each model until the ranking has ended; its final state."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}
        while True:
            results = client.call("GET", ranking["links"]["results"])
            for row in sorted(results["models"], key=lambda row: row["model_id"]):
                if row["model_id"] not in tasks:
                    tasks[row["model_id"]] = progress.add_task(row["model"], total=None, start=False, stage="waits")
                _show_row(progress, tasks[row["model_id"]], row)
            if results["state"] in FINAL:
                return str(results["state"])
            time.sleep(POLLING_SECONDS)


def _show_row(progress: Progress, task: Any, row: dict[str, Any]) -> None:
    stage = STAGES.get(row["state"], row["state"])
    if row["state"] == "extracting" and row["stage"]:
        stage = row["stage"]
    trial = row["trial"]
    if trial is not None and trial["state"] in ("waiting", "running"):
        left = "" if trial["seconds_left"] is None else f", {trial['seconds_left']:.0f} s left"
        stage = f"trial, fold {trial['folds_done'] + 1}: {trial['stage'] or 'waits'}{left}"
    if row["state"] != "queued" and not progress.tasks[task].started:
        progress.start_task(task)
    if row["total"] and row["stage"] in COUNTED_STAGES:
        progress.update(task, completed=row["done"], total=row["total"])
    progress.update(task, stage=stage)
    if row["state"] in FINAL:
        if row["state"] == "succeeded":
            total = progress.tasks[task].total or 1
            progress.update(task, completed=total, total=total)
        progress.stop_task(task)


def show(client: Client, ranking: dict[str, Any], console: Console | None = None) -> None:
    """The table, what each metric means, and what was computed."""
    console = console or Console()
    console.width = max(console.width, NARROWEST)
    results = client.call("GET", ranking["links"]["results"])
    target, sample = results["target"], results["target"]["sample"] or {}
    names = [metric["name"] for metric in results["metrics"]]
    table = Table(
        title=f"Which model suits {target['name']!r}? {sample.get('images', '?')} of "
        f"{sample.get('images_of_data_set', '?')} images, {sample.get('classes', '?')} classes"
    )
    table.add_column("model", no_wrap=True)
    titles = [name.replace("_", "\n", 1) + "\n(rank)" for name in names]
    for heading in ("consensus\nrank", *titles, "seconds", "images/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results["models"]:
        cells = [_cell(row["scores"].get(name)) for name in names]
        seconds = sum((row["seconds"] or {}).values())
        speed = "" if row["images_per_second"] is None else f"{row['images_per_second']:.0f}"
        problem = f" ({row['problem']['detail']})" if row["problem"] else ""
        rank = "" if row["consensus_rank"] is None else f"{row['consensus_rank']:g}"
        table.add_row(row["model"] + problem, rank, *cells, f"{seconds:.1f}", speed)
    console.print(table)
    console.print("Higher scores are better; scores of different metrics, or of different targets, do not compare.")
    for metric in results["metrics"]:
        console.print(f"  [bold]{metric['title']}[/bold]: {metric['interpretation']}")
    for ensemble in client.call("GET", ranking["links"]["ensembles"])["ensembles"]:
        console.print(_ensemble(ensemble))
    for warning in _warnings(results):
        console.print(f"  * {warning}")
    counters = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in results["counters"].items())
    console.print(f"Counted: {counters}.")
    if results["recommendation"] is not None:
        console.print(_advice(results))


def _advice(results: dict[str, Any]) -> str:
    advice = results["recommendation"]
    lines = [f"[bold]Advice:[/bold] {advice['text']}"]
    for row in results["models"]:
        trial = row["trial"]
        if trial is not None and trial["accuracy"] is not None:
            seconds, right = f"{trial['seconds']:.0f} s", f"{100 * trial['accuracy']:.1f} %"
            folds = f"{trial['folds_done']} of the folds"
            lines.append(f"  {row['model']}: {right} right on images held out, after {folds} in {seconds}")
    return "\n".join(lines)


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return ""
    if score["value"] is None:
        return "n/a"
    mark = "*" if score["warnings"] else ""
    return f"{score['value']:.4g}{mark} ({score['rank'] or '?'})"


def _warnings(results: dict[str, Any]) -> list[str]:
    """Each kind of warning once, with the number of models that it concerns."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for row in results["models"]:
        for name, score in row["scores"].items():
            for warning in score["warnings"]:
                kinds.setdefault((name, warning.split(":")[0]), []).append(warning)
    return [f"{name}, {len(warnings)} models: {warnings[0]}" for (name, _), warnings in kinds.items()]


def _ensemble(ensemble: dict[str, Any]) -> str:
    if ensemble["selection"] is None:
        return f"No ensemble: {ensemble['problem']['detail']}"
    ensemble = ensemble["selection"]
    terms = f"terms {', '.join(ensemble['terms_used'])}; " if ensemble["method"] == "osborn" else ""
    return (
        f"Best ensemble of {ensemble['size']} by {ensemble['method']} ({terms}"
        f"of {ensemble['evaluated']} evaluated): [bold]{' + '.join(ensemble['members'])}[/bold]"
    )
