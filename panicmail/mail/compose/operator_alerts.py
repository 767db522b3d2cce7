"""What the operators are told: panicmail needs help. One sentence what it means, one what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.letterhead import NO_REPLY, Letterhead, announcement
from panicmail.mail.compose.message import ComposedMail, TextLine, headline, ours
from panicmail.mail.compose.wording import ReaderClock

#: Cause -> what is wrong, what it means, what mends it.
CAUSES: Mapping[str, tuple[str, str, str]] = {
    "nobody_on_call": (
        "nobody is on call",
        "A step of the policy named nobody, so nobody was paged in it; the later steps keep their times.",
        "Put somebody on call in that role, and call the incident's people yourself until then.",
    ),
    "nobody_left": (
        "nobody is left to call",
        "The policy has no step left that names anybody new; its last step is repeated until somebody answers.",
        "Telephone somebody who can help.",
    ),
    "gitlab_refused": (
        "GitLab refused the issue",
        "The incident has no issue, or an incomplete one; paging goes on without it.",
        "See that the token, the project and the rights of its user are right; it is tried again every ten minutes.",
    ),
    "gitlab_barred": (
        "GitLab lets panicmail do nothing",
        "Its token, its certificate or the project is not in order. Issues and notes wait; paging goes on.",
        "Mend what the answer below names. It is tried once a minute; panicmail retry tries it at once.",
    ),
    "relay_barred": (
        "the relay takes no mail of panicmail",
        "It refuses our login, or TLS with it fails. Pages by mail reach nobody and wait; the escalation goes on.",
        "Mend what the answer below names, and telephone whoever is on call. It is tried once a minute.",
    ),
    "relay_failed_over": (
        "pages go by another relay",
        "The relay did not take a page in time, and one of [relay] fallback did. Receipts and news still wait for it.",
        "Mend what the answer below names; nothing else is to be done.",
    ),
    "not_encrypted": (
        "mails cannot be encrypted for somebody",
        "Their key cannot be used, so their mails say nothing of a report but its REF. Paging goes on.",
        "Put their new key into the file of people.KEY.pgp or people.KEY.smime, and reload panicmail.",
    ),
    "push_barred": (
        "a push service refuses panicmail",
        "It does not know the credentials in that URL, or the URL itself, or TLS with it fails. Pushes to it wait.",
        "Mend the URL in that person's push. It is tried once a minute; panicmail retry tries it at once.",
    ),
    "gitlab_works": (
        "GitLab can be worked with again",
        "Issues and notes that waited are made now, oldest first.",
        "Nothing now.",
    ),
    "relay_works": (
        "the relay takes mail again",
        "It had taken none. Pages that are still wanted go out now, oldest first; news older than an hour does not.",
        "Nothing now. panicmail incidents --state open shows who may still wait for a call.",
    ),
    "push_works": (
        "a push service takes pushes again",
        "A channel of the person below had taken none. Pages that are still wanted are pushed now.",
        "Nothing now.",
    ),
    "gitlab_dropped": (
        "GitLab changed the issue",
        "The issue is there, but not as it was asked for; what is missing stands below.",
        "Set it by hand, and see that the token's user has the role Reporter in the project at least.",
    ),
    "gitlab_moved": (
        "an issue was moved out of sight",
        "Somebody moved the issue of an incident to a project panicmail cannot see. Its notes stay on the old issue.",
        "Give the token's user the Reporter role there, or move the issue back. Calling and replies are not concerned.",
    ),
    "issue_exposed": (
        "a report was open to others",
        "Somebody switched the confidential flag of an incident's issue off. panicmail switches it on again once.",
        "See who read it. If it was not meant, switch it on in GitLab, and look at who may change issues there.",
    ),
    "gitlab_spam": (
        "GitLab took a report for spam",
        "The issue was opened with neutral words; the report is in the page and in the file on the issue.",
        "Exempt the token's user from GitLab's spam check.",
    ),
    "gitlab_twins": (
        "an issue was there twice",
        "A lost answer of GitLab made a second issue for the same panic; the younger one was closed.",
        "Nothing, unless somebody already worked on the younger one.",
    ),
    "page_refused": (
        "a page was refused",
        "A page by mail was refused for good, or came back; that person was not reached by mail.",
        "See that the address and the relay are right, and telephone that person if the incident is open.",
    ),
    "push_refused": (
        "a push was refused",
        "A push service refused a page for good. It is the channel below; the page by mail is not concerned.",
        "See that the URL in that person's push and that service are right; panicmail check --page tries it again.",
    ),
    "escalation_failed": (
        "a step could not be taken",
        "panicmail failed on an incident when its next step was due; it tries again every second.",
        "Call the incident's people yourself, and look at the log: escalation.failed.",
    ),
    "pages_bundled": (
        "one person is paged by digests",
        "So many different senders wrote within minutes that all that is new goes out as one page. Nothing is lost.",
        "See whether they need help, and whether it is an attack: panicmail incidents.",
    ),
    "mail_loop": (
        "two panicmails page each other",
        "A page came back through another panicmail. It was filed, and nobody was paged for it.",
        "Give each panicmail people with mailboxes of their own.",
    ),
    "intake_again": (
        "a mail needed more than one try",
        "panicmail failed while it took in an accepted mail; it is taken in again, at last unread.",
        "Look at the log around that time: worker.failed. The mail is safe.",
    ),
    "not_accepting": (
        "panicmail takes no mail",
        "Neither the database nor the emergency spool took a mail. Its sender keeps it and tries again for days.",
        "Bring the database back, or make room on the disk of the spool. Tell people to telephone until then.",
    ),
    "large_mails_refused": (
        "large mails cannot come in",
        "The disk of the emergency spool is full or fails. Who sends one tries again for days; small mails come in.",
        "Make room on that disk, or see what is wrong with it: database.spool in the configuration.",
    ),
    "spool_failed": (
        "the emergency spool cannot be used",
        "While the database is there nothing changes; should it be away, mails are refused until it is back.",
        "Make the folder of the spool writable for panicmail's user: see database.spool in the configuration.",
    ),
    "spool_broken": (
        "a mail in the spool cannot be read",
        "A file in the spool does not hold what was written. It is kept beside the others, as .broken.",
        "Look at the file by hand; whoever was on call was called for it, unless nobody was.",
    ),
    "mail_stuck": (
        "a mail in the spool cannot be taken in",
        "The database refuses this one mail again and again; the others are taken in past it. It stays in the spool.",
        "Look at the reason below. Whoever was on call was called for it; file it by hand until it is mended.",
    ),
    "parked": (
        "something could not be done",
        "An effect failed for good and is parked; it is kept, and not tried again by itself.",
        "Look at the cause in the log, mend it, and try it again: panicmail retry.",
    ),
    "gap_unread": (
        "an accepted mail is not understood",
        "A mail got its 250 more than a minute ago and nothing was done with it; nobody was called for it.",
        "Look at the log: worker.failed. Restart panicmail if it stays; the mail is safe.",
    ),
    "gap_issue_late": (
        "an incident has no issue yet",
        "GitLab did not take the issue within minutes; people are paged all the same, and it is tried until it does.",
        "See that GitLab answers, and look at the log: dispatch.put_off, adapter.barred.",
    ),
    "gap_issue_given_up": (
        "an incident will have no issue",
        "What was to open the issue failed for good or was parked, so nothing about the incident reaches GitLab.",
        "Open an issue by hand, and look at the log for the cause.",
    ),
    "gap_uncalled": (
        "nobody is being called",
        "An incident is open, and every page of its step was refused, or nobody was on call. The escalation goes on.",
        "Telephone somebody who can take it, and see that addresses and rosters are right.",
    ),
    "gap_step_late": (
        "a step is overdue",
        "The time of a step or a reminder has passed, and panicmail did not take it.",
        "Call the incident's people yourself, look at the log (tick.failed, escalation.failed) and restart panicmail.",
    ),
    "gap_lane_stuck": (
        "what is due is not being sent",
        "Pages, mails or changes in GitLab wait although nothing holds them up.",
        "Look at the log: worker.failed, dispatch.failed. Restart panicmail.",
    ),
    "gap_mended": (
        "something was missing and is mended",
        "The accounts did not add up: something an accepted mail is owed was not there. panicmail put it right.",
        "Nothing now. It points to a defect or to a hand in the database: keep the log of that hour.",
    ),
    "gap_left": (
        "something is missing and cannot be mended",
        "The accounts do not add up: something an accepted mail is owed is not there, and putting it right failed.",
        "Look at panicmail incidents --gaps and at the log: accounts.failed. Call the incident's people yourself.",
    ),
    "invariant_broken": (
        "the records contradict each other",
        "The hourly sweep found rows that cannot be as they are; what breaks which rule stands below.",
        "Keep a copy of the database and the log, and tell panicmail's maintainers. Paging goes on.",
    ),
    "clock_jumped": (
        "the clock was put forward",
        "What became due by it was taken once; a page may have come early. If the machine was merely off, all is well.",
        "See that the clock is right now, and that something keeps it right (NTP).",
    ),
    "clock_put_back": (
        "the clock was put back",
        "What was written while it stood ahead was brought back by as much, so nothing comes late.",
        "See that the clock is right now. Times on issues and in mails of before are ahead by as much.",
    ),
    "clock_wrong": (
        "the machine's clock is wrong",
        "It stands before this program was written. Time is counted on from the last instant known, so nothing waits.",
        "Set the clock, and see why it was wrong: an empty battery, no NTP.",
    ),
    "clock_apart": (
        "two clocks differ",
        "The machine's clock is not the one panicmail counts by. Pages come in time; the times they show may be wrong.",
        "If the machine's clock is right, restart panicmail; it brings its own times back. If not, set it.",
    ),
    "old_copy": (
        "the database is an old copy",
        "It knows less than it did. Everything unresolved in it is held back for one SLA, then its steps go on.",
        "Close what was settled since with panicmail resolve; telephone the reporters of mails that are missing here.",
    ),
    "database_lost": (
        "the database lost something",
        "It no longer knows what it knew a minute ago; a standby may have taken over that had not heard all of it.",
        "Look for what is missing, and telephone its reporters. Mails of the last minutes may have to be sent again.",
    ),
    "check_gitlab": (
        "GitLab would not take an issue",
        "The daily check found that an incident could not be opened. People would be paged all the same.",
        "See below; panicmail check shows it as it is now.",
    ),
    "check_token": (
        "GitLab's token ends soon",
        "From that day on no incident gets an issue. People would be paged all the same.",
        "Make a new token with the scope api, put it into [gitlab] token_file and restart panicmail.",
    ),
    "check_relay": (
        "the mail relay would not take a page",
        "The daily check found that pages or answers do not get out by mail.",
        "See below; panicmail check shows it as it is now.",
    ),
    "check_roster": (
        "a roster has a gap",
        "In the coming two weeks there are hours that nobody has, or a name that nobody has.",
        "Put somebody on call then; panicmail oncall shows the days.",
    ),
    "check_calendar": (
        "a calendar cannot be read",
        "Who is on call is answered from its last copy; from the fallback when that ends, or there is none.",
        "See the calendar's address, and that this host may reach it.",
    ),
    "check_roles": (
        "one person has every role",
        "At some hour every step of the policy pages the same one; nobody else is called when that one sleeps.",
        "Put two people on call; panicmail oncall shows the days.",
    ),
    "check_certificate": (
        "a certificate ends soon",
        "Who verifies it will refuse to talk to it: senders of mail, phones that open a link, or panicmail itself.",
        "Renew it; if it is panicmail's own, send panicmail a SIGHUP then.",
    ),
    "check_disk": (
        "the disk fills up",
        "When it is full, mails go to the emergency spool, and are refused when that is full too.",
        "Make room; every raw mail is kept.",
    ),
    "check_clock": (
        "another clock differs",
        "Times on issues and in mails do not fit together. Pages come in time by panicmail's own clock.",
        "Let both hosts keep time by NTP.",
    ),
    "check_push": (
        "a push URL cannot be used",
        "Somebody is not reached by phone in this way; they are paged by the others.",
        "See below; panicmail check shows it as it is now.",
    ),
    "check_outside": (
        "no mail from outside came for days",
        "Nothing shows that a panic mailed from outside would arrive.",
        "panicmail drill --by-mail shows each step of one; if nothing comes, see MX record, firewall and port 25.",
    ),
    "check_mended": (
        "what the daily check told is mended",
        "It was looked at again and is as it should be.",
        "Nothing.",
    ),
    "roster_gap": (
        "a roster has gaps within a week",
        "At the times below a role has nobody of its own, or a name nobody has. Its fallback is called, if it has one.",
        "Put somebody on call for each of them; panicmail oncall shows them all.",
    ),
    "calendar_unread": (
        "a calendar cannot be read",
        "Who is on call is taken from its last good copy; what was changed there since is not known here.",
        "See that its address answers and gives a calendar; panicmail oncall shows what is known.",
    ),
    "calendar_never_read": (
        "a calendar was never read",
        "Nobody knows who is on call by it: in all its hours the role's fallback is called, if it has one.",
        "See that its address answers and gives a calendar, and put somebody on call by hand until then.",
    ),
    "calendar_entries": (
        "a calendar has entries that cannot be understood",
        "They put nobody on call. Everything else in the calendar counts; a gap they leave is the fallback's.",
        "Write each of them again in the calendar, or delete it; panicmail oncall shows who is called.",
    ),
    "calendar_doubted": (
        "a calendar lost most of the coming week",
        "Its new text leaves most of the week without anybody. For an hour it is not believed alone.",
        "See whether that is meant. If not, mend the calendar, or put somebody on call by an override.",
    ),
    "reader_failed": (
        "a mail could not be read",
        "The reader failed on a mail; it was understood from its raw bytes, filed and paged all the same.",
        "Look at the raw mail on the issue: the page may lack a part of it.",
    ),
}
_GENERIC = (
    "panicmail needs help",
    "Something happened that panicmail cannot mend by itself.",
    "Look at the log around that time.",
)
#: So many entries of a list are told, one a line.
_LISTED = 100
#: Facts that are said in sentences of their own.
_SAID = frozenset({"cause", "ref", "at"})


def operators(facts: Mapping[str, Any], head: Letterhead, addresses: Addresses, *, key: str) -> ComposedMail:
    """The alarm of `facts` to one operator. `key`: the outbox row's; a retry repeats its Message-ID."""
    texts = CAUSES.get(str(facts.get("cause", "")), _GENERIC)
    ref = sanitize.words(str(facts.get("ref") or ""), 8)
    message_id = addresses.message_id(head.local_id("operators", key))
    title = f"[panicmail] {texts[0]}{f' ({ref})' if ref else ''}"
    return announcement(head, message_id, title, _lines(facts, texts, ref, ReaderClock(head.person.tz, head.now)))


def _lines(facts: Mapping[str, Any], texts: tuple[str, str, str], ref: str, clock: ReaderClock) -> list[TextLine]:
    what, meaning, mend = texts
    about = f", for {ref}" if ref else ""
    details = [
        f"{sanitize.words(str(name), 60).replace('_', ' ')}: {sanitize.words(str(value), 200)}"
        for name, values in facts.items()
        if name not in _SAID
        for value in (values[:_LISTED] if isinstance(values, list) else [values])
        if value not in (None, "")
    ]
    unknown = [f"cause: {sanitize.words(str(facts.get('cause') or 'not said'), 60)}"] if texts is _GENERIC else []
    return [
        headline(f"Operators: {what}{about}, {clock.zoned(_at(facts, clock.now))}."),
        ours(meaning),
        ours(f"Mend: {mend}"),
        *(ours(f"Detail: {detail}") for detail in [*unknown, *details]),
        *([ours(f"All of it: panicmail show {ref}")] if ref else []),
        ours(NO_REPLY),
    ]


def _at(facts: Mapping[str, Any], now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(str(facts.get("at")))
    except ValueError:
        return now
    return at if at.tzinfo else now
