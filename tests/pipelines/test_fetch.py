import pickle
import socket
import ssl
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pipelines.steps import addresses, errors, fetch
from tests.web import Web, body, drip, image, picture, silence, status


@pytest.fixture
def get(tmp_path):
    """Fetch into a folder of this test; the options override."""

    def get(url, **options):
        options = {"max_bytes": 50_000, "allow_private": True, "read_seconds": 5, "total_seconds": 20, **options}
        return fetch.fetch(url, to=f"file://{tmp_path}/sub/fetched", **options)

    return get


@pytest.fixture
def stored(tmp_path):
    return lambda: [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_an_image_is_stored_and_only_its_facts_are_returned(web, get, tmp_path):
    url = web.answer("/a.jpg", image())
    facts = get(url)
    assert facts == {
        "source": url, "file": f"file://{tmp_path}/sub/fetched", "type": "image/jpeg", "bytes": len(picture()),
    }  # fmt: skip
    assert (tmp_path / "sub/fetched").read_bytes() == picture()


def test_a_second_try_replaces_the_first_ones_file(web, get, tmp_path, stored):
    get(web.answer("/a.jpg", image()))
    get(web.answer("/b.png", image(kind="PNG")))
    assert (tmp_path / "sub/fetched").read_bytes() == picture(kind="PNG")
    assert stored() == ["fetched"]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (status(404), errors.NotFound, r"/x answered 404 Not Found\. Put the file there"),
        (status(410), errors.NotFound, "410"),
        (status(403), errors.Refused, r"403 Forbidden\. Check the address"),
        (status(500), errors.ServerFailed, "500 Internal Server Error"),
        (status(503), errors.ServerFailed, "503"),
        (status(408), errors.ServerFailed, "408"),
        (status(304), errors.Refused, "304"),
        (status(206), errors.Refused, "206"),
        (body(b"<html>", "text/html; charset=utf-8"), errors.NotAnImage, "is text/html, not one of image/gif"),
        (body(b"<svg>", "image/svg+xml"), errors.NotAnImage, "is image/svg"),
        (body(b"x", Content_Encoding="gzip"), errors.NotAnImage, "compressed"),
        (body(b"x" * 60_000), errors.TooLarge, "larger than 50,000 bytes"),
        (body(b"x", length=10**15), errors.TooLarge, "larger than 50,000 bytes"),
        (body(b"x" * 60_000, length=None), errors.TooLarge, "larger than 50,000 bytes"),
        (body(b"x", length=100), errors.Unreachable, "cannot be reached: peer closed connection"),
        (status(302, Location="ftp://example.com/x"), errors.BadAddress, "must be a web address"),
        (status(302, Location="file:///etc/passwd"), errors.BadAddress, "must be a web address"),
        (status(302, Location="http://[bad"), errors.BadAddress, "must be a web address"),
        (status(302, Location="http://h:port/"), errors.BadAddress, "redirects to something that is no address"),
        (status(302, Location="/x"), errors.BadAddress, "redirects more than 5 times"),
    ],
)
def test_an_answer_that_is_no_image_is_told_apart(web, get, answer, error, says):
    with pytest.raises(error, match=says):
        get(web.answer("/x", answer))


@pytest.mark.parametrize("answer", [silence(1.5), drip(3)])
def test_a_slow_server_is_not_waited_for(web, get, stored, answer):
    with pytest.raises(errors.TimedOut, match="/slow"):
        get(web.answer("/slow", answer), read_seconds=0.3, total_seconds=0.6)
    assert stored() == []


def test_nobody_listening_may_pass(get):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(errors.Unreachable, match="cannot be reached"):
            get(f"http://127.0.0.1:{taken.getsockname()[1]}/a.jpg")


def test_a_name_without_address_may_pass(get):
    with pytest.raises(errors.Unreachable, match="cannot be resolved"):
        get("http://nowhere.invalid/a.jpg")


@pytest.mark.parametrize(
    ("header", "seconds"), [({"Retry_After": "7"}, 7), ({}, None), ({"Retry_After": "soon"}, None)]
)
def test_too_many_requests_say_how_long_to_wait(web, get, header, seconds):
    with pytest.raises(errors.RateLimited, match="429 Too Many Requests: too many requests") as limit:
        get(web.answer("/a.jpg", status(429, **header)))
    assert limit.value.retry_after == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Mon, 23 Nov 2026 10:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("٣", None),
        ("Mon, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert fetch.retry_after(header, datetime(2026, 11, 23, 10, tzinfo=UTC)) == seconds


def test_redirects_are_followed(web, get):
    web.answer("/far/c.jpg", image())
    web.answer("/b.jpg", status(307, Location="far/c.jpg"))
    url = web.answer("/a.jpg", status(301, Location=web.url("/b.jpg")))
    assert get(url)["source"] == url


def test_the_name_is_asked_for_and_the_checked_address_is_called(web, get, monkeypatch):
    """A second look-up would get the evil answer; there is none."""
    real, asked = socket.getaddrinfo, []

    def rebinding(host, *arguments, **options):
        asked.append(host)
        return real("127.0.0.1" if asked.count(host) == 1 else "203.0.113.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    web.answer("/a.jpg", image())
    get(f"http://pictures.example:{web.port}/a.jpg")
    assert web.hosts == [f"pictures.example:{web.port}"]
    assert asked.count("pictures.example") == 1


@pytest.mark.parametrize(("name", "trusted"), [("pictures.example", True), ("other.example", False)])
def test_a_certificate_is_checked_against_the_name_and_not_the_address(get, monkeypatch, tmp_path, name, trusted):
    server, client = _contexts(tmp_path, "pictures.example")
    monkeypatch.setattr(httpx, "HTTPTransport", partial(httpx.HTTPTransport, verify=client))
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *arguments, **options: real("127.0.0.1", *arguments, **options)
    )
    with closing(Web(server)) as web:
        web.answer("/a.jpg", image())
        with nullcontext() if trusted else pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            get(f"https://{name}:{web.port}/a.jpg")


def test_our_own_network_is_not_called(web, get):
    with pytest.raises(
        errors.PrivateAddress, match=r"127\.0\.0\.1, which is not a public address.*FETCH_ALLOW_PRIVATE"
    ):
        get(web.answer("/a.jpg", image()), allow_private=False)
    assert not web.calls


def test_a_redirect_into_our_own_network_is_not_followed(web, get, monkeypatch):
    monkeypatch.setattr(
        addresses, "is_public", lambda address: address == "127.0.0.1"
    )  # the test's server plays the internet
    for inside in ("http://127.0.0.2/a.jpg", "http://[::1]/a.jpg", "http://169.254.169.254/latest/meta-data"):
        with pytest.raises(errors.PrivateAddress, match="not a public address"):
            get(web.answer("/a.jpg", status(302, Location=inside)), allow_private=False)


def test_one_private_address_among_public_ones_is_enough_to_refuse(get, monkeypatch):
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.215.14", "10.0.0.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(errors.PrivateAddress, match=r"10\.0\.0\.3"):
        get("http://two.example/a.jpg", allow_private=False)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
     "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
     "64:ff9b:1::a00:1", "::127.0.0.1", "fec0::2"],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14"])
def test_addresses_that_are_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "http://",
        "https:///a",
        "http://[bad",
        "http://h:99999/",
        "http://a:b@h/x",
        "//h/x",
    ],
)
def test_addresses_that_are_not_called(url):
    assert addresses.complaint(url)


def test_messages_keep_secrets_of_an_address_to_themselves(web, get):
    with pytest.raises(errors.NotFound) as missing:
        get(web.url("/a.jpg?token=hush"))
    assert "hush" not in str(missing.value)
    assert "hush" not in addresses.complaint("http://ann:hush@example.com/")


@pytest.mark.parametrize("kind", [errors.NotFound, errors.TimedOut, errors.RateLimited])
def test_failures_survive_the_way_from_a_child_to_its_parent(kind):
    failure = kind("It is so.")
    again = pickle.loads(pickle.dumps(failure))
    assert (type(again), str(again)) == (kind, "It is so.")
    assert pickle.loads(pickle.dumps(errors.RateLimited("Wait.", 3.0))).retry_after == 3.0


def test_steps_stand_alone():
    folder = Path(fetch.__file__).parent
    assert not [path for path in folder.glob("*.py") if "django" in path.read_text()]


def _contexts(folder, name):
    """TLS of a server called `name`, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    pem.unlink()
    client = ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode())
    return server, client
