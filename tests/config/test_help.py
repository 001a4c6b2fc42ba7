"""The help in the console, in English and in Japanese."""

import re

import pytest
from django.conf import settings
from django.utils.translation import override

from config import markdown
from deadletters.models import Cause
from deadletters.models import State as LetterState
from pipelines.states import LABELS, State
from schedules.history import State as OccurrenceState

DOCS = settings.BASE_DIR / "docs"
FILES = ("operations.md", "glossary.md")


def sections(text):
    """[(level, text below the heading)], the first of the title."""
    parts = re.split(r"^(#+) .*$", text, flags=re.MULTILINE)
    return list(zip(map(len, parts[1::2]), parts[2::2], strict=True))


def rows(text):
    return sum(line.startswith("|") for line in text.splitlines())


def commands(text):
    """Lines of code, without what stands beside them to explain them."""
    return [re.split(r"\s{3,}", line.strip())[0] for line in text.splitlines() if line.startswith("    ")]


def code(text):
    return sorted(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("file", FILES)
def test_a_translation_has_the_headings_rows_and_commands_of_its_original(file):
    original, translation = (sections((DOCS / where / file).read_text()) for where in ("", "ja"))
    assert [level for level, _text in translation] == [level for level, _text in original]
    for number, ((_level, english), (_same, japanese)) in enumerate(zip(original, translation, strict=True)):
        assert rows(japanese) == rows(english), number
        assert commands(japanese) == commands(english), number
        assert code(japanese) == code(english), number


@pytest.mark.parametrize("file", FILES)
def test_a_translation_is_reached_by_the_anchors_of_its_original(file):
    original, translation = (DOCS / file).read_text(), (DOCS / "ja" / file).read_text()
    anchors = re.findall(r' id="([^"]*)"', markdown.render(original))
    assert re.findall(r' id="([^"]*)"', markdown.translated(translation, original)) == anchors
    assert all(anchors)
    assert len(set(anchors)) == len(anchors)


def test_states_and_causes_are_called_in_the_japanese_runbook_as_on_the_screens():
    text = (DOCS / "ja/operations.md").read_text()
    with override("ja"):
        named = {f"`{one}` ({LABELS[one]})" for one in State}
        named |= {f"`{one.value}` ({one.label})" for kind in (Cause, LetterState, OccurrenceState) for one in kind}
    assert {name for name in named if f"| {name} |" not in text} == set()


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "heading"), [("en", "Something is dead"), ("ja", "何かが死亡した")])
def test_the_help_holds_every_section_that_a_screen_links_to(client, admin_user, language, heading):
    client.force_login(admin_user)
    page = client.get("/help/", headers={"Accept-Language": language}).content.decode()
    assert f'<article class="o-card o-prose" lang="{language}">' in page
    assert f'<h2 id="something-is-dead">{heading}</h2>' in page
    assert f'<a href="#something-is-dead">{heading}</a>' in page
    anchors = set(re.findall(r'id="([\w-]+)"', page))
    linked = set()
    for path in (settings.BASE_DIR / "templates").rglob("*.html"):
        linked |= set(re.findall(r'_help\.html" with page="([\w-]+)"', path.read_text()))
    assert linked
    assert linked <= anchors
    assert {f"causes-of-death-{cause}" for cause in Cause.values} <= anchors
    assert {f"states-of-a-letter-{state}" for state in LetterState.values} <= anchors
    assert {f"states-of-a-step-{state}" for state in State} <= anchors
    assert {f"states-of-an-occurrence-{state}" for state in OccurrenceState.values} <= anchors
    assert {f"policies-of-a-schedule-{name}" for name in ("overlap", "missed", "grace", "jitter")} <= anchors
    assert "<script" not in page.split("<article")[1].split("</article>")[0]
    assert client.get("/help/words/").status_code == 200
    assert client.get("/help/nothing/").status_code == 404


@pytest.mark.django_db
def test_who_reads_another_language_has_the_help_in_english(client, admin_user, settings):
    settings.LANGUAGES = [*settings.LANGUAGES, ("fr", "Français")]
    client.force_login(admin_user)
    page = client.get("/help/", headers={"Accept-Language": "fr"}).content.decode()
    assert '<html lang="fr"' in page
    assert '<article class="o-card o-prose" lang="en">' in page
    assert '<h2 id="something-is-dead">Something is dead</h2>' in page


def test_markdown_escapes_what_is_no_markup():
    from config.markdown import render

    html = render(
        "# A <b>\n\nSay `<i>` and [x](javascript:alert) **y**.\n\n| a | b |\n|---|---|\n| one | `two` |\n\n- p\n  q\n- r"
    )
    assert "<b>y</b>" in html
    assert "&lt;i&gt;" in html
    assert "javascript" not in html
    assert '<tr id="a-b-one">' in html
    assert "<li>p q</li><li>r</li>" in html
