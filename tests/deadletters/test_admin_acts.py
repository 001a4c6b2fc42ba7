import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from deadletters.models import DeadLetter, Redrive, State
from tests.deadletters.letters import letter

# A replay publishes after its commit: it must not run inside a test's transaction.
pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/deadletters/deadletter/"
ACTS = ["replay", "discard", "restore"]
NEW = "/deadletters/redrive/new/"
# A task that this process and any worker that another test left running know, whatever its arguments are.
ANYTHING = {"task_name": "tests.anything"}


def act(name, *args):
    return reverse(f"admin:deadletters_deadletter_{name}", args=args)


def somebody(django_user_model, *codenames):
    user = django_user_model.objects.create_user("eve", password="password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def state(made):
    return DeadLetter.objects.get(pk=made.pk).state


def said(response):
    return [str(message) for message in response.context["messages"]]


def test_a_letter_is_replayed_and_the_trail_names_who(admin_client, admin_user):
    made = letter()
    response = admin_client.post(act("replay", made.pk), {"next": LIST}, follow=True)
    assert state(made) == State.REPLAYING
    assert said(response) == ["shop.price_partition was sent again."]
    assert made.events.get(kind="replayed").actor == admin_user


def test_a_second_click_is_refused_in_words(admin_client):
    made = letter()
    admin_client.post(act("replay", made.pk))
    response = admin_client.post(act("replay", made.pk), follow=True)
    (message,) = [text for text in said(response) if "under way" in text]
    assert message
    assert made.events.filter(kind="replayed").count() == 1


def test_a_letter_is_discarded_with_a_reason_and_restored(admin_client):
    made = letter()
    response = admin_client.post(act("discard", made.pk), {"reason": "  "}, follow=True)
    assert state(made) == State.OPEN
    assert "why" in said(response)[0]
    admin_client.post(act("discard", made.pk), {"reason": "a duplicate"})
    assert state(made) == State.DISCARDED
    assert made.events.get(kind="discarded").text == "a duplicate"
    admin_client.post(act("restore", made.pk))
    assert state(made) == State.OPEN


def test_all_letters_of_one_error_are_replayed_and_no_other(admin_client):
    mine = [letter(0, **ANYTHING), letter(0, **ANYTHING)]
    other, resolved = letter(1), letter(0, state=State.RESOLVED)
    page = admin_client.get(NEW, {"fingerprint": mine[0].fingerprint})
    assert "Replay 2" in page.text
    later = letter(0, **ANYTHING)
    asked = {**dict(page.context["dialog"].hidden), "rate": "", "canary": "0", "stop_above": "20", "reason": "fixed"}
    response = admin_client.post(NEW, asked, follow=True)
    assert "Redrive" in response.text
    one = Redrive.objects.get()
    assert (one.total, one.sent, one.who, one.reason) == (2, 2, "admin", "fixed")
    assert state(later) == State.OPEN  # she was told of two
    assert [state(made) for made in (*mine, other, resolved)] == ["replaying", "replaying", "open", "resolved"]


def test_ticked_letters_are_replayed_and_refusals_are_told_once(admin_client):
    ready, done, gone = letter(**ANYTHING), letter(state=State.RESOLVED), letter(state=State.RESOLVED)
    data = {
        "action": ["replay_letters", "discard_letters"],
        "index": "0",
        "_selected_action": [ready.pk, done.pk, gone.pk],
    }
    response = admin_client.post(LIST + "?state=all", data, follow=True)
    assert state(ready) == State.REPLAYING
    first, second = said(response)
    assert first.startswith("1 dead letter was sent again")
    assert second.startswith("2 not sent:")


def test_a_ticked_letter_is_not_another_one_whose_task_id_is_its_number(admin_client):
    ticked = letter(**ANYTHING)
    namesake = letter(**ANYTHING, task_id=str(ticked.pk))
    data = {"action": ["replay_letters", "discard_letters"], "index": "0", "_selected_action": [ticked.pk]}
    admin_client.post(LIST, data)
    assert (state(ticked), state(namesake)) == (State.REPLAYING, State.OPEN)
    other = letter(**ANYTHING, task_id="12345")
    page = admin_client.get(NEW, {"ids": f"{namesake.pk},{other.pk}"})
    asked = {**dict(page.context["dialog"].hidden), "rate": "", "canary": "0", "stop_above": "20", "reason": ""}
    admin_client.post(NEW, asked)
    assert {state(namesake), state(other)} == {State.REPLAYING}


def test_what_is_no_number_does_not_mean_every_letter(admin_client):
    letter()
    page = admin_client.get(NEW, {"ids": "abc"}, follow=True)
    assert page.redirect_chain[-1][0] == LIST
    assert "narrowed by" in said(page)[0]


def test_discarding_ticked_letters_asks_for_a_reason_first(admin_client):
    made = [letter(number) for number in range(3)]
    data = {"action": ["replay_letters", "discard_letters"], "index": "1", "_selected_action": [made[0].pk, made[1].pk]}
    page = admin_client.post(LIST, data)
    assert "Discard 2" in page.text
    assert [state(one) for one in made] == ["open"] * 3
    confirmed = {
        "action": "discard_letters",
        "index": "0",
        "_selected_action": [made[0].pk, made[1].pk],
        "select_across": "0",
    }
    again = admin_client.post(LIST, {**confirmed, "reason": " "})
    assert "Say why" in again.text
    done = admin_client.post(LIST, {**confirmed, "reason": "shop closed"}, follow=True)
    assert said(done) == ["2 dead letters were discarded."]
    assert [state(one) for one in made] == ["discarded", "discarded", "open"]


@pytest.mark.parametrize("across", ["0", "1"])
def test_a_replay_under_way_is_given_up_on_its_own_page_only(admin_client, across):
    dead, replaying = letter(), letter(state=State.REPLAYING, replay_number=1)
    confirmed = {
        "action": "discard_letters",
        "index": "0",
        "_selected_action": [dead.pk, replaying.pk],
        "select_across": across,
    }
    assert "Discard 1" in admin_client.post(LIST + "?state=all", confirmed).text
    admin_client.post(LIST + "?state=all", {**confirmed, "reason": "shop closed"})
    assert (state(dead), state(replaying)) == (State.DISCARDED, State.REPLAYING)
    assert act("discard", replaying.pk) in admin_client.get(f"{LIST}{replaying.pk}/change/").text
    admin_client.post(act("discard", replaying.pk), {"reason": "the broker lost it"})
    assert state(replaying) == State.DISCARDED


def test_all_that_match_are_those_of_the_filter_and_of_the_moment_of_asking(admin_client):
    mine, other = [letter(0), letter(0)], letter(1)
    data = {"action": "discard_letters", "index": "0", "_selected_action": [mine[0].pk], "select_across": "1"}
    page = admin_client.post(LIST + "?queue=prices&task_name=shop.price_partition", data)
    upto = page.context["upto"]
    later = letter(0)
    admin_client.post(
        LIST + "?queue=prices&task_name=shop.price_partition", {**data, "upto": upto, "reason": "shop closed"}
    )
    assert [state(one) for one in (*mine, other, later)] == ["discarded", "discarded", "open", "open"]


@pytest.mark.parametrize("name", ACTS)
def test_acts_are_posts_with_a_token(admin_client, admin_user, name):
    made = letter()
    assert admin_client.get(act(name, made.pk)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert strict.post(act(name, made.pk), {"reason": "x"}).status_code == 403
    assert state(made) == State.OPEN


@pytest.mark.parametrize("name", ACTS)
def test_people_without_the_permission_are_refused(django_user_model, name):
    made = letter(state=State.DISCARDED if name == "restore" else State.OPEN)
    client = somebody(django_user_model, "view_deadletter")
    assert client.post(act(name, made.pk), {"reason": "x"}).status_code == 403
    assert made.events.count() == 1


def test_actions_on_a_selection_need_the_permission_too(django_user_model):
    made = letter()
    client = somebody(django_user_model, "view_deadletter", "replay_deadletter")
    data = {"action": "discard_letters", "index": "0", "_selected_action": [made.pk], "reason": "x"}
    client.post(LIST, data)
    assert state(made) == State.OPEN
    assert "Discard" not in client.get(f"{LIST}{made.pk}/change/").text.split("<main")[1]


def test_acting_without_seeing_is_refused(django_user_model):
    made = letter()
    client = somebody(django_user_model, "replay_deadletter")
    assert client.post(act("replay", made.pk)).status_code == 403
    assert client.get(LIST).status_code == 403
    assert client.get(LIST + "by-error/").status_code == 403
    assert client.get(f"{LIST}{made.pk}/change/").status_code == 403


def test_nobody_can_edit_add_or_delete(admin_client):
    made = letter()
    assert admin_client.get(LIST + "add/").status_code == 403
    assert admin_client.post(f"{LIST}{made.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{LIST}{made.pk}/change/", {"state": "resolved"}).status_code == 405
    assert "delete_selected" not in admin_client.get(LIST).text


def test_nobody_is_sent_to_another_site(admin_client):
    made = letter()
    response = admin_client.post(act("replay", made.pk), {"next": "https://evil.example.com/"})
    assert response.headers["Location"] == LIST


def test_a_letter_that_does_not_exist_is_not_found(admin_client):
    assert admin_client.post(act("replay", 987654)).status_code == 404
    assert admin_client.get(f"{LIST}987654/change/").status_code == 404
    assert admin_client.get(f"{LIST}nonsense/change/").status_code == 404
    assert admin_client.get(f"{LIST}{'9' * 40}/change/").status_code == 404
