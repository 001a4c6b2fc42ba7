"""`manage.py replay_dead_letters`."""

from typing import Any

from deadletters.management.selecting import CHUNK, ActingCommand
from deadletters.replay import replay_many


class Command(ActingCommand):
    """Examples:
    manage.py replay_dead_letters 42
    manage.py replay_dead_letters --task pipelines.fetch_image --since 2h --reason "the image server is back"
    manage.py replay_dead_letters --error 1f3c… --dry-run
    manage.py replay_dead_letters --all --as ana --json

    Each letter is sent to its queue once, under its own task id, and its workflow goes on. Exit 1 when one was refused.
    """

    help = "Replay dead letters: send them again, so that their workflows go on."
    permission = "deadletters.replay_deadletter"

    def handle(self, *_: Any, **options: Any) -> None:
        by = self.actor(options)
        letters = self.chosen(options).letters().order_by("id")
        if options["dry_run"]:
            self._say(options, would_send=letters.count())
            return
        done = replay_many(letters.iterator(chunk_size=CHUNK), by=by, reason=options["reason"])
        self._say(options, sent=done.sent, refused=[{"task_id": task_id, "why": why} for task_id, why in done.refused])
        if done.refused:
            raise SystemExit(1)

    def _say(self, options: dict[str, Any], **result: Any) -> None:
        if options["json"]:
            self.say_json(result)
        elif "would_send" in result:
            self.stdout.write(f"Would replay {result['would_send']} letters. Nothing was sent.")
        else:
            self.stdout.write(f"Sent {result['sent']}, refused {len(result['refused'])}.")
            for refusal in result["refused"]:
                self.stderr.write(f"  {refusal['task_id']}: {refusal['why']}")
