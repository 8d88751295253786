"""How commands end."""

import pytest

from kinfolk.kit.ending import Ended, ends_plainly


@pytest.mark.parametrize(
    ("accident", "exit_code", "words"),
    [(Ended(3, "no queue"), 3, "no queue\n"), (KeyboardInterrupt(), 130, "interrupted\n")],
)
def test_commands_end_plainly(
    capsys: pytest.CaptureFixture[str], accident: BaseException, exit_code: int, words: str
) -> None:
    @ends_plainly
    def command() -> int:
        raise accident

    assert command() == exit_code
    assert capsys.readouterr().err == words


def test_a_command_that_goes_well_keeps_its_answer() -> None:
    @ends_plainly
    def command(number: int) -> int:
        return number

    assert command(7) == 7


def test_an_accident_stays_one() -> None:
    @ends_plainly
    def command() -> int:
        raise PermissionError(13, "no")

    with pytest.raises(PermissionError):
        command()
