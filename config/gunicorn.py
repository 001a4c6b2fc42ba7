"""How gunicorn serves the console: `gunicorn -c python:config.gunicorn config.wsgi`."""

from config import environment, logging
from config.values import in_url

environment.require_secret_key()
_told = environment.read()

bind = f"{in_url(_told.WEB_HOST)}:{_told.WEB_PORT}"
# Pages wait for PostgreSQL more than they compute.
worker_class = "gthread"
threads = 8
graceful_timeout = 10
logconfig_dict = logging.described(level=_told.LOG_LEVEL, format=_told.LOG_FORMAT)
# No socket in the home folder: nobody steers this server but the process that started it.
control_socket_disable = True
