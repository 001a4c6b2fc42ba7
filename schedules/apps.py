"""The app, and what it connects at start."""

from django.apps import AppConfig
from django.db.models.signals import post_delete
from django.utils.translation import gettext_lazy as _


class SchedulesConfig(AppConfig):
    """Listens to workers, and tells stock beats of schedules that are deleted many at once."""

    name = "schedules"
    verbose_name = _("Schedules")

    def ready(self) -> None:
        from django_celery_beat.models import PeriodicTasks  # noqa: PLC0415  (models exist only now)

        from schedules import arrival  # noqa: PLC0415

        # django-celery-beat listens to PeriodicTask; deleting many at once signals the proxy.
        post_delete.connect(PeriodicTasks.update_changed, sender="schedules.Schedule", dispatch_uid="schedules.deleted")
        arrival.connect()
