"""Answers in nine languages as twelve mail programs send them, and in the others as one does.

`client_table.md` is the table; PANICMAIL_WRITE_TABLE=1 writes it anew. A cell is what the daemon would understand of a
yes, a no, a question and a hand-over, in this order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from email.message import EmailMessage
from html import escape
from pathlib import Path

from panicmail.incident import reply_commands
from panicmail.mail.parse import parser
from tests.small_office import OFFICE

TABLE = Path(__file__).parents[1] / "client_table.md"
AT = "panic@example.com"
OURS = (
    'Rita Lopez reports: "Ransom note on my laptop".\n\nReply "ack" if you take it, "no" if you cannot.\n'
    'Reply "to NAME" to hand it over, "escalate" to call the next.\n\nPANIC 7KQ2, paged 10:01'
)
#: Yes, no, question, hand-over.
SAID = {
    "en": ("on it", "can't, on a train", "is this real?", "hand it over to Bo"),
    "de": ("Bin dran", "nein, bin krank", "ist das echt?", "übergib an Bo"),
    "fr": ("je m'en occupe", "je ne peux pas", "c'est vrai ?", "passe à Bo"),
    "es": ("me encargo", "no puedo", "¿es real?", "pásalo a Bo"),
    "it": ("ci penso io", "non posso", "è vero?", "passa a Bo"),
    "nl": ("ik pak het op", "ik kan niet", "is dit echt?", "geef het aan Bo"),
    "sv": ("jag tar det", "jag kan inte", "är det på riktigt?", "ge det till Bo"),
    "pl": ("biorę to", "nie mogę", "czy to prawdziwe?", "przekaż do Bo"),
    "pt": ("deixa comigo", "não posso", "isto é real?", "passa para Bo"),
}
#: Of the others, whole lines: yes, no, question.
WHOLE = {
    "no": ("jeg tar den", "kan ikke", "er dette ekte?"), "da": ("jeg tager den", "kan ikke", "er det ægte?"),
    "cs": ("beru to", "nemůžu", "je to pravda?"), "tr": ("bakıyorum", "yapamam", "bu gerçek mi?"),
    "uk": ("беру", "не можу", "це справжнє?"), "ru": ("беру", "не могу", "это реально?"),
    "el": ("το αναλαμβάνω", "δεν μπορώ", "είναι αλήθεια;"), "hu": ("intézem", "nem", "ez valódi?"),
    "ja": ("対応します", "対応できません", "本当ですか？"), "zh": ("我来处理", "不行", "这是真的吗？"),
    "ko": ("제가 처리하겠습니다", "못 합니다", "진짜예요?"), "ar": ("نعم", "لا أستطيع", "هل هذا حقيقي؟"),
    "he": ("אני על זה", "לא יכול", "זה אמיתי?"), "hi": ("हाँ", "नहीं", "क्या यह सच है?"),
}  # fmt: skip
#: How a program of each language introduces a quotation with a date and an address; with a date alone; and the four
#: fields of a header block; and what a phone adds.
INTRODUCED = {
    "en": ("On Sat, 21 Nov 2026 at 10:01, Panic <{}> wrote:", "On 21/11/2026 10:01, Panic wrote:",
           "From|Sent|To|Subject", "Sent from my iPhone"),
    "de": ("Am Sa., 21. Nov. 2026 um 10:01 Uhr schrieb Panic <{}>:", "Am 21.11.26 um 10:01 schrieb Panic:",
           "Von|Gesendet|An|Betreff", "Von meinem iPhone gesendet"),
    "fr": ("Le sam. 21 nov. 2026 à 10:01, Panic <{}> a écrit :", "Le 21/11/2026 à 10:01, Panic a écrit :",
           "De|Envoyé|À|Objet", "Envoyé de mon iPhone"),
    "es": ("El sáb, 21 nov 2026 a las 10:01, Panic (<{}>) escribió:", "El 21/11/26 a las 10:01, Panic escribió:",
           "De|Enviado|Para|Asunto", "Enviado desde mi iPhone"),
    "it": ("Il giorno sab 21 nov 2026 alle ore 10:01 Panic <{}> ha scritto:", "Il 21/11/2026 10:01, Panic ha scritto:",
           "Da|Inviato|A|Oggetto", "Inviato da iPhone"),
    "nl": ("Op za 21 nov 2026 om 10:01 schreef Panic <{}>:", "Op 21-11-2026 om 10:01 schreef Panic:",
           "Van|Verzonden|Aan|Onderwerp", "Verstuurd vanaf mijn iPhone"),
    "sv": ("Den lör 21 nov. 2026 kl 10:01 skrev Panic <{}>:", "Den 2026-11-21 kl. 10:01, skrev Panic:",
           "Från|Skickat|Till|Ämne", "Skickat från min iPhone"),
    "pl": ("sob., 21 lis 2026 o 10:01 Panic <{}> napisał(a):", "W dniu 21.11.2026 o 10:01, Panic pisze:",
           "Od|Wysłano|Do|Temat", "Wysłane z iPhone'a"),
    "pt": ("Em sáb., 21 de nov. de 2026 às 10:01, Panic <{}> escreveu:", "Em 21/11/2026 10:01, Panic escreveu:",
           "De|Enviado|Para|Assunto", "Enviado do meu iPhone"),
}  # fmt: skip

Client = Callable[[str, str], EmailMessage]


def plain(text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["Subject"], message["Message-ID"] = "Ana <ana@example.com>", "Re: PANIC", "<r@example.com>"
    message["Date"], message["To"] = "Sat, 21 Nov 2026 10:05:00 +0100", AT
    message.set_content(text)
    return message


def rich(text: str, html: str) -> EmailMessage:
    message = plain(text)
    message.add_alternative(f"<html><body>{html}</body></html>", subtype="html")
    return message


def html_only(html: str) -> EmailMessage:
    message = plain("")
    message.set_content(f"<html><body>{html}</body></html>", subtype="html")
    return message


def marked() -> str:
    return "\n".join(f"> {line}".rstrip() for line in OURS.splitlines())


def lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def header(language: str) -> str:
    values = (f"Panic <{AT}>", "21.11.2026 10:01", "Ana Reyes <ana@example.com>", "[PANIC 7KQ2] Ransom note")
    return "\n".join(f"{name}: {value}" for name, value in zip(INTRODUCED[language][2].split("|"), values, strict=True))


def introduced(language: str) -> str:
    return INTRODUCED[language][0].format(AT)


def gmail_web(said: str, language: str) -> EmailMessage:
    return rich(
        f"{said}\n\n{introduced(language)}\n\n{marked()}\n",
        f'<div dir="ltr">{lines(said)}</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">'
        f"{lines(introduced(language))}</div><blockquote class=gmail_quote>{lines(OURS)}</blockquote></div>",
    )


def gmail_mobile(said: str, language: str) -> EmailMessage:
    return rich(
        f"{said}\n\n{introduced(language).replace(' <', chr(10) + '<')}\n\n{marked()}\n",
        f'<p dir="ltr">{lines(said)}</p><div class="gmail_quote">{lines(introduced(language))}'
        f"<blockquote>{lines(OURS)}</blockquote></div>",
    )


def outlook_desktop(said: str, language: str) -> EmailMessage:
    return rich(
        f"{said}\n\n{header(language)}\n\n{OURS}\n",
        f'<p class="MsoNormal">{lines(said)}</p><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3pt">'
        f'<p class="MsoNormal">{lines(header(language))}</p></div><p>{lines(OURS)}</p>',
    )


def outlook_web(said: str, language: str) -> EmailMessage:
    return html_only(
        f'<div class="elementToProof">{lines(said)}</div><hr><div id="divRplyFwdMsg">{lines(header(language))}</div>'
        f"<div>{lines(OURS)}</div>"
    )


def outlook_mobile(said: str, language: str) -> EmailMessage:
    return html_only(
        f'<div>{lines(said)}</div><div id="ms-outlook-mobile-signature">Outlook</div><hr>'
        f'<div id="divRplyFwdMsg">{lines(header(language))}</div><div>{lines(OURS)}</div>'
    )


def outlook_new(said: str, language: str) -> EmailMessage:
    return html_only(
        f'<div class="elementToProof">{lines(said)}</div><div id="appendonsend"></div><hr>'
        f'<div id="divRplyFwdMsg">{lines(header(language))}</div><div>{lines(OURS)}</div>'
    )


def apple_ios(said: str, language: str) -> EmailMessage:
    phone = INTRODUCED[language][3]
    return rich(
        f"{said}\n\n{phone}\n\n> {introduced(language)}\n> \n{marked()}\n",
        f'{lines(said)}<br id="lineBreakAtBeginningOfSignature"><div dir="ltr">{phone}</div><div dir="ltr"><br>'
        f"<blockquote type=cite>{lines(introduced(language))}<br><br></blockquote></div>"
        f"<blockquote type=cite>{lines(OURS)}</blockquote>",
    )


def thunderbird(said: str, language: str) -> EmailMessage:
    return plain(f"{said}\n\n{INTRODUCED[language][1]}\n{marked()}\n")


def yahoo(said: str, language: str) -> EmailMessage:
    indented = "\n".join(f"    {line}" for line in [introduced(language), "", *OURS.splitlines()])
    return rich(
        f"{said}\n\n{indented}\n",
        f'<div class="yahoo-style-wrap">{lines(said)}</div><div id="yahoo_quoted_1" class="yahoo_quoted">'
        f"<div>{lines(introduced(language))}</div><div>{lines(OURS)}</div></div>",
    )


def proton(said: str, language: str) -> EmailMessage:
    return html_only(
        f'<div>{lines(said)}</div><div class="protonmail_quote">{lines(introduced(language))}'
        f"<blockquote type=cite>{lines(OURS)}</blockquote></div>"
    )


def zimbra(said: str, language: str) -> EmailMessage:
    return rich(
        f"{said}\n\n{header(language)}\n\n{OURS}\n",
        f'<div>{lines(said)}</div><hr id="zwchr"><div data-marker="__HEADERS__"><blockquote>{lines(header(language))}'
        f'</blockquote></div><div data-marker="__QUOTED_TEXT__"><blockquote>{lines(OURS)}</blockquote></div>',
    )


def gmx(said: str, language: str) -> EmailMessage:
    return html_only(
        f'<div>{lines(said)}</div><div name="quote" style="margin:10px 5px 5px 10px;border-left:2px solid #C3D9E5;">'
        f"<div>{lines(header(language))}</div><div>{lines(OURS)}</div></div>"
    )


CLIENTS: dict[str, Client] = {
    "Gmail web": gmail_web, "Gmail mobile": gmail_mobile, "Outlook desktop": outlook_desktop,
    "Outlook web": outlook_web, "Outlook mobile": outlook_mobile, "Outlook new": outlook_new, "Apple iOS": apple_ios,
    "Thunderbird": thunderbird, "Yahoo": yahoo, "Proton": proton, "Zimbra": zimbra, "GMX": gmx,
}  # fmt: skip


def understood(message: EmailMessage) -> str:
    report = parser.read(message.as_bytes())
    said = reply_commands.read(report.command_text, OFFICE)
    return said.name if report.lossless else f"{said.name}, in doubt"


def table() -> str:
    rows = ["| | " + " | ".join(SAID) + " |", "|---" * (len(SAID) + 1) + "|"]
    for name, client in CLIENTS.items():
        cells = (", ".join(understood(client(text, language)) for text in SAID[language]) for language in SAID)
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    rows += ["", "The others, as Gmail on the web sends them:", ""]
    rows += [
        f"- {key}: {', '.join(understood(gmail_web(text, 'en')) for text in texts)}" for key, texts in WHOLE.items()
    ]
    return "\n".join(["A yes, a no, a question, a hand-over: what each is understood as.", "", *rows]) + "\n"


def test_every_client_and_language_is_understood_as_the_table_says() -> None:
    if os.environ.get("PANICMAIL_WRITE_TABLE"):
        TABLE.write_text(table())
    assert table() == TABLE.read_text()
