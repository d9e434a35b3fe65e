"""What workflows share."""

from itertools import islice, pairwise

from workers.durable import growing_pauses


def test_first_look_comes_soon_and_none_much_later_than_the_wait_has_lasted() -> None:
    pauses = list(islice(growing_pauses(), 50))
    assert pauses[0] <= 0.1
    assert all(before <= after <= 2 * before for before, after in pairwise(pauses))
    assert max(pauses) == 2
