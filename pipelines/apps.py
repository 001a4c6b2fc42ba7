"""The app, and what it connects at start."""

from importlib import import_module
from typing import Any

from celery import signals
from django.apps import AppConfig
from django.conf import settings
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class PipelinesConfig(AppConfig):
    """What runs."""

    name = "pipelines"
    verbose_name = _("Pipelines")

    def ready(self) -> None:
        """Import the checks and the pipelines: the modules that the settings name, `pipelines.py` of any app. Connect the receivers."""
        import_module("pipelines.checks")
        for module in settings.PIPELINES:
            import_module(module)
        autodiscover_modules("pipelines")
        signals.worker_init.connect(_refuse_cancelled, dispatch_uid="pipelines.refuse_cancelled")


def _refuse_cancelled(**_: Any) -> None:
    # Imported in a worker only: the web has no use for celery.worker.
    import_module("pipelines.receivers").refuse_cancelled()
