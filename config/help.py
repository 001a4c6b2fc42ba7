"""The runbook and the words, rendered in the console from the files of docs/, or of docs/ja/ for who reads Japanese."""

from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse  # noqa: TID251  (a door)
from django.shortcuts import render  # noqa: TID251  (a door)
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
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
    context = {**admin.site.each_context(request), "title": title, "current": name, "pages": _pages()}
    context.update(_content(file, get_language()))
    return render(request, "help.html", context)


def _pages() -> list[tuple[str, Any]]:
    return [(name, title) for name, (title, _file) in PAGES.items()]


@cache
def _content(file: str, language: str) -> dict[str, Any]:
    """It ships with the code, so it changes only with it. English where there is no translation, whose anchors are the English ones."""
    original, translation = settings.BASE_DIR / "docs" / file, settings.BASE_DIR / "docs" / language / file
    if not original.exists():
        return {"body": _("This installation was made without the folder docs/."), "headings": [], "language": language}
    text = _below_the_title(original)
    if not translation.exists():
        return {"body": markdown.render(text), "headings": markdown.headings(text), "language": "en"}
    translated = _below_the_title(translation)
    words = [
        (anchor, words)
        for (anchor, _en), (_ja, words) in zip(markdown.headings(text), markdown.headings(translated), strict=False)
    ]
    return {"body": markdown.translated(translated, text), "headings": words, "language": language}


def _below_the_title(path: Path) -> str:
    return path.read_text().partition("\n")[2]
