"""What the address of a list, or its form, may ask for."""

import re

from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.http import HttpRequest  # noqa: TID251  (this module is a part of the admin's door)


class NarrowAdmin(ModelAdmin):  # type: ignore[type-arg]  # Django's takes no type at run time
    """An address may narrow the list by its filters, and by `narrowed_by`: lookups that links ask for.

    Django lets it by every lookup of every column: `?headers__contains=…` would tell a viewer what the page masks.
    """

    narrowed_by: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:  # noqa: ARG002
        filters = {getattr(one, "parameter_name", f"{one}__exact") for one in self.list_filter}
        return lookup in filters or lookup in self.narrowed_by


def refuse_odd_rows(request: HttpRequest) -> None:
    """Let no row be ticked that a list of numbered rows cannot have: PostgreSQL would fail to look for it.

    Raises:
        BadRequest: one is.
    """
    if not all(re.fullmatch(r"\d{1,18}", pk, re.ASCII) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)):
        raise BadRequest("a row that no page of ours has")
