"""Who or what wrote a mail."""

from __future__ import annotations

import pytest

from panicmail.incident.classify import Author, MailKind, RecipientStatus
from panicmail.mail.parse.bytes_fallback import read_bytes
from panicmail.mail.parse.parser import read
from tests.golden_mails import golden, mail


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reply_gmail", MailKind.HUMAN),
        ("forwarded_ack", MailKind.HUMAN),
        ("bounce_failed", MailKind.BOUNCE),
        ("bounce_qmail", MailKind.BOUNCE),
        ("out_of_office", MailKind.OOO),
        ("read_receipt", MailKind.MDN),
        ("calendar_reply", MailKind.CALENDAR),
        ("list_copy", MailKind.LIST),
    ],
)
def test_each_kind_is_told_from_the_others_with_a_reason(name: str, kind: MailKind) -> None:
    report = read(golden(name))
    assert report.kind is kind
    assert bool(report.why) is (kind is not MailKind.HUMAN)


def test_a_bounce_says_which_recipient_failed_and_which_is_late() -> None:
    assert read(golden("bounce_failed")).deliveries == (
        RecipientStatus(recipient="ana@example.com", action="failed", status="5.1.1"),
        RecipientStatus(recipient="max@example.com", action="delayed", status="4.4.1"),
    )


def test_a_bounce_in_prose_names_its_recipient_too() -> None:
    assert read(golden("bounce_qmail")).deliveries == (
        RecipientStatus(recipient="ana@example.com", action="failed", status="5.1.1"),
    )


def test_a_header_names_failed_recipients_where_no_report_does() -> None:
    report = read(mail("X-Failed-Recipients: ana@example.com, Max@example.com", "From: x@y.example"))
    assert report.kind is MailKind.BOUNCE
    assert [each.recipient for each in report.deliveries] == ["ana@example.com", "max@example.com"]


def test_the_page_a_bounce_returns_is_not_its_own_text() -> None:
    assert "ACK" not in read(golden("bounce_failed")).reply_text


@pytest.mark.parametrize(
    "line",
    [
        "Auto-Submitted: auto-replied",
        "AUTO-SUBMITTED: Auto-Generated",
        'Auto-Submitted: auto-notified; owner-email="x@y"',
        "Auto-Submitted: (a comment) auto-replied",
        "Auto-Submitted:",
        "Precedence: bulk",
        "X-Precedence: auto_reply",
        "X-Autoreply: yes",
        "X-Autorespond: x",
        "X-Auto-Reply-From: a@b",
        "X-FC-MachineGenerated: true",
        "X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent",
        "X-POST-MessageClass: 9; Autoresponder",
        "Delivered-To: Autoresponder",
        "X-Loop: x",
        "List-Unsubscribe: <mailto:x@y>",
        "Return-Path: <>",
        "Content-Type: message/disposition-notification",
        "Content-Type: text/calendar; method=REPLY",
    ],
)
def test_one_sign_of_a_machine_is_enough(line: str) -> None:
    report = read(mail("From: ana@example.com", "Subject: Re: [PANIC 7K3Q]", line, body="ack"))
    assert report.kind is not MailKind.HUMAN
    assert report.why


@pytest.mark.parametrize(
    "line",
    [
        "Auto-Submitted: no",
        "Auto-Submitted: No (a person)",
        "Precedence: first-class",
        "X-Auto-Response-Suppress: All",
        "X-MS-Exchange-Inbox-Rules-Loop: ana@example.com",
        "Subject: Re: Out of office printer",
        "Subject: Fwd: Mail delivery failed: returning message to sender",
        "Subject: Please read: this is strange",
        "Return-Path: <ana@example.com>",
        "X-Autoreply: no",
    ],
)
def test_what_people_send_as_well_is_no_sign(line: str) -> None:
    assert (
        read(mail("From: ana@example.com", line, body="ack, I am out of the office but at it")).kind is MailKind.HUMAN
    )


#: Of each language what programs put before the subject, and what people let them say.
ABSENCES = {
    "en": ("Automatic reply: x", "I am out of the office until Monday."),
    "en, plain": ("Out of Office: back Monday", "I will be on leave until Monday."),
    "de": ("Abwesenheitsnotiz", "Ich bin bis Montag nicht im Büro."),
    "de, Exchange": ("Automatische Antwort: x", "Ich bin im Urlaub."),
    "fr": ("Réponse automatique : x", "Je suis en congés jusqu'au 30."),
    "es": ("Respuesta automática: x", "Estoy de vacaciones hasta el lunes."),
    "it": ("Risposta automatica: x", "Sono in ferie fino al 30."),
    "pt": ("Resposta automática: x", "Estou de férias até o dia 30."),
    "nl": ("Automatisch antwoord: x", "Ik ben afwezig tot maandag."),
    "sv": ("Autosvar: x", "Jag är på semester."),
    "sv, plain": ("Frånvaro", "Jag är på semester."),
    "no": ("Automatisk svar: x", "Jeg er på ferie."),
    "da": ("Autosvar: x", "Jeg er ikke til stede."),
    "fi": ("Automaattinen vastaus: x", "Olen lomalla."),
    "pl": ("Odpowiedź automatyczna: x", "Jestem na urlopie."),
    "cs": ("Automatická odpověď: x", "Mám dovolenou."),
    "hu": ("Automatikus válasz: x", "Szabadságon vagyok."),
    "ro": ("Răspuns automat: x", "Sunt în concediu."),
    "tr": ("Otomatik yanıt: x", "Yıllık izindeyim."),
    "ru": ("Автоответ: x", "Я в отпуске."),
    "uk": ("Автоматична відповідь: x", "Я у відпустці."),
    "el": ("Αυτόματη απάντηση: x", "Είμαι σε άδεια."),
    "he": ("תשובה אוטומטית: x", "אני בחופשה."),
    "ar": ("رد تلقائي: x", "أنا في إجازة."),
    "hi": ("स्वचालित उत्तर: x", "मैं छुट्टी पर हूँ।"),
    "ja": ("自動応答: x", "休暇中です。"),
    "zh": ("自动回复: x", "我在休假。"),
    "tw": ("自動回覆: x", "我在休假。"),
    "ko": ("자동 회신: x", "휴가 중입니다."),
}


@pytest.mark.parametrize("language", ABSENCES)
def test_absence_is_known_by_its_subject_with_its_text_or_as_the_label_of_a_reply(language: str) -> None:
    subject, text = ABSENCES[language]
    assert read(mail("From: ana@example.com", f"Subject: {subject}", body=text)).kind is MailKind.OOO
    label = mail("From: ana@example.com", f"Subject: {subject}", "In-Reply-To: <page@x>", body="?")
    assert read(label).kind is MailKind.OOO


@pytest.mark.parametrize(
    "subject",
    [
        *(subject for subject, _ in ABSENCES.values()),
        *(
            "Vacation photos of the CEO leaked",
            "Undeliverable parcel scam",
            "Delivery failed: phishing",
            "Out of office",
        ),
        *("Read: urgent", "Accepted: a bribe?", "Returned mail is piling up", "Mail delivery failure for all of us"),
        *("Thank you for contacting support, says the scam", "Auto: the car was stolen", "failure notice on my screen"),
    ],
)
def test_a_subject_alone_never_makes_a_person_a_machine(subject: str) -> None:
    for text in ("ok", "My files are locked, what do I do?", "I clicked on it. Call me, please."):
        report = read(mail("From: ana@example.com", f"Subject: {subject}", body=text))
        assert (report.kind, report.author) == (MailKind.HUMAN, Author.PERSON)


BOUNCES = {
    "mdaemon": ("MDaemon@mx.example.net", "Permanent Delivery Failure", "The attached message has FAILED delivery"),
    "a gateway": ("mail@mx.example.net", "Undeliverable: x", "Your message was not delivered: 550 5.1.1 unknown"),
    "exim": (
        "x@y.example",
        "Mail delivery failed",
        "This message was created automatically by mail delivery software.",
    ),
    "exchange": ("x@y.example", "Undeliverable: x", "Your message could not be delivered. 550 5.7.1 refused"),
    "late": ("mail@y.example", "Delayed mail", "Your message has been delayed: 451 4.4.1 host does not answer"),
    "de": ("x@y.example", "Unzustellbar: x", "Die Nachricht konnte nicht zugestellt werden. 550 5.1.1 unbekannt"),
    "fr": ("x@y.example", "Non remis : x", "Votre message n'a pas été remis. 550 5.1.1 inconnu"),
    "es": ("x@y.example", "No se puede entregar: x", "No se pudo entregar su mensaje. 550 5.1.1 desconocido"),
    "it": ("x@y.example", "Non recapitabile: x", "Non è stato possibile recapitare. 550 5.1.1 sconosciuto"),
    "ja": ("x@y.example", "配信不能", "メールを配信できませんでした。550 5.1.1 unknown"),
    "given back": (
        "x@y.example",
        "failure notice",
        "Sorry, no such user.\r\n\r\nReceived: from a\r\nMessage-ID: <x@y>",
    ),
}


@pytest.mark.parametrize("name", BOUNCES)
def test_a_bounce_is_known_by_what_text_code_and_sender_say_together(name: str) -> None:
    sender, subject, text = BOUNCES[name]
    report = read(mail(f"From: {sender}", f"Subject: {subject}", "Content-Type: text/plain; charset=utf-8", body=text))
    assert report.kind is MailKind.BOUNCE


@pytest.mark.parametrize(
    "text",
    [
        "My mails come back with 550 5.1.1 user unknown since noon, and I sent none of them.",
        "I was told that my message could not be delivered. Is that phishing?",
        "Is this ours?\r\n\r\n---------- Forwarded message ----------\r\nSubject: failed\r\n\r\n550 5.1.1 user unknown",
        "I am out of the office until Monday, so take my laptop from the desk.",
        "ack, I am on vacation but at it",
    ],
)
def test_a_person_who_tells_of_a_bounce_or_an_absence_is_a_person(text: str) -> None:
    for subject in ("Re: [PANIC 7K3Q]", "Fwd: Undelivered Mail Returned to Sender", "my mails come back"):
        assert read(mail("From: ana@example.com", f"Subject: {subject}", body=text)).kind is MailKind.HUMAN


@pytest.mark.parametrize(
    "sender",
    ["no-reply@x.example", "noreply@x.example", "ops-bounces@x.example", "owner-ops@x.example", "listserv@x.example"],
)
def test_addresses_of_machines_are_signs(sender: str) -> None:
    assert read(mail(f"From: {sender}", "Subject: x")).kind is MailKind.AUTO_REPLY


def test_a_postmaster_who_reports_a_failure_is_a_bounce_and_else_an_automaton() -> None:
    assert read(mail("From: postmaster@x.example", body="No such user here")).kind is MailKind.BOUNCE
    assert read(mail("From: postmaster@x.example", body="hello")).kind is MailKind.AUTO_REPLY


@pytest.mark.parametrize(
    ("mail_from", "kind"),
    [
        ("", MailKind.AUTO_REPLY),
        ("<>", MailKind.AUTO_REPLY),
        ("a@b", MailKind.HUMAN),
        ("?", MailKind.HUMAN),
        (None, MailKind.HUMAN),
    ],
)
def test_the_null_envelope_sender_is_a_sign_and_an_unknown_one_is_not(mail_from: str | None, kind: MailKind) -> None:
    assert read(mail("From: ana@example.com", body="ack"), mail_from=mail_from).kind is kind


def test_a_null_sender_that_tells_of_a_failure_never_acknowledges_and_is_no_sure_bounce() -> None:
    report = read(mail("From: ana@example.com", "Subject: Undeliverable: x"), mail_from="")
    assert (report.kind, report.author) == (MailKind.BOUNCE, Author.MACHINE)
    parcel = read(mail("From: ana@example.com", body="a fake parcel delivery notice"), mail_from="")
    assert (parcel.kind, parcel.author) == (MailKind.AUTO_REPLY, Author.MACHINE)


@pytest.mark.parametrize(
    ("lines", "mail_from", "author"),
    [
        (["Auto-Submitted: auto-replied"], "x@y", Author.ANSWER),
        (["Auto-Submitted: (a comment) Auto-Replied; owner=x"], "x@y", Author.ANSWER),
        (["Auto-Submitted: auto-generated"], "x@y", Author.REPORT),
        (['Auto-Submitted: auto-notified; owner-email="x@y"'], "x@y", Author.REPORT),
        (["Auto-Submitted: auto-generated", "Subject: Automatic reply: x"], "x@y", Author.ANSWER),
        (["Auto-Submitted: auto-generated", "Subject: [Ticket received] x"], "x@y", Author.ANSWER),
        (["Auto-Submitted: auto-generated", "Subject: Vacation tracker is down"], "x@y", Author.REPORT),
        (["Auto-Submitted:"], "x@y", Author.MACHINE),
        (["X-Autorespond: x"], "x@y", Author.ANSWER),
        (["X-Precedence: auto_reply"], "x@y", Author.ANSWER),
        (["X-FC-MachineGenerated: true"], "x@y", Author.REPORT),
        (["Precedence: bulk"], "x@y", Author.MACHINE),
        (["Precedence: bulk", "List-Id: <x.y>"], "x@y", Author.PERSON),
        (["Precedence: junk", "Subject: Abwesenheitsnotiz: x"], "x@y", Author.ANSWER),
        (["Subject: Please confirm your message"], "", Author.ANSWER),
        (["Subject: Automatic reply: x"], "x@y", Author.PERSON),
        (["Subject: Undelivered Mail Returned to Sender"], "x@y", Author.PERSON),
        ([], "", Author.MACHINE),
        ([], "x@y", Author.PERSON),
        (["Content-Type: text/calendar; method=REPLY"], "x@y", Author.PERSON),
        (["Content-Type: message/disposition-notification"], "x@y", Author.RECEIPT),
        (["Content-Type: multipart/report; report-type=disposition-notification; boundary=b"], "x@y", Author.RECEIPT),
        (["Content-Type: multipart/report;\r\n Report-Type=delivery-status; boundary=b"], "x@y", Author.BOUNCE),
        (["Content-Type: multipart/report; boundary=b", "Auto-Submitted: auto-replied"], "", Author.ANSWER),
        (["Content-Type: message/delivery-status"], "x@y", Author.BOUNCE),
    ],
)
def test_who_wrote_it_is_told_by_fields_and_by_the_outermost_structure(
    lines: list[str], mail_from: str, author: Author
) -> None:
    raw = mail("From: ana@example.com", *lines, body="please look")
    assert read(raw, mail_from=mail_from).author is author
    assert read_bytes(raw, mail_from=mail_from).author is author, "and the byte reader agrees"


@pytest.mark.parametrize(
    ("sender", "mail_from", "author"),
    [
        ("MAILER-DAEMON@mx.example.net", "x@y", Author.BOUNCE),
        ("Mail Delivery System <Mail.Delivery.System@mx.example.net>", "x@y", Author.BOUNCE),
        ("postmaster@mx.example.net", "", Author.BOUNCE),
        ("postmaster@mx.example.net", "x@y", Author.MACHINE),
        ("no-reply@forms.example.net", "x@y", Author.MACHINE),
        ("Rita <rita@example.com>", "", Author.MACHINE),
    ],
)
def test_a_mailer_daemons_from_makes_a_bounce(sender: str, mail_from: str, author: Author) -> None:
    assert read(mail(f"From: {sender}", body="550 5.1.1 no such user"), mail_from=mail_from).author is author


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("List-Id: <panic.example.com>", ("panic.example.com",)),
        ('List-ID: "All, of us" <All.Lists.example.net>', ("all.lists.example.net",)),
        ("List-Post: <mailto:Panic@example.com>", ("panic@example.com",)),
        ("List-Post: <mailto:panic@example.com?subject=x>", ("panic@example.com",)),
        ("X-BeenThere: panic@example.com", ("panic@example.com",)),
        ("Mailing-list: list panic@example.com; contact panic+owners@example.net", ("panic@example.com",)),
        ("List-Owner: <mailto:panic@example.com>", ("a list without a name",)),
        ("List-Unsubscribe: <mailto:panic@example.com>", ("a list without a name",)),
        ("Precedence: list", ("a list without a name",)),
        ("Precedence: bulk", ()),
    ],
)
def test_a_list_is_named_by_its_id_or_the_address_one_writes_to(line: str, names: tuple[str, ...]) -> None:
    assert read(mail("From: rita@example.com", line)).lists == names


def test_a_report_and_an_answer_are_told_apart_for_whoever_explains_the_mail() -> None:
    report, answer = (
        read(mail("From: a@example.com", f"Auto-Submitted: {word}")) for word in ("auto-generated", "auto-replied")
    )
    assert (report.kind, report.why[0]) == (MailKind.AUTO_REPLY, "an automatic report, no answer")
    assert (answer.kind, answer.why[0]) == (MailKind.AUTO_REPLY, "an automatic answer")
