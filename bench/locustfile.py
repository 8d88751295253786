"""The whole workflow for Locust: each user imports a register, reads it, corrects citizens and asks for both answers.

`python -m locust --locustfile bench/locustfile.py --host http://127.0.0.1:8080`, and the browser shows the rest; see
docs/performance.md. Whoever wants larger registers says `--citizens`.
"""

import random
from typing import Any

from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser

IMPORT, CITIZENS, CITIZEN = "/imports/[id]", "/imports/[id]/citizens", "/imports/[id]/citizens/[id]"
CORRECTIONS = 5


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--citizens", type=int, default=1_000, help="in the register of each user, 2 at least")


class Analyst(FastHttpUser):
    """Brings a register in which neighbours are relatives, works with it and takes it away, again and again.

    That is one task, so `--stop-timeout` lets whoever has begun come to the end.
    """

    wait_time = between(0.05, 0.2)

    @task
    def play(self) -> None:
        size = self.environment.parsed_options.citizens
        with self.rest("POST", "/imports", json={"citizens": register(size)}) as answer:
            if answer.status_code != 201:
                return
            place = f"/imports/{answer.js['data']['import_id']}"
        self.read(place, size)
        for _ in range(CORRECTIONS):
            self.correct(place, size)
        self.ask_birthdays(place)
        self.ask_ages(place)
        self.client.delete(place, name=IMPORT)

    def read(self, place: str, size: int) -> None:
        with self.rest("GET", f"{place}/citizens", name=CITIZENS) as answer:
            if len(answer.js["data"]) != size:
                answer.failure("citizens are missing")

    def correct(self, place: str, size: int) -> None:
        """A name, or kinship, whose other side must follow; the answer says how the citizen now stands."""
        citizen_id = random.randint(1, size)
        relatives = random.sample(range(1, size + 1), random.randint(0, 2))
        change: dict[str, Any] = random.choice([{"name": f"Ada {random.random()}"}, {"relatives": sorted(relatives)}])
        with self.rest("PATCH", f"{place}/citizens/{citizen_id}", name=CITIZEN, json=change) as answer:
            if not change.items() <= answer.js["data"].items():
                answer.failure(f"asked for {change}, got {answer.js}")

    def ask_birthdays(self, place: str) -> None:
        with self.rest("GET", f"{place}/citizens/birthdays", name=f"{CITIZENS}/birthdays") as answer:
            if len(answer.js["data"]) != 12:
                answer.failure("months are missing")

    def ask_ages(self, place: str) -> None:
        ages = "towns/stat/percentile/age"
        with self.rest("GET", f"{place}/{ages}", name=f"{IMPORT}/{ages}") as answer:
            if not all(town["p50"] <= town["p75"] <= town["p99"] for town in answer.js["data"]):
                answer.failure("ages are out of order")


def register(size: int) -> list[dict[str, Any]]:
    """Citizens 1, 2, …: each odd one is tied to the next."""
    return [
        {
            "citizen_id": number,
            "town": f"Town {number % 40}",
            "street": "Mill Lane",
            "building": f"{number % 90}a",
            "apartment": number,
            "name": f"Ada Hill {number}",
            "birth_date": f"{number % 28 + 1:02}.{number % 12 + 1:02}.{1940 + number % 80}",
            "gender": "female" if number % 2 else "male",
            "relatives": [other for other in (number + 1 if number % 2 else number - 1,) if other <= size],
        }
        for number in range(1, size + 1)
    ]
