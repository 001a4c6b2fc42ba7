"""Which beats live, and how long ago the leading one last ticked; by the database's clock."""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now

from schedules.history import Beat

# A beat ticks each second; one that has not for so long is stopped, gone, or cut off from PostgreSQL.
SILENT = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """`age` is that of the leader's last tick, and None when no beat has led lately."""

    leader: str = ""
    age: timedelta | None = None
    standing_by: int = 0
    schedules: int = 0

    @property
    def silent(self) -> bool:
        """Whether schedules do not run, as far as anybody can see."""
        return self.age is None or self.age > SILENT


def liveness(host: str = "") -> Liveness:
    """Of all beats, or of one host's; whoever ticked last is named when none of them leads."""
    beats = Beat.objects.filter(name__startswith=f"{host}:") if host else Beat.objects.all()
    age = ExpressionWrapper(Now() - F("ticked_at"), output_field=DurationField())
    found = list(beats.annotate(since=age).order_by(F("leads_since").desc(nulls_last=True), "-ticked_at"))
    if not found or (not host and found[0].leads_since is None):
        return Liveness(standing_by=sum(one.since <= SILENT for one in found))
    first, *others = found
    return Liveness(
        leader=first.name,
        age=max(timedelta(0), first.since),
        standing_by=sum(one.since <= SILENT for one in others),
        schedules=first.schedules,
    )
