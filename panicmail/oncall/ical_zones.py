"""Time zones as calendars name them.

A name is, in this order: an IANA name in any case, quoted or not; one of Windows' names; the end of a path such as
"/example.org/20050126/Europe/Berlin" (RFC 5545 3.8.3.1); a VTIMEZONE of the file. A definition in the file comes last,
because they are often older than the zone's rules. Anything else is a zone nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import icalendar
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from panicmail.oncall.ical_text import IcalComponent

#: How a calendar names its own zone: Google and Apple, RFC 7986's draft, some servers.
_OWN = ("X-WR-TIMEZONE", "TIMEZONE-ID", "TZID")


@dataclass(frozen=True, slots=True)
class ZoneOfDays:
    """The zone of whole days and of times that name none."""

    zone: tzinfo | None  #: None: the calendar names one nobody knows
    name: str
    why: str  #: where that stands


class IcalZones:
    """The zones of one file."""

    def __init__(self, calendar: IcalComponent) -> None:
        defined = [each for each in calendar.within if each.name == "VTIMEZONE"]
        self._defined = {_plain(_value(each, "TZID")): each for each in defined}
        self._made: dict[str, tzinfo | None] = {}
        self._named = next(((_value(calendar, key), key) for key in _OWN if _plain(_value(calendar, key))), None)

    def find(self, name: str) -> tzinfo | None:
        """The zone a text names; None when nobody knows it."""
        if name not in self._made:
            self._made[name] = _known(name) or self._of_the_file(_plain(name))
        return self._made[name]

    def of_days(self, configured: str) -> ZoneOfDays:
        """The zone of whole days and floating times: the configured one, else the calendar's own, else UTC."""
        if configured:
            return ZoneOfDays(_known(configured), configured, "ical_tz")
        if self._named:
            name, key = self._named
            return ZoneOfDays(self.find(name), name.strip().strip('"'), key)
        if len(self._defined) == 1:
            (only,) = self._defined.values()
            if zone := self.find(_value(only, "TZID")):
                return ZoneOfDays(zone, _value(only, "TZID"), "the only zone in the file")
        return ZoneOfDays(UTC, "UTC", "neither the calendar nor ical_tz names a zone")

    def _of_the_file(self, name: str) -> tzinfo | None:
        defined = self._defined.get(name)
        if defined is None:
            return None
        if zone := _known(_value(defined, "X-LIC-LOCATION")):
            return zone
        try:
            made = icalendar.Timezone.from_ical(defined.text())
            return made.to_tz(lookup_tzid=False) if isinstance(made, icalendar.Timezone) else None
        except Exception:  # the library raises what it happens to; then it is a zone nobody knows
            return None


def _value(component: IcalComponent, key: str) -> str:
    return next((each.value for each in component.properties() if each.name == key), "")


def _plain(name: str) -> str:
    return name.strip().strip('"').strip().casefold()


def _known(name: str) -> tzinfo | None:
    plain = _plain(name)
    if plain in ("utc", "z", "etc/utc"):
        return UTC
    paths = [plain.split("/", parts)[-1] for parts in range(plain.count("/"))] if plain.startswith("/") else []
    key = next((_names()[path] for path in (plain, *paths) if path in _names()), None)
    return ZoneInfo(key) if key else None


@cache
def _names() -> dict[str, str]:
    """IANA's name by each name that is known, in lower case."""
    windows: Iterable[tuple[str, str]] = WINDOWS_TO_OLSON.items()
    iana = available_timezones()
    return {name.casefold(): key for name, key in windows if key in iana} | {key.casefold(): key for key in iana}
