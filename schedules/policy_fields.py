"""The part of the form that says how a schedule may run: overlap, missed runs, jitter, pause after failures."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from schedules.models import Schedule
from schedules.policy import Missed, Overlap
from schedules.spec import DEFAULTS, POLICY, policy_of


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
    catch_up_limit = forms.IntegerField(
        label=_("Run at most"),
        required=False,
        min_value=1,
        max_value=10_000,
        initial=100,
        help_text=_("Of the missed ones, the newest."),
    )
    grace = forms.IntegerField(
        label=_("Grace time (seconds)"),
        required=False,
        min_value=1,
        max_value=2_000_000_000,
        help_text=_("What is later than this counts as missed and is not run. Empty: however late."),
    )
    jitter = forms.IntegerField(
        label=_("Jitter (seconds)"),
        required=False,
        min_value=0,
        max_value=86_400,
        initial=0,
        help_text=_("Each run leaves up to this much later, so that many schedules do not start at once."),
    )
    pause_after_failures = forms.IntegerField(
        label=_("Pause after failures"),
        required=False,
        min_value=1,
        max_value=10_000,
        help_text=_("So many in a row. Empty: it never pauses by itself."),
    )

    def read_policy(self, schedule: Schedule, data: dict[str, Any]) -> None:
        """Put the fields into `schedule.policy`, in memory."""
        policy = policy_of(schedule)
        for name in POLICY:
            if name in data:
                value = data[name]
                setattr(policy, name, DEFAULTS[name] if value in {None, ""} else value)
        schedule.policy = policy
