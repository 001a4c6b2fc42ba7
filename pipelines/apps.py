"""The app, and what it connects at start."""

from importlib import import_module

from django.apps import AppConfig
from django.conf import settings
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class PipelinesConfig(AppConfig):
    """What runs."""

    name = "pipelines"
    verbose_name = _("Pipelines")

    def ready(self) -> None:
        """Import the pipelines: the modules that the settings name, and `pipelines.py` of any app."""
        for module in settings.PIPELINES:
            import_module(module)
        autodiscover_modules("pipelines")
