"""Answers that are no yes, made from pieces: a yes in one language, and behind it what takes it back in any other.

The pieces are as people type at night. Every answer has a yes in it, so that each shows a rule at work; none of them
would be meant as one by whoever sent it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: A yes by itself, in each language.
YES = (
    "ack", "on it", "got it", "ok", "yes", "taking it", "I'm looking", "👍", "will do", "mine",
    "bin dran", "ja", "ich kümmere mich", "übernehme ich", "je m'en occupe", "oui", "je regarde", "me encargo", "sí",
    "lo miro", "ci penso io", "sì", "me ne occupo", "ik pak het op", "ik kijk ernaar", "jag tar det", "kollar nu",
    "biorę to", "zajmę się tym", "patrzę", "deixa comigo", "sim", "vou ver", "jeg tar den", "jeg ser på det",
    "jeg tager den", "jeg kigger på det", "beru to", "ano", "bakıyorum", "evet", "беру", "займаюся", "да", "смотрю",
    "ναι", "το αναλαμβάνω", "igen", "intézem", "はい", "対応します", "确认", "我来处理", "確認", "네", "확인했습니다",
    "نعم", "تم", "כן", "אני על זה", "हाँ", "ठीक है",
)  # fmt: skip

#: What asks, about whatever: with a mark of its script, or by its words.
ASKS = (
    "is this real?", "or am I not?", "or is Bo?", "should I?", "really?", "who else is there?", "is it mine?",
    "do I have to?", "does that count?", "isn't it somebody else's turn?", "you sure?", "right?", "ok??", "huh?",
    "oder?", "oder doch nicht?", "bin ich überhaupt dran?", "muss das ich machen?", "ist das echt?", "sicher?",
    "ou pas ?", "c'est bien moi ?", "c'est à moi de le faire ?", "vraiment ?", "non ?", "¿o no?", "¿me toca a mí?",
    "¿seguro?", "es mi turno?", "o no?", "tocca a me?", "sicuro?", "o tocca a un altro?", "of niet?",
    "moet ik dat doen?",
    "ben ik aan de beurt?", "echt?", "eller?", "är det min tur?", "ska jag verkligen det?", "czy to ja?",
    "czy na pewno?", "a może nie?", "ou não?", "sou eu mesmo?", "é comigo?", "er det min tur?", "er det mig?",
    "nebo ne?", "jsem na řadě?", "sıra bende mi?", "yoksa değil mi?", "чи ні?", "це моя зміна?", "или нет?",
    "это точно мне?", "ή όχι;", "είναι η σειρά μου;", "εγώ;", "vagy nem?", "biztos?", "én vagyok soron?", "ですか？",
    "私の番ですか？", "本当に？", "是我吗？", "真的嗎？", "确定？", "제 차례인가요?", "정말요?", "هل هذا دوري؟",
    "أم لا؟", "זה התור שלי?", "או שלא?", "क्या मेरी बारी है?", "सच में?", "❓", "⁉", "‽", "Դա ես եմ՞", "ነው፧",
)  # fmt: skip

#: What doubts, or makes a condition.
DOUBTS = (
    "maybe", "perhaps", "not sure though", "I think", "I guess", "hopefully", "probably",
    "might need help to get there",
    "unless somebody else already did", "if nobody else can", "only if I find my laptop", "no idea if I can",
    "we'll see", "hmm…", "I am not certain it is for me", "in case Bo does not answer", "I doubt it though",
    "vielleicht", "glaube ich", "wenn sonst keiner kann", "falls keiner schneller ist", "mal sehen",
    "bin mir nicht sicher",
    "eventuell", "wahrscheinlich", "hoffentlich", "peut-être", "je crois", "si personne d'autre ne peut",
    "je ne suis pas sûr", "on verra", "sans doute", "quizás", "tal vez", "creo", "si nadie más puede",
    "no estoy seguro",
    "a ver", "a lo mejor", "forse", "credo", "se nessun altro può", "non sono sicuro", "vediamo", "magari",
    "misschien", "denk ik", "als niemand anders kan", "ik weet het niet zeker", "hopelijk", "kanske", "tror jag",
    "om ingen annan kan", "är inte säker", "förmodligen", "może", "chyba", "jeśli nikt inny nie może",
    "nie jestem pewien",
    "zobaczymy", "być może", "talvez", "acho eu", "se mais ninguém puder", "não tenho certeza", "vamos ver",
    "se calhar",
    "kanskje", "hvis ingen andre kan", "måske", "tror jeg", "hvis ingen anden kan", "možná", "asi", "pokud nikdo jiný",
    "belki", "galiba", "emin değilim", "можливо", "мабуть", "якщо ніхто не може", "може бути", "наверное", "возможно",
    "если никто не может", "не уверен", "ίσως", "μάλλον", "αν δεν μπορεί άλλος", "talán", "ha más nem tudja",
    "nem biztos",
    "たぶん", "多分", "もし誰もいなければ", "かもしれません", "也许", "可能", "如果没有人", "不确定", "或許", "아마",
    "아무도 없으면", "글쎄요", "ربما", "إذا لم يستطع أحد", "لست متأكدا", "אולי", "אם אף אחד לא יכול", "לא בטוח",
    "शायद", "अगर कोई और नहीं", "पक्का नहीं", "🤔", "🤷", "¯\\_(ツ)_/¯",
)  # fmt: skip

#: What refuses, or puts it off.
REFUSES = (
    "no wait, I can't", "sorry, cannot", "actually no", "forget it", "scratch that", "not me", "tomorrow", "later",
    "in two hours", "when I am home", "after lunch", "doch nicht", "nein", "kann doch nicht", "morgen", "später",
    "erst in zwei Stunden", "finalement non", "je ne peux pas", "demain", "plus tard", "al final no", "no puedo",
    "mañana", "más tarde", "anzi no", "non posso", "domani", "più tardi", "toch niet", "ik kan niet", "morgen pas",
    "nej förresten", "kan inte", "imorgon", "senare", "jednak nie", "nie mogę", "jutro", "później", "aliás não",
    "não posso", "amanhã", "mais tarde", "kan ikke", "i morgen", "senere", "nemůžu", "zítra", "později", "yapamam",
    "yarın", "sonra", "не можу", "завтра", "пізніше", "нет", "не могу", "позже", "δεν μπορώ", "αύριο", "αργότερα",
    "nem tudom", "holnap", "később", "できません", "無理です", "明日", "後で", "不行", "我不能", "明天", "稍后",
    "못 합니다",
    "내일", "나중에", "لا أستطيع", "غدا", "لاحقا", "לא יכול", "מחר", "אחר כך", "नहीं", "कल", "बाद में",
)  # fmt: skip

#: Who else has it.
ELSE = (
    "Bo has it", "Max is on it", "someone else please", "my colleague takes it", "ask Bo", "call Max", "Bo übernimmt",
    "Max macht das", "jemand anders bitte", "Bo s'en occupe", "quelqu'un d'autre", "lo lleva Bo", "otra persona",
    "se ne occupa Bo", "qualcun altro", "Bo pakt het op", "iemand anders", "Bo tar det", "någon annan", "Bo bierze",
    "ktoś inny", "o Bo cuida", "outra pessoa", "Bo tager den", "Bo na to kouká", "Bo bakıyor", "Bo займається",
    "Bo смотрит", "το έχει ο Bo", "Bo intézi", "Boさんが対応します", "Bo 在处理", "Bo가 처리합니다", "Bo يتولى ذلك",
    "Bo מטפל", "Bo देख रहा है",
)  # fmt: skip

BEFORE = ("", "", "", "Hi, ", "Hallo,\n", "Bonjour,\n\n", "Hola, ", "Ciao, ", "Hej, ", "Cześć, ", "Olá, ", "Привет, ",
          "お疲れ様です。\n", "你好，", "Hello all,\n\n")  # fmt: skip
AFTER = ("", "", "", "\n\nAna", "\n\nAna Reyes\nExample GmbH", "\nSent from my iPhone", "\n\n--\nAna", " 🙏",
         "\nVG Ana",
         "\n\nThanks,\nAna", "\n\nsorry")  # fmt: skip
#: Between a yes and what takes it back: in one sentence, in the next one, in the next line.
JOINTS = (
    ", ",
    " ",
    ". ",
    "! ",
    "\n",
    " - ",
    " … ",
    "... ",
    ".\n",
    "; ",
    " (",
    ": ",
    "。",
    "! and ",
    ". but ",
    ". Also ",
)

#: What stands around a yes that is not the writer's, or none.
AROUND: tuple[Callable[[str], str], ...] = (
    "{}?".format, "{} ?".format, "{}؟".format, "{}？".format, "{}⁇".format, "{} ❓".format, "¿{}".format,
    "> {}".format, ">> {}".format, "| {}".format, "＞ {}".format, "~~{}~~".format,
    "{} or not".format, "not {}".format, "Bo: {}".format, "Max says {}".format, "did you say {}".format,
    'reply "{}" if so'.format, "should it say {}".format, "what does {} mean".format, "{}, she said".format,
    lambda yes: "".join(f"{sign}\u0336" for sign in yes),
    lambda yes: f"On Mon, 30 Nov 2026 at 02:11, Bo Low <bo@example.com> wrote:\n> {yes}",
    lambda yes: f"-----Original Message-----\nFrom: Bo Low <bo@example.com>\n\n{yes}",
    lambda yes: f"Von: Bo Low <bo@example.com>\nGesendet: Montag, 30. November 2026 02:11\nAn: Ana\n\n{yes}",
    lambda yes: f"---------- Forwarded message ---------\nFrom: Bo Low <bo@example.com>\nDate: Mon\n\n{yes}",
    lambda yes: f"Le lun. 30 nov. 2026 à 02:11, Bo Low <bo@example.com> a écrit :\n\n{yes}",
)  # fmt: skip


def non_answers(number: int, seed: int) -> list[str]:
    """So many answers, the same for the same seed."""
    draw = random.Random(seed)
    against = (ASKS, DOUBTS, REFUSES, ELSE)
    made = []
    for _ in range(number):
        yes = draw.choice(YES)
        yes = draw.choice((yes, yes, yes.capitalize(), yes.upper(), f"{yes} {draw.choice(('🙂', '👀', 'now'))}"))
        if draw.random() < 0.2:
            said = draw.choice(AROUND)(yes)
            made.append(said if said.startswith((">", "|", "＞")) else draw.choice(BEFORE) + said)
            continue
        back = draw.choice(draw.choice(against))
        back = draw.choice((back, back, back.capitalize(), f"{back}."))
        if draw.random() < 0.2:
            back += draw.choice(JOINTS[2:]) + draw.choice(("thanks", "sorry", "give me a minute", "the laptop is old"))
        made.append(draw.choice(BEFORE) + yes + draw.choice(JOINTS) + back + draw.choice(AFTER))
    return made
