"""The composition root: settings, the Celery app, URLs, the embedded servers."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
