"""One contestant of `benchmarks.redrive` in a process of its own: `python -m benchmarks.redriving WHO LETTERS` prints {rate, megabytes}."""

import json
import resource
import sys
import time
from collections.abc import Callable

import django

django.setup()

from django.db import connection  # noqa: E402

from config.celery import app  # noqa: E402
from deadletters.envelope import Envelope  # noqa: E402
from deadletters.models import DeadLetter, Redrive, State  # noqa: E402
from deadletters.redrive.drive import driver_of  # noqa: E402
from deadletters.redrive.redrive import Conditions, start  # noqa: E402
from deadletters.replay.replay import replay  # noqa: E402
from deadletters.selection import Selection  # noqa: E402

# Letters as a storm of one task leaves them: a traceback of some lines, small arguments, twenty errors.
_FILL = """
    TRUNCATE deadletters_deadletter, deadletters_redrive, deadletters_redriveitem, deadletters_errorgroup, django_celery_results_taskresult CASCADE;
    INSERT INTO deadletters_deadletter
           (task_id, task_name, state, cause, fingerprint, exception_type, exception_message, traceback, worker, retries, died_at, deaths,
            replay_number, headers, properties, body, content_type, content_encoding, exchange, routing_key, queue, root_id, parent_id, group_id)
    SELECT id, 'tests.echo', 'open', 'exception', md5((number %% 20)::text), 'ValueError', 'no luck with ' || number,
           repeat('  File "/srv/app/shop/tasks.py", line 118, in price' || chr(10), 12), 'shop@node1', 0, now() - number * interval '1 ms', 1, 0,
           jsonb_build_object('lang', 'py', 'task', 'tests.echo', 'id', id, 'root_id', id, 'parent_id', NULL, 'group', NULL, 'retries', 0,
                              'eta', NULL, 'expires', NULL, 'timelimit', '[null, null]'::jsonb, 'argsrepr', '(' || number || ',)',
                              'kwargsrepr', '{}', 'origin', 'gen1@node1', 'ignore_result', true, 'stamps', '{}'::jsonb),
           jsonb_build_object('correlation_id', id, 'reply_to', id, 'delivery_mode', 2, 'priority', 0),
           convert_to('[[' || number || '], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]', 'UTF8'),
           'application/json', 'utf-8', '', 'default', 'default', id, '', ''
      FROM (SELECT gen_random_uuid()::text AS id, number FROM generate_series(1, %(letters)s) AS number) AS made;
    ANALYZE deadletters_deadletter
"""


def ours() -> int:
    """A redrive as it is: claim, preflight of each letter, state and item of each letter, audit, stop condition; no rate."""
    one = start(Selection(), by="benchmark", reason="a benchmark", conditions=Conditions(stop_above=20))
    driver = driver_of(one)
    while driver.drive(60) is not None:
        pass
    driver.publisher.close()
    return Redrive.objects.get().sent


def one_by_one() -> int:
    """Our single replay, in a loop."""
    for letter in DeadLetter.objects.open().only("pk").iterator():
        replay(letter, by=None)
    return DeadLetter.objects.filter(state=State.REPLAYING).count()


def admin_action() -> int:
    """What a tutorial's admin action does: `send_task` and `save` for each row."""
    sent = 0
    for letter in DeadLetter.objects.open().iterator():
        arguments = Envelope.of(letter).arguments()
        assert arguments is not None
        app.send_task(letter.task_name, arguments.args, arguments.kwargs, task_id=letter.task_id, queue=letter.queue)
        letter.state = State.REPLAYING
        letter.save()
        sent += 1
    return sent


_CONTESTANTS: dict[str, Callable[[], int]] = {"ours": ours, "one_by_one": one_by_one, "admin_action": admin_action}


def main(who: str, letters: int) -> None:
    with app.connection_for_write() as broker:
        broker.default_channel.queue_declare("default", durable=True, auto_delete=False)
        broker.default_channel.queue_purge("default")
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"letters": letters})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    sent = _CONTESTANTS[who]()
    took = time.perf_counter() - began
    assert sent == letters, f"{sent} of {letters} were sent"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps({"rate": sent / took, "megabytes": grown}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
