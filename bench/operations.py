"""The operations on citizens beside their limits: each experiment is a set of contenders and what is compared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import count

import msgspec

from bench.bars import Bar
from bench.client import Connection, ask_together
from bench.limits import Bare, Disk
from bench.rounds import Contender
from kinfolk.modules.citizens.register import Register, read_register

CLIENTS = 8
CITIZEN_ID = 1  # the first of `kinfolk generate`
PATCHES_A_CLIENT = 40
REPEATS = 10
UNCHANGED = 800
SYNCS = 100
DISK = "one page after another on disk"
OURS, OTHER = "Kinfolk", "the other"


@dataclass(frozen=True)
class Comparison:
    """`subject` beside `limit`, both names of contenders, by their medians or by their p99; or by itself."""

    subject: str
    limit: str | None
    bar: Bar | None = None
    is_by_p99: bool = False


@dataclass(frozen=True)
class Experiment:
    """Contenders that alternate, and which of them to compare."""

    name: str
    contenders: list[Contender]
    comparisons: list[Comparison]


@dataclass(frozen=True)
class Scene:
    """What all experiments share."""

    document: bytes
    register: Register
    today: date
    bare: Bare
    disk: Disk
    files_url: str
    """nginx: the file `answer` has the bytes of the citizens' GET, `small` hardly any."""


class Service:
    """A server of the citizens' API with an import of the scene's register, and eight more for eight clients."""

    def __init__(self, name: str, url: str, document: bytes) -> None:
        self.name = name
        self.connections = [Connection(url) for _ in range(CLIENTS)]
        self._one = self.connections[0]
        self._posting = self._one.request("POST", "/imports", document)
        self._names = count()
        self.import_ids = [self.post() for _ in range(CLIENTS)]
        self.import_id = self.import_ids[0]
        self.tag: str | None = None

    def close(self) -> None:
        for connection in self.connections:
            connection.close()

    def getting(self, answer: str, import_id: int | None = None, **headers: str) -> bytes:
        return self._one.request("GET", f"/imports/{import_id or self.import_id}/{answer}", b"", **headers)

    def renaming(self, import_id: int) -> bytes:
        """Never the same name twice."""
        body = msgspec.json.encode({"name": f"Иванова Мария {next(self._names)}"})
        return self._one.request("PATCH", f"/imports/{import_id}/citizens/{CITIZEN_ID}", body)

    def post(self) -> int:
        body = self._one.ask(self._posting, 201, is_kept=True).body
        return int(msgspec.json.decode(body)["data"]["import_id"])

    def delete(self, import_id: int) -> None:
        self._one.ask(self._one.request("DELETE", f"/imports/{import_id}"), 204)

    def body(self, answer: str) -> bytes:
        return self._one.ask(self.getting(answer), 200, is_kept=True).body

    def get(self, answer: str, import_id: int | None = None) -> None:
        self._one.ask(self.getting(answer, import_id), 200)

    def patch(self) -> None:
        self._one.ask(self.renaming(self.import_id), 200)

    def patch_together(self, import_ids: Sequence[int]) -> None:
        wishes = [[self.renaming(import_id) for _ in range(PATCHES_A_CLIENT)] for import_id in import_ids]
        ask_together(self.connections, wishes, 200)

    def renew_tag(self) -> bool:
        """Note the entity tag that now stands; returns whether there is one."""
        self.tag = self._one.ask(self.getting("citizens"), 200).tag
        return self.tag is not None

    def see_unchanged(self, clients: int, each: int) -> None:
        asking = self.getting("citizens", if_none_match=self.tag or "")
        ask_together(self.connections[:clients], [[asking] * each] * clients, 304)


def experiments(scene: Scene, services: Sequence[Service]) -> Iterator[Experiment]:
    """In the order of the contract; ours comes first among the services."""
    import_id = scene.bare.copy(scene.register)
    scene.bare.analyze()
    yield _posts(scene, services)
    yield _deletes(scene, services[0])
    yield _reads(scene, services, import_id)
    yield _answers(services, "birthdays", "citizens/birthdays", "bare SQL", partial(scene.bare.birthdays, import_id))
    yield _answers(
        services,
        "percentiles",
        "towns/stat/percentile/age",
        "bare SQL",
        partial(scene.bare.percentiles, import_id, scene.today),
    )
    yield _patches(scene, services, import_id)
    yield _patches_together(scene, services)
    yield _unchanged(scene, services, 1)
    yield _unchanged(scene, services, CLIENTS)


def _posts(scene: Scene, services: Sequence[Service]) -> Experiment:
    limits = [
        Contender("bare COPY in one transaction", partial(scene.bare.copy, scene.register)),
        Contender("decode and check alone", partial(read_register, scene.document, scene.today)),
    ]
    return Experiment(
        f"POST of {len(scene.register.citizens):,}",
        [*(Contender(service.name, service.post) for service in services), *limits],
        [Comparison(OURS, limits[0].name, Bar("times", 2)), Comparison(OURS, limits[1].name), *_with_other(services)],
    )


def _deletes(scene: Scene, ours: Service) -> Experiment:
    """Only ours: the published API has none."""
    added: list[int] = []
    posting = Contender(f"{OURS}, POST of the same", lambda: added.append(ours.post()))
    removing = Contender(OURS, lambda: ours.delete(added.pop()), prepare=lambda: added.append(ours.post()))
    bare = Contender(
        "bare SQL",
        lambda: scene.bare.remove(added.pop()),
        prepare=lambda: added.append(scene.bare.copy(scene.register)),
    )
    return Experiment(
        f"DELETE of {len(scene.register.citizens):,}",
        [removing, posting, bare],
        [Comparison(OURS, posting.name, Bar("times", 1)), Comparison(OURS, bare.name)],
    )


def _reads(scene: Scene, services: Sequence[Service], import_id: int) -> Experiment:
    limits = [
        Contender("bare read", partial(scene.bare.read, import_id)),
        Contender("bare read and encode", partial(scene.bare.read_and_encode, import_id)),
        Contender("the same bytes from nginx", _from_nginx(scene.files_url), repeats=REPEATS),
    ]
    colds, warms = _cold_and_warm(services, "citizens")
    return Experiment(
        f"GET of {len(scene.register.citizens):,}",
        [*colds, *warms, *limits],
        [
            Comparison(f"{OURS}, cold", limits[0].name),
            Comparison(f"{OURS}, cold", limits[1].name, Bar("times", 1.3)),
            Comparison(f"{OURS}, warm", limits[2].name, Bar("times", 1.5)),
            *_with_other(services, ", cold", ", warm"),
        ],
    )


def _answers(services: Sequence[Service], name: str, answer: str, limit: str, bare: Callable[[], object]) -> Experiment:
    colds, warms = _cold_and_warm(services, answer)
    return Experiment(
        f"GET {name}",
        [*colds, *warms, Contender(limit, bare)],
        [
            Comparison(f"{OURS}, cold", limit, Bar("times", 1.2)),
            Comparison(f"{OURS}, warm", limit, Bar("most", 1.5)),
            *_with_other(services, ", cold", ", warm"),
        ],
    )


def _patches(scene: Scene, services: Sequence[Service], import_id: int) -> Experiment:
    names = count()
    limit = Contender(
        "bare SQL, one round trip",
        lambda: scene.bare.rename(import_id, CITIZEN_ID, f"Иванова Мария {next(names)}"),
        repeats=REPEATS,
    )
    return Experiment(
        "PATCH of a name",
        [*(Contender(service.name, service.patch, repeats=REPEATS) for service in services), limit],
        [Comparison(OURS, limit.name), *_with_other(services)],
    )


def _patches_together(scene: Scene, services: Sequence[Service]) -> Experiment:
    own_ids = [scene.bare.copy(scene.register) for _ in range(CLIENTS)]
    operations = CLIENTS * PATCHES_A_CLIENT
    spread, single = f"over {CLIENTS} imports", "on one import"
    contenders, comparisons = [], []
    for where, least, ids_of, bare_ids in (
        (spread, 2_500, lambda service: service.import_ids, own_ids),
        (single, 1_200, lambda service: [service.import_id] * CLIENTS, own_ids[:1] * CLIENTS),
    ):
        limit = f"bare SQL {where}"
        for service in services:
            asking = partial(service.patch_together, ids_of(service))
            contenders.append(Contender(f"{service.name}, {where}", asking, operations=operations))
        renaming = partial(scene.bare.rename_together, bare_ids, CITIZEN_ID, PATCHES_A_CLIENT, "Иванова Мария")
        contenders.append(Contender(limit, renaming, operations=operations))
        comparisons.append(Comparison(f"{OURS}, {where}", limit, Bar("least", least)))
        comparisons.append(Comparison(f"{OURS}, {where}", DISK))
    contenders.append(Contender(DISK, partial(scene.disk.write, SYNCS), operations=SYNCS))
    return Experiment(
        f"PATCH of a name, {CLIENTS} clients",
        contenders,
        [*comparisons, *_with_other(services, f", {spread}", f", {single}")],
    )


def _unchanged(scene: Scene, services: Sequence[Service], clients: int) -> Experiment:
    connections = [Connection(scene.files_url) for _ in range(clients)]
    small = connections[0].request("GET", "/small")
    asking = connections[0].request("GET", "/small", if_none_match=connections[0].ask(small, 200).tag or "")
    each = UNCHANGED // clients
    contenders = [
        Contender(service.name, partial(service.see_unchanged, clients, each), operations=UNCHANGED)
        for service in services
        if service.renew_tag()
    ]
    limit = Contender(
        "304 of nginx", partial(ask_together, connections, [[asking] * each] * clients, 304), operations=UNCHANGED
    )
    return Experiment(
        "304" if clients == 1 else f"304, {clients} clients",
        [*contenders, limit],
        [
            Comparison(OURS, limit.name, Bar("least", 5_000) if clients == CLIENTS else None),
            *_with_other(contenders),
        ],
    )


def _cold_and_warm(services: Sequence[Service], answer: str) -> tuple[list[Contender], list[Contender]]:
    """Cold: the first after a change, so that no answer kept from before will do."""
    asking = [partial(service.get, answer) for service in services]
    both = list(zip(services, asking, strict=True))
    return (
        [Contender(f"{service.name}, cold", ask, prepare=service.patch) for service, ask in both],
        [Contender(f"{service.name}, warm", ask, prepare=ask, repeats=REPEATS) for service, ask in both],
    )


def _with_other(services: Sequence[Service | Contender], *forms: str) -> list[Comparison]:
    others = [service.name for service in services if service.name != OURS]
    return [Comparison(f"{OURS}{form}", f"{other}{form}") for other in others for form in forms or ("",)]


def _from_nginx(files_url: str) -> Callable[[], object]:
    connection = Connection(files_url)
    asking = connection.request("GET", "/answer")
    return lambda: connection.ask(asking, 200)
