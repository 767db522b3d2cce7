"""What the sender newly wrote: the text without quoted history, signature and what programs add.

Acknowledgements hang on the first line of this text, so history must never be it: our own page, quoted back, holds
the words that acknowledge. Where a rule can err, it errs towards leaving words out (then nothing is acknowledged and
the sender is told so), except that a text in which everything looks like history is given without its quoted lines.

How: our own tables of the lines with which mail programs introduce what they quote, then mail-parser-reply for what
the tables lack, then every line marked `>` or `|` is dropped, and with it the rest of its sentence where a program
wrapped it and forgot the mark. An introduction that is followed by marked lines takes only itself and them away, so
answers written below or between are kept; one followed by unmarked text takes all the rest. What HTML shows apart by
its structure alone (`ASIDE`) is history unless it stands between newly written words.
At most 64,000 characters are looked at, in lines of at most 2,000. Total.
"""

from __future__ import annotations

import re
from collections import deque

from mailparser_reply import EmailReplyParser

#: The longest text looked at and returned, in characters.
LIMIT = 64_000
_LONGEST_LINE = 2_000
#: What mail-parser-reply is given: it takes cubic time in a line, quadratic in empty lines.
_ASKED, _ASKED_LINE = 16_000, 300
_WRAPPED_AT = 60
#: Hardly a program wraps lines to less than this.
_NARROW = 40
#: Begins a line that `html` found in an element that shows it apart: history, or something of the writer's own.
ASIDE = "\x02"

_LANGUAGES = ["en", "de", "fr", "es", "nl", "it"]


def _words(table: str) -> str:
    """A pattern of alternatives, from a table of them divided by " | "."""
    return "|".join(word.strip() for row in table.strip().splitlines() for word in row.split(" | "))


#: "wrote", as it stands at or near the end of an introduction.
_WROTE = _words(
    r"""
    wrote | writes | schrieb | schreef | geschreven | skrev | skreiv | skrifaði | kirjoitti | a écrit
    ha scritto | scrisse | escribi[óo] | escreveu | a scris | napisał(?:a|\(a\))? | napsal(?:a|\(a\))? | napísal
    je napisao | je napisal | írta | rašė | rakstīja | пишет | писал(?:а|\(а\))? | написал(?:а|\(а\))? | написав
    напиша | έγραψε | yazdı | şunları yazdı | כתבה? | كتب | đã viết | menulis | เขียน
    """
)
#: What an introduction begins with. One that does not must carry an address beside its date.
_ON = _words(
    r"""
    on | am | le | il | el | em | op | den | dne | dnia | w dniu | på | il giorno | a | la | ma | kl | ti | to
    fre | lør | søn | man | tir | tor | ons | at | vào | pada
    """
)
_INTRO_END = re.compile(rf"(?:{_WROTE})\s?(?:\([^)]{{0,40}}\))?\s*+(?:[:：]\s*+)?(?:-{{3,}})?$", re.I)
#: "Am … schrieb Ana Reyes:": where the verb comes before the name.
_INTRO_NAMED = re.compile(r"\b(?:schrieb|schreef|skrev|skreiv|kirjoitti|wrote|написал|написала)\b.{1,200}[:：]$", re.I)
_INTRO_ON = re.compile(rf"^\W{{0,3}}(?:-{{3,}}\s*)?(?:{_ON})\b", re.I)
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{4}\s?[年년]|\b\d{1,2}:\d{2}|\b(?:19|20)\d{2}\b")
_ADDRESS = re.compile(r"[^\s<>@]{1,64}@[^\s<>@]{1,253}")
#: "30.09.2017, 18.30, "John" <a@b>:" and the like: a date, an address, a colon, and no verb.
_INTRO_BARE = re.compile(r"^.{0,200}<\s?[^<>@\s]{1,64}@[^<>\s]{1,253}\s?>\s?[:：]$")
_SCRIPTS = _words(
    r"""
    写道 | 寫道 | 님이 작성(?:하였습니다)? | のメッセージ | さんは書きました | が書きました
    """
)
_INTRO_SCRIPT = re.compile(rf"(?:{_SCRIPTS})\s?[:：]?$")

#: What stands between two rows of dashes above an unmarked copy.
_ORIGINAL = _words(
    r"""
    original[- ](?:message|mail|e-mail|text) | reply message | reply above this line
    forwarded (?:message|mail) | forwarded message by .{0,80}
    (?:ursprüngliche|originale?|weitergeleitete) (?:nachricht|e-?mail|message)
    message (?:d'origine|original|transféré) | mensaje (?:original|reenviado)
    mensagem (?:original|encaminhada) | messaggio (?:originale|inoltrato) | oorspronkelijk bericht
    doorgestuurd bericht | oprindelig (?:meddelelse|besked) | opprinnelig melding
    videresendt (?:meddelelse|melding) | original meddelelse | ursprungligt meddelande | original meddelande
    alkuperäinen viesti | původní zpráva | wiadomość oryginalna | oryginalna wiadomość | исходное сообщение
    пересылаемое сообщение | 原始邮件 | 原始郵件 | 元のメッセージ | 원본 메시지
    """
)
_SEPARATOR = re.compile(rf"^\W{{0,3}}[-_=*~—–]{{2,}}\s*(?:{_ORIGINAL})\s*[-_=*~—–]{{2,}}\W{{0,3}}$", re.I)
_FORWARDED = _words(
    r"""
    begin forwarded message | anfang der weitergeleiteten (?:nachricht|e-mail) | vidarebefordrat brev
    début du message (?:transféré|réexpédié) | message du | inizio messaggio inoltrato
    inicio del mensaje reenviado | begin doorgestuurd bericht
    """
)
_FORWARD = re.compile(rf"^\W{{0,3}}(?:{_FORWARDED})\s?:", re.I)

#: Field names of a quoted header block: the one it begins with, and the others.
_FROM = _words(
    r"""
    from | von | de | da | van | od | fra | från | lähettäjä | kimden | от | отправитель | מאת | من | 发件人 | 寄件者
    差出人 | 보낸\s?사람
    """
)
_OTHER = _words(
    r"""
    sent | to | cc | subject | date | reply-to | organization | quoted | gesendet | an | betreff | datum
    antwort an | kopie | envoy[ée](?: le)? | à | objet | répondre à | copie | enviado(?: el| em)? | para
    asunto | assunto | fecha | data | inviato | a | oggetto | verzonden | aan | onderwerp | sendt | til | emne
    dato | kopi | skickat | till | ämne | kopia | lähetetty | vastaanottaja | aihe | päiväys | odesláno | komu
    předmět | wysłano | do | temat | отправлено | кому | тема | дата | gönderildi | kime | konu | 发送时间 | 收件人
    主题 | 日期 | 寄件日期 | 收件者 | 主旨 | 送信日時 | 宛先 | 件名 | 보낸\s?날짜 | 받는\s?사람 | 제목
    """
)
_BLOCK_FROM = re.compile(rf"^[\s*_>]{{0,8}}(?:{_FROM})\s?[*_]{{0,2}}\s?[:：]\s?[*_]{{0,2}}\s?\S", re.I)
_BLOCK_ANY = re.compile(rf"^[\s*_>]{{0,8}}(?:{_FROM}|{_OTHER})\s?[*_]{{0,2}}\s?[:：]", re.I)
_RULE = re.compile(r"^\s*[_-]{20,}\s*$")

_SIGNATURE = re.compile(r"^(?:--|—|__|[—–]{2,})\s*$")
#: Lines programs add below what was written.
_ADDED = _words(
    r"""
    sent from (?:(?:my|a|an|the|outlook|yahoo|mail|proton|gmail)\b|[\w.]+(?: for \w+)?\W{0,4}(?:<.{0,200}>)?$)
    sent (?:via|with|using) (?:my\b|outlook|yahoo|mail|proton|gmail|[\w.]+(?: for \w+)?\W{0,4}(?:<.{0,200}>)?$)
    get outlook for | get bluemail | télécharger outlook | obtener outlook | obter o outlook
    von meinem .{1,40} gesendet | gesendet (?:von|mit|über|aus)\b | diese nachricht wurde von meinem
    envoyé (?:de|depuis|à partir)\b | enviado (?:desde|do|da|de|a partir)\b | inviato (?:da|dal)\b
    verzonden (?:vanaf|met|van|via)\b | verstuurd (?:vanaf|met)\b | sendt (?:fra|med)\b | skickat från
    lähetetty | wysłan[eo] z\b | odesláno z | отправлено (?:с|из)\b | gönderildi | iphone(?:から|에서)
    发自我的 | 傳自我的 | 나의 .{1,20}에서 보냄
    """
)
_SENT_FROM = re.compile(rf"^\W{{0,3}}(?:{_ADDED})", re.I)
#: Banners that gateways put above what the sender wrote: how they begin, and what they speak of.
_BANNER = re.compile(
    r"^\W{0,6}(?:caution|warning|external|achtung|attention|extern|vorsicht|this (?:e-?mail|message))\b", re.I
)
_OUTSIDE = re.compile(r"\b(?:external|outside|extern\w*|außerhalb|extérieur\w*|unknown sender)\b", re.I)


def fresh(text: str) -> str:
    """The part of a reply its sender newly wrote; "" when nothing is."""
    lines = _lines(text)
    lines = _without_history(lines)
    lines = _without_asides(_without_signature(_without_banner(lines)))
    return _second_opinion("\n".join(lines).strip())[:LIMIT].strip()


def _lines(text: str) -> list[str]:
    text = text[:LIMIT].replace("\r\n", "\n").replace("\xa0", " ").replace("\u200b", "").replace("\ufeff", "")
    return [line[:_LONGEST_LINE].rstrip() for line in text.split("\n")]


def _quoted(line: str) -> bool:
    mark = line.lstrip()
    if mark.startswith("|"):  # as our own mails mark what strangers wrote; a row of a table ends in one as well
        return mark[1:2] in ("", " ", "|", ">") and not mark[1:].endswith("|")
    return mark.startswith((">", "＞", ASIDE)) and mark not in (">:", "> :")  # the end of a broken "<address>:"


def _without_history(lines: list[str]) -> list[str]:
    kept: list[str] = []
    at, width = 0, _narrowest(lines)
    above = ""  # the line of history directly above, "" when there is none
    introduced = False
    while at < len(lines):
        line = lines[at]
        if line.startswith(ASIDE):
            kept += [] if introduced else [line]
            above, at = "", at + 1
        elif _quoted(line) or _goes_on(above, line, width) or _wrapped(lines, at):
            above, at = line, at + 1
        elif span := _introduction(lines, at):
            if not _marked_after(lines, at + span):
                break
            above, introduced, at = "", True, at + span
        elif _block_begins(lines, at):
            break
        else:
            kept.append(line)
            introduced = introduced and not line.strip()
            above, at = "", at + 1
    return kept


#: What ends a sentence, and what may close behind it.
_SENTENCE_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]*_]{0,4}$")


def _goes_on(above: str, line: str, width: int) -> bool:
    """Whether `line` is the rest of the quoted one above it, whose sentence is not at its end.

    A program wraps a line only before a word that has no room in it. So below one that had room the writer begins,
    however it ends: few quoted lines end in a full stop, and many answers stand right below one.
    """
    if not above or not line.strip() or _SENTENCE_ENDS.search(above):
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
    )


def _without_asides(lines: list[str]) -> list[str]:
    """Without what HTML shows apart: all of it where it comes first or last, else what is cited between new words."""
    new = [at for at, line in enumerate(lines) if line.strip() and not line.startswith(ASIDE)]
    if not new or any(line.startswith(ASIDE) for line in lines[: new[0]]):
        kept = [line for line in lines if not line.startswith(ASIDE)]
        return [line for at, line in enumerate(kept) if line or (at and kept[at - 1])]
    return [line.removeprefix(ASIDE) for line in lines[: new[-1] + 1]]


def _introduction(lines: list[str], at: int) -> int:
    """How many lines, from `at`, introduce a quotation ("On … wrote:", over up to four lines); 0 if none do."""
    if not lines[at].strip():
        return 0
    joined = ""
    for span in range(1, 5):
        if at + span > len(lines) or _quoted(lines[at + span - 1]):
            return 0
        part = lines[at + span - 1].strip()
        if span > 1 and not part:
            return 0
        joined = f"{joined} {part}".strip()
        if len(joined) > 600 or (span == 2 and not (_INTRO_ON.match(joined) or _DATE.search(lines[at]))):
            return 0
        if _introduces(joined, lines, at + span):
            return span
    return 0


def _introduces(line: str, lines: list[str], after: int) -> bool:
    dated, addressed = bool(_DATE.search(line)), bool(_ADDRESS.search(line))
    if _INTRO_BARE.match(line) and dated:
        return True
    if _INTRO_SCRIPT.search(line):
        return dated or addressed or _marked_after(lines, after)
    if not _INTRO_END.search(line) and not (dated and _INTRO_NAMED.search(line)):
        return False
    if dated and (addressed or _INTRO_ON.match(line)):
        return True
    return (addressed or line.endswith((":", "："))) and _marked_after(lines, after)


def _marked_after(lines: list[str], at: int) -> bool:
    """Whether the next line that says something is marked as quoted."""
    following = next((line for line in lines[at : at + 12] if line.strip()), "")
    return _quoted(following)


def _block_begins(lines: list[str], at: int) -> bool:
    """Whether everything from here is an unmarked copy of an older mail."""
    line = lines[at]
    if _SEPARATOR.match(line) or _FORWARD.match(line):
        return True
    if _RULE.match(line):
        following = next((each for each in lines[at + 1 : at + 4] if each.strip()), "")
        return bool(_BLOCK_ANY.match(following))
    if not _BLOCK_FROM.match(line):
        return False
    others = [each for each in lines[at + 1 : at + 7] if each.strip()]
    return sum(bool(_BLOCK_ANY.match(each)) for each in others[:5]) >= 2 or bool(
        _ADDRESS.search(line) and others and _BLOCK_ANY.match(others[0])
    )


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
    for line in lines:
        if _SIGNATURE.match(line) and (said or line.startswith("--")):
            break
        if _SENT_FROM.match(line) and len(line) < 200:
            if said:
                break
            continue
        kept.append(line)
        said = said or bool(line.strip() and not line.startswith(ASIDE))
    return kept


def _second_opinion(text: str) -> str:
    """What mail-parser-reply leaves of it; all of it where it takes a whole short text for a signature.

    It is asked about the beginning, with long lines cut short; what follows stays if the end of the beginning does.
    """
    if not text:
        return ""
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    most = _fitting(lines)
    cut = [line[:_ASKED_LINE] for line in lines[:most]]
    try:
        replies = EmailReplyParser(languages=list(_LANGUAGES)).read(text="\n".join(cut)).replies
    except (re.error, RecursionError, ValueError, IndexError):
        return text
    if not replies or replies[0].headers:
        return ""  # it begins with history: the library leaves out the empty reply before it
    left = [line for line in replies[0].body.split("\n") if not _quoted(line)]
    if not any(left):
        return "" if len(replies) > 1 else text
    rest = lines[most:] if len(replies) == 1 and left[-1] == cut[-1] else []
    return "\n".join([*_restored(left, lines[:most]), *rest]).strip()


def _fitting(lines: list[str]) -> int:
    """How many of the lines mail-parser-reply is asked about."""
    size = 0
    for number, line in enumerate(lines):
        size += min(len(line), _ASKED_LINE) + 1
        if size > _ASKED:
            return number
    return len(lines)


def _restored(left: list[str], whole: list[str]) -> list[str]:
    """The lines it left, those cut short as long as they were."""
    long: dict[str, deque[str]] = {}
    for line in whole:
        if len(line) > _ASKED_LINE:
            long.setdefault(line[:_ASKED_LINE], deque()).append(line)
    return [long[line].popleft() if long.get(line) else line for line in left]
