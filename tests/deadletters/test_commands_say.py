"""What the commands print and refuse, by letters that nothing died for."""

import pytest
from django.core.management import CommandError, call_command

from deadletters.models import Event, State
from monitoring import heartbeats
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db(transaction=True)

# Clears the screen, renames the window, goes back to the line's beginning; the last one is one byte in other terminals.
NASTY = "\x1b[2J \x1b]0;root\x07 gone\r \x9b2J"


def test_no_terminal_obeys_what_a_letter_says(capsys):
    made = letter(exception_message=NASTY, exception_type=f"E{NASTY}", task_name=f"shop\n{NASTY}", traceback=NASTY)
    Event.objects.update(text=NASTY)
    heartbeats.record()
    for command in (
        ("list_dead_letters",),
        ("show_dead_letter", str(made.pk)),
        ("replay_dead_letters", "--all", "--dry-run"),
        ("status",),
    ):
        try:
            call_command(*command)
        except SystemExit:
            assert command == ("status",)  # no worker answers
        said = capsys.readouterr().out
        assert r"\x1b[2J" in said, command
        assert not set(said) & set("\x1b\x07\r\x9b"), command


def test_a_dry_run_tells_what_the_run_would_do(capsys):
    letters = [letter(number, state=state) for number, state in enumerate(State)]
    with pytest.raises(CommandError, match="2 of 4"):
        call_command("discard_dead_letters", *(str(one.pk) for one in letters), "--dry-run")
    assert capsys.readouterr().out == "Would discard 2 letters. Nothing was changed.\n"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("list_dead_letters", "--limit", "0"), "no number of lines"),
        (("redrives", "--limit", "-1"), "no number of lines"),
        (("reap_workers", "--after", "nan"), "--after is a number of seconds"),
        (("reap_workers", "--after", "inf"), "--after is a number of seconds"),
        (("reap_workers", "--after", "1"), "--after is a number of seconds"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_in_a_sentence(command, says):
    letter()
    with pytest.raises(CommandError, match=says):
        call_command(*command)
