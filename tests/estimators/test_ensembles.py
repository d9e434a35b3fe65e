"""MS-LEEP and E-LEEP against recorded values; selection against enumeration by hand."""

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import estimators
from estimators import CannotBeComputed, InvalidEvidence, Pool, build_pool, e_leep, ms_leep, score_ensemble, select
from estimators.ensembles import selection as module
from estimators.ensembles.result import Single
from tests.reference.oracles import inputs, oracles

Kind = Callable[[Any], Any]
both_kinds = pytest.mark.parametrize("kind", [np.asarray, torch.asarray], ids=["numpy", "torch"])


def recorded() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (entry,) = oracles("ens_derived")
    return entry["expected"], inputs(entry["input_file"])


def make_pool(models: int = 8, samples: int = 40, seed: int = 0, **changes: Any) -> Pool:
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 6, (models, samples))
    pool = Pool(
        names=[f"model {index}" for index in range(models)],
        domain_difference=generator.gamma(3.0, 10.0, models).tolist(),
        task_difference=generator.random(models).tolist(),
        disagreement=estimators.disagreement(source_labels=list(rows)),
        eep=list(generator.uniform(0.05, 1.0, (models, samples))),
        costs=generator.integers(1, 10, models).tolist(),
        entropy=np.full(models, 2.0),
    )
    return dataclasses.replace(pool, **changes)


def z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def naive_values(pool: Pool, size: int, cohesion: str = "symmetric") -> dict[tuple[str, ...], float]:
    """OSBORN's value of every ensemble from the formula, with the default standardisation."""
    domain, task = z(np.asarray(pool.domain_difference)), z(np.asarray(pool.task_difference))
    h = np.asarray(pool.disagreement)
    count = len(pool.names)
    pairs = list(itertools.combinations(range(count), 2))
    raw = {
        "symmetric": [(h[a, b] + h[b, a]) / 2 for a, b in pairs],
        "ordered": [h[a, b] + h[b, a] for a, b in pairs],
        "directed": [h[a, b] for a, b in pairs],
    }[cohesion]
    cohesive = dict(zip(pairs, z(np.asarray(raw)), strict=True))
    values = {}
    for ensemble in itertools.combinations(range(count), size):
        cost = sum(domain[m] + task[m] for m in ensemble)
        cost += sum(cohesive[pair] for pair in itertools.combinations(ensemble, 2))
        values[tuple(pool.names[m] for m in ensemble)] = -cost
    return values


@both_kinds
def test_recorded_ms_leep_and_e_leep_of_all_ensembles(kind: Kind) -> None:
    expected, data = recorded()
    labels = kind(data["labels"])
    for key, values in expected["subsets"].items():
        ensemble = [kind(data[f"probs_{index}"]) for index in key.split(",")]
        assert float(ms_leep(source_probabilities=ensemble, labels=labels)) == pytest.approx(
            values["MS_LEEP_sum"], rel=1e-12
        )
        assert float(ms_leep(source_probabilities=ensemble, labels=labels, reduction="mean")) == pytest.approx(
            values["MS_LEEP_mean"], rel=1e-12
        )
        assert float(e_leep(source_probabilities=ensemble, labels=labels)) == pytest.approx(values["E_LEEP"], rel=1e-12)


@both_kinds
def test_one_model_alone_has_its_leep(kind: Kind) -> None:
    _, data = recorded()
    probabilities, labels = kind(data["probs_2"]), kind(data["labels"])
    alone = float(estimators.leep(source_probabilities=probabilities, labels=labels))
    assert float(e_leep(source_probabilities=[probabilities] * 3, labels=labels)) == pytest.approx(alone, rel=1e-12)
    assert float(ms_leep(source_probabilities=[probabilities], labels=labels)) == pytest.approx(alone, rel=1e-12)


def test_averaging_is_never_below_the_mean_of_the_members() -> None:
    _, data = recorded()
    ensemble = [data[f"probs_{index}"] for index in range(4)]
    mean = float(ms_leep(source_probabilities=ensemble, labels=data["labels"], reduction="mean"))
    assert float(e_leep(source_probabilities=ensemble, labels=data["labels"])) >= mean


@both_kinds
def test_pool_values_are_the_metrics_of_the_ensemble(kind: Kind) -> None:
    _, data = recorded()
    probabilities = [kind(data[f"probs_{index}"]) for index in range(4)]
    pool = build_pool(names=list("abcd"), labels=kind(data["labels"]), source_probabilities=probabilities)
    ensemble = [probabilities[1], probabilities[3]]
    for method, metric in (("ms_leep", ms_leep), ("e_leep", e_leep)):
        found = score_ensemble(pool, ["d", "b"], method=method)
        assert found.members == ("b", "d")
        assert found.value == pytest.approx(
            float(metric(source_probabilities=ensemble, labels=data["labels"])), rel=1e-12
        )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("cohesion", ["symmetric", "ordered", "directed"])
def test_the_exact_ensemble_is_the_best_by_enumeration(size: int, cohesion: str) -> None:
    pool = make_pool()
    values = naive_values(pool, size, cohesion)
    found = select(pool, size=size, cohesion=cohesion, near_copies="allow", top=3)
    assert found.exhaustive
    assert found.search == "exact"
    assert found.evaluated == len(values)
    assert found.value == pytest.approx(max(values.values()), abs=1e-9)
    assert values[found.members] == pytest.approx(found.value, abs=1e-9)
    best = sorted(values.values(), reverse=True)[:3]
    assert [listed.value for listed in found.ranking] == pytest.approx(best, abs=1e-9)


def test_e_leep_is_the_best_by_enumeration() -> None:
    pool = make_pool()
    eep = np.stack(pool.eep)
    values = {
        ensemble: np.log(eep[list(ensemble)].mean(axis=0)).mean() for ensemble in itertools.combinations(range(8), 3)
    }
    found = select(pool, size=3, method="e_leep")
    assert found.value == pytest.approx(max(values.values()), rel=1e-12)
    assert found.terms_used == ("e_leep",)


def test_ms_leep_picks_the_best_single_models() -> None:
    pool = make_pool()
    leep = np.log(np.stack(pool.eep)).mean(axis=1)
    found = select(pool, size=3, method="ms_leep")
    assert set(found.members) == {pool.names[index] for index in np.argsort(-leep)[:3]}
    assert found.best_single == Single(pool.names[int(np.argmax(leep))], pytest.approx(leep.max()))


def test_greedy_follows_the_largest_gain_and_reports_its_gap() -> None:
    pool = make_pool()
    values = {size: naive_values(pool, size) for size in (1, 2, 3)}
    members: tuple[str, ...] = ()
    for size in (1, 2, 3):
        grown = {ensemble: value for ensemble, value in values[size].items() if set(members) <= set(ensemble)}
        members = max(grown, key=grown.__getitem__)
    found = select(pool, size=3, search="greedy")
    assert found.members == members
    assert found.gap == pytest.approx(max(values[3].values()) - values[3][members], abs=1e-9)
    assert found.rank == 1 + sum(value > found.value + 1e-9 for value in values[3].values())
    assert sum(step.gain for step in found.trace) == pytest.approx(found.value)
    assert any(note.startswith("no_guarantee:") for note in found.notes)


def test_greedy_is_not_always_best() -> None:
    # The best single model disagrees with everyone; the other two agree.
    table = np.array([[0, 9, 9], [9, 0, 1], [9, 1, 0]], dtype=float)
    pool = Pool(names=["loner", "left", "right"], task_difference=[0.0, 1.0, 1.0], disagreement=table)
    assert set(select(pool, size=2, weights={"cohesion": 2}).members) == {"left", "right"}
    greedy = select(pool, size=2, search="greedy", weights={"cohesion": 2})
    assert "loner" in greedy.members
    assert greedy.gap > 0
    assert greedy.rank == 2


@pytest.mark.parametrize("method", ["osborn", "ms_leep", "e_leep"])
@pytest.mark.parametrize("seed", range(4))
def test_local_search_finds_the_best_ensemble_of_small_pools(method: str, seed: int) -> None:
    pool = make_pool(models=10, seed=seed)
    found = select(pool, size=4, method=method, search="local")
    assert found.search == "local"
    assert found.gap == 0.0


def test_large_pools_are_searched_not_enumerated(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(models=12)
    exact = select(pool, size=4)
    monkeypatch.setattr("estimators.ensembles.search.EXACT_ENSEMBLES", 100)
    found = select(pool, size=4)
    assert not found.exhaustive
    assert found.members == exact.members
    assert 0 < found.evaluated < exact.evaluated
    with pytest.raises(CannotBeComputed, match="search='local'"):
        select(pool, size=4, search="exact")


def test_terms_standardised_over_ensembles_have_unit_spread() -> None:
    pool = make_pool()
    for weights in ({"task": 0, "cohesion": 0}, {"domain": 0, "cohesion": 0}, {"domain": 0, "task": 0}):
        for size in (2, 3, 5):
            found = select(pool, size=size, standardize="ensembles", weights=weights, near_copies="allow", top=100)
            values = [listed.value for listed in found.ranking]
            assert len(values) == found.evaluated
            assert np.std(values) == pytest.approx(1.0)
            assert np.mean(values) == pytest.approx(0.0, abs=1e-9)


def test_weights_and_raw_terms_add_up() -> None:
    pool = make_pool()
    found = score_ensemble(
        pool, ["model 1", "model 4"], standardize="none", weights={"domain": 0.5, "task": 2.0, "cohesion": 3.0}
    )
    h = np.asarray(pool.disagreement)
    cost = 0.5 * (pool.domain_difference[1] + pool.domain_difference[4])
    cost += 2.0 * (pool.task_difference[1] + pool.task_difference[4]) + 3.0 * (h[1, 4] + h[4, 1]) / 2
    assert found.value == pytest.approx(-cost)


def test_reported_terms_rebuild_the_value() -> None:
    found = select(make_pool(), size=3)
    cost = sum(m.domain_difference_standardized + m.task_difference_standardized for m in found.member_terms)
    cost += sum(p.cohesion_standardized for p in found.pair_terms)
    assert found.value == pytest.approx(-cost)
    for member in found.member_terms:
        scale = found.standardization["domain"]
        assert member.domain_difference_standardized == pytest.approx(
            (member.domain_difference - scale.mean) / scale.scale
        )
    for pair in found.pair_terms:
        assert pair.cohesion == pytest.approx((pair.first_given_second + pair.second_given_first) / 2)


def test_a_given_ensemble_is_ranked_among_all() -> None:
    pool = make_pool()
    values = naive_values(pool, 3)
    ensemble = ("model 0", "model 3", "model 6")
    found = score_ensemble(pool, ensemble[::-1])
    assert found.search == "given"
    assert found.members == ensemble
    assert found.value == pytest.approx(values[ensemble])
    assert found.rank == 1 + sum(value > values[ensemble] + 1e-9 for value in values.values())
    assert found.gap == pytest.approx(max(values.values()) - values[ensemble], abs=1e-9)


@pytest.mark.parametrize("members", [["model 0", "nobody"], ["model 0", "model 0"]])
def test_given_members_must_be_different_candidates(members: list[str]) -> None:
    with pytest.raises(InvalidEvidence, match="different names"):
        score_ensemble(make_pool(), members)


@pytest.mark.parametrize("search", ["exact", "local"])
@pytest.mark.parametrize("budget", [6.0, 9.0, 14.0])
def test_the_budget_is_kept(search: str, budget: float) -> None:
    pool = make_pool()
    costs = dict(zip(pool.names, pool.costs, strict=True))
    allowed = {t: v for t, v in naive_values(pool, 3).items() if sum(costs[name] for name in t) <= budget}
    if not allowed:
        with pytest.raises(CannotBeComputed, match="budget"):
            select(pool, size=3, search=search, budget=budget)
        return
    found = select(pool, size=3, search=search, budget=budget)
    assert found.value == pytest.approx(max(allowed.values()))
    assert found.evaluated <= len(allowed)
    assert found.cost == sum(costs[name] for name in found.members) <= budget


def test_greedy_leaves_enough_of_the_budget_for_a_full_ensemble() -> None:
    pool = make_pool(costs=[1, 1, 1, 9, 9, 9, 9, 9])
    found = select(pool, size=3, search="greedy", budget=11)
    assert found.cost <= 11


def test_a_budget_leaves_out_candidates_of_unknown_cost() -> None:
    pool = make_pool(costs=[None, *[1.0] * 7])
    found = select(pool, size=2, budget=2)
    assert found.left_out == {"model 0": "its cost is not known"}


def test_a_given_ensemble_over_budget_is_scored_with_a_note() -> None:
    found = score_ensemble(make_pool(costs=[5] * 8), ["model 0", "model 1"], budget=10, near_copies="allow")
    assert found.notes == ()
    over = score_ensemble(make_pool(costs=[5, 6, *[1] * 6]), ["model 0", "model 1"], budget=10)
    assert any(note.startswith("not_allowed:") for note in over.notes)


def test_a_term_counts_only_if_every_candidate_has_it() -> None:
    domain = [None, *make_pool().domain_difference[1:]]
    pool = make_pool(domain_difference=domain)
    found = select(pool, size=3)
    assert found.terms_used == ("task", "cohesion")
    assert any(note.startswith("term_dropped:") and "model 0" in note for note in found.notes)
    assert found.value == select(make_pool(), size=3, weights={"domain": 0}).value
    assert found.left_out == {}


def test_or_the_candidates_that_lack_it_are_left_out() -> None:
    full = make_pool()
    pool = make_pool(domain_difference=[None, *full.domain_difference[1:]])
    found = select(pool, size=3, missing="drop_models")
    assert found.left_out == {"model 0": "it has no domain term"}
    assert found.terms_used == ("domain", "task", "cohesion")
    kept = Pool(
        names=full.names[1:],
        domain_difference=full.domain_difference[1:],
        task_difference=full.task_difference[1:],
        disagreement=full.disagreement[1:, 1:],
    )
    assert found.value == pytest.approx(select(kept, size=3).value)
    with pytest.raises(CannotBeComputed, match="model 0 takes no part"):
        score_ensemble(pool, ["model 0", "model 1"], missing="drop_models")


def test_without_a_source_sample_two_terms_select() -> None:
    found = select(make_pool(domain_difference=None), size=3)
    assert found.terms_used == ("task", "cohesion")
    assert any(note == "term_missing: no candidate has the domain term" for note in found.notes)


def test_a_model_without_a_classifier_has_no_pairs() -> None:
    full = make_pool()
    table = np.array(full.disagreement)
    table[2, :] = table[:, 2] = np.nan
    task = [*full.task_difference[:2], None, *full.task_difference[3:]]
    pool = make_pool(disagreement=table, task_difference=task)
    assert select(pool, size=3).terms_used == ("domain",)
    dropped = select(pool, size=3, missing="drop_models")
    assert set(dropped.left_out) == {"model 2"}
    assert dropped.terms_used == ("domain", "task", "cohesion")
    by_leep = select(make_pool(eep=[*full.eep[:2], None, *full.eep[3:]]), size=3, method="e_leep")
    assert by_leep.left_out == {"model 2": "it has no source classifier"}


def copies_pool() -> tuple[Pool, np.ndarray]:
    generator = np.random.default_rng(0)
    one, two = generator.dirichlet(np.ones(5), (2, 60))
    nearly = one.copy()
    nearly[0] = one[0][::-1]
    other_space = one[:, [3, 1, 4, 0, 2]]
    labels = generator.integers(0, 3, 60)
    pool = build_pool(
        names=["one", "two", "near copy", "other space"],
        labels=labels,
        source_probabilities=[one, two, nearly, other_space],
        label_spaces=["a", "a", "a", "b"],
    )
    return pool, labels


def test_near_copies_are_named_and_not_paired() -> None:
    pool, _ = copies_pool()
    found = select(pool, size=2)
    named = {(pair.first, pair.second) for pair in found.near_copies}
    assert ("one", "other space") in named
    assert ("one", "near copy") in named
    assert all("two" not in pair for pair in named)
    assert not named & {found.members}
    assert any(note.startswith("near_copies:") and "one" in note for note in found.notes)


def test_a_model_that_predicts_one_class_is_named() -> None:
    found = select(make_pool(entropy=[0.0, *[2.0] * 7]), size=2)
    assert [note for note in found.notes if note.startswith("constant_predictions: model 0 predict")]
    assert not any(note.startswith("constant_predictions:") for note in select(make_pool(), size=2).notes)


def test_models_that_predict_one_class_each_are_no_copies() -> None:
    pool = Pool(
        names=("silent", "mute", "speaks"),
        task_difference=[1.0, 1.1, 0.5],
        disagreement=np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.7, 0.7, 0.0]]),
        entropy=[0.0, 0.0, 0.7],
    )
    assert select(pool, size=2).near_copies == ()


def test_allowed_copies_are_the_most_cohesive_pair() -> None:
    pool, _ = copies_pool()
    found = select(pool, size=2, near_copies="allow", weights={"task": 0})
    assert found.members == ("one", "other space")
    assert found.near_copies
    forbidden = score_ensemble(pool, ["one", "other space"])
    assert any(note.startswith("not_allowed:") for note in forbidden.notes)


def test_copies_are_found_without_predictions() -> None:
    full = make_pool()
    pool = Pool(names=full.names, eep=[full.eep[0], *full.eep[:7]])
    found = select(pool, size=2, method="e_leep")
    assert [(pair.first, pair.second) for pair in found.near_copies] == [("model 0", "model 1")]


def test_a_pool_of_copies_alone_has_no_ensemble() -> None:
    pool = Pool(names=["a", "b"], task_difference=[1.0, 2.0], disagreement=np.zeros((2, 2)))
    with pytest.raises(CannotBeComputed, match="near_copies='allow'"):
        select(pool, size=2)
    assert select(pool, size=2, near_copies="allow").members == ("a", "b")


def test_the_paper_preset_is_greedy_and_keeps_copies() -> None:
    pool, _ = copies_pool()
    found = select(pool, size=2, preset="paper")
    assert found.search == "greedy"
    assert not any("no ensemble holds both" in note for note in found.notes)
    assert select(pool, size=2, preset="paper", search="exact").search == "exact"
    assert module.PRESETS["paper"]["task_difference"] == {"direction": "predictions_given_labels"}


@both_kinds
def test_build_pool_computes_every_term(kind: Kind) -> None:
    _, data = recorded()
    generator = np.random.default_rng(0)
    names = ["a", "b", "without classifier"]
    features = [generator.normal(size=(300, 4)) for _ in names]
    source = [generator.normal(size=(50, 4)), None, generator.normal(size=(50, 4))]
    probabilities = [kind(data["probs_0"]), kind(data["probs_3"]), None]
    pool = build_pool(
        names=names,
        labels=kind(data["labels"]),
        source_probabilities=probabilities,
        features=[kind(one) for one in features],
        source_features=[None if one is None else kind(one) for one in source],
        label_spaces=["x", "x", None],
        costs=[1.0, 2.0, 3.0],
    )
    expected = [
        float(
            estimators.domain_difference(source_features=source[index], features=features[index], labels=data["labels"])
        )
        for index in (0, 2)
    ]
    assert [pool.domain_difference[0], pool.domain_difference[2]] == pytest.approx(expected, rel=1e-12)
    assert pool.domain_difference[1] is None
    assert pool.task_difference[2] is None
    rows = [data["probs_0"].argmax(axis=1), data["probs_3"].argmax(axis=1)]
    np.testing.assert_allclose(
        np.asarray(pool.disagreement)[:2, :2], estimators.disagreement(source_labels=rows), atol=1e-14
    )
    assert np.isnan(pool.disagreement[2]).all()
    assert pool.agreement[0, 1] == pytest.approx(np.mean(rows[0] == rows[1]))
    assert select(pool, size=2, method="e_leep").members == ("a", "b")


def test_selections_are_plain_json() -> None:
    text = json.dumps(dataclasses.asdict(select(make_pool(), size=2)), allow_nan=False)
    assert json.loads(text)["size"] == 2


def test_constant_terms_decide_nothing() -> None:
    found = select(make_pool(domain_difference=[3.0] * 8), size=2)
    assert any(note.startswith("constant:") for note in found.notes)
    assert found.value == pytest.approx(select(make_pool(domain_difference=None), size=2).value)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"domain_difference": [1.0]}, {}, "8 finite numbers"),
        ({"disagreement": np.zeros((3, 3))}, {}, "8 x 8"),
        ({"names": ["same"] * 8}, {}, "names must differ"),
        ({"eep": [[0.5]]}, {"method": "e_leep"}, "8 vectors"),
        ({"eep": [[0.5]] * 7 + [[0.5, 0.5]]}, {"method": "e_leep"}, "same target images"),
        ({"eep": [[0.0]] * 8}, {"method": "e_leep"}, "positive numbers"),
    ],
)
def test_pools_that_do_not_fit_are_refused(changes: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvidence, match=message):
        select(make_pool(**changes), size=2, **arguments)


def test_a_hole_in_the_pairs_is_refused() -> None:
    table = np.array(make_pool().disagreement)
    table[1, 4] = np.nan
    with pytest.raises(InvalidEvidence, match="every pair"):
        select(make_pool(disagreement=table), size=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"size": 2, "method": "leep"}, "method must be one of"),
        ({"size": 2, "search": "random"}, "search must be one of"),
        ({"size": 2, "weights": {"domian": 1}}, "weights must be one of"),
        ({"size": 2, "weights": {"task": -1}}, "at least 0"),
        ({"size": 2, "weights": {"task": 1}, "method": "e_leep"}, "has no terms to weigh"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(make_pool(), **arguments)


def test_more_members_than_candidates_cannot_be() -> None:
    with pytest.raises(CannotBeComputed, match="8 of 8"):
        select(make_pool(), size=9)


def test_a_pool_without_terms_cannot_select() -> None:
    with pytest.raises(CannotBeComputed, match="drop_models"):
        select(Pool(names=["a", "b"], task_difference=[None, 1.0]), size=1)


@pytest.mark.parametrize("metric", [ms_leep, e_leep])
def test_no_models_are_refused(metric: Any) -> None:
    with pytest.raises(InvalidEvidence, match="at least one model"):
        metric(source_probabilities=[], labels=[0, 1])


def test_the_scale_free_preset_compares_models_of_unlike_scale() -> None:
    """Two models that see the same, one in larger numbers: only a W_D with a unit tells them apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    features, source = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) + 1
    for preset, alike in (("default", False), ("scale_free", True)):
        pool = build_pool(
            names=["small", "large"],
            labels=labels,
            source_probabilities=[None, None],
            features=[features, 10 * features],
            source_features=[source, 10 * source],
            preset=preset,
        )
        small, large = pool.domain_difference
        assert (small == pytest.approx(large, rel=1e-9)) is alike
