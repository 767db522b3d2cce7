# ruff: noqa: E501 - tables of lines as other programs write them
"""Replies as the mail programs of many languages write them: what is newly written is read, and nothing else.

Each introduction and header block below is met with each way to quote, and each has three kinds of words above it: a
bare word, a paragraph with a list, and words that end in thanks. What is left is exactly the words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.mail.parse.html import plain
from panicmail.mail.parse.reply_text import fresh, read_reply
from tests.examples import examples

PANIC = "Panic Desk"
AT = "panic@example.com"

#: Of each language how programs introduce a quotation; several lines as the program wraps them.
INTRODUCTIONS = {
    "en gmail": f"On Sat, Nov 21, 2026 at 10:01 AM {PANIC} <{AT}> wrote:",
    "en gmail wrapped": f"On Sat, Nov 21, 2026 at 10:01 AM {PANIC} <\n{AT}> wrote:",
    "en gmail wrapped early": f"On Saturday, November 21,\n2026 at 10:01 AM {PANIC} <{AT}> wrote:",
    "en gmail wrapped twice": f"On Sat, Nov 21, 2026 at 10:01 AM\n{PANIC} <{AT}>\nwrote:",
    "en apple": f"On Nov 21, 2026, at 10:01, {PANIC} <{AT}> wrote:",
    "en outlook for mac": f"On 21/11/2026, 10:01, \"{PANIC}\" <{AT}> wrote:",
    "en zoho": f"---- On Sat, 21 Nov 2026 10:01:00 +0100 {PANIC} <{AT}> wrote ----",
    "en yahoo": f"On Saturday, November 21, 2026 at 10:01:00 AM GMT+1, {PANIC} <{AT}> wrote:",
    "en old gmail": f"2026/11/21 {PANIC} <{AT}>",
    "en mutt": f"On Sat, Nov 21, 2026 at 10:01:00AM +0100, {PANIC} wrote:",
    "de gmail": f"Am Sa., 21. Nov. 2026 um 10:01 Uhr schrieb {PANIC} <{AT}>:",
    "de apple": f"Am 21.11.2026 um 10:01 schrieb {PANIC} <{AT}>:",
    "de thunderbird": f"Am 21.11.26 um 10:01 schrieb {PANIC}:",
    "fr gmail": f"Le sam. 21 nov. 2026 à 10:01, {PANIC} <{AT}> a écrit :",
    "fr gmail wrapped": f"Le sam. 21 nov. 2026 à 10:01, {PANIC} <{AT}>\na écrit :",
    "fr thunderbird": f"Le 21/11/2026 à 10:01, {PANIC} a écrit :",
    "es gmail": f"El sáb, 21 nov 2026 a las 10:01, {PANIC} (<{AT}>) escribió:",
    "es thunderbird": f"El 21/11/26 a las 10:01, {PANIC} escribió:",
    "it gmail": f"Il giorno sab 21 nov 2026 alle ore 10:01 {PANIC} <{AT}> ha scritto:",
    "it thunderbird": f"Il 21/11/2026 10:01, {PANIC} ha scritto:",
    "pt gmail": f"Em sáb., 21 de nov. de 2026 às 10:01, {PANIC} <{AT}> escreveu:",
    "pt wrapped": f"Em sáb., 21 de nov. de 2026 às 10:01, {PANIC} <{AT}>\nescreveu:",
    "nl gmail": f"Op za 21 nov 2026 om 10:01 schreef {PANIC} <{AT}>:",
    "nl thunderbird": f"Op 21-11-2026 om 10:01 schreef {PANIC}:",
    "sv gmail": f"Den lör 21 nov. 2026 kl 10:01 skrev {PANIC} <{AT}>:",
    "sv apple": f"21 nov. 2026 kl. 10:01 skrev {PANIC} <{AT}>:",
    "no gmail": f"lør. 21. nov. 2026 kl. 10:01 skrev {PANIC} <{AT}>:",
    "da gmail": f"Den lør. 21. nov. 2026 kl. 10.01 skrev {PANIC} <{AT}>:",
    "fi gmail": f"la 21. marrask. 2026 klo 10.01 {PANIC} ({AT}) kirjoitti:",
    "is": f"lau., 21. nóv. 2026 kl. 10:01 skrifaði {PANIC} <{AT}>:",
    "et": f"Kuupäev: L, 21. november 2026 kell 10:01 kirjutas {PANIC} <{AT}>:",
    "lt": f"2026-11-21, št, 10:01 {PANIC} <{AT}> rašė:",
    "lv": f"sestd., 2026. g. 21. nov., plkst. 10:01 — lietotājs {PANIC} (<{AT}>) rakstīja:",
    "pl gmail": f"sob., 21 lis 2026 o 10:01 {PANIC} <{AT}> napisał(a):",
    "pl thunderbird": f"W dniu 21.11.2026 o 10:01, {PANIC} pisze:",
    "cs gmail": f"so 21. 11. 2026 v 10:01 odesílatel {PANIC} <{AT}> napsal:",
    "cs thunderbird": f"Dne 21. 11. 26 v 10:01 {PANIC} napsal(a):",
    "sk": f"so 21. 11. 2026 o 10:01 {PANIC} <{AT}> napísal(a):",
    "hu": f"{PANIC} <{AT}> ezt írta (időpont: 2026. nov. 21., Szo, 10:01):",
    "ro": f"În sâm., 21 nov. 2026 la 10:01, {PANIC} <{AT}> a scris:",
    "hr": f"sub, 21. stu 2026. u 10:01 {PANIC} <{AT}> napisao je:",
    "sl": f"V V sob., 21. nov. 2026 ob 10:01 je oseba {PANIC} <{AT}> napisala:",
    "bg": f"На сб, 21.11.2026 г. в 10:01 {PANIC} <{AT}> написа:",
    "ru gmail": f"сб, 21 нояб. 2026 г. в 10:01, {PANIC} <{AT}>:",
    "ru thunderbird": f"21.11.2026 10:01, {PANIC} пишет:",
    "ru mail.ru": f"Суббота, 21 ноября 2026, 10:01 +03:00 от {PANIC} <{AT}>:",
    "ru yandex": f"21.11.2026, 10:01, \"{PANIC}\" <{AT}>:",
    "uk": f"сб, 21 лист. 2026 р. о 10:01 {PANIC} <{AT}> пише:",
    "el": f"Στις Σάβ 21 Νοε 2026 στις 10:01 π.μ., ο/η {PANIC} <{AT}> έγραψε:",
    "tr": f"{PANIC} <{AT}>, 21 Kas 2026 Cmt, 10:01 tarihinde şunu yazdı:",
    "he": f"\u202bבתאריך שבת, 21 בנוב׳ 2026 ב-10:01 מאת \u202a{PANIC}\u202c\u200f <\u202a{AT}\u202c\u200f>:\u202c",
    "ar": f"في السبت، 21 نوفمبر 2026 في 10:01 ص تمت كتابة ما يلي بواسطة {PANIC} <{AT}>:",
    "hi": f"शनि, 21 नव॰ 2026 को 10:01 पूर्वाह्न को {PANIC} <{AT}> ने लिखा:",
    "th": f"ในวันที่ ส. 21 พ.ย. 2026 เวลา 10:01 {PANIC} <{AT}> เขียนว่า:",
    "vi": f"Vào Th 7, 21 thg 11, 2026 vào lúc 10:01 {PANIC} <{AT}> đã viết:",
    "id": f"Pada tanggal Sab, 21 Nov 2026 pukul 10.01 {PANIC} <{AT}> menulis:",
    "ja gmail": f"2026年11月21日(土) 10:01 {PANIC} <{AT}>:",
    "ja apple": f"2026/11/21 10:01、{PANIC} <{AT}>のメール:",
    "zh gmail": f"{PANIC} <{AT}> 于2026年11月21日周六 10:01写道：",
    "zh apple": f"在 2026年11月21日，10:01，{PANIC} <{AT}> 写道：",
    "tw gmail": f"{PANIC} <{AT}> 於 2026年11月21日 週六 上午10:01寫道：",
    "ko gmail": f"2026년 11월 21일 (토) 오전 10:01, {PANIC} <{AT}>님이 작성:",
    "en without a year": f"On Tuesday, November 21, {PANIC} wrote:",
    "en notes": f"{PANIC} wrote on 21/11/2026 10:01:55:",
    "en horde": f"Quoting {PANIC} <{AT}>:",
    "nobody's language": f"Xu 21.11.2026 zef 10:01 blarg {PANIC} <{AT}> quuxed:",
}  # fmt: skip

#: Header blocks above a copy without marks.
BLOCKS = {
    "en outlook": f"From: {PANIC} <{AT}>\nSent: Saturday, November 21, 2026 10:01\nTo: Ana\nSubject: [PANIC 7KQ2] x",
    "en apple": f"Begin forwarded message:\n\nFrom: {PANIC} <{AT}>\nSubject: x\nDate: 21 November 2026\nTo: Ana",
    "en exchange": f"-----Original Message-----\nFrom: {PANIC} [mailto:{AT}]\nSent: Saturday\nTo: Ana\nSubject: x",
    "en gmail forward": f"---------- Forwarded message ---------\nFrom: {PANIC} <{AT}>\nDate: Sat\nSubject: x\nTo: Ana",
    "en mobile": f"________________________________\nFrom: {PANIC} <{AT}>\nSent: Saturday\nTo: Ana\nSubject: x",
    "en stars": f"*From:* {PANIC} <{AT}>\n*Sent:* Saturday, November 21, 2026 10:01\n*To:* Ana\n*Subject:* x",
    "en split": f"From: {PANIC}\n<{AT}>\nSent: Saturday, November 21, 2026 10:01\nTo: Ana\nSubject: x",
    "de outlook": f"Von: {PANIC} <{AT}>\nGesendet: Samstag, 21. November 2026 10:01\nAn: Ana\nBetreff: x",
    "de gmx": f"Gesendet: Samstag, 21. November 2026 um 10:01 Uhr\nVon: \"{PANIC}\" <{AT}>\nAn: ana@example.com\nBetreff: x",
    "fr outlook": f"De : {PANIC} <{AT}>\nEnvoyé : samedi 21 novembre 2026 10:01\nÀ : Ana\nObjet : x",
    "es outlook": f"De: {PANIC} <{AT}>\nEnviado el: sábado, 21 de noviembre de 2026 10:01\nPara: Ana\nAsunto: x",
    "pt outlook": f"De: {PANIC} <{AT}>\nEnviado: sábado, 21 de novembro de 2026 10:01\nPara: Ana\nAssunto: x",
    "it outlook": f"Da: {PANIC} <{AT}>\nInviato: sabato 21 novembre 2026 10:01\nA: Ana\nOggetto: x",
    "nl outlook": f"Van: {PANIC} <{AT}>\nVerzonden: zaterdag 21 november 2026 10:01\nAan: Ana\nOnderwerp: x",
    "sv outlook": f"Från: {PANIC} <{AT}>\nSkickat: den 21 november 2026 10:01\nTill: Ana\nÄmne: x",
    "da outlook": f"Fra: {PANIC} <{AT}>\nSendt: 21. november 2026 10:01\nTil: Ana\nEmne: x",
    "fi outlook": f"Lähettäjä: {PANIC} <{AT}>\nLähetetty: lauantai 21. marraskuuta 2026 10.01\nVastaanottaja: Ana\nAihe: x",
    "pl outlook": f"Od: {PANIC} <{AT}>\nWysłano: sobota, 21 listopada 2026 10:01\nDo: Ana\nTemat: x",
    "cs outlook": f"Od: {PANIC} <{AT}>\nOdesláno: sobota 21. listopadu 2026 10:01\nKomu: Ana\nPředmět: x",
    "hu outlook": f"Feladó: {PANIC} <{AT}>\nElküldve: 2026. november 21., szombat 10:01\nCímzett: Ana\nTárgy: x",
    "ro outlook": f"De la: {PANIC} <{AT}>\nTrimis: sâmbătă, 21 noiembrie 2026 10:01\nCătre: Ana\nSubiect: x",
    "ru outlook": f"От: {PANIC} <{AT}>\nОтправлено: 21 ноября 2026 г. 10:01\nКому: Ana\nТема: x",
    "uk outlook": f"Від: {PANIC} <{AT}>\nНадіслано: субота, 21 листопада 2026 р. 10:01\nКому: Ana\nТема: x",
    "el outlook": f"Από: {PANIC} <{AT}>\nΣτάλθηκε: Σάββατο, 21 Νοεμβρίου 2026 10:01\nΠρος: Ana\nΘέμα: x",
    "tr outlook": f"Kimden: {PANIC} <{AT}>\nGönderildi: 21 Kasım 2026 Cumartesi 10:01\nKime: Ana\nKonu: x",
    "he outlook": f"מאת: {PANIC} <{AT}>\nנשלח: שבת 21 נובמבר 2026 10:01\nאל: Ana\nנושא: x",
    "ar outlook": f"من: {PANIC} <{AT}>\nتم الإرسال: 21 نوفمبر 2026 10:01\nإلى: Ana\nالموضوع: x",
    "ja outlook": f"差出人: {PANIC} <{AT}>\n送信日時: 2026年11月21日 10:01\n宛先: Ana\n件名: x",
    "zh outlook": f"发件人: {PANIC} <{AT}>\n发送时间: 2026年11月21日 10:01\n收件人: Ana\n主题: x",
    "zh qq": f"------------------ 原始邮件 ------------------\n发件人: \"{PANIC}\" <{AT}>;\n发送时间: 2026年11月21日\n主题: x",
    "tw outlook": f"寄件者: {PANIC} <{AT}>\n寄件日期: 2026年11月21日 10:01\n收件者: Ana\n主旨: x",
    "ko naver": f"-----Original Message-----\nFrom: \"{PANIC}\" <{AT}>\nTo: ana\nSent: 2026-11-21 (토) 10:01\nSubject: x",
    "ko outlook": f"보낸 사람: {PANIC} <{AT}>\n보낸 날짜: 2026년 11월 21일 10:01\n받는 사람: Ana\n제목: x",
    "nobody's language": f"________________________________\nXvon: {PANIC} <{AT}>\nXsent: 21.11.2026 10:01\nXto: Ana\nXsub: x",
}  # fmt: skip

PAGE = 'Ana: reply "ack" by 03:22 CET, or Max (SMOC) is called.\n\nack\n\nReport (quoted, untrusted):\n| My files are gone.'

WORDS = (
    "on it",
    "on it, 5 min",
    "Two things first:\n\n- unplug the cable\n- do not log in\n\nI call you at 10:30.",
    "Thanks, I see it.\nPlease leave the device on, and wait for me.",
    "What is the host?\n\nDid you click on it, and when?",
)


def marked(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


@pytest.mark.parametrize("own", WORDS)
@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_words_above_an_introduction_are_all_that_was_written(name: str, own: str) -> None:
    for gap in ("\n\n", "\n"):
        for below in (f"\n\n{marked(PAGE)}", f"\n{marked(PAGE)}"):
            reading = read_reply(f"{own}{gap}{INTRODUCTIONS[name]}{below}\n")
            assert reading.text == own
            # right above an introduction without a date, "on it, 5 min" may be the beginning of it
            is_doubtful = gap == "\n" and own == "on it, 5 min" and not re.search("2[06]", INTRODUCTIONS[name])
            assert reading.first_line == ("" if is_doubtful else own.partition("\n")[0])


@pytest.mark.parametrize(
    "name",
    [
        each
        for each in INTRODUCTIONS
        if "2026" in INTRODUCTIONS[each] and ("<" in INTRODUCTIONS[each] or each.startswith(("de", "fr", "es")))
    ],
)
def test_an_introduction_with_an_address_needs_no_marks_below_it(name: str) -> None:
    assert fresh(f"on it\n\n{INTRODUCTIONS[name]}\n\n{PAGE}") == "on it"
    assert fresh(f"{INTRODUCTIONS[name]}\n\n{PAGE}") == ""


@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_words_below_marked_lines_and_between_them_are_new(name: str) -> None:
    quoted = "> Who takes this now, so that the others can go back to sleep?\n"
    assert fresh(f"{INTRODUCTIONS[name]}\n\n{quoted}\nI do.\n\n{quoted}\nMe.") == "I do.\n\n\nMe."


@pytest.mark.parametrize("own", WORDS)
@pytest.mark.parametrize("name", BLOCKS)
def test_words_above_a_header_block_are_all_that_was_written(name: str, own: str) -> None:
    for text in (f"{own}\n\n{BLOCKS[name]}\n\n{PAGE}", f"{own}\n\nSent from my iPhone\n\n{BLOCKS[name]}\n\n{PAGE}"):
        assert read_reply(text).text == own
        assert read_reply(text).first_line == own.partition("\n")[0]


SIGNATURES = (
    "-- \nAna Reyes\nSecurity", "--\nAna", "Sent from my iPhone", "Sent from my Samsung Galaxy smartphone.", "Get Outlook for iOS",
    "Von meinem iPhone gesendet", "Gesendet mit der GMX Mail App", "Envoyé de mon iPhone", "Envoyé depuis mon Galaxy",
    "Enviado desde mi iPhone", "Enviado do meu iPhone", "Inviato da iPhone", "Verstuurd vanaf mijn iPhone",
    "Skickat från min iPhone", "Sendt fra min iPhone", "Lähetetty iPhonesta", "Wysłane z iPhone'a",
    "Odesláno z iPhonu", "Отправлено с iPhone", "Надіслано з iPhone", "iPhone'umdan gönderildi", "Στάλθηκε από το iPhone μου",
    "iPhoneから送信", "发自我的iPhone", "從我的 iPhone 傳送", "나의 iPhone에서 보냄", "נשלח מה-iPhone שלי", "أرسلت من الـ iPhone",
    "Best regards,\nAna Reyes", "Thanks,\nAna", "Kind regards\n\nAna Reyes\nSecurity Engineer\n+49 151 0000000",
    "Mit freundlichen Grüßen\nAna Reyes", "Viele Grüße\nAna", "Cordialement,\nAna Reyes", "Saludos,\nAna",
    "Cordiali saluti\nAna Reyes", "Atenciosamente,\nAna", "Met vriendelijke groet,\nAna", "Mvh\nAna",
    "Med vänliga hälsningar\nAna Reyes", "Pozdrawiam\nAna", "S pozdravem\nAna", "С уважением,\nАна Рейес", "-Ana Reyes",
)  # fmt: skip


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("own", WORDS)
def test_what_closes_a_reply_is_not_part_of_its_words(signature: str, own: str) -> None:
    assert fresh(f"{own}\n\n{signature}") == own
    assert fresh(f"{own}\n\n{signature}\n\n{INTRODUCTIONS['de gmail']}\n{marked(PAGE)}") == own


@pytest.mark.parametrize(
    "own",
    [
        "Thanks, I have it.\n\nPlease unplug the cable.\nThen wait.",
        "Thanks!\n\nPlease unplug the cable and wait for me.",
        "- unplug the cable\n- do not log in",
        "Best\nyou leave it on until I am there, and touch nothing.",
        "I got this at 10:05 from a stranger:\n\nplease pay 500",
        "From: field of the mail is empty, that is odd.",
        "Sent the disk to the lab.\nSent from there to you tomorrow.",
        "Host: db1\nTime: 10:01\nUser: rita\nNote: it is on",
        "Regards the file server: it is off.",
        "He wrote:\nI am in your network",
        "We have 2 hosts: db1, db2.\nBoth are off.",
        "Call me at 10:30:\n+49 151 0000000",
        "Thank you",
        "Danke\nAna",
        "===== step 1 =====\nunplug it\n===== step 2 =====\nwait",
    ],
)
def test_words_that_only_resemble_history_or_a_signature_stay(own: str) -> None:
    assert fresh(own) == own
    assert fresh(f"{own}\n\n{INTRODUCTIONS['en gmail']}\n\n{marked(PAGE)}") == own


# -- as HTML ---------------------------------------------------------------------------------------------------------


def html_of(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"<div>{line or '<br>'}</div>" for line in escaped.split("\n"))


#: How a program shows its quotation: what stands for the introduction or header is `{head}`, the history `{history}`.
CONTAINERS = {
    "gmail": '{own}<br><div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">{head}<br></div>'
    '<blockquote class="gmail_quote" style="margin:0 0 0 .8ex;border-left:1px solid">{history}</blockquote></div>',
    "gmail, older": '{own}<br><div class="gmail_extra"><br><div class="gmail_quote">{head}<br>'
    '<blockquote class="gmail_quote">{history}</blockquote></div></div>',
    "apple": '{own}<div><br><blockquote type="cite"><div>{head}</div><br><div>{history}</div></blockquote></div>',
    "apple, head outside": '{own}<br><div>{head}</div><blockquote type="cite"><div>{history}</div></blockquote>',
    "thunderbird": '{own}<div class="moz-cite-prefix">{head}</div><blockquote type="cite" cite="mid:x">{history}</blockquote>',
    "yahoo": '{own}<div id="yahoo_quoted_123" class="yahoo_quoted"><div>{head}</div><div>{history}</div></div>',
    "outlook web": '{own}<div id="appendonsend"></div><hr style="display:inline-block;width:98%"><div id="divRplyFwdMsg">'
    "{head}</div><div>{history}</div>",
    "outlook desktop": '<div class="WordSection1">{own}<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt">'
    "<p><b>Xrom:</b> Panic<br><b>Xent:</b> Saturday</p></div></div><p>{history}</p></div>",
    "outlook new": '{own}<div id="mail-editor-reference-message-container"><hr><div>{head}</div><div>{history}</div></div>',
    "outlook mobile": '{own}<div id="ms-outlook-mobile-signature">Get Outlook for iOS</div><div '
    'class="ms-outlook-mobile-reference-message">{head}{history}</div>',
    "proton": '{own}<div class="protonmail_quote">{head}<br><blockquote class="protonmail_quote" type="cite">{history}'
    "</blockquote></div>",
    "zimbra": '{own}<hr id="zwchr" data-marker="__DIVIDER__"><div data-marker="__HEADERS__">{head}</div>'
    '<div data-marker="__QUOTED_TEXT__">{history}</div>',
    "spark": '{own}<div name="messageReplySection">{head}<blockquote type="cite">{history}</blockquote></div>',
    "lotus notes": '{own}<br><br><font size="1">{head}</font><br><blockquote>{history}</blockquote>',
    "gmx": '{own}<div name="quote" style="margin:10px;border-left:2px solid #C3D9E5">{head}<div>{history}</div></div>',
    "mail.ru": '{own}<blockquote style="border-left:1px solid #0857A6;margin:10px;padding:0 0 0 10px">{head}<br>{history}</blockquote>',
    "naver": '{own}<p>-----Original Message-----<br><b>From:</b> Panic &lt;panic@example.com&gt;<br><b>To:</b> ana<br>'
    "<b>Sent:</b> 2026-11-21<br></p><div>{history}</div>",
    "qq": '{own}<div style="font-size:12px">------------------&nbsp;原始邮件&nbsp;------------------</div><div>{history}</div>',
    "fastmail": '{own}<div>{head}</div><blockquote type="cite" id="qt">{history}</blockquote>',
    "front": '{own}<div>{head}</div><blockquote class="front-blockquote">{history}</blockquote>',
}  # fmt: skip
HEADS = [INTRODUCTIONS[name] for name in ("en gmail", "de gmail", "ru gmail", "ja gmail", "he", "nobody's language")]


def containers() -> Iterator[tuple[str, str, str]]:
    for name, shape in CONTAINERS.items():
        for own in WORDS:
            for head in HEADS:
                yield name, own, shape.format(own=html_of(own), head=html_of(head), history=html_of(PAGE))


def squeezed(text: str) -> str:
    return re.sub(r"\n+", "\n", text).strip()


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_history_each_program_puts_into_html_is_not_read_as_new(name: str) -> None:
    for each, own, source in containers():
        if each == name:
            assert squeezed(fresh(plain(source).own)) == squeezed(own)


@pytest.mark.parametrize("name", ["gmail", "gmail, older", "apple, head outside", "thunderbird", "fastmail"])
def test_an_answer_below_or_between_what_html_quotes_is_read(name: str) -> None:
    for head in HEADS:
        source = CONTAINERS[name].format(own="", head=html_of(head), history=html_of(PAGE))
        assert fresh(plain(f"{source}<div>mine</div>").own) == "mine"
        if name.startswith("gmail"):
            inside = source.replace(
                "</blockquote>", '</blockquote><div>mine</div><blockquote class="gmail_quote">x</blockquote>'
            )
            assert fresh(plain(inside).own) == "mine"


@pytest.mark.parametrize("tag", ["s", "strike", "del", 'span style="text-decoration:line-through"'])
def test_struck_text_is_no_first_line(tag: str) -> None:
    source = f"<p><{tag}>ack</{tag.split()[0]}></p><p>no idea</p>"
    assert fresh(plain(source).own) == "no idea"


# -- properties ------------------------------------------------------------------------------------------------------

_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [*INTRODUCTIONS.values(), *BLOCKS.values(), *SIGNATURES, *WORDS, "", "> x", "| x", "-- ", "ack"]
        ),
        st.text(max_size=30),
    ),
    max_size=8,
)


@examples(300)
@given(_LINES)
def test_the_first_line_is_the_first_of_the_words_or_nothing(pieces: list[str]) -> None:
    reading = read_reply("\n".join(pieces))
    assert reading.first_line in ("", next((line.strip() for line in reading.text.split("\n") if line.strip()), ""))
    assert bool(reading.doubt) == bool(reading.text and not reading.first_line)


@examples(200)
@given(st.sampled_from(sorted(INTRODUCTIONS)), st.text("abc de\n.,!", min_size=1, max_size=200), st.sampled_from(WORDS))
def test_nothing_below_a_marked_quotation_is_of_it(name: str, history: str, own: str) -> None:
    assert fresh(f"{own}\n\n{INTRODUCTIONS[name]}\n{marked(history)}\n") == own
