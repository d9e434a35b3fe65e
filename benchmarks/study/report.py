"""Judge every score by the fine-tuned truth of the study: the tables and figures of ``docs/truth.md``.

    python -m benchmarks.study.report

reads the tables that `benchmarks.study.scores` wrote beside this file, so it runs without images and models, by the
code of ``forerank evaluate``. Targets are resampled and compared in pairs, models are not.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from app.evaluation import RANDOM, Truth, evaluate_target, read_table
from benchmarks.study import chances
from benchmarks.study.scores import ENSEMBLES, FOLDER, NOISE, RESULTS, SAMPLE_SIZES
from benchmarks.study.targets import half
from estimators.comparison.evaluation import over_targets, paired_test

PAGE = FOLDER.parents[1] / "docs" / "truth.md"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->"
# Looked at before the rule that deals targets out was written.
SEEN = ("signdigits", "fashion")
MEASURES = {"weighted_kendall": "tau", "regret_1": "regret", "regret_3": "regret of three"}
REFERENCE = "advice: known, metrics"
SECOND = "second seed"

Judged = dict[str, dict[str, dict[str, float]]]


def judge(truths: Mapping[str, Truth]) -> Judged:
    """Score -> measure -> target -> value."""
    found: Judged = {}
    for target, truth in truths.items():
        for score, measures in evaluate_target(truth, resamples=0).items():
            for measure in MEASURES:
                value = measures[measure]["value"]
                found.setdefault(score, {}).setdefault(measure, {})[target] = np.nan if value is None else float(value)
    return found


def halves(targets: Sequence[str]) -> dict[str, str]:
    """Target -> ``development`` or ``report``."""
    dealt = half(["digits", "mnist", "animals", "emoji", "clipart-things", "clipart-signs"])
    return {target: "development" if target in SEEN else dealt[target] for target in targets}


def table(judged: Judged, targets: Sequence[str], reference: str) -> str:
    """Means over targets with 95 % intervals over targets, and paired tests against one score."""
    lines = [
        f"| score | targets | tau | regret | regret of three | tau against *{reference}* | regret against it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for score, measures in judged.items():
        on = [target for target in targets if target in measures["regret_1"]]
        # A score of few targets is not compared with the means over all.
        if score == SECOND or len(on) < max(2, len(targets) - 2):
            continue
        means = [over_targets([measures[measure].get(target, np.nan) for target in on]) for measure in MEASURES]
        tests = [
            _test(measures[measure], judged[reference][measure], on) if score not in (reference, RANDOM) else ""
            for measure in ("weighted_kendall", "regret_1")
        ]
        cells = [_interval(mean.value, mean.low, mean.high) for mean in means]
        rows.append((-(means[0].value or -1.0), f"| {score} | {len(on)} | {' | '.join([*cells, *tests])} |"))
    return "\n".join([*lines, *(row for _, row in sorted(rows))]) + "\n"


def _test(first: Mapping[str, float], second: Mapping[str, float], targets: Sequence[str]) -> str:
    a, b = ([values.get(target, np.nan) for target in targets] for values in (first, second))
    if np.isnan(np.asarray(a) - np.asarray(b)).all():
        return "-"
    found = paired_test(a, b)
    return f"{found.difference:+.2f} (p {found.p_value:.2f})"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def by_target(judged: Judged, targets: Sequence[str], scores: Sequence[str]) -> str:
    """Tau / regret of chosen scores on every target."""
    lines = ["| score | " + " | ".join(targets) + " |", "| --- |" + " --- |" * len(targets)]
    for score in scores:
        cells = []
        for target in targets:
            tau, regret = (judged[score][measure].get(target, np.nan) for measure in ("weighted_kendall", "regret_1"))
            cells.append("-" if np.isnan(regret) else f"{'-' if np.isnan(tau) else f'{tau:.2f}'} / {regret:.2f}")
        lines.append(f"| {score} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def targets_table(noise: Sequence[Mapping[str, str]], parts: Mapping[str, str], judged: Judged) -> str:
    """What the targets are, and how far their truth can be trusted."""
    lines = [
        "| target | part | classes | trained on | tested on | side | best | worst | within a point | slower runs | "
        "oracle: tau, regret | another seed: tau, regret |",
        "| --- |" + " --- |" * 11,
    ]
    seeds = judged.get(SECOND, {})
    for row in noise:
        target = row["target"]
        again = "-"
        if target in seeds.get("regret_1", {}):
            again = f"{seeds['weighted_kendall'][target]:.2f}, {seeds['regret_1'][target]:.2f}"
        shares = [f"{100 * float(row[name]):.1f} %" for name in ("best", "worst")]
        cells = [target, parts[target], row["classes"], row["trained on"], row["tested on"], row["side"], *shares]
        cells += [row["within a point of the best"], row["slower"]]
        cells += [f"{float(row['oracle tau']):.2f}, {float(row['oracle regret']):.2f}", again]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ensembles_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Points of accuracy of the chosen ensembles against single models and OSBORN's choice, means over targets."""
    header = [
        "method",
        "size",
        "targets",
        "against the best single",
        "against the first of the advice",
        "against OSBORN",
    ]
    lines = [f"| {' | '.join(header)} |", "| --- |" + " --- |" * 5]
    reached: dict[tuple[str, str], dict[str, float]] = {}
    single: dict[str, dict[str, float]] = {"best_single": {}, "advised_single": {}}
    for row in rows:
        reached.setdefault((row["size"], row["method"]), {})[row["target"]] = 100 * float(row["accuracy"])
        for column, values in single.items():
            values[row["target"]] = 100 * float(row[column])
    shown = []
    for (size, method), found in reached.items():
        others = [single["best_single"], single["advised_single"], reached[size, "osborn"]]
        if method == "osborn":
            others.pop()
        cells = [*(_gain(found, other) for other in others), *([""] if method == "osborn" else [])]
        text = f"| {method} | {size} | {len(found)} | {' | '.join(cells)} |"
        shown.append((size, -float(np.mean([found[target] - others[0][target] for target in found])), text))
    return "\n".join([*lines, *(text for _, _, text in sorted(shown))]) + "\n"


def _gain(found: Mapping[str, float], other: Mapping[str, float]) -> str:
    first, second = ([values[target] for target in found] for values in (found, other))
    gain = over_targets(list(np.subtract(first, second)))
    p_value = f" (p {paired_test(first, second).p_value:.2f})" if len(first) > 1 else ""
    return _interval(gain.value, gain.low, gain.high) + p_value


def figures(judged: Judged, targets: Sequence[str], samples: Sequence[Mapping[str, str]], folder: Path) -> None:
    """``truth-scores.svg`` (each score on each target) and ``truth-samples.svg`` (tau by number of images)."""
    import altair

    points = [
        {"score": score, "target": target, "tau": tau}
        for score, measures in judged.items()
        for target, tau in measures["weighted_kendall"].items()
        if not np.isnan(tau) and len(measures["regret_1"]) >= len(targets) - 2
    ]
    means = {
        score: float(np.nanmean(list(judged[score]["weighted_kendall"].values())))
        for score in {point["score"] for point in points}
    }
    order = sorted(means, key=lambda score: -means[score])
    y = altair.Y("score:N", sort=order, title=None).axis(labelLimit=300)
    base = altair.Chart(altair.Data(values=points)).encode(y=y)
    dots = base.mark_circle(size=45, opacity=0.7).encode(
        x=altair.X("tau:Q", title="weighted Kendall tau"), color=altair.Color("target:N", title=None)
    )
    ticks = base.mark_tick(color="black", thickness=2, size=12).encode(x="mean(tau):Q")
    (dots + ticks).properties(width=420).save(folder / "truth-scores.svg")
    values = [
        {"metric": row["metric"], "images": int(row["images"]), "tau": float(row["tau"])}
        for row in samples
        if row["tau"]
    ]
    lines = altair.Chart(altair.Data(values=values)).encode(
        x=altair.X("images:Q", title="images of the target").scale(type="log"),
        color=altair.Color("metric:N", title=None),
    )
    mean = lines.mark_line(point=True).encode(
        y=altair.Y("mean(tau):Q", title="weighted Kendall tau, mean over targets")
    )
    mean.properties(width=420, height=260).save(folder / "truth-samples.svg")
    reliability_diagram(folder / "truth-chances.svg")


def reliability_diagram(path: Path) -> None:
    """Stated chances against how often they came true, on targets that the fit has not seen; area shows how many."""
    import altair

    stated, truth, _ = chances.outcomes(chances.left_out(chances.pools()))
    points = [
        {"stated": each.stated, "observed": each.observed, "models": each.count}
        for each in chances.reliability(stated, truth, bins=10)
    ]
    line = altair.Chart(altair.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}]))
    diagonal = line.mark_line(color="gray", strokeDash=[4, 4]).encode(x="x:Q", y="y:Q")
    dots = (
        altair.Chart(altair.Data(values=points))
        .mark_circle(opacity=0.8)
        .encode(
            x=altair.X("stated:Q", title="stated chance to be the best").scale(domain=[0, 1]),
            y=altair.Y("observed:Q", title="share that were").scale(domain=[0, 1]),
            size=altair.Size("models:Q", title="models"),
        )
    )
    (diagonal + dots).properties(width=300, height=300).save(path)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Write the figures, and the tables below the mark of the page."""
    truths = read_table(RESULTS, accuracy="accuracy", target="target", model="model", percent=False)
    judged, targets = judge(truths), list(truths)
    parts = halves(targets)
    of_part = {part: [target for target in targets if parts[target] == part] for part in ("development", "report")}
    short = [score for score in judged if score.startswith(("advice", "trial", "parameters", "history", "consensus"))]
    noise, ensembles, samples = _read(NOISE), _read(ENSEMBLES), _read(SAMPLE_SIZES)
    text = [
        "### The targets",
        targets_table(noise, parts, judged),
        f"### All {len(targets)} targets",
        table(judged, targets, REFERENCE),
        *(
            piece
            for part, chosen in of_part.items()
            for piece in (f"### The {part} half: {', '.join(chosen)}", table(judged, chosen, REFERENCE))
        ),
        "### Target by target: tau / regret",
        by_target(judged, targets, [*short, *("nce", "leep", "logme", "tmi"), RANDOM]),
        "### Chances to be the best",
        chances.tables(),
        "### Ensembles, in points of accuracy",
        ensembles_table(ensembles),
        "### Ensembles on the development half",
        ensembles_table([row for row in ensembles if parts[row["target"]] == "development"]),
    ]
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + "\n".join(text) + "\n" + END + rest.split(END)[-1])
    figures(judged, targets, samples, PAGE.parent)


if __name__ == "__main__":
    main()
