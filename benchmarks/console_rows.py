"""A million letters and more results, made inside PostgreSQL."""

from django.db import connection

# Twenty errors, the first ones the most frequent; a message holds a number of its own, as real ones do.
LETTERS = """
    INSERT INTO deadletters_deadletter (task_id, task_name, state, cause, fingerprint, exception_type, exception_message, traceback,
        worker, retries, died_at, received_at, deaths, replay_number, headers, properties, body, content_type, content_encoding, exchange,
        routing_key, queue, root_id, parent_id, group_id)
    SELECT gen_random_uuid(), 'shop.task_' || error, (ARRAY['open', 'open', 'open', 'replaying', 'resolved', 'discarded'])[1 + n %% 6],
        (ARRAY['exception', 'retries_exhausted', 'hard_time_limit', 'worker_lost'])[1 + error %% 4], md5(error::text),
        (ARRAY['ReadTimeout', 'OperationalError', 'HTTPStatusError', 'KeyError', 'ValidationError'])[1 + error %% 5],
        'timed out after ' || n %% 60 || ' s waiting for host-' || n %% 5000 || '.example.com, order ' || n || CASE WHEN n %% 100000 = 7 THEN ' zanzibar' ELSE '' END,
        repeat('  File "/srv/app/shop/tasks.py", line 118, in run' || chr(10), 12), 'prices-' || n %% 16 || '@node1', n %% 4,
        now() - n * interval '1 second', now() - n * interval '1 second', 1, 0, '{"task": "shop.task", "lang": "py"}', '{}',
        convert_to('[[' || n || '], {"day": "2026-10-17"}, {}]', 'UTF8'), 'application/json', 'utf-8', '', 'q' || error %% 5, 'q' || error %% 5,
        gen_random_uuid(), '', ''
    FROM (SELECT n, floor(20 * power(random(), 2))::int AS error FROM generate_series(1, %s) AS n) AS made
"""
# What captures write beside their letters.
ERRORS = """
    INSERT INTO deadletters_errorgroup (fingerprint, state, task_name, exception_type, message, cause, first_seen, last_seen, deaths, note)
    SELECT fingerprint, 'open', min(task_name), min(exception_type), min(exception_message), min(cause), min(died_at), max(died_at), count(*), ''
    FROM deadletters_deadletter GROUP BY fingerprint
"""
# Spread over a week, one in fifty failed.
RESULTS = """
    INSERT INTO django_celery_results_taskresult (task_id, task_name, status, worker, content_type, content_encoding, result, task_args, task_kwargs,
        date_created, date_started, date_done, meta)
    SELECT gen_random_uuid(), 'shop.task_' || n %% 40, CASE WHEN n %% 50 = 0 THEN 'FAILURE' ELSE 'SUCCESS' END, 'prices-' || n %% 16 || '@node1',
        'application/json', 'utf-8', '{"rows": 480}', '"(236263,)"', '"{}"', now() - n * step, now() - n * step - interval '2 seconds', now() - n * step, '{"children": []}'
    FROM (SELECT interval '7 days' / %s AS step) AS width, generate_series(1, %s) AS n
"""


def fill(letters: int, results: int) -> None:
    """Insert them, and let PostgreSQL look at what it has."""
    with connection.cursor() as cursor:
        cursor.execute(LETTERS, [letters])
        cursor.execute(ERRORS)
        cursor.execute(RESULTS, [results, results])
        cursor.execute("VACUUM ANALYZE deadletters_deadletter")
        cursor.execute("VACUUM ANALYZE django_celery_results_taskresult")
