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
        signals.worker_init.connect(_worker_begins, dispatch_uid="pipelines.worker_begins")


def _worker_begins(sender: Any, **_: Any) -> None:
    # Imported in a worker only: the web has no use for celery.worker.
    receivers = import_module("pipelines.receivers")
    receivers.refuse_cancelled()
    sender.app.steps["consumer"].add(receivers.RefuseCancelled)
    signals.task_prerun.connect(receivers.renew_connections, weak=False, dispatch_uid="pipelines.renew_connections")
