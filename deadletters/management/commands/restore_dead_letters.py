"""`manage.py restore_dead_letters`."""

from typing import Any

from deadletters.audit import of_command
from deadletters.management.selecting import ActingCommand
from deadletters.models import State
from deadletters.replay.discard import restore_many


class Command(ActingCommand):
    """Examples:
    manage.py restore_dead_letters 42
    manage.py restore_dead_letters --task old.task --since 1d --reason "it is still needed" --dry-run

    A restored letter is open again: it can be replayed.
    """

    help = "Open discarded dead letters again."
    permission = "deadletters.discard_deadletter"
    default_states = (State.DISCARDED.value,)

    def handle(self, *_: Any, **options: Any) -> None:
        by = self.actor(options)
        selection = self.chosen(options)
        letters = selection.letters().filter(state=State.DISCARDED)
        if options["dry_run"]:
            count, words = letters.count(), "Would restore {} letters. Nothing was changed."
        else:
            about = {
                "origin": of_command("restore_dead_letters"),
                "subject": selection.in_words(),
                "error": selection.error,
            }
            count, words = restore_many(letters, by=by, reason=options["reason"], **about), "Restored {} letters."
        if options["json"]:
            self.say_json({"would_restore" if options["dry_run"] else "restored": count})
        else:
            self.stdout.write(words.format(count))
