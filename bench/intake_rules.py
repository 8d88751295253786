"""What checking a register costs beside bare decoding: `python bench/intake_rules.py`, with src on the path."""

import random
import statistics
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import msgspec

from kinfolk.modules.citizens.answers import presents_by_month
from kinfolk.modules.citizens.register import InvalidCitizens, NewImport, read_register

TODAY = date(2026, 1, 1)


def typical_register(size: int = 10_000) -> bytes:
    """Two or three relatives each, Cyrillic, about 2.5 MB."""
    chance = random.Random(1)
    kin: dict[int, set[int]] = {citizen_id: set() for citizen_id in range(1, size + 1)}
    for one, relatives in kin.items():
        for _ in range(chance.choice((1, 1, 1, 2))):
            other = min(size, max(1, one + chance.randint(-50, 50)))
            relatives.add(other)
            kin[other].add(one)
    citizens = [
        {
            "citizen_id": citizen_id,
            "town": f"Город {chance.randrange(40)}",
            "street": f"улица Льва Толстого {chance.randrange(800)}",
            "building": f"{chance.randint(1, 200)}к{chance.randint(1, 9)}стр{chance.randint(1, 5)}",
            "apartment": chance.randint(1, 400),
            "name": f"Иванова {chance.choice(('Анна', 'Мария', 'Ольга'))} Сергеевна",
            "birth_date": f"{date(1935, 1, 1) + timedelta(days=chance.randrange(30_000)):%d.%m.%Y}",
            "gender": "female",
            "relatives": sorted(relatives),
        }
        for citizen_id, relatives in kin.items()
    ]
    return msgspec.json.encode({"citizens": citizens})


def milliseconds(work: Callable[[], object], rounds: int = 25) -> float:
    """Of CPU time: neighbours on the machine count for less."""
    durations = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        durations.append(time.process_time() - start)
    return statistics.median(durations) * 1000


def refused(body: bytes) -> None:
    try:
        read_register(body, TODAY)
    except InvalidCitizens:
        return
    raise SystemExit("a wrong register was taken")


def main() -> None:
    body = typical_register()
    bare = milliseconds(partial(msgspec.json.Decoder(NewImport).decode, body))
    checked = milliseconds(partial(read_register, body, TODAY))
    examined = milliseconds(partial(refused, body.replace(b'"female"', b'"woman"', 1)), rounds=3)
    register = read_register(body, TODAY)
    months = {row[0]: row[6].month for row in register.citizens}
    presents = milliseconds(partial(presents_by_month, months, register.ties))
    print(f"{len(body):,} bytes, {len(register.citizens):,} citizens, {len(register.ties):,} ties; medians of CPU time")
    print(f"bare msgspec decode  {bare:7.1f} ms   1.0")
    print(f"decoded and checked  {checked:7.1f} ms   {checked / bare:.1f}")
    print(f"wrong, all examined  {examined:7.1f} ms   {examined / bare:.1f}")
    print(f"presents by month    {presents:7.1f} ms   {presents / bare:.1f}")


if __name__ == "__main__":
    main()
