"""`manage.py discard_dead_letters`."""

from typing import Any

from django.core.management.base import CommandError

from deadletters.audit import of_command
from deadletters.management.selecting import ActingCommand
from deadletters.replay.discard import DISCARDABLE, NotDiscardable, discard_many


class Command(ActingCommand):
    """Examples:
    manage.py discard_dead_letters 42 --reason "the customer is gone"
    manage.py discard_dead_letters --task old.task --reason "the task was removed" --dry-run

    A discarded letter stays until it is pruned, and can be restored in the console until then.
    """

    help = "Give up on open dead letters, with a reason."
    permission = "deadletters.discard_deadletter"

    def handle(self, *_: Any, **options: Any) -> None:
        by = self.actor(options)
        selection = self.chosen(options)
        letters = selection.letters()
        found = letters.count()
        if options["dry_run"]:
            count, words = (
                letters.filter(state__in=DISCARDABLE).count(),
                "Would discard {} letters. Nothing was changed.",
            )
        else:
            try:
                about = {
                    "origin": of_command("discard_dead_letters"),
                    "subject": selection.in_words(),
                    "error": selection.error,
                }
                count = discard_many(letters, by=by, reason=options["reason"], **about)
            except NotDiscardable as refusal:
                raise CommandError(f"--reason is missing. {refusal}", returncode=2) from None
            words = "Discarded {} letters."
        if options["json"]:
            self.say_json({"would_discard" if options["dry_run"] else "discarded": count})
        else:
            self.stdout.write(words.format(count))
        if count < found:
            raise CommandError(f"{found - count} of {found} letters are resolved or discarded already, and stay so.")
