"""The rules of kinship: it is two-way, so a tie is one unordered pair; oneself may be one's own relative."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

Tie = tuple[int, int]
"""(low_id, high_id), with low_id = high_id for whoever lists oneself."""


class Kin(Struct, frozen=True, gc=False):
    """Whom one citizen of a document lists, as far as it can be read."""

    place: int
    """Which citizen of the document this is."""
    citizen_id: int
    relatives: list[tuple[int, int]]
    """The place in the list, and the id there."""
    is_whole: bool
    """Whether every item of the list could be read."""


def tie_changes(now: set[int], wanted: set[int]) -> tuple[set[int], set[int]]:
    """Whom to tie and whom to untie so that `now` becomes `wanted`."""
    return wanted - now, now - wanted


def two_way_ties(citizen_ids: Sequence[int], relatives: Sequence[Sequence[int]]) -> list[Tie] | None:
    """Each tie once; or None where a relative is repeated, unknown, or does not list this citizen too.

    The ids must be unique. An unknown relative needs no check of its own: it lists nobody.
    """
    ties = [(low, high) for low, theirs in zip(citizen_ids, relatives, strict=True) for high in theirs if low <= high]
    unanswered = set(ties)
    if len(unanswered) != len(ties):
        return None
    answers = ((low, high) for high, theirs in zip(citizen_ids, relatives, strict=True) for low in theirs if low < high)
    try:
        deque(map(unanswered.remove, answers), maxlen=0)
    except KeyError:
        return None
    return ties if all(low == high for low, high in unanswered) else None


def kinship_faults(families: Sequence[Kin], *, is_everyone_known: bool) -> Iterator[tuple[int, int, str]]:
    """Every relative that should not be listed: the citizen's place, the relative's place, a sentence.

    Nothing is held against a list because of what could not be read: whoever may stand there is given the benefit
    of the doubt, and a relative is unknown only if the ids of all citizens could be read.
    """
    listed: defaultdict[int, set[int]] = defaultdict(set)
    in_doubt = {kin.citizen_id for kin in families if not kin.is_whole}
    for kin in families:
        listed[kin.citizen_id].update(relative for _, relative in kin.relatives)
    for kin in families:
        repeated = dict(repeats(kin.relatives))
        for place, relative in kin.relatives:
            if place in repeated:
                yield kin.place, place, repeated[place]
            elif relative not in listed:
                if is_everyone_known:
                    yield kin.place, place, f"there is no citizen {relative} in this import"
            elif kin.citizen_id not in listed[relative] and relative not in in_doubt:
                yield kin.place, place, f"citizen {relative} does not list {kin.citizen_id} as a relative"


def repeats(relatives: Iterable[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """The places in one list of a relative who stands there already, each with a sentence."""
    seen: set[int] = set()
    for place, relative in relatives:
        if relative in seen:
            yield place, f"citizen {relative} is listed already"
        seen.add(relative)
