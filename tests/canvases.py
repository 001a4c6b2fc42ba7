"""Canvases whose members die as told, and somebody who replays whatever dies."""

import random
import threading

from django.db import connection

from deadletters.models import DeadLetter
from deadletters.replay.replay import NotReplayable, replay
from tests.processes import eventually
from tests.results import close_results, succeeded, value
from tests.tasks import die_unless, member

# What letters of canvases may be of; a neighbour's late message is none of it. Chunks die as the task that maps them.
TASKS = (member.name, die_unless.name, "celery.starmap")


class Canvas:
    """One run of a canvas whose members die as told."""

    def __init__(self, folder, fates=None):
        folder.mkdir()
        self.folder, self.fates = folder, fates or {}
        for label, ways in self.fates.items():
            (folder / label).write_text("\n".join(ways))

    def __call__(self, label):
        return member.s(label=label, folder=str(self.folder))

    @property
    def ran(self):
        file = self.folder / "ran"
        return sorted(file.read_text().split()) if file.exists() else []


def finish(result, at_once=False, patience=90):
    """Replay whatever dies, in any order, until the canvas has come to its end."""

    def look():
        letters = list(DeadLetter.objects.open().filter(task_name__in=TASKS))
        random.shuffle(letters)
        if at_once:
            threads = [threading.Thread(target=_replay, args=[letter]) for letter in letters]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            for letter in letters:
                replay(letter, by=None)
        return succeeded(result)

    eventually(look, patience, "the canvas' end")
    return value(result)


def _replay(letter):
    try:
        replay(letter, by=None)
    except NotReplayable:
        pass
    finally:
        connection.close()
        close_results()
