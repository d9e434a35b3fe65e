"""Every metric against the outputs of its authors' program, to 1e-9 relative."""

from typing import Any

import pytest

import estimators
from tests.reference.oracles import inputs, oracles

EXACT = 1e-9


def cases(*kinds: str) -> Any:
    found = [entry for kind in kinds for entry in oracles(kind)]
    return pytest.mark.parametrize("entry", found, ids=[entry["name"] for entry in found])


@cases("leep", "leep_tllib", "leep_parc")
def test_leep(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.leep(source_probabilities=data["source_probs"], labels=data["labels"], compat="author")
    assert float(score) == pytest.approx(entry["expected"], rel=EXACT)


@cases("nce", "nce_tllib")
def test_nce(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.nce(source_labels=data["source_labels"], labels=data["labels"], compat="author")
    assert float(score) == pytest.approx(entry["expected"], rel=EXACT)


@pytest.mark.parametrize(
    "entry", [e for e in oracles("tmi") if e["params"]["norm"] == "max"], ids=lambda entry: entry["name"]
)
def test_tmi(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.tmi(
        features=data["features"],
        labels=data["labels"],
        neighbors=entry["params"]["k"],
        floor=entry["params"]["min_dist"],
        compat="author",
    )
    assert float(score) == pytest.approx(entry["expected"]["score"], rel=EXACT)


@cases("logme_fixed_point")
def test_logme(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.logme(features=data["features"], labels=data["labels"], compat="author")
    assert float(score) == pytest.approx(entry["expected"], rel=EXACT)


@cases("logme_regression")
def test_logme_regression(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.logme(features=data["features"], targets=data["source_logits"][:, :2], compat="author")
    assert float(score) == pytest.approx(entry["expected"], rel=EXACT)


@cases("logme_icml", "logme_tllib")
def test_logme_default_is_the_evidence_that_the_form_without_the_bug_approaches_from_below(
    entry: dict[str, Any],
) -> None:
    data = inputs(entry["input_file"])
    value = float(estimators.logme(features=data["features"], labels=data["labels"]))
    assert entry["expected"] <= value <= entry["expected"] + 7e-3


@cases("hscore")
def test_h_score(entry: dict[str, Any]) -> None:
    data = inputs(entry["input_file"])
    score = estimators.h_score(features=data["features"], labels=data["labels"])
    assert float(score) == pytest.approx(entry["expected"], rel=EXACT)
