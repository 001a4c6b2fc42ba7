"""The app, and what it connects at start."""

from celery import signals
from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MonitoringConfig(AppConfig):
    name = "monitoring"
    verbose_name = _("Monitoring")

    def ready(self) -> None:
        """Listen to deaths, stamp and measure tasks, keep queues paused, register the system checks."""
        from deadletters.signals import dead_letter_opened  # noqa: PLC0415  (models are loaded only now)
        from monitoring import checks, control, durations, queues, receivers, watchdog  # noqa: F401, PLC0415

        dead_letter_opened.connect(receivers.on_dead_letter_opened, dispatch_uid="monitoring.alerts")
        durations.connect()
        watchdog.connect()
        signals.before_task_publish.connect(queues.stamp, dispatch_uid="monitoring.stamp")
        signals.worker_init.connect(control.teach_commands, dispatch_uid="monitoring.teach_commands")
        signals.celeryd_after_setup.connect(control.keep_paused, dispatch_uid="monitoring.keep_paused")
