"""Which names hold a secret. Pure."""

import re
from collections.abc import Iterable

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN = re.compile(r"[\W_]+|(?<=\D)(?=\d)|(?<=\d)(?=\D)")
# `dbpassword` and `csrftoken` are written without a border; a shorter ending (`discard`) would be chance.
_LONG = 5
# No name that people gave is longer.
_LONGEST = 128
_REMEMBERED = 10_000


class SecretNames:
    """Names such as `password` or `api_key`: as words of a longer name (`user_password`, `X-Api-Key`, `apiKey2`), singular or plural."""

    def __init__(self, names: Iterable[str]) -> None:
        words = {"_".join(_words(name)) for name in names} - {""}
        self._whole = tuple(f"_{name}_" for name in sorted(words))
        self._endings = tuple(name for name in sorted(word.replace("_", "") for word in words) if len(name) >= _LONG)
        # How they look in a text, in small letters.
        self._spellings = tuple(sorted({word.replace("_", border) for word in words for border in ("", "_", "-")}))
        self._known: dict[str, bool] = {}

    def holds(self, name: str, value: object = None) -> bool:
        """Whether what is called `name` is a secret. A number under a plural (`max_tokens`) is a count, and none."""
        if (known := self._known.get(name)) is None:
            known = len(name) <= _LONGEST and self._matches(name)
            if len(self._known) < _REMEMBERED:
                self._known[name] = known
        return known and not (is_number(value) and name.endswith(("s", "S")))

    def places(self, text: str) -> list[int]:
        """Where in `text` something may be called by one of the names: found as quickly as texts without any are passed over."""
        small = text.replace("İ", "I").lower()  # the one letter that is two in small
        places = []
        for spelling in self._spellings:
            place = small.find(spelling)
            while place >= 0:
                places.append(place)
                place = small.find(spelling, place + 1)
        return sorted(places)

    def _matches(self, name: str) -> bool:
        words = _words(name)
        joined = f"_{'_'.join(words)}_"
        return any(known in joined for known in self._whole) or "".join(words).endswith(self._endings)


def is_number(value: object) -> bool:
    """Whether it is a number, or a text of digits."""
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.isdecimal())


def _words(name: str) -> list[str]:
    words = _BETWEEN.split(_CAMEL.sub("_", name).casefold())
    # The s of a plural; `pass` and `address` have two.
    return [word[:-1] if word.endswith("s") and not word.endswith("ss") else word for word in words if word]
