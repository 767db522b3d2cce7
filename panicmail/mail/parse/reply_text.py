"""What the sender newly wrote: the text without quoted history, signature and what programs add.

Two readings of one text. `text` is generous: it keeps all that may be newly written, for it goes to notes and to the
reporter. `first_line` is strict: it decides acknowledging, so it is the first line of `text` or, where that may be
somebody else's, nothing (and `doubt` says why). Our own page, quoted back, holds the words that acknowledge.

How: `quotations` finds where an unmarked copy of an older mail begins; every line marked `>` or `|` is dropped, and
with it the rest of its sentence where a program wrapped it and forgot the mark. An introduction that is followed by
marked lines takes only itself and them away, so answers written below or between are kept; one followed by unmarked
text takes all the rest. What HTML shows apart by its structure alone (`ASIDE`) is history unless it stands between
newly written words. mail-parser-reply is not asked: it takes lists and whatever follows a "Thanks, …" for a signature.
At most 64,000 characters are looked at, in lines of at most 2,000. Total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from panicmail.mail.parse.quotations import block_begins, introduction, is_doubtful_above, marked_after

#: The longest text looked at and returned, in characters.
LIMIT = 64_000
#: From so many line ends in a row on they are one empty line.
_MANY_EMPTY = re.compile(r"\n{12,}")
_LONGEST_LINE = 2_000
_WRAPPED_AT = 60
#: Hardly a program wraps lines to less than the first, and none to less than the second.
_NARROW, _NARROWEST = 40, 25
#: Begins a line that `html` found in an element that shows it apart: history, or something of the writer's own.
ASIDE = "\x02"
#: Direction marks and zero widths, which programs put around names and addresses.
_UNSEEN = dict.fromkeys([0x200B, 0xFEFF, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])

_SIGNATURE = re.compile(r"^(?:--|—|__|[—–]{2,})\s*$")


def _words(table: str) -> str:
    """A pattern of alternatives, from a table of them divided by " | "."""
    return "|".join(word.strip() for row in table.strip().splitlines() for word in row.split(" | "))


#: Lines programs add below what was written.
_ADDED = _words(
    r"""
    sent from (?:my|a|an|the|outlook|yahoo|mail|proton|gmail|samsung|phone)\b
    sent (?:via|with|using|by) (?:my|outlook|yahoo|mail|proton|gmail)\b
    sent (?:from|via|with|using|by) [\w.]+(?: for \w+)?\W{0,4}(?:<.{0,200}>)?$
    sent on the go | get outlook for | get bluemail | télécharger outlook | obtener outlook | obter o outlook
    outlook für .{2,12} beziehen | scarica outlook | download outlook | hent outlook | von meinem .{1,40} gesendet
    (?:gesendet|versendet|geschickt) (?:von|vom|mit|über|aus)\b | diese nachricht wurde von meinem
    von (?:meinem )?(?:iphone|ipad|handy|samsung)\b.{0,20} (?:gesendet|verschickt)
    envoyé (?:de|depuis|à partir|avec|via)\b | enviado (?:desde|do|da|de|a partir|con|pelo|via)\b
    enviat (?:des|amb)\b | inviato (?:da|dal|dall|con|tramite)\b | verzonden (?:vanaf|met|van|via|vanuit)\b
    verstuurd (?:vanaf|met|van)\b | sendt (?:fra|med|via)\b | skickat (?:från|med)\b | skickades från | lähetetty
    wysłan[eoy] (?:z|ze|za)\b | odesláno (?:z|ze|pomocí)\b | odoslané (?:z|zo)\b | poslano (?:iz|s|z|sa)\b
    küldve (?:az? )? | elküldve | trimis (?:de pe|din|cu)\b | отправлено (?:с|из|через)\b | надіслано (?:з|із)\b
    изпратено от | στάλθηκε από | εστάλη από | saadetud | nosūtīts no | išsiųsta iš | sent úr
    iphone'?umdan gönderildi | .{1,30}(?:'?[dt][ae]n) gönderildi | gönderildi | נשלח מ | أُ?رسلت? من | مرسل من
    dikirim dari | được gửi từ | gửi từ | ส่งจาก | मेरे .{1,20} से भेजा | .{1,20} से भेजा गया | iphone(?:から|에서)
    .{1,20}から送信 | 나의 .{1,20}에서 | .{1,20}에서 보냄 | 发自(?:我的)? | 發自我的 | 傳自我的 | 從我的 | 从我的
    """
)
_SENT_FROM = re.compile(rf"^\W{{0,3}}(?:{_ADDED})", re.I)
#: The same of a program nobody has named, where it is the last line.
_SENT_WITH = re.compile(
    r"^\W{0,3}(?:sent (?:from|via|with|using)|enviado por|envoyé par|gesendet per) (?-i:[A-Z0-9])", re.I
)
#: Banners that gateways put above what the sender wrote: how they begin, and what they speak of.
_BANNER = re.compile(
    r"^\W{0,6}(?:caution|warning|external|achtung|attention|extern|vorsicht|externe e-?mail|e-?mail externe"
    r"|atención|correo externo|attenzione|let op|this (?:e-?mail|message)|you don't often get|some people who)\b",
    re.I,
)
_OUTSIDE = re.compile(
    r"\b(?:external|outside|extern\w*|außerhalb|extérieur\w*|unknown sender|fuera de|esterno|buiten|often get email)\b",
    re.I,
)
#: How letters close. Such a line ends the text if nothing but a signature follows it.
_CLOSINGS = _words(
    r"""
    (?:many )?thanks(?: again| a lot| so much| in advance| and regards)?
    thank you(?: so much| very much| in advance)? | thx | cheers
    (?:with )?(?:best|kind|kindest|warm|warmest|with)?\s?(?:regards|wishes) | best | all the best | rgds | br | kr
    (?:yours )?(?:sincerely|truly|faithfully) | sincerely yours | respectfully | cordially | take care | yours
    (?:(?:mit )?(?:freundliche[nr]?|viele[n]?|beste[n]?|liebe[n]?|herzliche[n]?|schöne[n]?) )?(?:gr[uü](?:ß|ss)e?n?)
    mfg | lg | vg | (?:vielen |besten |herzlichen )?dank(?: im voraus)? | danke(?: schön| im voraus)?
    (?:bien )?cordialement | bien à vous | cdt | (?:sincères |meilleures )?salutations(?: distinguées)?
    merci(?: beaucoup| d'avance)? | amicalement | bonne journée | (?:un )?(?:cordial )?saludos?(?: cordiales)?
    atentamente | (?:muchas )?gracias(?: de antemano)? | un abrazo | cordialmente | atenciosamente
    (?:muito )?obrigad[oa] | (?:melhores |com os melhores )?cumprimentos | abraços? | abs | att
    (?:cordiali |distinti |un )?salut[io] | (?:molte |mille )?grazie(?: mille)?
    (?:met )?(?:vriendelijke |hartelijke )?groet(?:en|jes)? | (?:alvast )?bedankt | dank je(?: wel)? | mvg | mvh
    (?:med )?(?:vänlig(?:a|en)? |bästa )?hälsning(?:ar)? | tack(?: på förhand)?
    (?:med )?(?:ve[n]{1,2}lig |de bedste )?hilsen(?:er)? | (?:på forhånd )?takk?(?: skal du ha)?
    (?:ystävällisin )?terveisin | kiitos | pozdrawiam(?: serdecznie)? | z poważaniem | pozdrowienia | dziękuję
    dzięki | (?:s |se srdečným )?pozdrav(?:em|om)? | děkuji | ďakujem | с уважением | с наилучшими пожеланиями
    спасибо | з повагою | дякую | с уважение | благодаря | поздрави | saygılarımla | saygılar | iyi çalışmalar
    teşekkürler | üdvözlettel | üdv | köszönöm | köszönettel | cu stimă | mulțumesc | lep pozdrav | με εκτίμηση
    ευχαριστώ | φιλικά | בברכה | תודה(?: רבה)? | مع (?:أطيب )?تحياتي | شكرا | تحياتي | धन्यवाद | सादर | trân trọng
    salam | よろしくお願い(?:いた)?します | 敬具 | 以上 | ありがとうございます | 谢谢 | 謝謝 | 此致 | 祝好
    감사합니다 | 고맙습니다
    """
)
_CLOSING = re.compile(rf"^\W{{0,2}}(?:{_CLOSINGS})\W{{0,4}}$", re.I)
#: "-Ana Reyes", as some sign.
_SIGNED = re.compile(r"^[-–—~]{1,2}\s?[^\W\d_a-zà-öø-ÿ][\w.'’]{0,24}(?:\s[^\W\d_a-zà-öø-ÿ][\w.'’]{0,24}){0,2}$")
_RULE = re.compile(r"^[_=-]{20,}\s*$")
#: A line that stood between what was written and what was dropped.
_LEFT_OVER = re.compile(r"^\s*[-_=*~#\u2013\u2014]{3,}\s*$")
_LEADS_SOMEWHERE = re.compile(r"://|www\.|\S@\S")
#: So much may stand below a closing, or below a list's line: a name, a title, addresses.
_CARD, _CARD_LINE = 12, 90


@dataclass(frozen=True, slots=True)
class ReplyReading:
    """The two readings of one text."""

    text: str
    first_line: str  #: the first line of `text`, or "" where it may be somebody else's
    doubt: str = ""  #: why `first_line` is empty though `text` is not


def fresh(text: str) -> str:
    """The part of a reply its sender newly wrote; "" when nothing is."""
    return read_reply(text).text


def read_reply(text: str) -> ReplyReading:
    """Both readings of a reply."""
    lines = _lines(text)
    kept, doubtful = _without_history(lines)
    cited = _without_asides(_without_signature(_without_banner(kept)))
    while cited and (not cited[-1].strip() or _LEFT_OVER.match(cited[-1])):
        cited.pop()
    found = _few_empty("\n".join(line.removeprefix(ASIDE) for line in cited)).strip()[:LIMIT].strip()
    first = next((line for line in cited if line.strip()), "")
    if first.startswith(ASIDE):
        return ReplyReading(found, "", "what stands first in it is shown as a quotation")
    if first in doubtful:
        return ReplyReading(found, "", "its first line may belong to what is quoted below it")
    return ReplyReading(found, first.strip())


def _few_empty(text: str) -> str:
    """Very many empty lines in a row are one: nobody scrolls through a thousand of them to find a word."""
    return _MANY_EMPTY.sub("\n\n", text)


def _lines(text: str) -> list[str]:
    text = text[:LIMIT].replace("\r\n", "\n").replace("\xa0", " ").replace("\u202f", " ").translate(_UNSEEN)
    return [line[:_LONGEST_LINE].rstrip() for line in text.split("\n")]


def _quoted(line: str) -> bool:
    mark = line.lstrip()
    if mark.startswith("|"):  # as our own mails mark what strangers wrote; a row of a table ends in one as well
        return mark[1:2] in ("", " ", "|", ">") and not mark[1:].endswith("|")
    return mark.startswith((">", "＞", ASIDE)) and mark not in (">:", "> :")  # the end of a broken "<address>:"


def _without_history(lines: list[str]) -> tuple[list[str], set[str]]:
    """The lines that are not history, and those among them that may be after all."""
    kept: list[str] = []
    at, width = 0, _narrowest(lines)
    doubtful: set[str] = set()
    above = ""  # the line of history directly above, "" when there is none
    introduced = False
    while at < len(lines):
        line = lines[at]
        if line.startswith(ASIDE):
            kept += [] if introduced else [line]
            above, at = "", at + 1
        elif _quoted(line) or (width >= _NARROWEST and _goes_on(above, line, width)) or _wrapped(lines, at):
            above, at = line, at + 1
        elif span := introduction(lines, at, _quoted):
            if kept and at and kept[-1] == lines[at - 1] and is_doubtful_above(kept[-1], lines[at : at + span]):
                doubtful.add(kept[-1])
            if not marked_after(lines, at + span, _quoted):
                break
            above, introduced, at = "", True, at + span
        elif block_begins(lines, at):
            break
        else:
            if _goes_on(above, line, width):
                doubtful.add(line)  # few programs wrap so narrowly: more likely an answer right below
            kept.append(line)
            introduced = introduced and not line.strip()
            above, at = "", at + 1
    return kept, doubtful


#: What ends a sentence, and what may close behind it.
_SENTENCE_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]*_]{0,4}$")


def _goes_on(above: str, line: str, width: int) -> bool:
    """Whether `line` is the rest of the quoted one above it, whose sentence is not at its end.

    A program wraps a line only before a word that has no room in it. So below one that had room the writer begins,
    however it ends: few quoted lines end in a full stop, and many answers stand right below one.
    """
    if not above.strip("> |＞") or not line.strip() or _SENTENCE_ENDS.search(above):
        return False
    first = line.split(maxsplit=1)[0]
    if width < _NARROW and (first.istitle() or first.startswith("I'")):
        return False  # short lines that nobody wrapped, and a sentence of its own
    return len(above) + 1 + len(first) > width


def _narrowest(lines: list[str]) -> int:
    """The least width, in characters, to which all that is quoted can have been wrapped.

    Addresses do not count: some programs break no line that holds one.
    """
    return max((len(line) for line in lines if _quoted(line) and not _UNBREAKABLE.search(line)), default=0)


_UNBREAKABLE = re.compile(r"://|@|\S{30}")


def _wrapped(lines: list[str], at: int) -> bool:
    """Whether this is the next sentence of a long quoted line, broken by a program that forgot to mark it."""
    return (
        0 < at < len(lines) - 1
        and bool(lines[at].strip())
        and len(lines[at - 1]) >= _WRAPPED_AT
        and _quoted(lines[at - 1])
        and _quoted(lines[at + 1])
        and not (_SENTENCE_ENDS.search(lines[at - 1]) and not lines[at].lstrip()[0].islower())
    )


def _without_asides(lines: list[str]) -> list[str]:
    """Without what HTML shows apart: all of it where it comes first or last, else what is cited between new words."""
    new = [at for at, line in enumerate(lines) if line.strip() and not line.startswith(ASIDE)]
    if not new or any(line.startswith(ASIDE) for line in lines[: new[0]]):
        kept = [line for line in lines if not line.startswith(ASIDE)]
        return [line for at, line in enumerate(kept) if line or (at and kept[at - 1])]
    return lines[: new[-1] + 1]


def _without_banner(lines: list[str]) -> list[str]:
    """Without the paragraph a gateway put on top, if one follows it."""
    start = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
    end = next((at for at in range(start, len(lines)) if not lines[at].strip()), len(lines))
    if start == len(lines) or not _BANNER.match(lines[start]) or not _OUTSIDE.search(" ".join(lines[start:end])[:1000]):
        return lines
    return lines[end:] if any(line.strip() for line in lines[end:]) else lines


def _without_signature(lines: list[str]) -> list[str]:
    kept: list[str] = []
    said = False
    for at, line in enumerate(lines):
        if _SIGNATURE.match(line) and (said or line.startswith("--")):
            break
        if _SENT_FROM.match(line) and len(line) < 200:
            if said:
                break
            continue
        if said and _SENT_WITH.match(line) and len(line) < 100 and not any(map(str.strip, lines[at + 1 :])):
            break
        if said and (_CLOSING.match(line) or _RULE.match(line) or _SIGNED.match(line)) and _ends_here(lines, at):
            break
        kept.append(line)
        said = said or bool(line.strip() and not line.startswith(ASIDE))
    return kept


def _ends_here(lines: list[str], at: int) -> bool:
    """Whether from here on there is nothing but a signature, or the footer of a list.

    Below a closing stand a name and what belongs to it: short lines, the first of them no sentence. Below a line of
    underscores stands where the list is found. "-Ana" closes what has no list above it.
    """
    below = [line.strip() for line in lines[at + 1 : at + 60] if line.strip()]
    if len(below) > _CARD or any(len(line) > _CARD_LINE or line.startswith((ASIDE, "- ", "* ")) for line in below):
        return False
    if _RULE.match(lines[at]):
        return bool(below) and any(map(_LEADS_SOMEWHERE.search, below))
    if _SIGNED.match(lines[at]):
        return not below and not (at and lines[at - 1].lstrip().startswith(("-", "*", "–")))
    return not below or _is_name(below[0])


def _is_name(line: str) -> bool:
    """Whether a line can be a name: few words, none of them small but the likes of "von", and no end of a sentence."""
    words = line.strip("*_,-–— ").split()
    small = [word for word in words if word[:1].islower() and len(word) > 3]
    return 0 < len(words) <= 5 and not small and not _SENTENCE_ENDS.search(words[-1][-2:] if len(words) > 2 else "")
