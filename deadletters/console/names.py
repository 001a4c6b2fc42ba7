"""Names of tasks, queues, workers and errors in narrow columns: a filter that every template knows (settings.TEMPLATES)."""

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# After a dot (not that of a number), an underscore, @, /, : or -, and before a capital that begins a word.
_SEAM = re.compile(r"(?<=\.)(?=[^\W\d])|(?<=[_@/:-])(?=[^\W_])|(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@register.filter
def breakable(name: object) -> SafeString:
    """The name, which a browser breaks into lines between its parts, if it must; even where `white-space` is `nowrap`.

    A <wbr> is not copied with it, as a zero-width space would be.
    """
    return mark_safe("<wbr>".join(map(escape, _SEAM.split(str(name)))))  # noqa: S308  (every part is escaped)
