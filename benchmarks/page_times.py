"""How long pages take on the server, through Django's test client; run by our side of the console's benchmark and by the peers'."""

import statistics
import sys
import time
from typing import Any


def timed(pages: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """{what: address} -> {what: median and slowest milliseconds of the whole response, and its status}; signed in as a superuser."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    user, _made = get_user_model().objects.get_or_create(username="ana", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    found = {}
    for what, address in pages.items():
        client.get(address)  # the first one imports and compiles
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            answer: Any = client.get(address)
            times.append((time.perf_counter() - started) * 1000)
        found[what] = {
            "median": round(statistics.median(times), 1),
            "slowest": round(max(times), 1),
            "status": answer.status_code,
        }
        print(f"{what}: {found[what]}", file=sys.stderr, flush=True)
    return found
