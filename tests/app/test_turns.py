"""Turns are given fairly, waiting is bounded, and who goes away holds nobody up."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from app.errors import Unavailable
from app.services.turns import Turns


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_owners_take_turns_whatever_each_has_waiting() -> None:
    async def test() -> None:
        turns = Turns(1, waiting_limit=100, limit_seconds=10)
        order: list[str] = []

        async def work(owner: str) -> None:
            await turns.take(owner)
            order.append(owner)
            turns.give_back()

        await turns.take("first")
        waiting = [asyncio.ensure_future(work(owner)) for owner in "aaaabac"]
        await settle()
        turns.give_back()
        await asyncio.gather(*waiting)
        assert order == ["a", "b", "c", "a", "a", "a", "a"]

    run(test())


def test_as_many_at_once_as_there_are() -> None:
    async def test() -> None:
        turns = Turns(2, waiting_limit=10, limit_seconds=10)
        await turns.take("a")
        await turns.take("a")
        third = asyncio.ensure_future(turns.take("a"))
        await settle()
        assert not third.done()
        turns.give_back()
        await third

    run(test())


def test_when_too_many_wait_the_one_with_most_loses_its_newest() -> None:
    async def test() -> None:
        turns = Turns(1, waiting_limit=3, limit_seconds=10)
        await turns.take("a")
        greedy = [asyncio.ensure_future(turns.take("a")) for _ in range(3)]
        await settle()
        modest = asyncio.ensure_future(turns.take("b"))
        await settle()
        assert [task.done() for task in greedy] == [False, False, True]
        with pytest.raises(Unavailable) as caught:
            await greedy[2]
        assert caught.value.headers == {"Retry-After": "10"}
        with pytest.raises(Unavailable):
            await turns.take("a")
        assert not modest.done()
        for _ in range(3):
            turns.give_back()
            await settle()
        await asyncio.gather(modest, *greedy[:2])

    run(test())


def test_no_turn_in_time_is_an_answer_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        turns = Turns(1, waiting_limit=3, limit_seconds=0.01)
        await turns.take("a")
        with pytest.raises(Unavailable):
            await turns.take("b")
        turns.give_back()
        await turns.take("b")

    run(test())


@pytest.mark.parametrize("moment", ["waiting", "its turn comes"])
def test_who_goes_away_holds_nobody_up(moment: str) -> None:
    async def test() -> None:
        turns = Turns(1, waiting_limit=3, limit_seconds=10)
        await turns.take("a")
        gone, next_one = (asyncio.ensure_future(turns.take("a")) for _ in range(2))
        await settle()
        if moment == "its turn comes":
            turns.give_back()
            gone.cancel()
        else:
            gone.cancel()
            await settle()
            turns.give_back()
        await asyncio.wait_for(next_one, 1)
        with pytest.raises(asyncio.CancelledError):
            await gone

    run(test())
