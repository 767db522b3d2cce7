"""One entry of a calendar: what of it was understood, and why it does not count if it does not.

    cancelled       STATUS:CANCELLED
    absence         marked out of office (X-MICROSOFT-CDO-BUSYSTATUS:OOF), or its title or category says so in words
    free            TRANSP:TRANSPARENT or BUSYSTATUS:FREE, where `ical_free = "ignore"`
    a mistake       what decides when it takes place cannot be understood, or it ends before it starts

Everything else counts, tentative entries too. Of the attendees those count who are persons, are asked to take part and
did not decline or delegate. Alarms, descriptions and whatever else a line may hold are not looked at.

Times that name no zone are those of `ZoneOfDays`. A whole day that ends on itself is one day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import icalendar

from panicmail.oncall.calendars import CalendarRules, Contact
from panicmail.oncall.ical_text import IcalComponent, IcalProperty
from panicmail.oncall.ical_zones import IcalZones, ZoneOfDays

#: A property as it is kept, in characters.
LONGEST_TEXT = 500
_MOST_CONTACTS = 50
_DAY = timedelta(days=1)
#: An entry whose end nobody understands is told as if it lasted so long.
_UNKNOWN_LENGTH = timedelta(days=7)
#: What an entry says that is somebody's absence, in words of several languages.
ABSENCES = (
    "vacation", "vacations", "out of office", "ooo", "oof", "pto", "annual leave", "on leave", "sick leave", "sick",
    "parental leave", "maternity leave", "paternity leave", "absent", "absence", "day off", "days off", "time off",
    "is off", "off sick", "off work", "off duty", "unavailable", "not available", "not on call", "urlaub", "abwesend",
    "abwesenheit", "krank", "elternzeit", "vacances", "congé", "congés", "absente", "maladie", "vacaciones", "ausente",
    "ausencia", "ferie", "assente", "vakantie", "afwezig", "verlof", "férias", "urlop", "frånvarande",
)  # fmt: skip
#: These say it too, unless the entry is about a duty: somebody has the holiday shift.
_HOLIDAYS = ("holiday", "holidays", "feiertag", "feiertage")
_DUTIES = ("on call", "oncall", "shift", "duty", "rota", "rotation", "cover", "covers", "primary", "secondary",
           "bereitschaft", "dienst")  # fmt: skip

#: A whole day, or an aware time.
Moment = date | datetime
Repeat = Moment | tuple[Moment, Moment | timedelta]


@dataclass(slots=True, kw_only=True)
class IcalEvent:
    """One VEVENT. Where it does not count, its times are the nearest that were understood."""

    uid: str
    title: str
    sequence: int = 0
    start: Moment | None = None  #: None: not understood
    end: Moment | None = None  #: later than `start`
    replaces: Moment | None = None  #: RECURRENCE-ID
    is_onwards: bool = False  #: RANGE=THISANDFUTURE
    rules: tuple[str, ...] = ()  #: as `recurring_ical_events` takes them
    more: tuple[Repeat, ...] = ()  #: RDATE
    but: tuple[Moment, ...] = ()  #: EXDATE
    attendees: tuple[Contact, ...] = ()
    declined: tuple[Contact, ...] = ()
    organizer: Contact | None = None
    uncounted: str = ""  #: why it does not count; "": it does
    is_mistake: bool = False  #: nobody decided that it does not
    is_endless: bool = False  #: it repeats, and nobody understands how
    has_own_zone: bool = True  #: each of its times names its zone


class EventReader:
    """What one entry says.

    Args:
        days: The zone of its whole days, and of times that name none.
    """

    def __init__(self, component: IcalComponent, zones: IcalZones, days: ZoneOfDays, rules: CalendarRules) -> None:
        self._zones, self._days, self._rules = zones, days, rules
        self._is_whole = component.is_whole
        self._mistakes: list[str] = []
        self._has_own_zone = True
        self._properties: dict[str, list[IcalProperty]] = {}
        for each in component.properties():
            self._properties.setdefault(each.name, []).append(each)

    def event(self) -> IcalEvent:
        made = IcalEvent(uid=self._text("UID"), title=unescaped(self._text("SUMMARY"))[:LONGEST_TEXT])
        made.uncounted = why_not(made.title, self._text("CATEGORIES"), self._mark(), self._rules)
        if not self._is_whole:
            self._mistakes.append("its END:VEVENT is missing")
        self._times(made)
        self._recurrence(made)
        self._people(made)
        made.has_own_zone = self._has_own_zone
        if self._mistakes and not made.uncounted:
            made.uncounted, made.is_mistake = "; ".join(dict.fromkeys(self._mistakes)), True
        return made

    # -- when

    def _times(self, made: IcalEvent) -> None:
        made.start = self._moment("DTSTART")
        if made.start is None:
            if "DTSTART" not in self._properties:
                self._mistakes.append("it has no DTSTART")
            return
        made.end = self._end(made.start)
        if is_whole_day(made.start) and made.end == made.start:
            made.end = made.start + _DAY
        begins, ends = self._instant(made.start), self._instant(made.end)
        if begins >= ends:
            self._mistakes.append(
                f"it ends at {_shown(made.end)}, which is not after its start at {_shown(made.start)}"
            )
            made.start, made.end = begins, begins + ((ends - begins) % _DAY or _DAY)

    def _end(self, start: Moment) -> Moment:
        if "DTEND" in self._properties:
            end = self._moment("DTEND", like=start)
            if end is None:
                return start + _UNKNOWN_LENGTH
            if is_whole_day(start) is not is_whole_day(end):
                return self._instant(end)
            return end.astimezone(start.tzinfo) if isinstance(start, datetime) and isinstance(end, datetime) else end
        if given := self._text("DURATION"):
            length = self._duration(given, "DURATION")
            if length is None:
                return start + _UNKNOWN_LENGTH
            return (self._instant(start) if is_whole_day(start) and length % _DAY else start) + length
        return start + _DAY if is_whole_day(start) else start

    def _recurrence(self, made: IcalEvent) -> None:
        rules = [self._rule(each.value, made.start) for each in self._properties.get("RRULE", ())]
        made.rules = tuple(rule for rule in rules if rule)
        made.is_endless = len(made.rules) < len(rules)
        made.but = tuple(at for at in self._list("EXDATE", made.start) if not isinstance(at, tuple))
        made.more = tuple(self._list("RDATE", made.start))
        sequence = self._text("SEQUENCE").strip()
        if sequence.isdecimal():
            made.sequence = int(sequence[:12])
        elif "SEQUENCE" in self._properties:
            self._mistakes.append(f"its SEQUENCE ({sequence[:40]}) is no number")
        if "RECURRENCE-ID" in self._properties:
            self._replacing(made)

    def _replacing(self, made: IcalEvent) -> None:
        given, known = self._properties["RECURRENCE-ID"][-1], len(self._mistakes)
        made.is_onwards = given.params.get("RANGE", "").upper() == "THISANDFUTURE"
        made.replaces = self._moment("RECURRENCE-ID", like=made.start)
        if len(self._mistakes) > known:
            # What it replaces is on that day, whatever the hour: who was replaced is not called in its stead.
            nearest = made.replaces or made.start
            made.replaces = nearest.date() if isinstance(nearest, datetime) else nearest

    def _rule(self, rule: str, start: Moment | None) -> str:
        """A rule with its UNTIL as it must be beside `start`: a day, or a time in UTC. "": it cannot be read."""
        parts = dict(part.partition("=")[::2] for part in rule.strip().rstrip(";").upper().split(";"))
        until = None
        if "UNTIL" in parts and start is not None:
            until = self._parsed(IcalProperty("RRULE", {}, parts["UNTIL"]), like=start)
            if until is None:
                return ""
            parts["UNTIL"] = self._until(until, start)
        if not parts.get("FREQ"):
            self._mistakes.append(f"its RRULE ({rule[:40]}) cannot be read")
            return ""
        return ";".join(f"{key}={value}" for key, value in parts.items())

    def _until(self, until: Moment, start: Moment) -> str:
        if not isinstance(start, datetime):
            day = until.astimezone(self._days.zone) if isinstance(until, datetime) else until
            return f"{day:%Y%m%d}"
        if not isinstance(until, datetime):  # all of that day, by the clock of the start
            until = datetime.combine(until, time(23, 59, 59), start.tzinfo)
        return f"{until.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    def _list(self, name: str, start: Moment | None) -> Iterator[Repeat]:
        for each in self._properties.get(name, ()):
            for value in filter(None, (part.strip() for part in each.value.split(","))):
                begins, _, ends = value.partition("/")
                at = self._parsed(IcalProperty(name, each.params, begins), like=start)
                if at is not None and ends[:1] in ("P", "+"):
                    length = self._duration(ends, name)
                    yield at if length is None else (at, length)
                elif at is not None:
                    end = self._parsed(IcalProperty(name, each.params, ends), like=start) if ends else None
                    yield at if end is None else (at, end)

    def _duration(self, value: str, name: str) -> timedelta | None:
        try:
            length: timedelta = icalendar.vDuration.from_ical(value.strip())  # type: ignore[no-untyped-call]
        except Exception:  # the library raises what it happens to
            self._mistakes.append(f"its {name} ({value[:40]}) cannot be read")
            return None
        return length

    def _moment(self, name: str, like: Moment | None = None) -> Moment | None:
        """A time of the entry; None when it has none, or, which is a mistake, none that can be read."""
        given = self._properties.get(name)
        if not given:
            return None
        if len({(each.value, each.params.get("TZID")) for each in given}) > 1:
            self._mistakes.append(f"it has more than one {name}")
        return self._parsed(given[-1], like)

    def _parsed(self, given: IcalProperty, like: Moment | None = None) -> Moment | None:
        value = given.value.strip().upper()
        value = value[:8] if given.params.get("VALUE", "").upper() == "DATE" else value
        try:
            if len(value) == 8 and value.isdecimal():
                return datetime.strptime(value, "%Y%m%d").date()  # noqa: DTZ007 - a day has no zone
            if not (value[:8] + value[9:15]).isdecimal() or value[8:9] != "T" or value[15:] not in ("", "Z"):
                raise ValueError(value)
            shown = datetime.strptime(value[:15], "%Y%m%dT%H%M%S")  # noqa: DTZ007 - it comes below
        except ValueError:
            self._mistakes.append(f"its {given.name} ({value[:40]}) cannot be read")
            return None
        return shown.replace(tzinfo=UTC if value[15:] else self._zone(given.params.get("TZID", ""), like))

    def _zone(self, named: str, like: Moment | None) -> tzinfo:
        """The zone of a time. Of one nobody knows the time is kept as if it were in UTC: it is only told."""
        if named.strip():
            zone = self._zones.find(named)
            if zone is None:
                self._mistakes.append(f"it is in a time zone nobody knows ({named[:60]})")
            return zone or UTC
        if isinstance(like, datetime) and like.tzinfo is not None:
            return like.tzinfo
        return self._zone_of_days()

    def _zone_of_days(self) -> tzinfo:
        self._has_own_zone = False
        if self._days.zone is None:
            self._mistakes.append(f"its times name no zone, and nobody knows the calendar's ({self._days.name[:60]})")
        return self._days.zone or UTC

    def _instant(self, at: Moment) -> datetime:
        """In UTC; a whole day begins at midnight."""
        if not isinstance(at, datetime):
            at = datetime.combine(at, time(), self._zone_of_days())
        return at.astimezone(UTC)

    # -- what it is, and whom it names

    def _text(self, name: str) -> str:
        given = self._properties.get(name)
        return given[-1].value if given else ""

    def _mark(self) -> str:
        """ "CANCELLED", "OOF" or "FREE"; "": none of them."""
        busy = self._text("X-MICROSOFT-CDO-BUSYSTATUS") or self._text("X-MICROSOFT-CDO-INTENDEDSTATUS")
        free = "FREE" if self._text("TRANSP").strip().upper() == "TRANSPARENT" else ""
        said = (self._text("STATUS").strip().upper(), busy.strip().upper(), free)
        return next((mark for mark in ("CANCELLED", "OOF", "FREE") if mark in said), "")

    def _people(self, made: IcalEvent) -> None:
        asked = [each for each in self._properties.get("ATTENDEE", ()) if _is_person(each)]
        made.declined = tuple(_contact(each) for each in asked if _declined(each))[:_MOST_CONTACTS]
        made.attendees = tuple(_contact(each) for each in asked if not _declined(each))[:_MOST_CONTACTS]
        organizers = self._properties.get("ORGANIZER")
        made.organizer = _contact(organizers[-1]) if organizers else None


def why_not(title: str, categories: str, mark: str, rules: CalendarRules) -> str:
    """Why an entry that can be understood does not count; "": it does."""
    if mark == "CANCELLED":
        return "it is cancelled"
    if mark == "OOF":
        return "it is marked as out of office"
    said = f" {' '.join(''.join(c if c.isalnum() else ' ' for c in f'{title} {categories}'.casefold()).split())} "
    is_duty = any(f" {word} " in said for word in _DUTIES)
    word = next((word for word in ABSENCES if f" {word} " in said), "")
    word = word or next((word for word in _HOLIDAYS if f" {word} " in said and not is_duty), "")
    if word or said.endswith(" off "):
        return f'it says that somebody is away ("{word or "off"}")'
    if mark == "FREE" and rules.free == "ignore":
        return 'it is marked as free, and ical_free is "ignore"'
    return ""


def is_whole_day(at: Moment) -> bool:
    return not isinstance(at, datetime)


def unescaped(text: str) -> str:
    """A text value as it is read (RFC 5545 3.3.11)."""
    return str(icalendar.vText.from_ical(text))


def _shown(at: Moment) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if isinstance(at, datetime) else f"{at:%Y-%m-%d}"


def _is_person(attendee: IcalProperty) -> bool:
    kind, role = (attendee.params.get(key, "").upper() for key in ("CUTYPE", "ROLE"))
    return kind in ("", "INDIVIDUAL", "UNKNOWN") and role != "NON-PARTICIPANT"


def _declined(attendee: IcalProperty) -> bool:
    return attendee.params.get("PARTSTAT", "").upper() in ("DECLINED", "DELEGATED")


def _contact(given: IcalProperty) -> Contact:
    address = given.value.strip()
    if address[:7].lower() == "mailto:":
        address = address[7:]
    return Contact(unescaped(given.params.get("CN", ""))[:LONGEST_TEXT], address[:LONGEST_TEXT])
