"""The whole workflow for Locust: each user imports a register, reads it, corrects citizens and asks for both answers.

`python -m locust --locustfile bench/locustfile.py --host http://127.0.0.1:8080`, and the browser shows the rest; see
docs/performance.md. Whoever wants larger registers says `--citizens`.
"""

import random
from typing import Any

from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser

ONE, OTHER = "/imports/[id]", "/imports/[id]/citizens/[id]"


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    parser.add_argument("--citizens", type=int, default=1_000, help="in the register of each user, 2 at least")


class Analyst(FastHttpUser):
    """Keeps one import, in which neighbours are relatives, and takes it away in the end."""

    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        self.size = self.environment.parsed_options.citizens
        with self.rest("POST", "/imports", json={"citizens": register(self.size)}) as answer:
            self.place = f"/imports/{answer.js['data']['import_id']}"

    def on_stop(self) -> None:
        self.client.delete(self.place, name=ONE)

    @task(4)
    def read(self) -> None:
        with self.rest("GET", f"{self.place}/citizens", name=f"{ONE}/citizens") as answer:
            if len(answer.js["data"]) != self.size:
                answer.failure("citizens are missing")

    @task(4)
    def correct(self) -> None:
        """A name, or kinship, whose other side must follow; the answer says how the citizen now stands."""
        citizen_id = random.randint(1, self.size)
        relatives = random.sample(range(1, self.size + 1), random.randint(0, 2))
        change: dict[str, Any] = random.choice([{"name": f"Ada {random.random()}"}, {"relatives": sorted(relatives)}])
        with self.rest("PATCH", f"{self.place}/citizens/{citizen_id}", name=OTHER, json=change) as answer:
            if not change.items() <= answer.js["data"].items():
                answer.failure(f"asked for {change}, got {answer.js}")

    @task(1)
    def ask_birthdays(self) -> None:
        with self.rest("GET", f"{self.place}/citizens/birthdays", name=f"{ONE}/citizens/birthdays") as answer:
            if len(answer.js["data"]) != 12:
                answer.failure("months are missing")

    @task(1)
    def ask_ages(self) -> None:
        place = "towns/stat/percentile/age"
        with self.rest("GET", f"{self.place}/{place}", name=f"{ONE}/{place}") as answer:
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
