"""What a first line means, and that nothing else stops a clock.

The sentences are generated: names that are also words of yes, what may be said of somebody, in the languages people
mix. Each test that no yes is read names why a person would not have meant one.
"""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident import reply_commands
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_commands.lexicon import Kind, Language, Lexicon, Sign, lexicon
from tests.examples import examples
from tests.phrase_texts import every, texts

#: What stops the clock.
CLAIMS = {Command.YES, Command.TAKE, Command.YES_ALL}
ANA = Person(id="ana", name="Ana Reyes", email="ana@example.com", aliases=("reyes.a@example.com",))
#: Colleagues whose names are words of the grammar, or of another script, or small words.
CALLED = (
    "Mine Yılmaz", "Will Ng", "Ok Soo-jin", "Sure Kaya", "Jan Gut", "Roger Bin", "Bo Low", "Max Ode", "Yes Nagy",
    "Copy Tran", "Take Sato", "Klara Klar", "Oui Diop", "Si Mon", "Prima Vos", "On Lee", "My Tran", "Can Öz", "No Hae",
    "Ack Erman", "Im Soo", "O'Brien Kit", "田中太郎", "Ольга Ким", "Jürgen Groß", "Da Silva", "Passt Auf",
)  # fmt: skip
COLLEAGUES = [Person(id=f"p{at}", name=name, email=f"p{at}@example.com") for at, name in enumerate(CALLED)]
KNOWN = reply_commands.names([ANA, *COLLEAGUES], "ana", "Rita Lopez", "7KQ2")
#: An office with ordinary names.
OFFICE = reply_commands.names(
    [ANA, *(p for p in COLLEAGUES if p.name in {"Bo Low", "Max Ode"})], "ana", "Rita Lopez", "7KQ2"
)

#: A yes of each language.
YES = (
    "ack", "on it", "got it", "OK", "yes", "Acknowledged", "looking", "looking into it", "taking this", "I'll take it",
    "will do", "👍", "bin dran", "übernehme ich", "je m'en occupe", "d'accord", "me encargo", "recibido",
    "ci penso io", "ik pak het op", "了解しました", "はい",
)  # fmt: skip
#: What goes on in a second phrase.
AND = (
    "", ", thanks", ", on my way", " - will report back", ", calling them", ", 20 min", " now", ", melde mich gleich",
    ", j'arrive", "、対応します", ", calling Rita", ", be there in 10 min", " :)", " 🙏", "!", " …", ", Ana",
)  # fmt: skip
BEFORE = ("", "Hi all, ", "Hello Max, ", "No problem, ", "Sorry, ", "Moin, ", "Bonjour, ", "Good morning. ", "7KQ2: ")


# -- yes


@pytest.mark.parametrize("yes", YES)
def test_a_yes_with_what_the_grammar_lets_stand_beside_it_is_one_in_every_language(yes: str) -> None:
    unread = [
        line
        for before, after in product(BEFORE, AND)
        if reply_commands.read(line := before + yes + after, OFFICE).meaning not in CLAIMS
        and not (yes in {"yes", "OK", "will do", "d'accord", "はい", "👍"} and after == " now")
    ]
    assert unread == []


@pytest.mark.parametrize(
    "line",
    ["ACK", "Ack.", "*ack*", '"ack"', "(ack)", "ＡＣＫ", "a\u200bck", "\u202aack\u202c", "ack!!", "ACK ACK", "O.K.",
     "I’ve got it", "I`m on it", "im on it", "ack 7KQ2", "Ack #7kq2", "[7KQ2] ack", "👍🏽", "✅", "just woke up, on it",
     "Ana here, ack", "On it - calling her now", "Looking into the logs now", "Hi John,\n\nack", "Thanks!\nOn it",
     "acknowledged — on my way", "ok I'm here", "omw", "Ich kümmere mich drum", "Bin dran, melde mich gleich",
     "Je m’en occupe, j’arrive", "了解しました。対応します。", "No problem, on it", "uebernehme ich", "Ok,on it"],
)  # fmt: skip
def test_a_yes_is_one_however_it_is_typed(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.YES


@pytest.mark.parametrize(
    "more",
    ["Rebooting VPN now", "The server does not respond, rebooting", "VPN does not respond", "No malware found so far",
     "No idea yet what it is", "Let me know if you need anything", "What is her phone number?", "Calling Bo now",
     "Rita does not answer the phone", "He clicked the link yesterday", "I see 3 hosts", "Two laptops, one server",
     "Ana Reyes\nSecurity Engineer, Example GmbH\nTel. +49 30 123",
     "If you are not the intended recipient of this message you must not copy, use or disclose any part of it.",
     "Diese Nachricht ist vertraulich. Wenn Sie nicht der richtige Adressat sind, vernichten Sie bitte diese Mail.",
     "Wenn Sie nicht der richtige Adressat sind, informieren Sie bitte sofort den Absender und vernichten die Mail."],
)  # fmt: skip
@pytest.mark.parametrize("form", ["ack. {}", "ack\n{}", "On it!\n\n{}"])
def test_a_further_sentence_is_context(form: str, more: str) -> None:
    assert reply_commands.read(form.format(more), OFFICE).meaning is Command.YES


# -- no yes


#: What is said of somebody who has it, will, or should; and of whom it is handed to. {} is a name.
OF_SOMEBODY = (
    "{} has it", "{} has this", "{} is on it", "{} will take it", "{} takes it", "{} took it", "{} got it", "{} on it",
    "{} is looking into it", "{} handles this", "{} can take it", "{} should", "{}'s on it", "{} knows", "{} please",
    "over to {}", "to {}", "ask {}", "call {}", "gave it to {}", "forwarding to {}", "{} instead", "with {}",
    "{} and I are on it", "{} said ack", "acked by {}", "{} übernimmt", "{} hat es", "das macht {}", "geht an {}",
    "{} s'en occupe", "je passe à {}", "{} lo tiene", "paso a {}", "{} se ne occupa", "passo a {}", "{} pakt het op",
    "aan {}", "{}さんが対応します", "{}に引き継ぎます", "{} беру", "{} 处理", "{}: mine", "{} ok", "{} takes over",
)  # fmt: skip
NAMED = tuple(dict.fromkeys(call for name in CALLED for call in (name, name.split()[0], name.split()[0].upper())))


@examples(1500)
@given(
    st.sampled_from(YES), st.sampled_from([", ", " ", ". ", "\n", "! ", " - ", "; ", "… ", "\n\n"]),
    st.sampled_from(OF_SOMEBODY), st.sampled_from(NAMED), st.sampled_from(BEFORE),
)  # fmt: skip
def test_a_yes_that_names_a_colleague_as_who_has_it_is_none(
    yes: str, joint: str, of_somebody: str, name: str, before: str
) -> None:
    assert reply_commands.read(f"{before}{yes}{joint}{of_somebody.format(name)}", KNOWN).meaning not in CLAIMS


@pytest.mark.parametrize("name", NAMED)
def test_what_is_said_of_a_colleague_alone_is_no_yes(name: str) -> None:
    said = {form.format(name): reply_commands.read(form.format(name), KNOWN).meaning for form in OF_SOMEBODY}
    own = {f"{name} ok", f"{name} on it", f"{name}: mine"}  # "Yes ok": read as the name all the same
    assert not [line for line, meaning in said.items() if meaning in CLAIMS and line not in own]
    assert not [line for line in own if said[line] in CLAIMS and " " not in name and name.lower() != "ok"]


@pytest.mark.parametrize("line", ["Ok, on it", "Sure, got it", "mine", "will do", "I will take it", "ok", "On it"])
def test_a_word_of_yes_stays_one_where_no_colleague_can_be_meant(line: str) -> None:
    assert reply_commands.read(line, KNOWN).meaning in CLAIMS


#: What takes a yes back, in languages that have a grammar here and in some that have none.
REFUSALS = (
    "I can't", "can't", "not me", "but I'm not able to", "not now", "no laptop here", "I won't", "I am away",
    "not before 9", "je ne peux pas", "pas moi", "kann aber nicht", "ich kann nicht", "geht nicht", "no puedo",
    "non posso", "ik kan niet", "無理です", "対応できません", "不行", "我不能", "не могу", "nie mogę", "não posso",
    "jag kan inte", "kan ikke", "못 합니다", "لا أستطيع", "לא יכול", "yapamam", "δεν μπορώ", "nemohu",
)  # fmt: skip
LATER = (
    "tomorrow", "in the morning", "later", "on Monday", "after lunch", "in 3 hours", "when I get home", "next week",
    "first thing tomorrow", "not yet", "until then I sleep", "morgen früh", "später", "demain", "plus tard", "mañana",
    "luego", "domani", "più tardi", "morgen", "straks", "明日", "後で", "завтра", "明天",
)  # fmt: skip
CONDITIONS = (
    "if nobody else can", "unless Bo can", "if I find a laptop", "wenn sonst keiner kann", "si personne ne peut",
)  # fmt: skip
SOMEBODY = (
    "someone else please", "somebody has to look", "my colleague takes it", "he is on it", "she has it", "Peter has it",
    "the night shift is on it", "wrong person", "jemand anders", "mein Kollege übernimmt", "quelqu'un d'autre",
    "mon collègue s'en occupe", "alguien más", "un collega", "iemand anders", "誰か", "please remove me", "call Max",
)  # fmt: skip


@examples(1500)
@given(
    st.sampled_from(YES), st.sampled_from([", ", " ", ". ", "\n", "! ", " - ", ", but ", ". But ", "; "]),
    st.sampled_from([*REFUSALS, *LATER, *CONDITIONS, *SOMEBODY]),
    st.sampled_from([str, str.upper, str.capitalize, lambda text: f"{text}.", lambda text: f"{text}, sorry"]),
)  # fmt: skip
def test_a_yes_that_is_refused_put_off_or_given_away_is_none(yes: str, joint: str, more: str, typed: object) -> None:
    assert callable(typed)
    assert reply_commands.read(yes + joint + typed(more), OFFICE).meaning not in CLAIMS


@pytest.mark.parametrize("yes", ["ack", "on it", "looking", "bin dran", "je m'en occupe", "taking this"])
@pytest.mark.parametrize(
    "form",
    ["{}?", "should I {}", "can you {}", "please {}", "{} please", "Bo said {}", "if so, {}", "I'd {}", "was {}",
     "~~{}~~", "> {}", "| {}", "not {}", "never {}", "who is {}", "{} or not", "{} / no", "reply \"{}\" to this",
     "it says {}", "{} was the wrong button", "{} another incident", "{} lunch", "{} out now, good night", "un{}",
     "{}x", "x{}", "a̶{}", "{} M4TD", "{} yesterday", "{} tomorrow", "everybody {}", "{} everybody who can", "{} ¿",
     "I thought I {}", "{} by mistake", "{} the other one", "they {}", "to {} or not to {}", "{} @bo", "{}&co"],
)  # fmt: skip
def test_a_word_of_yes_among_others_is_none(form: str, yes: str) -> None:
    assert reply_commands.read(form.format(yes, yes), OFFICE).meaning not in CLAIMS


@pytest.mark.parametrize(
    "line",
    ["akc", "aack", "Ask", "ackk", "аск", "a c k", "kca", "oki doki, who does it", "okra", "acknowledgement",
     "ackermann", "I'll ack in 10 min", "ack in 10 min", "I acked it yesterday", "checking out now, good night",
     "looking at it in the morning", "investigating another incident", "Received, thank you", "thanks", "",
     "taking this offline", "Yes this is real", "looking good", "looks bad", "right behind you there is a thief",
     "I have this week off", "I got this page in error, remove me", "I'm here with the kids, call Bo",
     "Handling this is Bo's job", "yes please call me", "ok so what happened here", "on it in spirit", "👎", "❌",
     "✅ ❌", "🤔", "/ack", "ack=1", "<ack>", "ack;drop table", "no ack", "nack", "un-ack", "off it", "got it wrong",
     '"ack" to this mail', '"ack". Max is called', '"escalate". End: "resolve".', '"to bo". More help', "“ack”, then",
     '("escalate"). Reply "ack".', "note.", "Note: ack", "Note: on it", "note: resolve", "Note",
     "I take it you called the police", "mine detector found", "take it off the network", "copy the files first"],
)  # fmt: skip
def test_what_only_looks_like_a_yes_is_none(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.NOTHING


WORDS = st.sampled_from(
    [*YES, *REFUSALS, *LATER, *CONDITIONS, *SOMEBODY, *NAMED, "the", "a", "it", "is", "was", "and", "or", "who", "what",
     "server", "laptop", "please", "said", "reply", "we", "you", "they", "all", "for", "with", "from", "der", "le"]
)  # fmt: skip


@examples(1500)
@given(
    st.lists(WORDS, min_size=1, max_size=4),
    st.sampled_from(["Bo", "Max", "someone else", "tomorrow", "can't", "if", "не", "server", "why"]),
    st.integers(0, 4),
    st.sampled_from([" ", ", "]),
)
def test_no_sentence_with_a_word_outside_the_grammar_is_a_yes(
    pieces: list[str], strange: str, at: int, joint: str
) -> None:
    line = joint.join([*pieces[:at], strange, *pieces[at:]])
    assert reply_commands.read(line, OFFICE).meaning not in CLAIMS


#: Beside a yes these add nothing, and alone they are one: "received", "awake", "ok" of another language.
ALSO_YES = frozenset(
    {"ya", "já", "já já", "jajá", "logo", "réveille", "bien noté", "c'est noté", "ricevuto", "sono reperibile",
     "sono reperibile e", "nie ma sprawy", "właśnie wstałem", "mottagit", "just uppe", "net wakker",
     "ik ben net wakker", "ik ben net wakker en", "ben net wakker", "ik net wakker", "ik heb ontvangen en",
     "ik heb die onderwerp ontvangen",
     "ontvangen", "ontvangen en", "har mottagit meddelandet och", "har mottagit larmet", "vi isso"}
)  # fmt: skip


def test_every_phrase_of_yes_in_the_data_is_read_as_one_and_none_of_no_is() -> None:
    said = {kind: {text: reply_commands.read(text).meaning for text in every(kind)} for kind in Kind}
    assert not {text for kind in (Kind.ACK, Kind.YES) for text, is_ in said[kind].items() if is_ not in CLAIMS}
    assert not {text for text, is_ in said[Kind.NO].items() if is_ in CLAIMS}
    assert not {text for kind in (Kind.NO, Kind.NOT_NOW) for text, is_ in said[kind].items() if is_ is not Command.NO}
    assert not {text for text in every(Kind.NOT_NOW) if reply_commands.read(text).alone}
    beside = {
        text for kind in (Kind.TIME, Kind.FRIENDLY, Kind.THANKS) for text, is_ in said[kind].items() if is_ in CLAIMS
    }
    assert beside <= ALSO_YES


@pytest.mark.parametrize("language", lexicon().all(), ids=lambda language: language.name)
def test_the_sentences_a_language_says_are_no_yes_are_none(language: Language) -> None:
    assert language.never
    assert not [text for text in language.never if reply_commands.read(text, OFFICE).meaning in CLAIMS]


AGAINST = (Sign.NEGATION, Sign.REFUSAL, Sign.DEFER)


def told_of_me() -> list[str]:
    """What takes a yes back, behind the "I" of its language."""
    found = []
    for language in lexicon().all():
        says_i = [texts(pattern, lambda _: 0) for pattern in language.signs.patterns.get(Sign.I, ())][:1]
        signs = {text for kind in AGAINST for text, name in every(kind).items() if name == language.name}
        found += [f"{i} {sign}".strip() for i in says_i or [""] for sign in sorted(signs)]
    return found


def test_no_sign_against_a_yes_is_itself_part_of_one() -> None:
    signs = told_of_me()
    assert not [sign for sign in signs if reply_commands.read(f"ack, {sign}").meaning in CLAIMS]
    assert not [sign for sign in signs if reply_commands.read(f"ack. {sign}").meaning in CLAIMS]


# -- no


@pytest.mark.parametrize(
    "line",
    ["no", "No.", "nope", "can't", "cannot", "I can't, sorry", "pass", "not me", "I’m unavailable", "not on call",
     "not available until 9", "I can't take this right now", "can't today", "No, I am in hospital", "No I'm driving",
     "Can't right now, on a plane", "can't, at the airport", "No. Call Max", "No, leave it on. Pull the plug.",
     "no, Bo has it", "nein", "Nein, bin im Urlaub", "kann gerade nicht", "geht leider nicht", "non", "je ne peux pas",
     "pas moi", "no puedo", "non posso, sono in treno", "nee, ik ben ziek", "kan nu niet", "いいえ", "無理です",
     "対応できません", "I cannot take this because I am ill", "not now"],
)  # fmt: skip
def test_a_first_sentence_that_begins_with_a_no_declines_whatever_its_reason(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.NO


@pytest.mark.parametrize(
    "line",
    ["no problem", "no idea", "no idea what this is", "no worries", "password is hunter2", "passing by", "notice this",
     "none", "not on it", "I'm out of office", "No new findings so far", "No malware found", "N/A", "not sure",
     "Can't reach Rita, calling her boss", "Cannot log in to gitlab", "Not available in the logs", "no?",
     "Unable to reproduce", "nobody is here", "no, ok I am on it", "No. Ok, on it", "kein Problem", "pas de souci",
     "can't open the attachment", "no response from the server"],
)  # fmt: skip
def test_what_only_begins_like_a_no_is_none(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.NOTHING


# -- the other commands


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("take", Command.TAKE), ("Mine.", Command.TAKE), ("mine, on it", Command.TAKE), ("ack both", Command.YES_ALL),
        ("ack all", Command.YES_ALL), ("acknowledge all of them", Command.YES_ALL), ("escalate", Command.ESCALATE),
        ("please escalate", Command.ESCALATE), ("escalate, I am on a train and can't", Command.ESCALATE),
        ("Escalate because Bo is away", Command.ESCALATE), ("Resolve", Command.RESOLVE),
        ("resolved, thanks", Command.RESOLVE), ("resolved: not our server, Bo checked", Command.RESOLVE),
        ("false alarm", Command.RESOLVE), ("False alarm, it was my kid", Command.RESOLVE),
        ("it was a false alarm - no attack", Command.RESOLVE), ("Fehlalarm", Command.RESOLVE),
        ("close the door", Command.NOTHING), ("resolve tomorrow", Command.NOTHING), ("resolved?", Command.NOTHING),
        ("resolve if Bo agrees", Command.NOTHING), ("resolve, if Bo agrees", Command.NOTHING),
        ("escalate privileges", Command.NOTHING), ("not resolved", Command.NOTHING),
        ("was it a false alarm", Command.NOTHING),
    ],
)  # fmt: skip
def test_the_other_commands(line: str, meaning: Command) -> None:
    assert reply_commands.read(line, OFFICE).meaning is meaning


@pytest.mark.parametrize(
    ("line", "to"),
    [("to bo", "bo"), ("page Bo.", "bo"), ("hand over to max", "max"), ("to zoe", "zoe"), ("over to Bo Low", "bo low"),
     ("pass it to Bo", "bo"), ("page max please", "max")],
)  # fmt: skip
def test_handing_over_names_the_person(line: str, to: str) -> None:
    said = reply_commands.read(line, OFFICE)
    assert (said.meaning, said.to) == (Command.HAND_OVER, to)


# -- the whole answer


@pytest.mark.parametrize(
    ("text", "bare", "alone"),
    [
        ("ack", True, True), ("Ack!", True, True), ("ack\n\nAna", True, True), ("no", True, True), ("No.", True, True),
        ("resolve", True, True), ("to bo", True, True), ("escalate", True, True), ("not me", True, True),
        ("ack, thanks", True, False), ("Hi all, ack", True, False), ("no, sorry", True, False),
        ("on my way", True, False), ("resolved, thanks", True, False), ("ack\nthanks", True, False),
        ("to the left", False, False), ("ack. Rebooting", False, False), ("No, leave it on", False, False),
        ("ack\nI will call Rita", False, False), ("help, my laptop", False, False), ("resolve: test", False, False),
    ],
)  # fmt: skip
def test_a_command_may_be_the_whole_answer_with_a_friendly_word_or_without(text: str, bare: bool, alone: bool) -> None:
    said = reply_commands.read(text, OFFICE)
    assert (said.bare, said.alone) == (bare, alone)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ack?", "it asked a question"),
        ("ok, I can't", "it said both yes and no"),
        ("no, ok I am on it", "it said both yes and no"),
        ("ack\nno wait, I can't", "it said both yes and no"),
        ("on it tomorrow", "it says yes with a condition, or for later"),
        ("Got it, Bo has it", "it says yes, and names somebody else"),
        ("ack. Bo takes it", "it says yes, and names somebody else"),
        ("ack, rebooting VPN", "it says yes, and more in that sentence than panicmail understands"),
        ("the server is gone\nack", "its first line is no answer panicmail knows"),
        ("", "it was empty"),
        (" \n\t\n\u200b", "it was empty"),
        ("ack " * 100, "its first line is no answer panicmail knows"),
    ],
)
def test_a_question_back_says_why(line: str, why: str) -> None:
    said = reply_commands.read(line, OFFICE)
    assert (said.meaning, said.why) == (Command.NOTHING, why)


@given(st.text(max_size=300))
def test_any_text_has_a_meaning_and_a_reason_when_it_has_none(text: str) -> None:
    said = reply_commands.read(text, KNOWN)
    assert bool(said.why) == (said.meaning is Command.NOTHING)
    assert said.bare or not said.alone


# -- thanks


@pytest.mark.parametrize("text", ["Thanks!", "Thank you so much for your help", "Great, thanks", "cheers"])
def test_a_bare_thank_you_is_recognised(text: str) -> None:
    assert reply_commands.is_thanks(text)


@pytest.mark.parametrize(
    "text",
    ["", "Thanks, but it is back", "great", "thank you, now the server is down too", "Please help me now, thank you",
     "Thanks. Is it back?", "Please help, thanks"],
)  # fmt: skip
def test_a_thank_you_with_news_in_it_is_none(text: str) -> None:
    assert not reply_commands.is_thanks(text)


# -- the data


def test_a_pattern_stands_for_each_way_through_it() -> None:
    table = {"phrase": {"yes": ["[ich] bin (dran|[schon] da)"]}}
    known = Lexicon({"xx": table}).languages[0].phrases
    ways = ("ich bin dran", "ich bin schon da", "ich bin da", "bin dran", "bin schon da", "bin da", "ich bin", "da")
    assert [way for way in ways if (len(way.split()), Kind.YES) in known.at(way.split(), 0)] == list(ways[:-2])


@pytest.mark.parametrize(
    "table", [{"phrase": {"yes": ["a) b"]}}, {"phrase": {"maybe": ["a"]}}, {"phrase": {"yes": ["take {it}"]}}]
)
def test_a_file_with_a_mistake_is_not_read_as_something_else(table: dict[str, dict[str, list[str]]]) -> None:
    with pytest.raises((ValueError, KeyError)):
        assert Lexicon({"xx": table}).languages[0].phrases


@pytest.mark.parametrize("line", ["ok, hmm…", "👍 a ver.", "vale, a ver", "ok … I guess", "ja, mal sehen"])
def test_a_yes_with_a_doubt_behind_it_is_none(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.NOTHING


@pytest.mark.parametrize("line", ["a ver, lo miro", "hmm ok", "ok, a ver, lo miro", "on it. What is her number?"])
def test_a_doubt_before_a_yes_and_a_question_about_the_matter_take_nothing_back(line: str) -> None:
    assert reply_commands.read(line, OFFICE).meaning is Command.YES


# -- names as sentences bend them

BENT = reply_commands.names(
    [
        ANA,
        *(
            Person(id=key, name=name, email=f"{key}@example.com")
            for key, name in [("jan", "Jan Kowalski"), ("anna", "Anna Nowak"), ("petr", "Petr Novák"),
                              ("ivan", "Иван Петров"), ("olga", "Ольга Ким"), ("priya", "Priya Shah")]
        ),
    ],
    "ana",
)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "to"),
    [("przekaż Janowi", "jan"), ("dzwoń do Anny", "anna"), ("przekaż do Jana", "jan"), ("předej to Petrovi", "petr"),
     ("передай Ивану", "иван"), ("передай Ольге", "ольга"), ("to Priyalle", "priya"), ("to Priya", "priya")],
)  # fmt: skip
def test_a_bent_name_is_the_person_it_is_handed_to(line: str, to: str) -> None:
    said = reply_commands.read(line, BENT)
    assert (said.meaning, said.to) == (Command.HAND_OVER, to)


@pytest.mark.parametrize(
    "line",
    [
        "biorę. Janowi przekażę",
        "beru. Petrovi zavolám",
        "беру. Ивану передам",
        "on it. Annas on it",
        "ack. Priyas has it",
    ],
)
def test_a_yes_beside_a_bent_name_is_none(line: str) -> None:
    assert reply_commands.read(line, BENT).meaning not in CLAIMS


@pytest.mark.parametrize("line", ["ano", "lo tomo", "va bene, ci penso io", "on it. The server is up"])
def test_a_word_of_the_grammar_is_no_bent_name(line: str) -> None:
    assert reply_commands.read(line, reply_commands.names([*COLLEAGUES, ANA], "max")).meaning in CLAIMS
