"""`celery`, with a beat that does something to itself, once, at the moment named by FAULT_AT (a method, called for the third time).

FAULT=stop or kill: it sends itself that signal. FAULT=clock: its wall clock jumps ahead by an hour.
"""

import datetime
import os
import signal

import time_machine
from celery.__main__ import main
from kombu import messaging

from schedules.publish import Publisher

# moment -> the method before (False) or after (True) which it happens
MOMENTS = {
    "claimed": (Publisher, "send", False),  # the rows are written, nothing was sent
    "trusted": (Publisher, "_put", False),  # the lease was looked at, this message is about to go
    "unflushed": (messaging._ProducerBatch, "__exit__", False),  # the lease was looked at, the batch is about to go
    "unmarked": (Publisher, "send", True),  # the messages are sent, nobody has noted it
}


def happen() -> None:
    if os.environ["FAULT"] == "clock":
        time_machine.travel(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).start()
    else:
        os.kill(os.getpid(), signal.SIGSTOP if os.environ["FAULT"] == "stop" else signal.SIGKILL)


def install() -> None:
    owner, name, after = MOMENTS[os.environ["FAULT_AT"]]
    original, calls = getattr(owner, name), []

    def faulty(*args, **kwargs):
        calls.append(1)
        if not after and len(calls) == 3:
            happen()
        found = original(*args, **kwargs)
        if after and len(calls) == 3:
            happen()
        return found

    setattr(owner, name, faulty)


if __name__ == "__main__":
    install()
    main()
