"""The four shapes of a workflow, with numbers small enough to check by hand."""

from typing import Annotated, Literal

from celery import chain, chord, group
from celery.canvas import Signature
from django.utils.translation import gettext_lazy as _

from pipelines.registry import pipeline
from pipelines.tasks import add, multiply, total

Shape = Annotated[
    Literal["chain", "pipe", "group", "chord"],
    _("chain and pipe: (4 + 4) × 2 = 16; group: 4, 8 and 16; chord: their sum, 28"),
]


@pipeline(name="arithmetic")
def arithmetic(shape: Shape = "chord") -> Signature:
    """Add and multiply small numbers: the shortest proof that workers run."""
    sums = group(add.s(2, 2), add.s(4, 4), add.s(8, 8))
    canvases: dict[str, Signature] = {
        "chain": chain(add.s(4, 4), multiply.s(2)),
        "pipe": add.s(4, 4) | multiply.s(2),
        "group": sums,
        "chord": chord(sums, total.s()),
    }
    return canvases[shape]
