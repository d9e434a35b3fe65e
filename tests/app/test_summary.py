"""What is said of a ranking that has ended."""

from app.contracts.advice import AdvisedModel, Recommendation
from app.contracts.summary import Summary


def test_order_is_that_of_the_advice_where_there_is_one() -> None:
    advised = tuple(AdvisedModel(model_id=name, name=name, score=0, places={}, fine_tune=False) for name in "ba")
    advice = Recommendation(order=advised, fine_tune=(), evidence={}, text="")
    assert Summary(order=("a", "b"), recommendation=advice).advised_order == ("b", "a")


def test_order_is_the_consensus_where_there_is_no_advice() -> None:
    assert Summary(order=("a", "b")).advised_order == ("a", "b")
