"""Fetch an image over HTTP into the storage."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from tempfile import SpooledTemporaryFile

import httpx

from pipelines.steps import addresses, files
from pipelines.steps.errors import (
    BadAddress,
    NotAnImage,
    NotFound,
    RateLimited,
    Refused,
    ServerFailed,
    TimedOut,
    TooLarge,
    Unreachable,
)

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0  # the longest silence
TOTAL_SECONDS = 45.0  # a server that sends a byte every nine seconds is never silent
MAX_REDIRECTS = 5
IN_MEMORY = 1_000_000  # bytes; more goes to a temporary file
TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
# "identity": a compressed answer could be a bomb, and images are compressed anyway.
HEADERS = {"User-Agent": "Redeliver", "Accept": ", ".join(sorted(TYPES)), "Accept-Encoding": "identity"}


def fetch(
    url: str,
    *,
    to: str,
    max_bytes: int,
    allow_private: bool = False,
    endpoint_url: str = "",
    read_seconds: float = READ_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
) -> dict[str, str | int]:
    """Store the image at `url` as `to` (a storage URL). {"source": url, "file": to, "type": "image/…", "bytes": …}.

    Raises:
        BadAddress, PrivateAddress, NotFound, Refused, NotAnImage, TooLarge: asking again is of no use.
        TimedOut, Unreachable, ServerFailed, StorageAway: asking again may be.
        RateLimited: asking again is, in a while.
    """
    call = _Call(
        allow_private=allow_private,
        timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
        deadline=time.monotonic() + total_seconds,
    )
    with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        with call.answer(addresses.checked(url)) as (response, shown):
            kind = _check(response, shown, max_bytes)
            for chunk in call.body(response, shown, max_bytes):
                spool.write(chunk)
        size = files.save(spool, to, endpoint_url=endpoint_url)
    return {"source": url, "file": to, "type": kind, "bytes": size}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One fetch with its redirects: what it may do, and until when (monotonic seconds)."""

    allow_private: bool
    timeout: httpx.Timeout
    deadline: float

    @contextmanager
    def answer(self, url: httpx.URL) -> Iterator[tuple[httpx.Response, str]]:
        """The answer at the end of the redirects (its body not read yet) and whose it is. Each hop is checked like the first."""
        start = addresses.shown(url)
        # A bare transport: no proxy of the environment (it would resolve the name again, past our check), no cookies, no redirects.
        with httpx.HTTPTransport(trust_env=False) as transport:
            for _ in range(MAX_REDIRECTS + 1):
                with _failures_as_ours(url), closing(self._send(transport, url)) as response:
                    if not response.has_redirect_location:
                        _refuse(response, url)
                        yield response, addresses.shown(url)
                        return
                    url = _next(url, response)
                if time.monotonic() > self.deadline:
                    raise TimedOut(f"{start} led from redirect to redirect until the time was up.")
        raise BadAddress(f"{start} redirects more than {MAX_REDIRECTS} times.")

    def _send(self, transport: httpx.HTTPTransport, url: httpx.URL) -> httpx.Response:
        """Call the addresses that were checked, one after the other, under the name that was asked for."""
        failure: httpx.TransportError = httpx.ConnectError("it has no address")
        for address in addresses.resolve(url, allow_private=self.allow_private):
            request = httpx.Request(
                "GET",
                url.copy_with(host=address),
                headers={**HEADERS, "Host": url.netloc.decode()},
                extensions={"sni_hostname": url.raw_host.decode(), "timeout": self.timeout.as_dict()},
            )
            try:
                return transport.handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
                failure = problem
        raise failure

    def body(self, response: httpx.Response, shown: str, max_bytes: int) -> Iterator[bytes]:
        """The body in pieces; what the headers promised about it is not believed."""
        seen = 0
        for chunk in response.iter_raw():
            seen += len(chunk)
            if seen > max_bytes:
                raise _too_large(shown, max_bytes)
            if time.monotonic() > self.deadline:
                raise TimedOut(f"{shown} was still coming after {seen:,} bytes when the time was up.")
            yield chunk


def _next(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        target = url.join(response.headers["Location"])
    except httpx.InvalidURL as problem:
        raise BadAddress(f"{addresses.shown(url)} redirects to something that is no address: {problem}.") from problem
    return addresses.checked(str(target.copy_with(userinfo=b"")))


def _refuse(response: httpx.Response, url: httpx.URL) -> None:
    """Raise what a status other than 200 means."""
    status = response.status_code
    said = f"{addresses.shown(url)} answered {status} {response.reason_phrase}".rstrip()
    if status == httpx.codes.OK:
        return
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait = retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
        raise RateLimited(f"{said}: too many requests.", wait)
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise NotFound(f"{said}. Put the file there, or start a run with another address.")
    if status >= 500 or status in {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY}:
        raise ServerFailed(f"{said}.")
    raise Refused(f"{said}. Check the address, and whether everybody may read it.")


def retry_after(header: str, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for, of either form; None when it is missing or nonsense."""
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _check(response: httpx.Response, shown: str, max_bytes: int) -> str:
    """The content type, when the headers promise an image of a size we take."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        raise NotAnImage(f"{shown} is {kind or 'of no stated type'}, not one of {', '.join(sorted(TYPES))}.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise NotAnImage(f"{shown} came compressed ({response.headers['Content-Encoding']}), which nobody asked for.")
    if int(response.headers.get("Content-Length", 0)) > max_bytes:
        raise _too_large(shown, max_bytes)
    return str(kind)


def _too_large(what: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"{what} is larger than {max_bytes:,} bytes (FETCH_MAX_BYTES).")


@contextmanager
def _failures_as_ours(url: httpx.URL) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as problem:
        raise TimedOut(f"{addresses.shown(url)} did not answer in time ({type(problem).__name__}).") from problem
    except httpx.TransportError as problem:
        raise Unreachable(
            f"{addresses.shown(url)} cannot be reached: {problem or type(problem).__name__}."
        ) from problem
