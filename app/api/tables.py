"""Answers as CSV."""

import csv
import io
from dataclasses import asdict
from typing import Any

from app.contracts.schedules import RunReport
from app.schemas.rankings import EnsemblesAnswer, ResultsAnswer


def results_csv(results: ResultsAnswer) -> str:
    """The table, one line per model; a missing score is an empty cell, and its reason is at the end."""
    names = [metric.name for metric in results.metrics]
    text = io.StringIO()
    writer = csv.writer(text)
    columns = [f"{name}{part}" for name in names for part in ("", "_rank", "_low", "_high")]
    trial = ["trial_state", "trial_accuracy", "trial_log_loss"]
    known = ["model", "model_id", "state", "consensus_rank", "parameters"]
    writer.writerow([*known, *columns, *trial, "images_per_second", "problem"])
    for row in results.models:
        cells: list[Any] = []
        reasons = [row.problem.detail] if row.problem else []
        for name in names:
            score = row.scores.get(name)
            interval = score.interval if score else None
            cells += [score.value if score else None, score.rank if score else None]
            cells += [interval.low if interval else None, interval.high if interval else None]
            if score is not None and score.problem is not None:
                reasons.append(f"{name}: {score.problem.detail}")
        writer.writerow(
            [
                _plain(row.model),
                row.model_id,
                row.state.value,
                row.consensus_rank,
                row.parameters,
                *cells,
                *((row.trial.state.value, row.trial.accuracy, row.trial.log_loss) if row.trial else (None,) * 3),
                row.images_per_second,
                _plain("; ".join(reasons)),
            ]
        )
    return text.getvalue()


def ensembles_csv(answer: EnsemblesAnswer) -> str:
    """Every term of every ensemble: one line per member and term it has, or pair and term."""
    text = io.StringIO()
    writer = csv.writer(text)
    columns = ["method", "size", "value", "rank", "evaluated"]
    writer.writerow(["ensemble", *columns, "kind", "models", "term", "term_value"])
    for number, ensemble in enumerate(answer.ensembles, start=1):
        selection = ensemble.selection
        if selection is None:
            continue
        head = [number, *(getattr(selection, name) for name in columns)]
        for entry in map(asdict, (*selection.member_terms, *selection.pair_terms)):
            names = [entry[name] for name in ("name", "first", "second") if name in entry]
            kind = "member" if "name" in entry else "pair"
            for term, value in entry.items():
                if value is not None and term not in ("name", "first", "second"):
                    writer.writerow([*head, kind, _plain(" + ".join(names)), term, value])
    return text.getvalue()


def report_csv(report: RunReport) -> str:
    """One line per change, or per target without one."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["target", "change", "model", "rank_before", "rank_now", "detail"])
    for model, detail in report.changed_models.items():
        writer.writerow(["", "weights", _plain(model), None, None, detail])
    for target in report.targets:
        name = _plain(target.target)
        lines: list[tuple[str, str, int | None, int | None, str]] = []
        if target.data_change != "unchanged":
            lines.append(("images", "", None, None, target.data_change))
        if target.new_best and target.best:
            lines.append(("new best", target.best.model, None, target.best.rank, ""))
        lines += [("entered", place.model, None, place.rank, "") for place in target.entered]
        lines += [("left", place.model, place.rank, None, "") for place in target.left]
        lines += [("moved", move.model, move.before, move.after, "") for move in target.moved]
        lines += [("failed", model, None, None, "") for model in target.failed]
        lines += [("computed", model, None, None, "") for model in target.computed]
        if target.problem:
            lines.append(("problem", "", None, None, target.problem.detail))
        for change, model, before, after, detail in lines or [("none", "", None, None, "")]:
            writer.writerow([name, change, _plain(model), before, after, _plain(detail)])
    return text.getvalue()


def _plain(text: str) -> str:
    """Spreadsheets run cells that begin like a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
