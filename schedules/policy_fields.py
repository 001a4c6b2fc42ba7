"""The part of the form that says how a schedule may run: overlap, missed runs, jitter, pause after failures."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from schedules.models import Schedule
from schedules.policy import Missed, Overlap
from schedules.spec import DEFAULTS, POLICY, policy_of


def _number(label: Any, help_text: Any, least: int, most: int, initial: int | None = None) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, help_text=help_text, min_value=least, max_value=most, initial=initial, required=False
    )


class PolicyFields(forms.Form):
    """An empty field means its default."""

    overlap = forms.ChoiceField(
        label=_("If it is still running"), choices=Overlap, required=False, initial=Overlap.ALLOW
    )
    missed = forms.ChoiceField(
        label=_("If runs were missed"),
        choices=Missed,
        required=False,
        initial=Missed.ONCE,
        help_text=_("While no beat, database or broker was there."),
    )
    catch_up_limit = _number(_("Run at most"), _("Of the missed ones, the newest."), 1, 10_000, initial=100)
    grace = _number(
        _("Grace time (seconds)"),
        _("What is later than this counts as missed and is not run. Empty: however late."),
        1,
        2_000_000_000,
    )
    jitter = _number(
        _("Jitter (seconds)"),
        _("Each run leaves up to this much later, so that many schedules do not start at once."),
        0,
        86_400,
        initial=0,
    )
    pause_after_failures = _number(
        _("Pause after failures"), _("So many in a row. Empty: it never pauses by itself."), 1, 10_000
    )

    def read_policy(self, schedule: Schedule, data: dict[str, Any]) -> None:
        """Put the fields into `schedule.policy`, in memory."""
        policy = policy_of(schedule)
        for name in POLICY:
            if name in data:
                value = data[name]
                setattr(policy, name, DEFAULTS[name] if value in {None, ""} else value)
        schedule.policy = policy
