"""The tree of refusals."""

import pickle
import re

import pytest

from kinfolk.kit import problems
from kinfolk.kit.problems import BadPlace, InvalidDocument, MethodNotAllowed, Problem, Unavailable
from kinfolk.modules.citizens.imports import NoSuchImport
from kinfolk.modules.citizens.register import InvalidCitizens

OURS = [kind for kind in problems.every_problem() if kind.__module__.startswith("kinfolk.")]
STATUS = {
    "BadInput": 400,
    "InvalidDocument": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "Conflict": 409,
    "PreconditionFailed": 412,
    "TooLarge": 413,
    "UnsupportedMediaType": 415,
    "Unprocessable": 422,
    "TooMany": 429,
    "BadGateway": 502,
    "Unavailable": 503,
    "GatewayTimeout": 504,
}


def test_the_tree_is_as_it_is_drawn() -> None:
    drawn = re.findall(r"[├└]── (\w+)(?: (\d+))?", problems.__doc__ or "")
    there = [kind for kind in OURS if kind.__module__ == problems.__name__ and kind is not Problem]
    assert [name for name, _ in drawn] == [kind.__name__ for kind in there]
    assert {kind.__name__: kind.status for kind in there} == STATUS
    assert all(int(status) == STATUS[name] for name, status in drawn if status)
    assert all(kind.mro()[1] is (problems.BadInput if kind is InvalidDocument else Problem) for kind in there)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_each_has_a_name_of_its_own_and_a_sentence_for_a_title(kind: type[Problem]) -> None:
    assert [other for other in OURS if other.kind() == kind.kind()] == [kind]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.kind())
    assert re.fullmatch(r"[A-Z].*[.?]", kind.title())
    assert 400 <= kind.status <= 599
    assert kind.title() not in [parent.title() for parent in kind.mro()[1:] if issubclass(parent, Problem)]


def test_the_body_has_the_members_of_the_rfc_and_the_facts() -> None:
    assert NoSuchImport(import_id=7).body() == {
        "type": "/problems/no-such-import",
        "title": "There is no such import.",
        "status": 404,
        "import_id": 7,
    }
    assert NoSuchImport("Gone.").body()["detail"] == "Gone."
    assert str(NoSuchImport("Gone.")) == "Gone."
    assert str(NoSuchImport()) == "There is no such import."


def test_a_thousand_bad_places_are_shown_and_all_are_counted() -> None:
    places = [BadPlace(f"/{number}", "is wrong") for number in range(1_001)]
    body = InvalidDocument(places).body()
    assert (len(body["errors"]), body["error_count"]) == (1_000, 1_001)
    assert InvalidDocument(places[:1], 5_000).body()["error_count"] == 5_000


def test_some_say_more_in_a_header() -> None:
    assert problems.Unauthorized().answer_headers() == {"www-authenticate": "Bearer"}
    assert MethodNotAllowed(["GET", "HEAD"]).answer_headers() == {"allow": "GET, HEAD"}
    assert Unavailable().answer_headers() == {"retry-after": "5"}
    assert Unavailable("Later.", retry_after_seconds=60, place="x").answer_headers() == {"retry-after": "60"}
    assert problems.NotFound().answer_headers() == {}


@pytest.mark.parametrize(
    "problem",
    [
        InvalidCitizens([BadPlace("/citizens", "is missing")], 3),
        MethodNotAllowed(["GET"]),
        Unavailable("Later.", retry_after_seconds=60),
        NoSuchImport(import_id=7),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_problem_comes_whole_out_of_another_process(problem: Problem) -> None:
    again = pickle.loads(pickle.dumps(problem))
    assert type(again) is type(problem)
    assert (again.body(), again.answer_headers(), str(again)) == (
        problem.body(),
        problem.answer_headers(),
        str(problem),
    )
