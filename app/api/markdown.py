"""A run's report as Markdown."""

from app.contracts.schedules import RunReport, TargetReport

# A long table in a message helps nobody; the whole is in the JSON and the CSV.
SHOWN_MOVES = 20


def report_markdown(report: RunReport) -> str:
    """For people: what changed, target by target."""
    seconds = "" if report.seconds is None else f" in {report.seconds:.1f} s"
    lines = [
        f"# {_escape(report.schedule)}, {report.scheduled_at:%Y-%m-%d %H:%M} UTC",
        "",
        f"{report.state.value.capitalize()}{seconds}: {_count(report.computed, 'forward pass', 'forward passes')}, "
        f"{_count(report.reused, 'result', 'results')} reused.",
    ]
    if report.changed_models:
        changed = [f"{_escape(model)} ({what})" for model, what in report.changed_models.items()]
        lines += ["", f"Weights that were replaced: {', '.join(changed)}."]
    for target in report.targets:
        lines += ["", f"## {_escape(target.target)}", ""]
        lines += [f"- {line}" for line in _sentences(target)] or ["Nothing has changed."]
    return "\n".join(lines) + "\n"


def _sentences(target: TargetReport) -> list[str]:
    found = []
    if target.problem:
        found.append(f"Problem: {_escape(target.problem.detail)}")
    if target.data_change != "unchanged":
        found.append(f"The images were found changed: {target.data_change}.")
    if target.best:
        new = " (new)" if target.new_best else ""
        found.append(f"Best{new}: **{_escape(target.best.model)}**")
    if target.previous_ranking_id is None and target.ranking_id is not None:
        found.append("The first ranking of this target; the next one is compared with it.")
    found += [f"Entered at {place.rank}: {_escape(place.model)}" for place in target.entered]
    found += [f"Left from {place.rank}: {_escape(place.model)}" for place in target.left]
    found += [f"{_escape(move.model)}: {move.before} → {move.after}" for move in target.moved[:SHOWN_MOVES]]
    if len(target.moved) > SHOWN_MOVES:
        found.append(f"{len(target.moved) - SHOWN_MOVES} more have moved.")
    if target.failed:
        found.append(f"Failed: {', '.join(map(_escape, target.failed))}")
    return found


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _escape(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\`*_[]<>#|" else character for character in text)
