"""A link of ours in a mail its owner did not write: nowhere shown, revoked for acting, replaced."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from panicmail.delivery import GitLabWorker
from panicmail.gitlab.escape import file_name
from panicmail.incident.model import Incident, State
from panicmail.incident.redact import looks_carried
from panicmail.incident.reply_tokens import Purpose
from panicmail.mail.parse import report_json
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.response.incident_links import LinkRevoked
from panicmail.server.http.backend import LinkBackend
from panicmail.server.http.rendering import PageRenderer
from tests.office import PANIC, Office, Posted, mail

CARL = "carl@corp.example"


def link_in(posted: Posted) -> str:
    """The token of the link a mail of ours brings."""
    return str(re.findall(r"/i/(\S+)", posted.text)[0])


def forwarded(page: Posted) -> str:
    return f"please look\n\n---------- Forwarded message ---------\nFrom: Panic\nSubject: x\n\n{page.text}"


def html(body: str) -> bytes:
    return f"From: {CARL}\r\nSubject: FYI\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{body}".encode()


def attached(kind: str, data: bytes, name: str, coded: bool = False) -> bytes:
    head = (
        f"From: {CARL}\r\nSubject: FYI\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        f'--b\r\n\r\nsee this\r\n--b\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename="{name}"\r\n'
    )
    if coded:
        head, data = f"{head}Content-Transfer-Encoding: base64\r\n", base64.encodebytes(data)
    return head.encode() + b"\r\n" + data + b"\r\n--b--\r\n"


SAFE = "https://eur01.safelinks.protection.outlook.com/?url="
#: How somebody else's mail brings the link of a page.
BRINGS: dict[str, Callable[[Posted, str], bytes]] = {
    "forwarded": lambda page, url: mail(forwarded(page), sender=CARL),
    "quoted": lambda page, url: mail("see:\n" + "".join(f"> {x}\n" for x in page.text.splitlines()), sender=CARL),
    "alone": lambda page, url: mail(url, sender=CARL),
    "in the subject": lambda page, url: mail("see there", sender=CARL, subject=f"Fwd: {url}"),
    "defanged": lambda page, url: mail(url.replace("https", "hxxps").replace(".", "[.]"), sender=CARL),
    "wrapped": lambda page, url: mail(f"> {url[:50]}\n> {url[50:]}", sender=CARL),
    "an attribute alone": lambda page, url: html(f'<p>see <a href="{url}">there</a></p>'),
    "an image": lambda page, url: html(f'<p>see</p><img src="{url}">'),
    "a comment": lambda page, url: html(f"<p>see</p><!-- {url} -->"),
    "entities": lambda page, url: html(f'<p>see</p><a href="{url.replace("-", "&#45;")}">there</a>'),
    "safelinks": lambda page, url: html(f'<p>see</p><a href="{SAFE}{quote(url, safe="")}">there</a>'),
    "a text file": lambda page, url: attached("text/plain", url.encode(), "page.txt"),
    "a text file, coded": lambda page, url: attached("text/plain", url.encode(), "page.txt", coded=True),
    "a text file in UTF-16": lambda page, url: attached("text/plain", url.encode("utf-16"), "p.txt", coded=True),
    "the page attached": lambda page, url: attached("message/rfc822", page.raw, "page.eml"),
    "the page attached, coded": lambda page, url: attached("message/rfc822", page.raw, "page.eml", coded=True),
    "a mail of coded parts attached": lambda page, url: attached(
        "message/rfc822",
        b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(url.encode()),
        "page.eml",
    ),
    "the name of a file": lambda page, url: attached("image/png", b"x", f"{url.rpartition('/')[2]}.png"),
}


def shown(desk: Office) -> str:
    """Whatever a reader of the issues sees."""
    issues = [f"{draft.title}\n{draft.description}" for draft in desk.gitlab.issues]
    notes = [text for _iid, text, _marker in desk.gitlab.notes]
    files = [f"{file_name(name)}\n{data.decode('latin-1')}" for name, data in desk.gitlab.uploads]
    return "\n".join([*issues, *notes, *files])


@pytest.mark.parametrize("how", BRINGS)
def test_a_link_in_somebody_elses_mail_is_shown_nowhere_and_acts_no_more(desk: Office, how: str) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    leaked = link_in(page)
    desk.deliver(BRINGS[how](page, f"https://panic.example.com/i/{leaked}"), CARL)
    assert len(desk.incidents()) == 2, "a person's mail is a panic as ever"
    assert not looks_carried(shown(desk))
    others = [posted for posted in desk.sent("ana") if posted.is_page and posted is not page]
    assert all(leaked not in posted.text for posted in others)
    with pytest.raises(LinkRevoked):
        desk.links.act(leaked, "ack")
    assert desk.incident(incident).state is State.OPEN


def test_the_revoked_link_still_shows_and_its_owner_has_one_that_acts(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    leaked = link_in(page)
    desk.deliver(mail(forwarded(page), sender=CARL), CARL)
    view = desk.links.read_link(leaked)
    assert view is not None
    assert (view.incident.id, view.acts, view.revoked) == (incident.id, (), True)
    told = next(posted for posted in desk.sent("ana") if "Your link is replaced" in posted.subject)
    assert told.text.splitlines()[:2] == [
        "Ana: use the link below; the one you had acts no more.",
        f"Why: it stood in a mail by {CARL}, so others have read it. It still shows {incident.ref}.",
    ]
    assert "Clock still running" in told.text
    fresh = link_in(told)
    assert fresh != leaked
    desk.links.act(fresh, "ack")
    assert desk.incident(incident).holder == "ana"


def test_every_later_mail_brings_the_link_that_acts(desk: Office) -> None:
    desk.panic()
    leaked = link_in(desk.page("ana"))
    desk.deliver(mail(forwarded(desk.page("ana")), sender=CARL), CARL)
    first = desk.incidents()[-1]
    desk.wait(minutes=5)
    again = [posted for posted in desk.pages("ana") if first.ref in posted.subject][-1]
    assert link_in(again) != leaked
    desk.links.act(link_in(again), "ack")
    assert desk.incident(first).holder == "ana"


def test_the_reply_address_in_the_owners_inbox_goes_on_acknowledging(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.deliver(mail(forwarded(page), sender=CARL), CARL)
    desk.reply(page, "ack")
    assert desk.incident(incident).holder == "ana"


def test_a_link_that_leaks_twice_is_revoked_once_and_its_successor_when_that_leaks(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    for _ in range(3):
        desk.deliver(mail(forwarded(page), sender=CARL, subject="again"), CARL)
    assert desk.events(incident).count("link.revoked") == 1
    told = next(posted for posted in desk.sent("ana") if "Your link is replaced" in posted.subject)
    desk.deliver(mail(forwarded(told), sender=CARL), CARL)
    assert desk.events(incident).count("link.revoked") == 2
    newest = [posted for posted in desk.sent("ana") if "Your link is replaced" in posted.subject][-1]
    assert len({link_in(page), link_in(told), link_in(newest)}) == 3
    for old in (page, told):
        with pytest.raises(LinkRevoked):
            desk.links.act(link_in(old), "ack")
    desk.links.act(link_in(newest), "ack")
    assert desk.incident(incident).holder == "ana"


def test_only_the_link_that_leaked_is_revoked(desk: Office) -> None:
    incident = desk.panic()
    desk.wait(minutes=15)
    desk.deliver(mail(forwarded(desk.page("ana")), sender=CARL), CARL)
    revoked = [line.facts["person"] for line in desk.lines(incident) if line.event == "link.revoked"]
    assert revoked == ["ana"]
    page = next(posted for posted in desk.pages("max") if incident.ref in posted.subject)
    desk.links.act(link_in(page), "ack")
    assert desk.incident(incident).holder == "max"


# -- what is no leak -------------------------------------------------------------------------------


def is_whole(desk: Office, incident: Incident) -> bool:
    return "link.revoked" not in desk.events(incident)


@pytest.mark.parametrize("sender", ["ana@example.com", "ana@home.example", "Ana Reyes <ANA@example.com>"])
def test_the_owners_own_reply_that_quotes_the_page_revokes_nothing(desk: Office, sender: str) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "is it the laptop or the server?", sender=sender, mail_from="ana@example.com")
    assert is_whole(desk, incident)
    desk.links.act(link_in(page), "ack")
    assert desk.incident(incident).holder == "ana"


def test_the_owner_who_forwards_the_page_as_a_panic_revokes_nothing_and_puts_no_link_on_the_issue(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.deliver(mail(forwarded(page), sender="ana@example.com", subject="Another one"), "ana@example.com")
    assert is_whole(desk, incident)
    assert not looks_carried(shown(desk))
    assert [name for name, _ in desk.gitlab.uploads] == [f"{incident.ref}.eml"]
    assert "the raw mail is not uploaded" in desk.gitlab.issues[-1].description


def test_a_page_that_bounces_revokes_nothing(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    report = (
        "From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\n\r\nIt failed.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; ana@example.com\r\nAction: delayed\r\n"
        "Status: 4.4.1\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
    )
    desk.deliver(report.encode() + page.raw + b"\r\n--b--\r\n", "", [page.mail_from])
    assert is_whole(desk, incident)


def test_somebody_elses_reply_that_quotes_the_page_revokes_its_link(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "what is this?", sender=CARL)
    assert not is_whole(desk, incident)
    assert desk.incident(incident).state is State.OPEN
    assert not looks_carried(shown(desk))


def test_a_form_that_no_key_of_ours_made_revokes_nothing_and_is_cut_all_the_same(desk: Office) -> None:
    incident = desk.panic()
    made = link_in(desk.page("ana"))
    forged = made[:-1] + ("b" if made.endswith("a") else "a")
    desk.deliver(mail(f"https://panic.example.com/i/{forged}", sender=CARL), CARL)
    assert is_whole(desk, incident)
    assert forged not in "\n".join(draft.description for draft in desk.gitlab.issues)


def test_a_link_of_what_was_closed_long_ago_is_left_alone(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    desk.reply(page, "ack")
    desk.reply(page, "resolve")
    desk.now += timedelta(days=8)
    desk.deliver(mail(forwarded(page), sender=CARL), CARL)
    assert is_whole(desk, incident)


# -- where else a token could be shown ---------------------------------------------------------------


def test_addresses_of_ours_are_cut_wherever_they_are_shown(desk: Office) -> None:
    incident = desk.panic()
    page = desk.page("ana")
    text = f"Reply-To: {page.reply_to}\n{page.mail_from}\n{page.message_id}"
    desk.deliver(mail(text, sender=f'"{page.reply_to}" <{CARL}>', extra=f"Reply-To: {page.reply_to}"), CARL)
    desk.reply(page, "ack")
    desk.deliver(mail(f"{text}\nmore", sender="rita@example.com"), to=[desk.sent("rita@example.com")[0].reply_to])
    assert not looks_carried(shown(desk))
    told = [posted.text for person in ("ana", "max") for posted in desk.sent(person)]
    assert not [each for each in told for token in (page.reply_to, page.mail_from) if token in each]
    assert "(removed)" in told[-1] or any("(removed)" in each for each in told)
    assert desk.incident(incident).holder == "ana"


def test_the_page_behind_a_link_shows_no_token(desk: Office) -> None:
    desk.panic()
    desk.deliver(mail(forwarded(desk.page("ana")), sender=CARL, subject="FYI"), CARL)
    page = LinkBackend(desk.links, None).read_link(link_in(desk.page("ana")))  # type: ignore[arg-type]
    assert page is not None
    html_ = PageRenderer().link(page, "")
    assert "please look" in html_
    assert not looks_carried(html_)


def test_the_raw_mail_is_kept_as_it_came(desk: Office) -> None:
    desk.panic()
    raw = mail(forwarded(desk.page("ana")), sender=CARL)
    mail_id = desk.deliver(raw, CARL)
    assert desk.store.read(lambda tx: tx.mails.raw(mail_id)) == raw


def test_a_mail_read_byte_by_byte_tells_what_it_carries(desk: Office) -> None:
    token = desk.settings.tokens.mint(Purpose.LINK, "abcdefgh23456723", "ana")
    report = read_bytes(mail(f"https://panic.example.com/i/{token}", sender=CARL))
    assert report.carried == (token,)


def test_a_report_an_older_version_stored_carries_nothing(tmp_path: Path) -> None:
    stored = report_json.to_json(read_bytes(mail("x"))).replace(', "carried": []', "")
    assert "carried" not in stored
    assert report_json.from_json(stored).carried == ()


def test_of_a_mail_that_carries_a_token_the_other_files_are_uploaded(desk: Office) -> None:
    desk.panic()
    page = desk.page("ana")
    picture = b'--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename="a.png"\r\n\r\nx\r\n'
    raw = attached("message/rfc822", page.raw, "page.eml").replace(b"--b--", picture + b"--b--")
    desk.deliver(raw, CARL, [PANIC])
    assert [name for name, _ in desk.gitlab.uploads][1:] == ["a.png"]


def test_a_mail_that_was_not_read_whole_and_lets_somebody_act_is_not_uploaded(desk: Office) -> None:
    incident = desk.panic()
    raw = mail("x" * 6000 + f"\n{link_in(desk.page('ana'))}", sender=CARL)
    lane = desk.lanes[-1]
    assert isinstance(lane, GitLabWorker)
    for cut_short, uploaded in (("it took too long", 0), ("", 1)):
        report = replace(read_bytes(raw), cut_short=cut_short)
        assert report.carried == ()
        assert len(lane._files._upload_all(incident, raw, report)) == uploaded
