"""What automata write: how their subjects begin, and what bounces and absences say, by language. Data alone.

`automatic` holds the rules that ask it.
"""

from __future__ import annotations

import re

from panicmail.incident.classify import MailKind

#: How the subjects of automata begin, by what they show. Case does not matter; nothing may stand before them.
SUBJECTS: dict[MailKind, tuple[str, ...]] = {
    MailKind.BOUNCE: (
        "undelivered mail returned",
        "undeliverable",
        "mail delivery fail",
        "mail delivery system",
        "delivery status notification",
        "delivery failure",
        "delivery failed",
        "delivery notification",
        "delivery report",
        "delivery has failed",
        "delayed mail",
        "returned mail",
        "returned to sender",
        "failure notice",
        "failed mail",
        "mail system error",
        "message delivery has been delayed",
        "non delivery",
        "non-delivery",
        "nondeliverable",
        "warning: could not send message",
        "warning: message delayed",
        "could not deliver",
        "unzustellbar",
        "nicht zustellbar",
        "non remis",
        "échec de la remise",
        "complaint about message",
        "no se puede entregar",
        "non recapitabile",
        "onbestelbaar",
        "не удается доставить",
        "недоставленное сообщение",
        "配信不能",
        "配信不可",
        "退信",
        "undelivered",
        "message undeliverable",
        "mail undeliverable",
        "message not delivered",
        "mail could not be delivered",
        "message could not be delivered",
        "unable to deliver",
        "delivery problem",
        "mail delivery problem",
        "mail delivery error",
        "email delivery fail",
        "delivery incomplete",
        "delivery delayed",
        "delivery delay",
        "delayed delivery",
        "mail returned",
        "message returned",
        "zustellung fehlgeschlagen",
        "zustellungsfehler",
        "verzögerte zustellung",
        "non distribué",
        "message non délivré",
        "no entregado",
        "mancata consegna",
        "mislukte bezorging",
        "kan inte levereras",
        "kan ikke leveres",
        "nie można dostarczyć",
        "nedoručitelné",
        "teslim edilemedi",
        "配送エラー",
        "送信エラー",
        "无法投递",
        "未送达",
        "전송 실패",
        "배달 실패",
    ),
    MailKind.MDN: (
        "read:",
        "not read:",
        "read receipt",
        "return receipt",
        "gelesen:",
        "ungelesen gelöscht:",
        "lesebestätigung",
        "lu :",
        "lu:",
        "accusé de réception",
        "leído:",
        "letto:",
        "gelezen:",
        "прочитано:",
        "przeczytane:",
        "開封済み",
        "已读:",
    ),
    MailKind.CALENDAR: (
        "accepted:",
        "declined:",
        "tentative:",
        "tentatively accepted:",
        "new time proposed:",
        "zugesagt:",
        "abgesagt:",
        "abgelehnt:",
        "mit vorbehalt:",
        "accepté :",
        "refusé :",
        "provisoire :",
        "aceptada:",
        "rechazada:",
        "accettato:",
        "rifiutato:",
        "geaccepteerd:",
        "geweigerd:",
    ),
    MailKind.OOO: (
        "out of office",
        "out of the office",
        "out-of-office",
        "ooo:",
        "automatic reply",
        "auto reply",
        "auto-reply",
        "autoreply",
        "auto response",
        "auto-response",
        "autoresponse",
        "away from my mail",
        "vacation",
        "on vacation",
        "abwesenheit",
        "automatische antwort",
        "abwesend",
        "réponse automatique",
        "absence du bureau",
        "absent du bureau",
        "message d'absence",
        "respuesta automática",
        "fuera de la oficina",
        "ausente de la oficina",
        "risposta automatica",
        "non al computer",
        "fuori sede",
        "fuori ufficio",
        "resposta automática",
        "fora do escritório",
        "automatisch antwoord",
        "niet aanwezig",
        "afwezig",
        "autosvar",
        "automatisk svar",
        "automatiskt svar",
        "frånvaro",
        "ej på kontoret",
        "fravær",
        "ikke til stede",
        "automaattinen vastaus",
        "poissa",
        "odpowiedź automatyczna",
        "automatická odpověď",
        "automatikus válasz",
        "răspuns automat",
        "автоответ",
        "автоматический ответ",
        "автоматична відповідь",
        "αυτόματη απάντηση",
        "otomatik yanıt",
        "ofis dışında",
        "מענה אוטומטי",
        "תשובה אוטומטית",
        "رد تلقائي",
        "自動応答",
        "自動返信",
        "不在通知",
        "自动回复",
        "自動回覆",
        "자동 응답",
        "자동 회신",
        "부재 중",
        "स्वचालित उत्तर",
        "स्वतः उत्तर",
        "automatski odgovor",
        "samodejni odgovor",
        "automatická odpoveď",
        "автоматичен отговор",
        "trả lời tự động",
        "balasan otomatis",
        "ตอบกลับอัตโนมัติ",
        "automaatvastus",
        "automatinis atsakymas",
        "automātiska atbilde",
        "resposta automàtica",
        "házon kívül",
        "afwezigheid",
        "ausencia",
        "ausência",
        "absence",
        "nicht im büro",
        "fraværsmelding",
        "fraværsbesked",
        "poissaolo",
        "nieobecność",
        "mimo kancelář",
        "mimo kanceláriu",
        "izvan ureda",
        "on leave",
        "on holiday",
        "out of town",
    ),
    MailKind.AUTO_REPLY: (
        "auto:",
        "autorespond",
        "[auto]",
        "[auto-reply]",
        "ticket received",
        "[ticket received",
        "request received",
        "[request received",
        "we have received your",
        "we received your",
        "your ticket",
        "thank you for contacting",
        "thank you for your",
        "please confirm your",
        "confirm your message",
        "your message is awaiting",
        "your email requires verification",
        "sender verification",
        "[boxbe]",
    ),
}

#: Beginnings that name an automatic answer, where they stand as a label. A ticket desk's and a challenge's as well.
ANSWERS_BEGIN = (
    *SUBJECTS[MailKind.OOO],
    *("out of office autoreply", "[auto-reply]", "autorespond", "ticket received", "[ticket received"),
    *("request received", "[request received", "thank you for contacting", "please confirm your message"),
)

#: How the text of a bounce begins where no header says so: qmail, Exim, sendmail, Postfix, Exchange, and others.
TEXTS = (
    "hi. this is the qmail-send program",
    "hi. this is the",
    "this message was created automatically by mail delivery software",
    "this message was created automatically by",
    "this is the mail system at host",
    "this is a delivery status notification",
    "this is an automatically generated delivery status notification",
    "the original message was received at",
    "your message did not reach some or all of the intended recipients",
    "delivery has failed to these recipients",
    "delivery to the following recipient",
    "the following message to <",
    "your message to <",
    "i'm sorry to have to inform you that",
    "the message that you sent was undeliverable",
    "your message could not be delivered",
    "your mail could not be delivered",
    "sorry, we were unable to deliver your message",
    "we were unable to deliver your message",
    "unable to deliver message to",
    "message could not be delivered to",
    "the following address(es) failed",
    "the following addresses had permanent",
    "this is an email abuse report",
    "this report relates to a message you sent",
    "----- the following addresses had",
)
#: What a report of failure says somewhere near its beginning, in the languages such reports are written in.
FAILURE = re.compile(
    r"(?:could|can|did|was|were|has|have|is|will)(?: not|n't|not)(?: yet)?(?: be| been)? (?:\w{1,20} ){0,3}?"
    r"(?:deliver|reach|receiv|sent\b|complet)|(?:deliver\w{0,12}|transmission|message|mail) (?:\w{1,20} ){0,4}?fail"
    r"|undeliver\w{0,12}"
    r"|(?:unable|failed|not possible|impossible) to (?:\w{1,20} )?(?:deliver|send|relay|reach)"
    r"|permanent (?:fatal )?error"
    r"|(?:returned|bounced) (?:\w{1,20} ){0,4}?(?:sender|message|mail|to you)|transcript of session|returned mail"
    r"|non-?delivery"
    r"|(?:error|problem)s? (?:\w{1,20} ){0,3}?(?:while|when|in|during) (?:\w{1,20} ){0,3}?(?:send|deliver)"
    r"|no such (?:user|recipient)"
    r"|(?:user|recipient|address|mailbox|account|host)s? (?:\w{1,20} ){0,3}?(?:unknown|not found|not exist"
    r"|disabled|invalid|full)"
    r"|unknown (?:user|recipient|local|address|host)|over ?quota|quota (?:is )?exceeded"
    r"|mailbox (?:is )?(?:full|unavailable)"
    r"|(?:message|mail|delivery) (?:\w{1,20} ){0,4}?(?:delayed|deferred|rejected|refused|blocked|expired)"
    r"|delivery status"
    r"|unzustellbar|nicht (?:\w{1,20} ){0,3}?(?:zugestellt|zustellbar|übermittelt)|(?:pas"
    r"|non) (?:\w{1,20} ){0,3}?(?:remis|délivré|distribué)"
    r"|no (?:se )?(?:\w{1,20} ){0,3}?(?:entreg|enviad)|non (?:\w{1,20} ){0,4}?(?:consegna|recapita)"
    r"|não (?:\w{1,20} ){0,3}?entreg"
    r"|niet (?:\w{1,20} ){0,3}?(?:bezorgd|afgeleverd)|не (?:\w{1,20} ){0,4}?(?:доставлен|удалось доставить)"
    r"|недоставлен"
    r"|nie (?:\w{1,20} ){0,3}?dostarczon|(?:配信|送信|配送|お届け)(?:でき|は?失敗|エラー|不能|不可|が完了しません)"
    r"|宛先不明|見つかりません"
    r"|退信|无法(?:投递|送达|发送)|無法(?:傳送|送達|投遞)|(?:전송|배달|전달)(?:할 수 없|되지|에 실패)",
    re.I,
)
SMTP_CODE = re.compile(
    r"(?<![\d.])(?:[45]\d\d[ -]#?)?[45]\.\d{1,2}\.\d{1,3}(?![\d.])|(?<![\d.])(?:55[0-9]|45[0-2]|421|571)[ -]\S"
)
#: Fields of the mail that is given back.
RETURNED = re.compile(r"^[ \t>]{0,4}(received: |message-id: ?<|return-path: |x-mailer: |mime-version: )", re.M | re.I)
#: What out-of-office texts say of themselves, used to tell absence from other automatic answers, never alone.
AWAY = re.compile(
    r"\b(?:out of (?:the |my )?office|out[- ]of[- ]office|(?:i am|i'm|i will be|am) (?:currently "
    r"|now )?(?:away|out|on "
    r"(?:vacation|leave|holidays?|pto|annual|parental|maternity|paternity|sick))|on (?:vacation|annual leave"
    r"|leave until"
    r"|parental leave|holidays?)|limited access to (?:my )?e?-?mails?|returning to the office|back in the office"
    r"|abwesend|nicht (?:im|in meinem|in meiner) (?:büro|haus)|außer haus|urlaub|elternzeit|dienstreise"
    r"|nicht erreichbar"
    r"|absent|absence|en congés?|hors du bureau|en vacances|fuera de la oficina|vacaciones|ausente|de baja"
    r"|fuori (?:sede|ufficio)|in ferie|assente|fora do escritório|férias|ausente|afwezig|niet aanwezig|met vakantie"
    r"|met verlof|på kontoret|semester|föräldraledig|tjänstledig|frånvarande|på ferie|fraværende"
    r"|ikke til stede|lomalla"
    r"|poissa|en ole paikalla|urlop\w{0,12}|poza biurem|nieobecn\w{0,12}|mimo kancelář|dovolen\w{0,12}"
    r"|nepřítom\w{0,12}|neprítomn\w{0,12}"
    r"|szabadság\w{0,12}|távol|nem vagyok|concediu|în afara biroului|godišnj\w{0,12} odmor|na dopustu"
    r"|ofis dışı\w{0,12}|izinde\w{0,12}"
    r"|yıllık izin|ofiste (?:değil|olmayacağım)|nghỉ phép|vắng mặt|cuti|luar kantor)"
    r"|отпуск|в офисе|отсутств|не на месте|відпуст|відсутн|извън офиса|отпуска|εκτός γραφείου|άδεια|απουσ"
    r"|מחוץ למשרד|בחופשה|לא במשרד|نعد|خارج المكتب|إجازة|कार्यालय से बाहर|छुट्टी|अवकाश|ลาพักร้อน|ไม่อยู่"
    r"|不在|休暇|休假|外出|出張|休み|度假|放假|休假|出差|不在办公室|부재|휴가|출장|자리를 비",
    re.I,
)
#: What such a text says beside that: thanks for the mail, whom to ask, when they are back. Three of the four make one.
AWAY_SAYS = (
    AWAY,
    re.compile(
        r"thank you for your (?:e-?mail|message|mail)|vielen dank für ihre|merci (?:de|pour) votre|gracias por su"
        r"|grazie per (?:la|il)|obrigado pel[ao]|bedankt voor|tack för ditt|kiitos viest|dziękuję za|спасибо за ваше",
        re.I,
    ),
    re.compile(
        r"(?:urgent|immediate|emergency|urgency)|dringend|en cas d'urgence|urgente|urgenza|urgência|dringende"
        r"|brådskande"
        r"|haste|kiireelli|piln\w{0,12}|сроч|緊急|紧急|급한",
        re.I,
    ),
    re.compile(
        r"(?:return|back|respond|reply to (?:your|all)) (?:\w{1,20} ){0,4}?(?:on|until|when|upon|by|as soon)|until \w"
        r"|bis (?:zum|einschließlich|\d)|zurück|de retour|jusqu'au|hasta el|regres|fino al|rientr"
        r"|até (?:o dia|\d)|retorn"
        r"|terug|tillbaka|tilbake|tilbage|palaan|wracam|powrot|вернусь|戻り|回来|돌아",
        re.I,
    ),
)

#: What tells a bounce from other mail of a postmaster or a null sender.
FAILED = re.compile(
    r"undeliver|not (?:be )?deliver|delivery|delayed|returned|bounce|(?:user|address|recipient) (?:unknown|invalid)"
    r"|(?:no such|unknown|invalid) (?:user|address|recipient)|mailbox (?:is )?(?:full|unavailable)|over quota"
    r"|\b[45]\d\d[ -]#?[45]\.\d{1,3}\.\d{1,3}\b|\b55\d\b",
    re.I,
)
#: What automatic answers say of themselves.
AUTOMATIC = re.compile(
    r"automatic(?:ally)?\b|auto-?(?:reply|respon)|automatisch|automatique|automátic|automatic[ao]|automatyczn|автомат"
    r"|自動|自动|자동|do not reply|has been received|we (?:have )?received your|your (?:ticket|request|case"
    r"|message) (?:\w{1,20} )?(?:#|id|no)",
    re.I,
)
WAS_READ = re.compile(
    r"was (?:read|displayed|opened|deleted)|(?:has been|been) (?:read|displayed)"
    r"|wurde (?:\w{1,20} ){0,3}?(?:gelesen|geöffnet|angezeigt)"
    r"|a été (?:lu|affiché)|ha sido (?:leíd|mostrad)|è stat[oa] (?:lett|visualizzat)|foi (?:lid|exibid)"
    r"|is (?:gelezen|weergegeven)",
    re.I,
)
