"""The runbook and the words, rendered in the console from the files of docs/."""

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse  # noqa: TID251  (a door)
from django.shortcuts import render  # noqa: TID251  (a door)
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from config import markdown

# Address -> (title, file). "" is the front page.
PAGES = {
    "": (gettext_lazy("Runbook"), "operations.md"),
    "words": (gettext_lazy("Words"), "glossary.md"),
}


@require_safe
def page(request: HttpRequest, name: str = "") -> HttpResponse:
    """One page of the help."""
    if name not in PAGES:
        raise Http404
    title, file = PAGES[name]
    context = {**admin.site.each_context(request), "title": title, "current": name, "pages": _pages(), **_content(file)}
    return render(request, "help.html", context)


def _pages() -> list[tuple[str, Any]]:
    return [(name, title) for name, (title, _file) in PAGES.items()]


@cache
def _content(file: str) -> dict[str, Any]:
    """It ships with the code, so it changes only with it."""
    path = settings.BASE_DIR / "docs" / file
    if not path.exists():
        return {"body": _("This installation was made without the folder docs/."), "headings": []}
    _title, _newline, text = path.read_text().partition("\n")
    return {"body": markdown.render(text), "headings": markdown.headings(text)}
