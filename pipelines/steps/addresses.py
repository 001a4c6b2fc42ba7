"""Which addresses we call: http and https, and none inside our own network."""

import ipaddress
import socket

import httpx

from pipelines.steps.errors import BadAddress, PrivateAddress, Unreachable

# Their last 32 bits are the IPv4 address that is called: NAT64 (RFC 6052), and what is left of the first days of IPv6.
_HOLDS_IPV4 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# A network's own NAT64 (RFC 8215); Python knows of it since 3.11.10.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


def complaint(url: str) -> str:
    """What is wrong with a web address; "" when it can be called."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as problem:
        return f"is no web address ({problem}): {url!r}"
    if parsed.scheme not in {"http", "https"} or not parsed.host or "%" in parsed.host:
        return f"must be a web address like https://example.com/image.jpg, not {url!r}"
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        return f"has a port that is none: {url!r}"
    if parsed.userinfo:
        return f"must not hold a password, which everybody who sees the run would see: {shown(parsed)}"
    return ""


def checked(url: str) -> httpx.URL:
    """The address, parsed.

    Raises:
        BadAddress: it is not one we call.
    """
    if wrong := complaint(url):
        raise BadAddress(f"The address {wrong}.")
    return httpx.URL(url)


def shown(url: httpx.URL) -> str:
    """The address for messages and logs: without what may be a secret (a query, a password)."""
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}{url.path}{'?…' if url.query else ''}"


def resolve(url: httpx.URL, *, allow_private: bool) -> list[str]:
    """The IP addresses behind `url`. Call one of these and not the name: its next answer may be another.

    Raises:
        PrivateAddress: one of them is not public.
        Unreachable: the name has no address (now).
    """
    try:
        found = socket.getaddrinfo(url.raw_host.decode(), url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise Unreachable(f"The name {url.host} cannot be resolved: {problem}.") from problem
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise PrivateAddress(
                f"{url.host} is {address}, which is not a public address, so {shown(url)} was not fetched. "
                "Where this is wanted, set FETCH_ALLOW_PRIVATE=true for the workers."
            )
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet; an IPv4 address in IPv6's clothes is looked at without them."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _translated(ip)
        if inner:
            return is_public(str(inner))
        if ip.is_site_local or ip in _LOCAL_NAT64:
            return False
    return ip.is_global and not ip.is_multicast


def _translated(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if any(ip in network for network in _HOLDS_IPV4) else None
