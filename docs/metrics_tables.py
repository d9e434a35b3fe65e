"""Writes what the catalog says of each metric into metrics.md: `python -m docs.metrics_tables`."""

from pathlib import Path

from estimators.catalog import METRICS, Metric, Parameter
from estimators.comparison.resampling import default_resamples, method

PAGE = Path(__file__).with_name("metrics.md")
BEGIN, END = "<!-- metrics -->\n", "<!-- end of metrics -->"
NEEDS = {
    "features": "features",
    "labels": "labels",
    "source_probabilities": "source probabilities",
    "reference_features": "reference features",
    "targets": "targets",
}


def overview() -> str:
    """One line a metric."""
    lines = ["| metric | measures | needs | cost |", "| --- | --- | --- | --- |"]
    for metric in METRICS.values():
        link = f"[{metric.title}](#{metric.title.lower().replace(' ', '-')})"
        lines.append(f"| {link} `{metric.name}` | {metric.measures} | {_needs(metric)} | {metric.cost} |")
    return "\n".join(lines)


def section(metric: Metric) -> str:
    """All that the catalog says of one metric."""
    low, high = ("unbounded" if bound is None else f"{bound:g}" for bound in metric.range)
    lines = [
        f"### {metric.title}",
        "",
        metric.measures,
        "",
        f"    {metric.formula}",
        "",
        f"- **Read it:** {metric.interpretation}",
        f"- **Caveats:** {metric.caveats}",
        f"- **Needs** {_needs(metric)}; **for** {', '.join(sorted(metric.tasks)).replace('_', '-')}.",
        f"- **Range** {low} to {high}{f', {metric.unit}' if metric.unit else ''}. **Cost** {metric.cost}.",
    ]
    if metric.cpu_only:
        lines.append(f"- **On the CPU,** wherever the features lie: {metric.cpu_only}.")
    lines.append(f"- **How sure:** {method(metric.name)}, {default_resamples(metric.name)} resamples.")
    for name, parameter in metric.parameters.items():
        lines.append(f"- `{name}` ({_default(parameter)}): {parameter.description}.")
    lines.append(f"- **Source:** {metric.citation}.")
    return "\n".join(lines)


def _needs(metric: Metric) -> str:
    needed = [NEEDS[need] for need in NEEDS if need in metric.required_evidence]
    used = [NEEDS[use] for use in NEEDS if use in metric.optional_evidence]
    return ", ".join(needed) + (f" (and {', '.join(used)}, if there are any)" if used else "")


def _default(parameter: Parameter) -> str:
    text = "none" if parameter.default is None else str(parameter.default)
    others = [str(choice) for choice in parameter.choices if choice not in (None, parameter.default)]
    return f"{text}; or {', '.join(others)}" if others else text


def written(page: str) -> str:
    """The page with what the catalog says now."""
    head, rest = page.split(BEGIN)
    body = "\n\n".join([overview(), *(section(metric) for metric in METRICS.values())])
    return head + BEGIN + "\n" + body + "\n\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
