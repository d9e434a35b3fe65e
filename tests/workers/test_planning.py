"""What is left to do of a ranking, by plain values."""

from typing import Any

from app.contracts.question import EnsembleChoice, MetricChoice, SampleChoice
from app.contracts.rankings import Counters, EvidenceKeys, RankingRequest
from workers.ranking.planning import cells, plan


def question(**changes: Any) -> RankingRequest:
    values: dict[str, Any] = {
        "target": "d",
        "zoo": None,
        "metrics": (MetricChoice(name="leep"), MetricChoice(name="tmi")),
        "sample": SampleChoice(),
        "priority": "normal",
        "layers": (),
        "reference": None,
        "sources": {},
        "intervals": None,
        "ensembles": (),
        "given_ensembles": (),
    }
    return RankingRequest(**values | changes)


FIRST, SECOND = EvidenceKeys(target={"head": "a"}), EvidenceKeys(target={"head": "b"})
MODELS = {"first": FIRST, "second": SECOND}


def test_nothing_is_there() -> None:
    made = plan(question(), MODELS, set(), {})
    assert (made.extract, made.score, made.finished) == (("first", "second"), (), ())
    assert made.counters == Counters()


def test_evidence_that_is_there_is_only_scored() -> None:
    made = plan(question(), MODELS, {"a"}, {})
    assert (made.extract, made.score) == (("second",), ("first",))
    assert made.counters.evidence_reused == 1


def test_scores_that_are_known_need_no_evidence() -> None:
    known = {cell.key for cell in cells(question(), FIRST)}
    made = plan(question(), MODELS, set(), known)
    assert (made.extract, made.finished) == (("second",), ("first",))
    assert [cell.metric for cell in made.found["first"]] == ["leep", "tmi"]
    assert made.counters.scores_reused == 2


def test_ensembles_need_the_evidence_even_if_all_scores_are_known() -> None:
    asked = question(ensembles=(EnsembleChoice(),))
    known = {cell.key for cell in cells(asked, FIRST)}
    evidence = FIRST.model_copy(update={"source": {"head": "s"}})
    assert plan(asked, {"first": evidence}, {"a"}, known).extract == ("first",)
    assert plan(asked, {"first": evidence}, {"a", "s"}, known).finished == ("first",)


def test_inner_layers_have_metrics_of_features_alone() -> None:
    found = cells(question(), EvidenceKeys(target={"head": "a", "layer1": "c"}))
    assert [(cell.layer, cell.metric) for cell in found] == [("head", "leep"), ("head", "tmi"), ("layer1", "tmi")]


def test_only_metrics_that_use_a_reference_depend_on_it() -> None:
    asked = question(metrics=(MetricChoice(name="ped"), MetricChoice(name="tmi")))
    plain = {cell.metric: cell for cell in cells(asked, FIRST)}
    referred = {cell.metric: cell for cell in cells(asked, FIRST.model_copy(update={"reference": {"head": "r"}}))}
    assert (referred["ped"].reference_key, referred["tmi"].reference_key) == ("r", None)
    assert referred["ped"].key != plain["ped"].key
    assert referred["tmi"] == plain["tmi"]
