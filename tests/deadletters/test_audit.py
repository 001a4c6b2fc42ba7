"""The audit trail is append-only, and the database holds that."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from deadletters import audit
from deadletters.models import Act, DeadLetter, RedriveItem
from deadletters.redrive.redrive import start
from deadletters.selection import Selection
from tests.deadletters.letters import letter

pytestmark = pytest.mark.django_db


def act(**fields):
    return audit.record(Act.Verb.DISCARDED, by="ana", reason="gone", letter=letter(), **fields)


def test_an_act_names_who_what_why_and_from_where(admin_user):
    made = audit.record(
        Act.Verb.REPLAYED, by=admin_user, reason=" why ", origin="/letter/1/", letter=(dead := letter())
    )
    assert (made.who, made.reason, made.origin, made.number) == ("admin", "why", "/letter/1/", 1)
    assert (made.dead_letter_id, made.fingerprint, made.root_id) == (dead.pk, dead.fingerprint, dead.root_id)


def test_the_database_refuses_to_change_an_act():
    made = act()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Act.objects.filter(pk=made.pk).update(who="somebody else")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        made.delete()
    assert Act.objects.get().who == "ana"


def test_only_retention_deletes_acts_and_only_old_ones():
    act()
    old = Act(at=timezone.now() - timedelta(days=400), verb=Act.Verb.RESTORED)
    old.save()
    assert audit.prune_acts(timedelta(days=365)) == 1
    assert Act.objects.get().verb == Act.Verb.DISCARDED


def test_the_letters_and_people_of_an_act_may_go_and_it_stays(admin_user):
    dead = letter()
    audit.record(Act.Verb.REPLAYED, by=admin_user, letter=dead)
    dead.delete()
    admin_user.delete()
    assert Act.objects.get().who == "admin"


def test_the_acts_of_a_letter_are_its_own_and_those_of_its_redrives():
    mine, other = letter(), letter()
    audit.record(Act.Verb.REPLAYED, by="ana", letter=mine)
    audit.record(Act.Verb.REPLAYED, by="ben", letter=other)
    one = start(Selection(numbers=(mine.pk,)), by="cid")
    RedriveItem.objects.create(redrive=one, dead_letter=mine, replay_number=1)
    assert {act.who for act in audit.acts_of(DeadLetter.objects.filter(pk=mine.pk))} == {"ana", "cid"}


@pytest.mark.parametrize(
    ("https", "told", "noted"),
    [
        (True, "1.2.3.4, 198.51.100.7", "198.51.100.7"),
        (True, "2001:db8::1", "2001:db8::1"),
        (True, "nonsense", "10.0.0.1"),
        (True, "", "10.0.0.1"),
        (False, "198.51.100.7", "10.0.0.1"),  # no proxy is trusted: anybody may write that header
    ],
)
def test_behind_a_proxy_the_trail_names_the_person_s_address(admin_client, settings, https, told, noted):
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if https else None
    made, headers = letter(0), {"X-Forwarded-For": told, "X-Forwarded-Proto": "https"}
    admin_client.post(
        f"/deadletters/deadletter/{made.pk}/discard/", {"reason": "x"}, REMOTE_ADDR="10.0.0.1", headers=headers
    )
    assert Act.objects.latest("id").origin == f"/deadletters/deadletter/{made.pk}/discard/ ({noted})"
