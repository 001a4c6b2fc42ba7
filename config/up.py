"""The whole platform on this machine: servers, database, web, worker, beat and Flower, until Ctrl-C."""

import contextlib
import http.client
import os
import signal
import sys
from collections.abc import Callable

from django.db import connections

from config import environment, local, supervisor
from config.celery import app
from config.embedded import PostgreSQL, Redis
from config.environment import Environment
from config.prepare import ADMIN, prepare
from config.supervisor import Program, Supervisor
from config.values import in_url

Say = Callable[[str], None]


def up(*, port: int | None, flower_port: int | None, reset_password: bool, say: Say) -> None:
    """Start everything and keep it running until this process is interrupted; then stop everything, the servers last.

    Raises:
        Busy: another `up` runs here, or a port is taken.
        ServerError: PostgreSQL or Redis does not start.
        GaveUp: one of the programs ends again and again.
    """
    # SIGINT, too: a shell that starts us in the background has it ignored, and Python leaves it so.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    mark = str(environment.VAR_DIR)
    with local.only_one(), contextlib.ExitStack() as servers:
        if left := supervisor.end(mark):
            say(f"Ended {left} processes that an `up` that was killed had left behind.")
        told = _ports(environment.read(), port, flower_port)
        needed, is_new = local.settle(told.SITE_URL)
        if is_new:
            # Our own settings still hold what was true before; nothing runs yet, so begin again with the new ones.
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
        _start(needed, servers, say)
        say("Preparing the database.")
        password = prepare(admin=True, reset_password=reset_password).admin_password
        connections.close_all()
        say("Starting web, worker, beat and Flower.")
        Supervisor(programs(told), mark=mark).run(
            is_ready=lambda: _is_ready(told), when_ready=lambda: say(_banner(told, password))
        )


def programs(told: Environment) -> list[Program]:
    """What runs beside each other. Nothing secret is on a command line, where every user of the machine could read it."""
    # On two cores the console and its worker are there seconds earlier when beat and Flower wait for them,
    # and when the worker does not ask for neighbours (mingle, a second): there are none.
    celery = (sys.executable, "-m", "celery", "--quiet", "-A", "config")
    return [
        Program(
            name="web",
            command=(sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"),
            environment={"WEB_PORT": str(told.WEB_PORT)},
        ),
        Program(
            name="worker",
            command=(*celery, "worker", "--hostname", "worker@%h", "--without-mingle", "--loglevel", told.LOG_LEVEL),
        ),
        Program(name="beat", command=(*celery, "beat", "--loglevel", told.LOG_LEVEL), later=True),
        Program(
            name="flower",
            command=(*celery, "flower", f"--address={told.WEB_HOST}", f"--port={told.FLOWER_PORT}"),
            environment={"FLOWER_BASIC_AUTH": f"{ADMIN}:{told.FLOWER_PASSWORD}"},
            later=True,
        ),
    ]


def _ports(told: Environment, port: int | None, flower_port: int | None) -> Environment:
    """The environment with the ports that were asked for, which are free."""
    port, flower_port = port or told.WEB_PORT, flower_port or told.FLOWER_PORT
    if port == flower_port:
        raise local.Busy(
            f"The web server and Flower cannot both listen on port {port}: choose another one with --port or --flower-port."
        )
    local.claim(told.WEB_HOST, port, what="The web server", option="--port", variable="WEB_PORT")
    local.claim(told.WEB_HOST, flower_port, what="Flower", option="--flower-port", variable="FLOWER_PORT")
    site = told.SITE_URL if environment.is_given("SITE_URL") else f"http://{in_url(_reachable(told.WEB_HOST))}:{port}"
    return told.model_copy(update={"WEB_PORT": port, "FLOWER_PORT": flower_port, "SITE_URL": site})


def _start(needed: list[PostgreSQL | Redis], running: contextlib.ExitStack, say: Say) -> None:
    running.callback(say, "Stopped.")
    for server in needed:
        name = type(server).__name__
        say(f"Starting {name} on port {server.port}.")
        running.callback(server.stop)
        server.start()
    # Once they are being stopped, a second Ctrl-C must not leave one of them behind; it takes a second.
    running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _is_ready(told: Environment) -> bool:
    web = http.client.HTTPConnection(_reachable(told.WEB_HOST), told.WEB_PORT, timeout=5)
    try:
        web.request("GET", "/-/ready")
        # 400: ALLOWED_HOSTS does not list this address; it answers, and that is what is asked.
        if web.getresponse().status not in {200, 400}:
            return False
    except (OSError, http.client.HTTPException):
        return False
    finally:
        web.close()
    # Last, because it takes its time: the first screen must not say that no worker answers.
    return bool(app.control.ping(timeout=1, limit=1))


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)


def _banner(told: Environment, password: str | None) -> str:
    host = in_url(_reachable(told.WEB_HOST))
    console, flower = f"{told.SITE_URL}/", f"http://{host}:{told.FLOWER_PORT}/"
    width = max(len(console), len(flower))
    keys = (f"   {ADMIN} / {password}", f"   {ADMIN} / {told.FLOWER_PASSWORD}") if password else ("", "")
    hint = (
        "The passwords are shown only now."
        if password
        else f"Sign in as {ADMIN}; `bin/up --reset-password` makes new passwords."
    )
    return "\n".join(
        (
            "",
            "  Redeliver is ready.",
            "",
            f"    Console  {console:<{width}}{keys[0]}",
            f"    Flower   {flower:<{width}}{keys[1]}   (in a few seconds)",
            "",
            f"  {hint} Ctrl-C stops everything.",
            "",
        )
    )
