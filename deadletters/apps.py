"""The app, and what it connects at start."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeadLettersConfig(AppConfig):
    name = "deadletters"
    verbose_name = _("Dead letters")
