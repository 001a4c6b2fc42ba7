"""The app, and what it connects at start."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeadLettersConfig(AppConfig):
    """Listens to Celery's successes (a replay's outcome) and to its own new letters."""

    name = "deadletters"
    verbose_name = _("Dead letters")

    def ready(self) -> None:
        """Connect the receivers and the checks."""
        from celery import signals  # noqa: PLC0415  (models must be loaded first)

        from deadletters import checks  # noqa: F401, PLC0415
        from deadletters.capture import (  # noqa: PLC0415
            breaker,
            collect,
            drainer,
            expiry,
            outcome,
            poison,
            properties,
            redis_list,
            transport,
        )
        from deadletters.capture.announce import flush  # noqa: PLC0415
        from deadletters.secrets import reprs  # noqa: PLC0415

        breaker.connect()
        collect.connect()
        drainer.connect()
        expiry.connect()
        outcome.connect()
        poison.connect()
        properties.connect()
        redis_list.connect()
        reprs.connect()
        transport.connect()
        # The announcer's thread dies with the process: give it a moment to tell of the last letters.
        signals.worker_shutdown.connect(lambda **_: flush(timeout=5), weak=False, dispatch_uid="deadletters.flush")
