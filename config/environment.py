"""Every environment variable of the platform: its name, type, default and what it is for. Nothing else reads the environment."""

import json
import os
import sys
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.values import Broker, Database, Days, Keys, Level, List, MaskedArguments, Numbers, Policies, Redis, TimeZone

BASE_DIR = Path(__file__).resolve().parent.parent

# Read before everything else: the other variables may come from a file in this folder.
VAR_DIR = Path(os.environ.get("VAR_DIR") or BASE_DIR / "var").resolve()
# `manage.py up` writes the addresses and secrets of this machine's servers here (mode 0600); the real environment wins over it.
LOCAL_ENVIRONMENT = VAR_DIR / "environment.json"

# What arguments, headers and texts call their secrets.
SECRET_NAMES = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
    "signing_key",
    "encryption_key",
    "authorization",
    "auth",
    "bearer",
    "credential",
    "cookie",
    "sessionid",
    "session_id",
    "session_key",
    "dsn",
    "card",
    "cvv",
    "cvc",
    "ssn",
    "iban",
    "pin",
    "otp",
]


class Environment(BaseSettings):
    """What the environment may say. Field names are the variables' names; a wrong value stops the start with a sentence."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="ignore", env_ignore_empty=True)

    # --- Django -----------------------------------------------------------------------------------------------------
    SECRET_KEY: str = Field(
        "", description="Signs sessions and CSRF tokens. Required; `bin/up` makes one under `var/`."
    )
    SECRET_KEY_FALLBACKS: List = Field([], description="Older secret keys that are still accepted, comma-separated.")
    DEBUG: bool = Field(default=False, description="Django's debug pages. Never in production.")
    ALLOWED_HOSTS: List = Field(
        ["localhost", "127.0.0.1", "[::1]"], description="Host names this site answers to, comma-separated."
    )
    CSRF_TRUSTED_ORIGINS: List = Field(
        [], description="Origins trusted behind a proxy, e.g. `https://ops.example.com`."
    )
    HTTPS: bool = Field(
        default=True,
        description="Cookies, redirects and HSTS for HTTPS. `bin/up` turns it off: it serves loopback only.",
    )
    HSTS_SECONDS: int = Field(
        31_536_000, ge=0,
        description="For how long browsers that came by HTTPS refuse HTTP, on this host and those below it; 0: they do not.",
    )  # fmt: skip
    TIME_ZONE: TimeZone = Field("Asia/Tokyo", description="Time zone of the console and of new schedules.")
    CELERY_TIMEZONE: TimeZone = Field("", description="Celery's time zone; `TIME_ZONE` when empty.")
    LANGUAGE_CODE: str = Field("en", description="Language of the console.")
    SITE_URL: str = Field(
        "http://127.0.0.1:8000", description="Where people reach the console; links in alerts begin with it."
    )
    LOG_LEVEL: Level = Field("INFO", description="Lowest level that is logged.")
    LOG_FORMAT: str = Field(
        "json", pattern="^(json|console)$", description="`json` for machines, `console` for people."
    )

    VAR_DIR: str = Field(
        "", description="Folder of what this machine keeps: embedded servers, their passwords, mail. Empty: `var`."
    )

    # --- Servers ----------------------------------------------------------------------------------------------------
    DATABASE_URL: Database = Field(
        "", description="PostgreSQL, `postgres://user:password@host:5432/name`. Empty: the servers of `bin/up`."
    )
    BROKER_URL: Broker = Field(
        "", description="Celery's broker, `redis://…` or `amqp://…`. Empty: the servers of `bin/up`."
    )
    REDIS_URL: Redis = Field("", description="Redis for `DEADLETTERS_REDIS_LIST`; `BROKER_URL` when that is Redis.")
    WEB_HOST: str = Field(
        "127.0.0.1", description="Address the web server binds to; `0.0.0.0` where its proxy is on another machine."
    )
    WEB_PORT: int = Field(8000, ge=1, le=65535, description="Port of the web server.")
    FLOWER_PORT: int = Field(5555, ge=1, le=65535, description="Port of Flower in `up`.")
    FLOWER_PASSWORD: str = Field("", description="Password of Flower's user `admin`; without one `up` makes it.")
    WORKER_CONCURRENCY: int = Field(2, ge=1, description="Processes of one worker.")

    # --- Tasks ------------------------------------------------------------------------------------------------------
    TASK_TIME_LIMIT: int = Field(
        300, ge=1, description="Seconds after which a task's process is killed, unless the task says otherwise."
    )
    TASK_SOFT_TIME_LIMIT: int = Field(
        270, ge=1, description="Seconds after which a task is told to stop, unless it says otherwise."
    )
    VISIBILITY_TIMEOUT: int = Field(
        3600, ge=1, description="Seconds after which Redis gives an unacknowledged message to another worker."
    )
    RESULTS_URL: Redis = Field(
        "", description="Redis that keeps results, `redis://…`; the console shows less of them then. Empty: PostgreSQL."
    )
    TRACK_STARTED: bool = Field(
        default=False,
        description="Whether each task leaves a row when it starts, not only those of workflows: the dashboard lists them; small tasks cost half as much again.",
    )
    RETRY_BACKOFF_MAX: int = Field(600, ge=1, description="Longest wait between two tries of a task, in seconds.")

    # --- Pipelines --------------------------------------------------------------------------------------------------
    STORAGE_URL: str = Field(
        "", description="Where intermediate files go (fsspec), shared by all workers. Empty: `var/storage`."
    )
    UPLOAD_URL: str = Field(
        "",
        description="Where `images` uploads to unless a run says otherwise (`file://`, `s3://bucket/images/`). Empty: `var/uploads`.",
    )
    UPLOAD_ALLOW: List = Field(
        [],
        description="Further folders that a run may upload to, comma-separated; `s3://` and `file:///` stand for all of their kind.",
    )
    S3_ENDPOINT_URL: str = Field("", description="S3-compatible server; empty for Amazon's own.")
    FETCH_ALLOW_PRIVATE: bool = Field(
        default=False,
        description="Whether `fetch` may call private and loopback addresses. `bin/up` allows it for the samples.",
    )
    FETCH_MAX_BYTES: int = Field(20_000_000, ge=1, description="Largest file that `fetch` takes, in bytes.")
    SAMPLES: bool = Field(
        default=False, description="Serve sample images under `/samples/` and offer them in the form. On with `bin/up`."
    )

    # --- Dead letters -----------------------------------------------------------------------------------------------
    WORKER_LOST_AFTER: float = Field(
        40,
        ge=2,
        description="Seconds without a sign of life after which a worker counts as lost: what it held runs again, or becomes a letter.",
    )
    DEADLETTERS_MAX_DELIVERIES: int = Field(
        3,
        ge=1,
        description="How often a task is begun that takes its worker down each time; then it is a letter. A task's `max_deliveries` says otherwise.",
    )
    DEADLETTERS_KEEP_REVOKED: bool = Field(
        default=False, description="Also make a letter of a task that an operator revoked or terminated."
    )
    DEADLETTERS_REDIS_LIST: str = Field(
        "", description="Also push each new letter as JSON to this Redis list, e.g. `dead_letter_queue`."
    )
    DEADLETTERS_REDACT_NAMES: List = Field(
        SECRET_NAMES,
        description="Names of arguments, keys and headers whose values are masked wherever people or logs see them, comma-separated.",
    )
    DEADLETTERS_REDACT_TASKS: MaskedArguments = Field(
        {},
        description='More masked arguments of single tasks, by name or by position from 0: `{"shop.pay": ["holder", 0]}`.',
    )
    DEADLETTERS_KEYS: Keys = Field(
        [],
        description="Keys that seal stored payloads, newest first, comma-separated; `manage.py reseal_dead_letters --new-key` makes one. Empty: stored as they are.",
    )
    DEADLETTERS_KEEP_PER_ERROR: int = Field(
        10_000, ge=1, description="Letters of one error that are kept with their traceback; more are kept without it."
    )
    DEADLETTERS_KEEP_PAYLOADS_PER_ERROR: int = Field(
        0,
        ge=0,
        description="Letters of one error that are kept with their message; more cannot be replayed. 0: every message is kept.",
    )
    DEADLETTERS_BROKER_QUEUE: str = Field(
        "dead_letters",
        description="RabbitMQ's queue of what the broker itself gives up; workers make letters of it. Empty: off.",
    )
    DEADLETTERS_SPOOL: str = Field(
        "",
        description="Where letters wait while PostgreSQL is away: a folder of this host's disk, or `redis://…` for a list there. Empty: `var/spool`.",
    )
    RETENTION_DAYS: int = Field(
        90, ge=1, description="Days after which resolved and discarded letters and old results are pruned."
    )
    DEADLETTERS_RETENTION_DAYS: Days = Field(
        {},
        description="The same for letters in one state, `resolved=30,discarded=365`. Open letters are pruned only if `open` is named here or below.",
    )
    DEADLETTERS_RETENTION_COUNT: Numbers = Field(
        {}, description="How many letters in one state are kept, the newest ones: `resolved=100000`. Unnamed: all."
    )

    REPLAY_POLICIES: Policies = Field(
        {},
        description='Tasks whose letters are replayed by themselves, as JSON: `{"task.name": {"after": 600, "times": 2, "breaker": 50, "rate": 10}}` '
        "(seconds after the death, replays at most, per cent that may die again, letters a second). Empty: none.",
    )
    AUDIT_RETENTION_DAYS: int = Field(730, ge=1, description="Days after which the audit trail is pruned.")

    # --- Alerts and monitoring --------------------------------------------------------------------------------------
    SLACK_WEBHOOK_URL: str = Field("", description="Slack incoming webhook that hears of new dead letters.")
    ADMINS: List = Field(
        [], description="Mail addresses that hear of new dead letters and get the reports, comma-separated."
    )
    EMAIL_URL: str = Field(
        "", description="Mail server, `smtp://user:password@host:587/?tls=True`. Empty: files under `var/mail`."
    )
    DEFAULT_FROM_EMAIL: str = Field("redeliver@localhost", description="Sender of mail.")
    ALERT_EVERY: int = Field(300, ge=0, description="Seconds between two alerts about the same error.")
    STATSD_URL: str = Field("", description="statsd over UDP, `statsd://host:8125`. Empty: off.")
    METRICS_TOKEN: str = Field(
        "", description="Bearer token that `/metrics` asks for. Empty: only loopback may read it."
    )

    # --- Tests of this platform -------------------------------------------------------------------------------------
    FAULT: str = Field("", description="Point at which a process kills itself, for crash tests. Never in production.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (the signature is pydantic's)
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then what `up` wrote for this machine."""
        return env_settings, JsonConfigSettingsSource(settings_cls, json_file=LOCAL_ENVIRONMENT)


def is_given(name: str) -> bool:
    """Whether the real environment sets this variable; an empty value counts as unset."""
    return bool(os.environ.get(name))


def read() -> Environment:
    """The checked environment. A wrong value ends the process with one sentence a variable and exit code 2."""
    try:
        return Environment()
    except ValidationError as problem:
        for error in problem.errors():
            name = ".".join(str(part) for part in error["loc"])
            sys.stderr.write(
                f"Environment variable {name} is not usable: {error['msg'].removeprefix('Value error, ')}.\n"
            )
        raise SystemExit(2) from None
    except json.JSONDecodeError as problem:
        sys.stderr.write(
            f"{LOCAL_ENVIRONMENT} is no longer JSON ({problem}). Mend it; the passwords of the servers are in it.\n"
        )
        raise SystemExit(2) from None


def require_secret_key() -> None:
    """A server does not start without one.

    Raises:
        SystemExit: it is not set.
    """
    if not read().SECRET_KEY.strip():
        sys.exit(
            "SECRET_KEY is not set, so sessions could be forged. Set it to a long random text; `bin/up` makes one by itself."
        )
