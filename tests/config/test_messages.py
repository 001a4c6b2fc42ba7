"""What people read is translated, and the compiled files are those of their sources."""

import gettext
import io
import re

import pytest
from django.conf import settings
from django.utils.dates import MONTHS_3, WEEKDAYS_ABBR
from django.utils.translation import override

from config.messages import broken, compile_mo, found, missing, read_po, write_po
from pipelines import registry

PO = settings.BASE_DIR / "locale/ja/LC_MESSAGES/django.po"


def test_every_message_has_a_japanese_translation_with_the_same_placeholders():
    known = read_po(PO.read_text())
    assert missing(found(), known) == []
    assert broken(known) == []


def test_the_compiled_file_is_that_of_its_source():
    assert PO.with_suffix(".mo").read_bytes() == compile_mo(read_po(PO.read_text()))


def test_what_is_written_is_what_was_read():
    known = {('a "b"\n\\c',): 'あ\\"い"\n', ("%d cat", "%d cats"): "猫 %d 匹"}
    assert read_po(write_po(known, dict.fromkeys(known, "x.py"))) == known
    catalog = gettext.GNUTranslations(io.BytesIO(compile_mo(known)))
    assert catalog.gettext('a "b"\n\\c') == 'あ\\"い"\n'
    assert catalog.ngettext("%d cat", "%d cats", 1) == "猫 %d 匹"


def test_what_a_pipeline_says_of_itself_is_a_message(tmp_path):
    (tmp_path / "pipelines").mkdir()
    code = '@pipeline(name="a")\ndef a():\n    """Mend the fence.\n\n    Not this."""\n\n@pipeline(name="b")\ndef b(): ...\n'
    (tmp_path / "pipelines/fences.py").write_text(code)
    assert found(tmp_path) == {("Mend the fence.",): "pipelines/fences.py"}
    with override("ja"):
        assert "画像" in registry.get("images").summary


def test_a_translation_that_names_another_placeholder_is_found():
    assert broken({("%(number)s left",): "残り %(nubmer)s"}) == [("%(number)s left",)]


def test_every_word_of_the_script_is_in_the_page_s_template():
    said = set(re.findall(r'words\("([^"]+)"\)', (settings.BASE_DIR / "static/ops.js").read_text()))
    template = (settings.BASE_DIR / "templates/admin/_words.html").read_text()
    assert said == set(re.findall(r'data-word="([^"]+)"', template))


@pytest.mark.django_db
def test_the_console_speaks_the_reader_s_language_and_remembers_the_choice(client, admin_user):
    client.force_login(admin_user)
    assert "Dead letters" in client.get("/").content.decode()
    assert "デッドレター" in client.get("/", headers={"Accept-Language": "ja,en;q=0.5"}).content.decode()
    client.post("/language/setlang/", {"language": "ja", "next": "/"})
    page = client.get("/").content.decode()
    assert '<html lang="ja"' in page
    assert "デッドレター" in page


def test_no_word_of_ours_takes_the_place_of_a_day_or_a_month():
    with override("ja"):
        assert "".join(str(WEEKDAYS_ABBR[day]) for day in range(7)) == "月火水木金土日"
        assert [str(MONTHS_3[month]) for month in (3, 5)] == ["3月", "5月"]
