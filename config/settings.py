"""Django's and Celery's settings. What depends on the environment is read in environment.py; the rest is decided here."""

import sys
from urllib.parse import urlsplit

import dj_database_url
import dj_email_url
from django.core.exceptions import ImproperlyConfigured

from config import environment

BASE_DIR = environment.BASE_DIR
VAR_DIR = environment.VAR_DIR
ENV = environment.read()

# --- Django ---------------------------------------------------------------------------------------------------------

# Commands that need no key (makemigrations, mypy, collectstatic while an image is built) run without one; a server does not.
SECRET_KEY = ENV.SECRET_KEY or "insecure-" + "no-key-was-set"
SECRET_KEY_FALLBACKS = ENV.SECRET_KEY_FALLBACKS
DEBUG = ENV.DEBUG
ALLOWED_HOSTS = ENV.ALLOWED_HOSTS
CSRF_TRUSTED_ORIGINS = ENV.CSRF_TRUSTED_ORIGINS
SITE_URL = ENV.SITE_URL.rstrip("/")

INSTALLED_APPS = [
    "config.apps.RootConfig",
    "config.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_celery_results",
    "django_celery_beat",
    "deadletters",
    "pipelines",
    "schedules",
    "monitoring",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.csp.ContentSecurityPolicy",
    "config.viewer_zone.ViewerZoneMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "config.nul.RefuseNul",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["deadletters.console.names"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Whether the servers are those of `up`: it says which remedy helps when they don't answer.
EMBEDDED_DATABASE = not environment.is_given("DATABASE_URL")
EMBEDDED_BROKER = not environment.is_given("BROKER_URL")
# A port nobody listens on: until `up` has written var/environment.json, the first query says how to start the servers.
_database = dj_database_url.parse(ENV.DATABASE_URL or "postgres://redeliver@127.0.0.1:1/redeliver")
# Who waits for PostgreSQL is often the event loop of a worker: seconds to connect; milliseconds until a connection whose other side
# has vanished without a word (a cut cable, a lost host) is given up. Linux' own time-out is a quarter of an hour.
_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 5_000}
DATABASES = {
    "default": {
        **_database,
        # One connection per process, checked before use: reconnecting costs 4 ms, more than most of our queries.
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**_database.get("OPTIONS", {}), **_PATIENCE, "application_name": "redeliver"},
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"

LANGUAGE_CODE = ENV.LANGUAGE_CODE
LANGUAGES = [("en", "English"), ("ja", "日本語")]
TIME_ZONE = ENV.TIME_ZONE
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
USE_THOUSAND_SEPARATOR = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Without `collectstatic` (bin/up, tests) WhiteNoise serves from the apps' folders; an image collects and hashes them.
_collected = (STATIC_ROOT / "staticfiles.json").exists() or sys.argv[1:2] == ["collectstatic"]
WHITENOISE_USE_FINDERS = not _collected
WHITENOISE_AUTOREFRESH = not _collected  # else it warns of the folder that is not there
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if _collected
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}

# --- Security -------------------------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = ENV.HTTPS
# Probes and scrapers come to the process itself, over plain HTTP, behind the proxy.
SECURE_REDIRECT_EXEMPT = [r"^-/", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.HTTPS else None
SECURE_HSTS_SECONDS = ENV.HSTS_SECONDS if ENV.HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HSTS_SECONDS > 0
SESSION_COOKIE_SECURE = ENV.HTTPS
CSRF_COOKIE_SECURE = ENV.HTTPS
LANGUAGE_COOKIE_SECURE = ENV.HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_AGE = 31_536_000
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# --- Celery ---------------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = ENV.BROKER_URL or "redis://127.0.0.1:1/0"
_broker = urlsplit(CELERY_BROKER_URL)
BROKER_ADDRESS = f"{_broker.hostname}:{_broker.port or (5672 if _broker.scheme.startswith('amqp') else 6379)}"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# For as long as it takes: with Celery's 100 tries a worker ends after an hour without its broker.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"visibility_timeout": ENV.VISIBILITY_TIMEOUT}
    if _broker.scheme.startswith("redis")
    # RabbitMQ says that it has a message: without that, what is written to a dying connection is lost in silence.
    else {"confirm_publish": True}
)
CELERY_RESULT_BACKEND = (
    f"pipelines.redis_results.ResultBackend+{ENV.RESULTS_URL}" if ENV.RESULTS_URL else "pipelines.results.ResultBackend"
)
# Written once more when PostgreSQL was away at the moment of success; how often, results.py knows.
CELERY_RESULT_BACKEND_ALWAYS_RETRY = True
CELERY_RESULT_EXTENDED = True
# Pruned by our own schedule, which spares what open letters need; with a number here beat would add a clean-up that does not.
CELERY_RESULT_EXPIRES = None
CELERY_TASK_TRACK_STARTED = ENV.TRACK_STARTED
# Celery closes Django's connections around each task, CONN_MAX_AGE or not: 4 ms. Ours stay, and receivers.py renews what is broken.
CELERY_DB_REUSE_MAX = sys.maxsize
CELERY_TIMEZONE = ENV.CELERY_TIMEZONE or ENV.TIME_ZONE
CELERY_ENABLE_UTC = True
# JSON only: a message never becomes code.
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CONCURRENCY = ENV.WORKER_CONCURRENCY
CELERY_WORKER_CONSUMER = "deadletters.capture.consumer:DeadLetterConsumer"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Task events cost a task as much as its result. Only Flower reads them, and it turns them on in every worker while it runs.
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_TASK_TIME_LIMIT = ENV.TASK_TIME_LIMIT
CELERY_TASK_SOFT_TIME_LIMIT = ENV.TASK_SOFT_TIME_LIMIT
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_BEAT_SCHEDULER = "schedules.scheduler:Scheduler"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- The house ------------------------------------------------------------------------------------------------------

# Modules with pipelines, besides each app's `pipelines.py`.
PIPELINES = ["pipelines.arithmetic", "pipelines.images"]
# Tests only, see deadletters/faults.py.
FAULT = ENV.FAULT
RETRY_BACKOFF_MAX = ENV.RETRY_BACKOFF_MAX
STORAGE_URL = ENV.STORAGE_URL or f"file://{VAR_DIR / 'storage'}"
UPLOAD_URL = ENV.UPLOAD_URL or f"file://{VAR_DIR / 'uploads'}"
UPLOAD_ALLOW = ENV.UPLOAD_ALLOW
S3_ENDPOINT_URL = ENV.S3_ENDPOINT_URL
FETCH_ALLOW_PRIVATE = ENV.FETCH_ALLOW_PRIVATE
FETCH_MAX_BYTES = ENV.FETCH_MAX_BYTES
SAMPLES = ENV.SAMPLES
SAMPLES_DIR = VAR_DIR / "samples"

WORKER_LOST_AFTER = ENV.WORKER_LOST_AFTER
DEADLETTERS_MAX_DELIVERIES = ENV.DEADLETTERS_MAX_DELIVERIES
DEADLETTERS_KEEP_REVOKED = ENV.DEADLETTERS_KEEP_REVOKED
DEADLETTERS_REDIS_LIST = ENV.DEADLETTERS_REDIS_LIST
DEADLETTERS_REDIS_URL = ENV.REDIS_URL or (CELERY_BROKER_URL if _broker.scheme.startswith("redis") else "")
DEADLETTERS_REDACT_NAMES = ENV.DEADLETTERS_REDACT_NAMES
DEADLETTERS_REDACT_TASKS = ENV.DEADLETTERS_REDACT_TASKS
DEADLETTERS_KEYS = ENV.DEADLETTERS_KEYS
DEADLETTERS_KEEP_PER_ERROR = ENV.DEADLETTERS_KEEP_PER_ERROR
DEADLETTERS_KEEP_PAYLOADS_PER_ERROR = ENV.DEADLETTERS_KEEP_PAYLOADS_PER_ERROR
# Where a policy of RabbitMQ sends what it gives up itself; Redis gives nothing up.
DEADLETTERS_BROKER_QUEUE = ENV.DEADLETTERS_BROKER_QUEUE if _broker.scheme.startswith(("amqp", "pyamqp")) else ""
DEADLETTERS_SPOOL = ENV.DEADLETTERS_SPOOL or str(VAR_DIR / "spool")
RETENTION_DAYS = ENV.RETENTION_DAYS
DEADLETTERS_RETENTION_DAYS = ENV.DEADLETTERS_RETENTION_DAYS
DEADLETTERS_RETENTION_COUNT = ENV.DEADLETTERS_RETENTION_COUNT
AUDIT_RETENTION_DAYS = ENV.AUDIT_RETENTION_DAYS
DEADLETTERS_REPLAY_POLICIES = ENV.REPLAY_POLICIES
# Where the page of a dead letter shows the workflow that it died in.
DEADLETTERS_RUN_URL = "pipelines.links.run_url"
# Where the list of schedules finds the dead letters of their tasks.
SCHEDULES_LETTER_URLS = "deadletters.console.links.letter_urls"

SLACK_WEBHOOK_URL = ENV.SLACK_WEBHOOK_URL
ADMINS = [(address, address) for address in ENV.ADMINS]
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENV.DEFAULT_FROM_EMAIL
EMAIL_TIMEOUT = 10
ALERT_EVERY = ENV.ALERT_EVERY
STATSD_URL = ENV.STATSD_URL
METRICS_TOKEN = ENV.METRICS_TOKEN
if ENV.EMAIL_URL:
    try:
        _mail = dj_email_url.parse(ENV.EMAIL_URL)
    except (KeyError, ValueError) as problem:
        raise ImproperlyConfigured("EMAIL_URL must look like smtp://user:password@host:587/?tls=True") from problem
    # Without ?timeout= the parser says None, which waits for ever.
    vars().update({**_mail, "EMAIL_TIMEOUT": _mail["EMAIL_TIMEOUT"] or EMAIL_TIMEOUT})
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = str(VAR_DIR / "mail")

LOGGING_CONFIG = "config.logging.configure"
LOGGING = {"level": ENV.LOG_LEVEL, "format": ENV.LOG_FORMAT}
