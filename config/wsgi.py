"""The web door, for gunicorn or another WSGI server."""

import os

from django.core.wsgi import get_wsgi_application

from config import environment

environment.require_secret_key()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
