"""The console is Django's admin under our name."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.contrib.admin.sites import AdminSite
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

# What django-celery-results calls itself and its rows in the menu of all models, which it has no Japanese for.
FOREIGN = (gettext_noop("Celery Results"), gettext_noop("task results"))


class ConsoleSite(AdminSite):
    """The admin that the screens hang in."""

    site_title = "Redeliver"
    site_header = "Redeliver"
    index_title = _("Dashboard")
    enable_nav_sidebar = True


class RootConfig(AppConfig):
    """The composition root is an app only for its commands."""

    name = "config"


class ConsoleConfig(AdminConfig):
    """Puts our site in the place of the stock one."""

    default_site = "config.apps.ConsoleSite"
