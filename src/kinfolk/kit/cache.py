"""Answers kept as bytes: one for each place, under the entity tag that says of which state it was made.

Whoever asks has learnt the tag that now stands, so what is kept can be superfluous and never stale.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Literal, TypeAlias

from kinfolk.kit.log import note
from kinfolk.kit.metrics import cache_metrics
from kinfolk.kit.settings import CacheSettings
from kinfolk.kit.shelf import Shelf

OVERHEAD_BYTES = 1_024  # what an answer takes beside its bytes, amply

Make: TypeAlias = Callable[[], Awaitable[tuple[str, bytes]]]
"""Makes an answer: its tag, which may be newer than the one asked for, and its bytes."""
Pack: TypeAlias = Callable[[bytes], Awaitable[bytes]]


class Kept:
    """An answer, and its packed forms by coding."""

    __slots__ = ("_cache", "body", "forms", "place", "tag")

    def __init__(self, cache: "Cache", place: str, tag: str, body: bytes) -> None:
        self._cache = cache
        self.place = place
        self.tag = tag
        self.body = body
        self.forms: dict[str, bytes] = {}

    @property
    def size_bytes(self) -> int:
        return OVERHEAD_BYTES + len(self.body) + sum(map(len, self.forms.values()))

    async def packed(self, coding: str, pack: Pack) -> bytes:
        """The body as `pack` packs it, which is done once."""
        return self.forms.get(coding) or await self._cache.pack(self, coding, pack)


class Cache:
    """Keeps answers of at most `limit_bytes`; those go first that were asked for the longest time ago.

    Behind it may stand a shelf, where answers wait that another process has made.
    """

    def __init__(self, limit_bytes: int = CacheSettings.cache_bytes, shelf: Shelf | None = None) -> None:
        self.shelf = shelf
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._answers: OrderedDict[str, Kept] = OrderedDict()
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._forgettings = 0
        self._metrics = cache_metrics()

    async def __aenter__(self) -> "Cache":
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self.shelf is not None:
            await self.shelf.close()

    async def answer(self, place: str, tag: str, make: Make) -> Kept:
        """The answer at `place` under `tag`, or a newer one; `make` is called where nobody has it or makes it already.

        What is asked at a place must depend on nothing but the place and the tag.
        """
        kept = self._answers.get(place)
        if kept is not None and kept.tag == tag:
            self._answers.move_to_end(place)
            self._found("memory")
            return kept
        found: Kept = await self._once((place, tag), partial(self._find, place, tag, make))
        return found

    async def pack(self, kept: Kept, coding: str, pack: Pack) -> bytes:
        """A packed form of what is kept, found on the shelf or made, and kept with it."""
        form: bytes = await self._once((kept.place, kept.tag, coding), partial(self._find_form, kept, coding, pack))
        return form

    async def forget(self, places: str = "", *, is_everywhere: bool = True) -> None:
        """Let go of all answers at places that begin so, here and on the shelf, and keep none that is made just now.

        They are not wrong, only superfluous: this is for what must not lie about any longer.
        """
        self._forgettings += 1
        for place in [place for place in self._answers if place.startswith(places)]:
            self._grow(-self._answers.pop(place).size_bytes)
        if self.shelf is not None and is_everywhere:
            await self.shelf.drop(_name(places))

    async def _find(self, place: str, tag: str, make: Make) -> Kept:
        forgettings = self._forgettings
        body = await self.shelf.take(_name(place, tag)) if self.shelf else None
        if body is not None:
            self._found("redis")
            kept = Kept(self, place, tag, body)
            return self._keep(kept) if forgettings == self._forgettings else kept
        self._found("nowhere")
        kept = Kept(self, place, *await make())
        if forgettings == self._forgettings:
            self._keep(kept)
            if self.shelf:
                self.shelf.put(_name(place, kept.tag), kept.body)
        return kept

    async def _find_form(self, kept: Kept, coding: str, pack: Pack) -> bytes:
        forgettings = self._forgettings
        name = _name(kept.place, kept.tag, coding)
        form = await self.shelf.take(name) if self.shelf else None
        if form is None:
            form = await pack(kept.body)
            if self.shelf and forgettings == self._forgettings:
                self.shelf.put(name, form)
        if self._answers.get(kept.place) is kept and kept.size_bytes + len(form) <= self._limit_bytes:
            kept.forms[coding] = form
            self._grow(len(form))
        return form

    def _keep(self, kept: Kept) -> Kept:
        """In place of what was there; an answer larger than everything together is not kept."""
        before = self._answers.pop(kept.place, None)
        self._grow(-before.size_bytes if before else 0)
        if kept.size_bytes <= self._limit_bytes:
            self._answers[kept.place] = kept
            self._grow(kept.size_bytes)
        return kept

    def _grow(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        while self.size_bytes > self._limit_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.size_bytes -= oldest.size_bytes
        self._metrics.hold(self.size_bytes)

    def _found(self, where: Literal["memory", "redis", "nowhere"]) -> None:
        self._metrics.count(where)
        note(cached=where)

    async def _once(self, name: Hashable, work: Callable[[], Awaitable[Any]]) -> Any:
        """What `work` gives, done once for all who ask while it is under way; it outlasts whoever asked first.

        Somebody else's failure is not the end: it is tried a second time, again for all who wait.
        """
        under_way = self._under_way.get(name)
        if under_way is not None:
            try:
                return await asyncio.shield(under_way)
            except Exception:
                under_way = self._under_way.get(name)
        if under_way is None:
            under_way = asyncio.ensure_future(work())
            under_way.add_done_callback(lambda _: self._under_way.pop(name))
            self._under_way[name] = under_way
        return await asyncio.shield(under_way)


def _name(place: str, *tag_and_coding: str) -> str:
    return ":".join(("kinfolk:answer", place, *(part.strip('"') for part in tag_and_coding)))
