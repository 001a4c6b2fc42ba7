"""Cron lines in Japanese. cron_descriptor's own Japanese leaves weekdays and months in English, in the order of an English sentence. Pure."""

from collections.abc import Callable

from celery.utils.time import weekday, yearmonth  # type: ignore[attr-defined]  # celery-types is behind

_WEEKDAYS = "日月火水木金土"


def japanese(fields: tuple[str, str, str, str, str]) -> str:
    """`月〜金曜日 09:00`, `毎月 1 日 00:00`, `9〜17 時 10 分ごと` of checked fields; "" for a line that has no such words."""
    minute, hour, day, month, week = fields
    if "/" in week or any("*" in field and "," in field for field in fields):
        return ""
    days = _days(day, month, week)
    if _plain(minute) and _plain(hour):
        times = "、".join(f"{int(h):02}:{int(m):02}" for h in hour.split(",") for m in minute.split(","))
        return f"{days or '毎日'} {times}"
    minutes = "毎分" if minute == "*" else _values(minute, "分", "分")
    if hour != "*":
        minutes = f"{_values(hour, '時', '時間')} {minutes}"
    elif minute[0] != "*":
        minutes = f"毎時 {minutes}"
    return f"{days} {minutes}".strip()


def _days(day: str, month: str, week: str) -> str:
    """On which days; "" for all of them. Day and weekday must both match."""
    days = "" if month == "*" else _values(month, "月", "か月", lambda text: _number(text, yearmonth))
    if day != "*":
        days = f"{days or '毎月'} {_values(day, '日', '日')}"
    if week == "*":
        return f"{days}の毎日" if days and day == "*" else days
    names = "、".join(
        "〜".join(_WEEKDAYS[_number(end, weekday)] for end in part.split("-")) for part in week.split(",")
    )
    return f"{days}の{names}曜日" if days else f"{names}曜日"


def _values(field: str, unit: str, period: str, read: Callable[[str], int] = int) -> str:
    """`5、35 分`, `8〜18 時`, `15 分ごと`, `1〜9 日 (2 日ごと)`."""
    if field.startswith("*/"):
        return f"{field[2:]} {period}ごと"
    parts = []
    for part in field.split(","):
        span, _slash, step = part.partition("/")
        ends = "〜".join(str(read(end)) for end in span.split("-"))
        parts.append(f"{ends} {unit} ({step} {period}ごと)" if step else ends)
    return "、".join(parts) + ("" if step else f" {unit}")


def _number(text: str, named: Callable[[str], int]) -> int:
    return int(text) if text.isdecimal() else named(text)


def _plain(field: str) -> bool:
    return all(part.isdecimal() for part in field.split(","))
