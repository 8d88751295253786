from hypothesis import given, settings
from hypothesis import strategies as st

from kinfolk.modules.citizens.kinship import Kin, kinship_faults, repeats, tie_changes, two_way_ties

IDS = st.integers(0, 6)
FAMILIES = st.dictionaries(IDS, st.lists(IDS, max_size=5), max_size=6)
TIES = st.sets(st.tuples(IDS, IDS).map(lambda pair: (min(pair), max(pair))))


def families_of(ties: set[tuple[int, int]]) -> dict[int, list[int]]:
    families: dict[int, list[int]] = {citizen_id: [] for citizen_id in range(7)}
    for low, high in ties:
        families[low].append(high)
        if low != high:
            families[high].append(low)
    return families


def faults(families: dict[int, list[int]]) -> list[tuple[int, int, str]]:
    kin = [
        Kin(place, citizen_id, list(enumerate(relatives)), is_whole=True)
        for place, (citizen_id, relatives) in enumerate(families.items())
    ]
    return list(kinship_faults(kin, is_everyone_known=True))


@given(st.sets(IDS), st.sets(IDS))
def test_changes_turn_one_set_into_the_other_and_touch_nothing_else(now: set[int], wanted: set[int]) -> None:
    tie, untie = tie_changes(now, wanted)
    assert (now | tie) - untie == wanted
    assert not tie & now
    assert untie <= now


@settings(deadline=None)
@given(TIES)
def test_two_way_kinship_gives_each_tie_once(ties: set[tuple[int, int]]) -> None:
    families = families_of(ties)
    found = two_way_ties(list(families), list(families.values()))
    assert found is not None
    assert sorted(found) == sorted(ties)
    assert faults(families) == []


@settings(deadline=None)
@given(FAMILIES)
def test_the_check_agrees_with_a_naive_one_and_with_the_faults_named(families: dict[int, list[int]]) -> None:
    naive = {
        (place, position)
        for place, (citizen_id, relatives) in enumerate(families.items())
        for position, relative in enumerate(relatives)
        if relative in relatives[:position] or citizen_id not in families.get(relative, [])
    }
    assert {fault[:2] for fault in faults(families)} == naive
    assert (two_way_ties(list(families), list(families.values())) is None) == bool(naive)


@settings(deadline=None)
@given(TIES.filter(bool), st.data())
def test_a_single_half_of_a_tie_is_found(ties: set[tuple[int, int]], data: st.DataObject) -> None:
    families = families_of(ties)
    low, high = data.draw(st.sampled_from(sorted(ties)))
    families[low].remove(high)
    expected = [] if low == high else [f"citizen {low} does not list {high} as a relative"]
    assert [sentence for _, _, sentence in faults(families)] == expected
    assert (two_way_ties(list(families), list(families.values())) is None) == (low != high)


def test_repeats_on_the_answering_side_are_found_too() -> None:
    assert two_way_ties([1, 2, 3], [[2, 3], [1], [1]]) == [(1, 2), (1, 3)]
    assert two_way_ties([1, 2, 3], [[2, 3], [1, 1], []]) is None
    assert two_way_ties([1, 2], [[2, 2], [1, 1]]) is None
    assert two_way_ties([1], [[1, 1]]) is None


def test_doubt_speaks_for_the_listed_one() -> None:
    one_sided = Kin(0, 1, [(0, 2)], is_whole=True)
    assert list(kinship_faults([one_sided, Kin(1, 2, [], is_whole=True)], is_everyone_known=True))
    assert not list(kinship_faults([one_sided, Kin(1, 2, [], is_whole=False)], is_everyone_known=True))
    assert list(kinship_faults([one_sided], is_everyone_known=True))
    assert not list(kinship_faults([one_sided], is_everyone_known=False))


def test_repeats_are_named_from_the_second_time_on() -> None:
    assert list(repeats([(0, 5), (1, 6), (3, 5), (4, 5)])) == [
        (3, "citizen 5 is listed already"),
        (4, "citizen 5 is listed already"),
    ]
