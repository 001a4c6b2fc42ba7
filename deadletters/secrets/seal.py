"""Payloads sealed with keys of the environment: encrypted and signed (Fernet), newest key first. Pure."""

import base64
import hashlib
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.translation import gettext as _


class CannotOpen(Exception):
    """A sealed payload that no key here opens; the text says what to do."""


def new_key() -> str:
    """A fresh key for DEADLETTERS_KEYS."""
    return Fernet.generate_key().decode()


def key_id(key: str) -> str:
    """What a key is called in the database: says nothing of the key itself."""
    return hashlib.blake2b(key.encode(), digest_size=8, person=b"deadletters").hexdigest()


def newest() -> str:
    """The id of the key that seals; empty when nothing is sealed."""
    return next(iter(_keys(tuple(settings.DEADLETTERS_KEYS))), "")


def seal(payload: bytes) -> tuple[bytes, str]:
    """(sealed, id of the key). Only to be called when there is a key."""
    keys = _keys(tuple(settings.DEADLETTERS_KEYS))
    name, key = next(iter(keys.items()))
    # The bytes behind the token's base64: a quarter less to store.
    return base64.urlsafe_b64decode(key.encrypt(payload)), name


def unseal(sealed: bytes, name: str) -> bytes:
    """The payload.

    Raises:
        CannotOpen: the key `name` is not here any more, or the bytes were changed.
    """
    key = _keys(tuple(settings.DEADLETTERS_KEYS)).get(name)
    if key is None:
        raise CannotOpen(
            _(
                "The payload is sealed with the key %(key)s, which is not in DEADLETTERS_KEYS. Put that key back, at the end of the list."
            )
            % {"key": name}
        )
    try:
        return key.decrypt(base64.urlsafe_b64encode(sealed))
    except InvalidToken:
        raise CannotOpen(
            _(
                "The sealed payload does not open with its key %(key)s: it was changed or cut. Restore the row from a backup."
            )
            % {"key": name}
        ) from None


@lru_cache(maxsize=8)
def _keys(keys: tuple[str, ...]) -> dict[str, Fernet]:
    return {key_id(key): Fernet(key) for key in keys}
