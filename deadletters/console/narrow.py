"""What the address of a list may ask for."""

from django.contrib.admin import ModelAdmin
from django.http import HttpRequest  # noqa: TID251  (this module is a part of the admin's door)


class NarrowAdmin(ModelAdmin):  # type: ignore[type-arg]  # Django's takes no type at run time
    """An address may narrow the list by its filters, and by `narrowed_by`: lookups that links ask for.

    Django lets it by every lookup of every column: `?headers__contains=…` would tell a viewer what the page masks.
    """

    narrowed_by: tuple[str, ...] = ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:  # noqa: ARG002
        filters = {getattr(one, "parameter_name", f"{one}__exact") for one in self.list_filter}
        return lookup in filters or lookup in self.narrowed_by
