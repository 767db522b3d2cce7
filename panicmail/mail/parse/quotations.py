"""Where a text begins to repeat an older mail, when no mark says so: introductions, header blocks, separators.

By structure, so that a language nobody thought of is read as well: a line that holds a date and an address and ends in
a colon introduces what stands below it, whatever the words in between; so does a line with a date and a time that ends
in a colon and has a quotation below. The words ("wrote", "von") only add confidence where a part of that is missing.
An introduction is the shortest span of lines that introduces: what stands directly above it is its writer's own.
Everything here is data but the few functions at the end. Pure; each looks at a bounded number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable


def _words(table: str) -> str:
    """A pattern of alternatives, from a table of them divided by " | "."""
    return "|".join(word.strip() for row in table.strip().splitlines() for word in row.split(" | "))


#: "wrote", as it stands at or near the end of an introduction.
_WROTE = _words(
    r"""
    wrote | writes | said | schrieb | schreef | geschreven | skrev | skreiv | skrifaði | kirjoitti | a écrit
    ha scritto | scrisse | ha risposto | escribi[óo] | ha escrito | va escriure | escreveu | a scris | a scrítt
    napisał(?:a|\(a\))? | pisze | napsal(?:a|\(a\))? | napísala? | napísal\(a\) | je napisao | je napisala
    je pisao | je napisal(?:\(a\))? | írta | ezt írta | rašė | parašė | rakstīja | kirjutas | пишет
    писал(?:а|\(а\))? | написал(?:а|\(а\))? | написав | написала | пише | напиша | έγραψε | έγραψε: | yazdı
    şunları yazdı | כתבה? | كتب | كتبت | نوشت | đã viết | menulis | เขียน(?:ว่า)? | ने लिखा | idatzi du | escribiu
    """
)
#: What an introduction begins with. One that does not must carry an address beside its date.
_ON = _words(
    r"""
    on | am | le | il | el | em | op | den | dne | dňa | dnia | w dniu | på | il giorno | in data | a | la | ma | kl
    ti | to | fre | lør | søn | man | tir | tor | ons | at | vào | pada | dana | zo dňa | în | pe | στις | la data
    """
)
_ENDS_IN_WROTE = re.compile(rf"(?:{_WROTE})\s?(?:\([^)]{{0,40}}\))?\s*+(?:[:：]\s*+)?(?:-{{3,}})?$", re.I)
#: "Am … schrieb Ana Reyes:": where the verb comes before the name.
_NAMED_AFTER = re.compile(r"\b(?:schrieb|schreef|skrev|skreiv|kirjoitti|wrote|написал|написала)\b.{1,200}[:：]$", re.I)
_BEGINS_WITH_ON = re.compile(rf"^\W{{0,3}}(?:-{{3,}}\s*)?(?:{_ON})\b", re.I)
_CALENDAR = re.compile(
    r"\b\d{1,4}[./-]\s?\d{1,2}[./-]\s?\d{1,4}\b|\d{4}\s?[年년]|\b(?:19|20|25)\d{2}\b|\b14\d{2}\b(?=.{0,20}\d[:٫.]\d)"
)
_TIME = re.compile(r"(?<!\d)\d{1,2}[:h：]\d{2}|(?<![\d.])\d{1,2}\.\d{2}(?![\d.])|\d{1,2}\s?[時시点]", re.I)
_ADDRESS = re.compile(r"[^\s<>@]{1,64}@[^\s<>@]{1,253}")
#: An address as programs write it, not as people mention one: in brackets.
_ANGLED = re.compile(r"[<(\[]\s?(?:mailto:)?[^\s<>@()\[\]]{1,64}@[^\s<>()\[\]]{1,253}[\s>)\]]")
_ADDRESS_ENDS_IT = re.compile(r"<\s?(?:mailto:)?[^\s<>@]{1,64}@[^\s<>]{1,253}\s?>+$")
_BEGINS_WITH_DATE = re.compile(r"^\W{0,3}(?:\w{1,12}[.,]{0,2}\s){0,3}\d")
#: "On Tuesday, November 21, Ana wrote:": a day among commas, without a year.
_DAY = re.compile(r",[^,]{0,30}\b\d{1,2}\b\.?[^,]{0,20},")
_COLON_ENDS_IT = re.compile(r"[:：]\W{0,2}$")
_SCRIPTS = _words(
    r"""
    写道 | 寫道 | 写到 | 님이 작성(?:하였습니다|함)? | 님의 말 | 작성 | のメッセージ | さんは書きました
    が書きました | のメール | さんからのメール
    """
)
_ENDS_IN_SCRIPT = re.compile(rf"(?:{_SCRIPTS})\s?[:：]?$")
_SENTENCE = re.compile(r"[.!?…。！？]$")

#: What stands between two rows of dashes above an unmarked copy.
_ORIGINAL = _words(
    r"""
    original[- ](?:message|mail|e-mail|text) | original | reply message | message d'origine | message original
    forwarded (?:message|mail|by\b.{0,80}) | forwarded message by .{0,80} | forward(?:ed)? | replied message
    (?:ursprüngliche|originale?|weitergeleitete) (?:nachricht|e-?mail|message) | ursprungligt (?:meddelande|brev)
    message (?:d.origine|original|transféré) | mensaje (?:original|reenviado) | missatge original
    mensagem (?:original|encaminhada) | messaggio (?:originale|inoltrato) | oorspronkelijk(?:e)? (?:bericht|e-mail)
    doorgestuurd bericht | oprindelig (?:meddelelse|besked|mail) | opprinnelig (?:melding|e-post)
    videresendt (?:meddelelse|melding|besked) | original meddelelse | vidarebefordrat (?:meddelande|brev)
    original meddelande | alkuperäinen viesti | välitetty viesti | původní (?:zpráva|e-mail) | pôvodná správa
    wiadomość oryginalna | oryginalna wiadomość | przekazana wiadomość | wiadomość przekazana | eredeti üzenet
    mesaj(?:ul)? original | исходное сообщение | пересылаемое сообщение | оригинальное сообщение
    переадресованное сообщение | початкове повідомлення | оригинално съобщение | αρχικό μήνυμα | orijinal ileti
    özgün ileti | asıl mesaj | הודעה מקורית | ההודעה המקורית | الرسالة الأصلية | thư gốc | pesan asli | ข้อความเดิม
    原始邮件 | 原始郵件 | 原邮件 | 转发的邮件 | 轉寄郵件 | 回复的原邮件 | 元のメッセージ | 転送メッセージ
    원본 메시지 | 원본 메일 | 전달된 메시지 | मूल संदेश
    """
)
_SEPARATOR = re.compile(rf"^\W{{0,3}}[-_=*~—–]{{2,}}\s*(?:{_ORIGINAL})\s*:?\s*[-_=*~—–]{{2,}}\W{{0,3}}$", re.I)
_FORWARDED = _words(
    r"""
    begin forwarded message | anfang der weitergeleiteten (?:nachricht|e-mail) | vidarebefordrat brev
    début du message (?:transféré|réexpédié) | message du | inizio messaggio inoltrato
    начало переадресованного сообщения | inicio del mensaje reenviado | begin doorgestuurd bericht
    início da mensagem (?:reencaminhada|encaminhada) | videresendt besked | start på videresendt melding
    vidarebefordrat meddelande | välitetty viesti alkaa | początek przekazywanej wiadomości | 転送されたメッセージ
    开始转发的邮件 | 以下是转发的邮件 | 전달된 메시지
    """
)
_FORWARD = re.compile(rf"^\W{{0,3}}(?:{_FORWARDED})\s?[:：]", re.I)
#: What a help desk asks for: everything below is its own mail.
_REPLY_ABOVE = re.compile(
    r"^\W{0,12}(?:please )?(?:(?:type|write|enter|add) your (?:reply|response) above"
    r"|(?:reply|respond|write) above (?:this|the)"
    r"|do not (?:write|type|edit) below|antwort(?:en)? (?:bitte )?(?:über|oberhalb)|répondre au-dessus"
    r"|escrib[ae] (?:su respuesta )?(?:por encima|encima)|responda acima|antwoord boven)\b.{0,80}$",
    re.I,
)

#: Field names of a quoted header block: the one it begins with, and the others.
_FROM = _words(
    r"""
    from | von | de | de la | da | van | od | fra | från | frá | lähettäjä | kimden | gönderen | от | от кого
    отправитель | від | од | feladó | expéditeur | mittente | remitente | remetente | absender | afzender
    avsändare | από | מאת | من | از | प्रेषक | จาก | từ | dari | saatja | no | nuo | siuntėjas | šalje | nork
    发件人 | 发送者 | 寄件者 | 寄件人 | 差出人 | 送信者 | 보낸\s?사람 | 발신
    """
)
_OTHER = _words(
    r"""
    sent | sent at | to | cc | bcc | subject | date | reply-to | organization | quoted | importance | attachments
    gesendet | an | betreff | datum | antwort an | kopie | envoy[ée](?: le)? | à | objet | sujet | répondre à
    copie | enviado(?: el| em| a las)? | para | asunto | assunto | fecha | data | inviato | a | oggetto | verzonden
    aan | onderwerp | sendt | til | emne | dato | kopi | skickat | till | ämne | kopia | lähetetty | vastaanottaja
    aihe | päiväys | päivämäärä | odesláno | odoslané | komu | předmět | predmet | wysłano | do | temat | dw
    elküldve | küldve | címzett | tárgy | dátum | trimis | către | subiect | poslano | za | zadeva | naslov
    отправлено | кому | тема | дата | копия | надіслано | копія | изпратено | до | относно | στάλθηκε | εστάλη
    προς | θέμα | ημερομηνία | gönderildi | gönderilme | gönderme tarihi | tarih | kime | konu | bilgi | נשלח | אל
    נושא | תאריך | أرسلت | تاريخ | إلى | الموضوع | التاريخ | भेजा गया | प्रति | विषय | दिनांक | ส่ง | ถึง | เรื่อง
    วันที่ | đã gửi | đến | chủ đề | ngày | dikirim | kepada | perihal | subjek | tanggal | 发送时间 | 发送日期
    收件人 | 抄送 | 主题 | 日期 | 寄件日期 | 傳送時間 | 收件者 | 副本 | 主旨 | 送信日時 | 日時 | 日付 | 宛先 | 件名
    보낸\s?날짜 | 보낸\s?시간 | 날짜 | 받는\s?사람 | 참조 | 제목
    """
)
_MARKS = r"[\s*_>\u200e\u200f]{0,8}"
_BLOCK_FROM = re.compile(rf"^{_MARKS}(?:{_FROM})\s?[*_]{{0,2}}\s?[:：]\s?[*_]{{0,2}}\s?\S", re.I)
_BLOCK_ANY = re.compile(rf"^{_MARKS}(?:{_FROM}|{_OTHER})\s?[*_]{{0,2}}\s?[:：]", re.I)
#: A field of a header in whatever language.
_FIELD = re.compile(rf"^{_MARKS}[^\W\d][^\d:：@<>]{{0,24}}[:：]\s?[*_]{{0,2}}\s?\S")
_RULE = re.compile(r"^\s*(?:[_=*~-]{10,}|[—–―─]{5,})\s*$")

#: So many lines may an introduction, or a header block, be wrapped to.
_SPAN, _BLOCK = 5, 9


def introduction(lines: list[str], at: int, quoted: Callable[[str], bool]) -> int:
    """How many lines, from `at`, introduce a quotation; 0 if none do.

    Args:
        quoted: Whether a line bears a mark of quotation.
    """
    if not lines[at].strip():
        return 0
    joined = ""
    for end in range(at + 1, min(at + _SPAN, len(lines)) + 1):
        part = lines[end - 1].strip()
        if quoted(lines[end - 1]) or (not part and not _goes_on_below(joined, lines, end)):
            return 0
        joined = f"{joined} {part}".strip()
        if len(joined) > 600 or (end == at + 2 and not _may_begin(joined, lines[at])):
            return 0
        if _introduces(joined, marked=marked_after(lines, end, quoted)):
            end += _is_verb_alone(lines, end)
            return 0 if end > at + 1 and _is_enough(lines, at + 1, end) else end - at
    return 0


def _is_verb_alone(lines: list[str], at: int) -> bool:
    """Whether the line below an address is the end of its introduction: "wrote:", in whatever language."""
    line = lines[at].strip() if at < len(lines) else ""
    is_end = len(line) <= 30 and bool(_COLON_ENDS_IT.search(line) or _ENDS_IN_WROTE.search(line))
    return is_end and not _COLON_ENDS_IT.search(lines[at - 1])


def marked_after(lines: list[str], at: int, quoted: Callable[[str], bool]) -> bool:
    """Whether the next line that says something is marked as quoted."""
    return quoted(next((line for line in lines[at : at + 12] if line.strip()), ""))


def is_doubtful_above(line: str, introduced: list[str]) -> bool:
    """Whether `line`, right above an introduction, may be the first piece of it: that has no date, and it has one."""
    return not _CALENDAR.search(" ".join(introduced)) and any(map(str.isdigit, line)) and not _SENTENCE.search(line)


def _goes_on_below(joined: str, lines: list[str], end: int) -> bool:
    """Whether an empty line stands within an introduction: its date above, an address in brackets below."""
    following = lines[end].strip() if end < len(lines) else ""
    return following.startswith("<") and bool(_CALENDAR.search(joined) and _TIME.search(joined))


def _may_begin(joined: str, first: str) -> bool:
    """Whether the first of several lines looks like the beginning of an introduction and not like somebody's words."""
    if _SENTENCE.search(first.strip()) and not _CALENDAR.search(first):
        return False
    digits = any(map(str.isdigit, first))
    return bool((_BEGINS_WITH_ON.match(joined) and digits) or _CALENDAR.search(first) or _ADDRESS.search(first)) or (
        digits and bool(_BEGINS_WITH_DATE.match(first))
    )


def _is_enough(lines: list[str], begin: int, end: int) -> bool:
    """Whether a whole introduction begins further down, so that the lines above it are somebody's words."""
    for at in range(begin, end):
        joined = " ".join(line.strip() for line in lines[at:end]).strip()
        dated = _CALENDAR.search(joined) and (_TIME.search(joined) or _ANGLED.search(f"{joined} "))
        is_all = dated or not _CALENDAR.search(" ".join(lines[begin - 1 : at]))
        if is_all and _introduces(joined, marked=True):
            return not _is_cut_short(lines[at - 1].strip())
    return False


#: Hardly a program wraps lines of an introduction to less than this.
_WRAPPED_AT = 50


def _is_cut_short(line: str) -> bool:
    """Whether a line above the date looks like the first piece of an introduction: "On Saturday, November 21,"."""
    unfinished = line.endswith((",", "،", "、")) or len(line) >= _WRAPPED_AT
    return unfinished and bool(_BEGINS_WITH_ON.match(line)) and any(map(str.isdigit, line))


def _introduces(line: str, *, marked: bool) -> bool:
    """Whether a line, made one of several, introduces a quotation."""
    addressed, on = bool(_ADDRESS.search(line)), bool(_BEGINS_WITH_ON.match(line))
    calendar, clock = bool(_CALENDAR.search(line)), bool(_TIME.search(line))
    dated, colon = calendar or clock, bool(_COLON_ENDS_IT.search(line))
    if _ENDS_IN_SCRIPT.search(line):
        return dated or addressed or marked
    if _ENDS_IN_WROTE.search(line) or (dated and _NAMED_AFTER.search(line)):
        is_dated = dated and (addressed or on or (calendar and clock))
        return is_dated or (on and colon and bool(_DAY.search(line))) or ((addressed or colon) and marked)
    angled = bool(_ANGLED.search(f"{line} "))
    if not colon:
        ends = calendar and bool(_ADDRESS_ENDS_IT.search(line)) and len(line) < 200
        return ends and (bool(_BEGINS_WITH_DATE.match(line)) or marked)
    if angled:
        return dated or marked
    return calendar and clock and (marked or (addressed and (on or bool(_BEGINS_WITH_DATE.match(line)))))


def block_begins(lines: list[str], at: int) -> bool:
    """Whether everything from here is an unmarked copy of an older mail."""
    line = lines[at]
    if _SEPARATOR.match(line) or _FORWARD.match(line) or _REPLY_ABOVE.match(line):
        return True
    if _RULE.match(line):
        following = next((below for below in range(at + 1, min(at + 4, len(lines))) if lines[below].strip()), at)
        return bool(_BLOCK_ANY.match(lines[following])) or (following > at and _is_header(lines, following))
    if _begins_a_line_of_header(line):
        return True
    others = [each for each in lines[at + 1 : at + _BLOCK] if each.strip()]
    if not _BLOCK_FROM.match(line):
        named = sum(bool(_BLOCK_ANY.match(each)) for each in others[:4])
        return bool(_BLOCK_ANY.match(line)) and named >= 2 and any(map(_BLOCK_FROM.match, others[:3]))
    return sum(bool(_BLOCK_ANY.match(each)) for each in others[:5]) >= 2 or bool(
        _ADDRESS.search(line) and others and _BLOCK_ANY.match(others[0])
    )


_HEADER_IN_A_LINE = re.compile(r"^\W{0,4}From:\s.{1,200}\s(?:Sent|Date):\s.{1,120}\sTo:\s", re.I)


def _begins_a_line_of_header(line: str) -> bool:
    """Whether a whole header block stands on one line, as some programs leave it."""
    return bool(_HEADER_IN_A_LINE.match(line[:600]))


def _is_header(lines: list[str], at: int) -> bool:
    """Whether a header block of whatever language stands here: fields on end, an address among them and a date."""
    fields = []
    for line in lines[at : at + _BLOCK]:
        if not _FIELD.match(line):
            break
        fields.append(line)
    values = " ".join(fields)
    return len(fields) >= 3 and bool(_ADDRESS.search(values) and (_CALENDAR.search(values) or _TIME.search(values)))
