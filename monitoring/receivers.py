"""What this room listens to."""

from typing import Any

from deadletters.models import DeadLetter
from monitoring import alerts


def on_dead_letter_opened(*, dead_letter: DeadLetter, **_: Any) -> None:
    """Tell people of a new letter."""
    alerts.alert(dead_letter)
