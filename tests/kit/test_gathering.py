"""Who asks while a round is under way goes into the next; nobody's fate is another's."""

import asyncio
from collections.abc import Sequence

import pytest

from kinfolk.kit import gathering as gathering_module
from kinfolk.kit.gathering import Gathering
from kinfolk.kit.log import facts, note, spent


class Doubling:
    """Doubles numbers, a round at a time, when it is let; what is below zero is refused."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.let = asyncio.Semaphore(0)

    async def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.rounds.append(numbers)
        await self.let.acquire()
        if 0 in numbers:
            raise ZeroDivisionError
        return [2 * number if number > 0 else ValueError(number) for number in numbers]


async def asked(gathering: Gathering[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    """Tasks that have asked, in this order."""
    tasks = [asyncio.create_task(gathering.ask(number)) for number in numbers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_meanwhile_goes_into_the_next_round() -> None:
    doubling = Doubling()
    gathering = Gathering(doubling, most=3)
    tasks = await asked(gathering, 1)
    tasks += await asked(gathering, 2, 3, 4, 5)
    assert doubling.rounds == [[1]]
    for _ in range(3):
        doubling.let.release()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10]
    assert doubling.rounds == [[1], [2, 3, 4], [5]]
    doubling.let.release()
    assert await gathering.ask(6) == 12, "it begins anew after a rest"


async def test_those_who_ask_at_once_are_together_at_once() -> None:
    doubling = Doubling()
    doubling.let.release()
    gathering = Gathering(doubling)
    assert await asyncio.gather(*map(gathering.ask, (1, 2, 3))) == [2, 4, 6]
    assert doubling.rounds == [[1, 2, 3]]


async def test_whoever_asks_again_in_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, rounds of one and of all others take turns."""
    monkeypatch.setattr(gathering_module, "PATIENCE", 20)
    monkeypatch.setattr(gathering_module, "MOST_PATIENCE_SECONDS", 1)
    rounds: list[list[int]] = []

    async def slowly(numbers: list[int]) -> list[int]:
        rounds.append(numbers)
        await asyncio.sleep(0.02)
        return numbers

    async def ask_again_and_again(number: int) -> None:
        for _ in range(3):
            await gathering.ask(number)

    gathering = Gathering(slowly)
    first = asyncio.create_task(ask_again_and_again(1))
    while not rounds:
        await asyncio.sleep(0)
    await asyncio.gather(first, *map(ask_again_and_again, (2, 3)))
    assert [sorted(each) for each in rounds] == [[1], [1, 2, 3], [1, 2, 3], [2, 3]]


async def test_a_refusal_is_for_the_one_who_asked() -> None:
    doubling = Doubling()
    doubling.let.release()
    gathering = Gathering(doubling)
    outcomes = await asyncio.gather(*map(gathering.ask, (1, -2, 3)), return_exceptions=True)
    assert outcomes[::2] == [2, 6]
    assert isinstance(outcomes[1], ValueError)


async def test_an_accident_is_everybodys_in_the_round_and_nobodys_after_it() -> None:
    doubling = Doubling()
    gathering = Gathering(doubling)
    first = await asked(gathering, 1, 0)
    second = await asked(gathering, 2)
    doubling.let.release()
    doubling.let.release()
    outcomes = await asyncio.gather(*first, *second, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, ZeroDivisionError, int]


async def test_too_few_answers_are_an_accident() -> None:
    async def forgetful(numbers: list[int]) -> list[int | Exception]:
        return [*numbers[1:]]

    with pytest.raises(AssertionError, match="an answer for each question"):
        await Gathering(forgetful).ask(1)


async def test_who_gives_up_harms_nobody() -> None:
    doubling = Doubling()
    gathering = Gathering(doubling)
    tasks = await asked(gathering, 1, 2)
    tasks += await asked(gathering, 3, 4)
    alone = await asked(gathering, 5)
    for gone in (tasks[0], tasks[2]):
        gone.cancel()
    for _ in range(2):
        doubling.let.release()
    outcomes = await asyncio.gather(*tasks, *alone, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["", "4", "", "8", "10"]
    assert doubling.rounds == [[1, 2], [4, 5]], "what was begun goes on, what was not is taken back"


async def test_a_round_that_all_have_left_is_not_begun() -> None:
    doubling = Doubling()
    gathering = Gathering(doubling)
    tasks = await asked(gathering, 1)
    (gone,) = await asked(gathering, 2)
    gone.cancel()
    doubling.let.release()
    assert await tasks[0] == 2
    await asyncio.sleep(0.05)  # longer than a round waits for others
    doubling.let.release()
    assert await gathering.ask(3) == 6
    assert doubling.rounds == [[1], [3]]


async def test_a_process_that_ends_leaves_nobody_waiting() -> None:
    doubling = Doubling()
    gathering = Gathering(doubling)
    tasks = await asked(gathering, 1)
    tasks += await asked(gathering, 2)
    assert gathering._rounds
    gathering._rounds.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    doubling.let.release()
    assert await gathering.ask(3) == 6


async def test_what_is_noted_and_spent_joins_the_line_of_each() -> None:
    async def noting(numbers: list[int]) -> list[int | Exception]:
        note(together=len(numbers))
        spent(0.5)
        return [*numbers]

    gathering = Gathering(noting)

    async def ask(number: int) -> dict[str, object]:
        with facts() as learnt:
            spent(0.25)
            note(number=await gathering.ask(number))
        return learnt

    assert await asyncio.gather(ask(1), ask(2)) == [
        {"db_ms": 750, "together": 2, "number": 1},
        {"db_ms": 750, "together": 2, "number": 2},
    ]
