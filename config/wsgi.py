"""The web door, for gunicorn or another WSGI server."""

import os
import sys

from django.core.wsgi import get_wsgi_application

from config import environment

if not environment.read().SECRET_KEY:
    sys.exit(
        "SECRET_KEY is not set, so sessions could be forged. Set it to a long random text; `bin/up` makes one by itself."
    )
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
