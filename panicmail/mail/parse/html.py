"""HTML to text, and to the part of it that its writer wrote.

What is hidden is dropped (scripts, styles, elements styled away), block elements become lines, list items get a dash,
images their alternative text. The targets of links are given apart from the text, so that a text that shows one
address and leads to another cannot hide it. `own` is the same without the elements in which mail programs put the
quoted history, and without what is struck out. Where structure alone sets something apart (a `blockquote`, a line at
its left) its lines begin with `reply_text.ASIDE`: the writer may be citing, and `reply_text` sees whether anything new
follows.

The parser is quadratic in deep nesting and in the attributes of one tag, so it is given at most 256 Ki characters and
20,000 tags (of all HTML in a mail), and nothing from a tag of thousands of attributes on; beyond that `text` is made by
striking out tags, and `own` from the beginning alone. What is nested deeper than anybody writes is not walked at all.
Never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import islice

from selectolax.lexbor import LexborHTMLParser, LexborNode

from panicmail.mail.parse.normalize import leads_elsewhere
from panicmail.mail.parse.reply_text import ASIDE

MOST_CHARACTERS, MOST_TAGS, _MOST_LINKS, _MOST_PRE, _MOST_HEADERS = 256 * 1024, 20_000, 200, 100, 20
#: Elements inside each other, beyond which it is not walked.
_DEEPEST = 1000
#: A tag long enough to hold too many attributes, and what stands between attributes: so many are too many.
_LONG_TAG = re.compile(r"<[a-z][^>]{12000,}+", re.I)
_BETWEEN = re.compile(r"[\s/\"']+")
_MOST_ATTRIBUTES = 6000

_DROPPED = "script,style,head,title,template,noscript,object,embed,iframe,select,textarea,svg,math,[hidden]"
#: Where mail programs put what they quote: Gmail, Thunderbird and Apple Mail, Yahoo, Outlook on the web and on phones,
#: Proton, Zoho, FastMail, GMX and web.de, Spark, Tuta, Front, Mail.ru, Naver. `_AFTER` begins it: everything that
#: follows is history as well (Outlook, Zimbra).
_HISTORY = (
    "blockquote.gmail_quote,.gmail_attr,blockquote[type=cite],.yahoo_quoted,[id^=yahoo_quoted],.moz-cite-prefix,"
    ".protonmail_quote,.zmail_extra,.zmail_extra_hr,.tutanota_quote,#qt,.qt,#isReplyContent,[name=quote],"
    ".ms-outlook-mobile-reference-message,[name=messageReplySection],[data-marker=__QUOTED_TEXT__],.front-blockquote,"
    ".mail-quote-collapse,[id^=replySplit],.replyMessage,#replyHead"
)
#: Gmail's container of both introduction and quotation. Whoever answers between the lines writes into it.
_CONTAINERS = ".gmail_quote,.gmail_extra"
_AFTER = (
    "#divRplyFwdMsg,#x_divRplyFwdMsg,#OutlookMessageHeader,#appendonsend,#mail-editor-reference-message-container,"
    "#stopSpelling,#zwchr,[data-marker=__DIVIDER__],[data-marker=__HEADERS__]"
)
_SIGNATURE = (
    ".gmail_signature,.moz-signature,#Signature,#ms-outlook-mobile-signature,.protonmail_signature_block,"
    "[name=messageSignatureSection],[data-marker=__SIG_POST__],[data-marker=__SIG_PRE__]"
)
#: Set apart, by their kind or their name: of programs not named above, or of the writer.
_APART = "blockquote,[class*=quot i],[id*=quot i],[name*=quot i],[data-marker*=quot i]"
_LINE_AT_ITS_LEFT = re.compile(r"border-(?:left|inline-start)(?:-width|-style)?\s*:\s*(?!\s|0|none|hidden)", re.I)
_STRUCK_OUT = "s,strike,del"
_STRUCK_BY_STYLE = re.compile(r"text-decoration(?:-line)?\s*:[^;]{0,40}line-through", re.I)
#: Outlook for Windows: its header block stands below a line of its own.
_LINE_ABOVE = re.compile(r"border\s*:\s*none\s*;\s*border-top\s*:\s*solid", re.I)
_BLOCKS = (
    "address,article,aside,blockquote,center,dd,div,dl,dt,fieldset,figure,footer,form,h1,h2,h3,h4,h5,h6,header,hr,li,"
    "main,nav,ol,p,pre,section,table,tr,ul,caption"
)
_STYLED_AWAY = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all"
    r"|font-size\s*:\s*0(?:px|pt|em|%)?\s*(?:;|!|\Z)|max-height\s*:\s*0(?:px)?\s*(?:;|!|\Z)",
    re.I,
)
#: Stand-ins for what white-space collapsing must not touch, and the ends of what is set apart; stripped from the
#: source beforehand.
_NEWLINE, _SPACE, _BEGINS, _ENDS = "\x1e", "\x1f", "\x02", "\x03"
_STAND_INS = re.compile(r"[\x02\x03\x1e\x1f]|&#(?:0*(?:2|3|30|31)|[xX]0*(?:2|3|1[eEfF]))(?![0-9a-fA-F]);?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """What an HTML body says."""

    text: str
    own: str  #: without quoted history and signature
    links: tuple[str, ...]
    whole: bool  #: False: too large to be read with care
    misleading: tuple[tuple[str, str], ...] = ()  #: text and target of each link whose text names another host


def plain(source: str, *, characters: int = MOST_CHARACTERS, tags: int = MOST_TAGS) -> PlainText:
    """Read one HTML body; the parser is given so many characters and tags of it at most."""
    source = _STAND_INS.sub(" ", source)
    cut = _cut(source[:characters], tags)
    try:
        return _read(cut, source)
    except Exception:  # the parser's own errors; what stands between the tags is text all the same
        return PlainText(text=_struck(source), own="", links=(), whole=False)


def _read(cut: str, source: str) -> PlainText:
    tree = LexborHTMLParser(cut)
    if _is_too_deep(tree.root):
        return PlainText(text=_struck(source), own="", links=(), whole=False)
    links = tuple(_links(tree))
    misleading = tuple(_misleading(tree))
    text = _text(tree) if len(cut) == len(source) else _struck(source)
    tree = LexborHTMLParser(cut)
    _drop(tree, f"{_SIGNATURE},{_STRUCK_OUT}")
    _mark_history(tree)
    _drop_what_follows(tree, tree.css_first(_AFTER))
    _drop_what_follows(tree, _header_block(tree))
    _set_apart(tree)
    return PlainText(
        text=text, own=_marked(_text(tree)), links=links, misleading=misleading, whole=len(cut) == len(source)
    )


def _cut(source: str, tags: int) -> str:
    for tag in _LONG_TAG.finditer(source):
        if len(_BETWEEN.findall(tag[0])) > _MOST_ATTRIBUTES:
            source = source[: tag.start()]
            break
    if source.count("<") <= tags:
        return source
    at = -1
    for _ in range(tags):
        at = source.find("<", at + 1)
    return source[: max(at, 0)]


def _is_too_deep(root: LexborNode | None) -> bool:
    """Whether elements are nested beyond `_DEEPEST`: a step for each node, no recursion."""
    node, depth = root, 0
    while node is not None:
        if node.child is not None:
            node, depth = node.child, depth + 1
            if depth > _DEEPEST:
                return True
            continue
        while node is not None and node.next is None:
            node, depth = node.parent, depth - 1
        node = node and node.next
    return False


def _struck(source: str) -> str:
    """The text between tags, for what is too large to parse."""
    text = re.sub(r"(?i)</?(?:br|p|div|tr|li|h[1-6])\b[^<>]*>", "\n", source)
    text = re.sub(r"&#[0-9]{8,}", "\ufffd", re.sub(r"<[^<>]*>", "", text))  # no character has so many digits
    return _lines(unescape(text))


def _links(tree: LexborHTMLParser) -> list[str]:
    found: dict[str, None] = {}
    for node in tree.css("a[href],area[href],form[action]"):
        target = (node.attributes.get("href") or node.attributes.get("action") or "").strip()
        if target and not target.startswith(("#", "mailto:", "tel:")):
            found.setdefault(target)
    return list(found)[:_MOST_LINKS]


def _misleading(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    for node in tree.css("a[href]")[:_MOST_LINKS]:
        shown, target = node.text(deep=True).strip()[:300], (node.attributes.get("href") or "").strip()[:2000]
        if target.lower().startswith(("http:", "https:")) and leads_elsewhere(shown, target):
            yield shown, target


def _drop(tree: LexborHTMLParser, selector: str) -> None:
    for node in tree.css(selector):
        node.decompose()


def _mark_history(tree: LexborHTMLParser) -> None:
    """Put a lone mark of quotation where a program put history, so that what introduces it is known by it."""
    for node in tree.css(_CONTAINERS)[:_MOST_HEADERS]:
        if node.tag == "blockquote":
            continue
        if _is_answered_inside(node):
            node.insert_before(_NEWLINE)
            node.insert_after(_NEWLINE)
            node.unwrap()
        else:
            node.replace_with(f"{_NEWLINE}>{_NEWLINE}")
    for node in tree.css(_HISTORY):
        node.replace_with(f"{_NEWLINE}>{_NEWLINE}")


def _is_answered_inside(container: LexborNode) -> bool:
    """Whether the container of a quotation begins with it: what else it holds is then of the writer.

    A forwarded mail stands in the same container, with nothing around it.
    """
    node = container.child
    while node is not None and "gmail_extra" not in (node.attributes.get("class") or ""):
        if node.tag == "blockquote" or "gmail_quote" in (node.attributes.get("class") or ""):
            return True
        text = node.text(deep=True).strip()
        is_introduction = not text or text.endswith((":", "：")) or ">" in text[-3:]
        if not is_introduction:
            return False
        node = node.next
    return node is not None


def _drop_what_follows(tree: LexborHTMLParser, mark: LexborNode | None) -> None:
    """Outlook marks where the history begins and puts it beside the mark, not inside."""
    at = mark
    while at is not None and at.tag not in ("body", "html"):
        while (following := at.next) is not None:
            following.remove()
        at = at.parent
    if mark is not None:
        mark.decompose()


def _header_block(tree: LexborHTMLParser) -> LexborNode | None:
    """Outlook's "From: …" above what it quotes, in whatever language: a line above it, and names of fields in bold."""
    lined = (n for n in tree.css("div[style]") if _LINE_ABOVE.search((n.attributes.get("style") or "")[:2000]))
    for node in islice(lined, _MOST_HEADERS):  # the text of each is taken: of many inside each other that is quadratic
        name = node.css_first("b,strong")
        if name is not None and name.text().strip().endswith((":", "：")):
            return node
    return None


def _set_apart(tree: LexborHTMLParser) -> None:
    """Put marks around what structure alone sets apart, and drop what a style strikes out."""
    for node in tree.css("[style]"):
        if _STRUCK_BY_STYLE.search((node.attributes.get("style") or "")[:2000]):
            node.decompose()
    lined = [n for n in tree.css("div[style]") if _LINE_AT_ITS_LEFT.search((n.attributes.get("style") or "")[:2000])]
    for node in [*tree.css(_APART), *lined]:
        node.insert_before(f"{_NEWLINE}{_BEGINS}{_NEWLINE}")
        node.insert_after(f"{_NEWLINE}{_ENDS}{_NEWLINE}")


def _marked(text: str) -> str:
    """The lines between the marks, as `fresh` takes them."""
    lines, depth = [], 0
    for line in text.split("\n"):
        if line.strip() in (_BEGINS, _ENDS):
            depth += 1 if line.strip() == _BEGINS else -1
        else:
            lines.append(ASIDE + line if depth > 0 and line and not line.startswith(">") else line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _text(tree: LexborHTMLParser) -> str:
    """The text of a tree, which is changed on the way."""
    _drop(tree, _DROPPED)
    for node in tree.css("[style]"):
        if _STYLED_AWAY.search((node.attributes.get("style") or "")[:2000]):
            node.decompose()
    body = tree.body or tree.root
    if body is None:
        return ""
    for node in tree.css("pre")[:_MOST_PRE]:
        if not _is_inside(node, "pre"):  # each is walked: those inside each other only once
            _keep_lines(node)
    for node in tree.css("br"):
        node.replace_with(_NEWLINE)
    for node in tree.css("img[alt]"):
        node.replace_with(f" {node.attributes.get('alt') or ''} ")
    for node in tree.css("li"):
        node.insert_child("") if node.child is None else node.child.insert_before("- ")
    for node in tree.css("td,th"):
        node.insert_after(_SPACE)
    for node in tree.css(_BLOCKS):
        node.insert_before(_NEWLINE)
        node.insert_after(_NEWLINE)
    for node in tree.css("p"):
        node.insert_after(_NEWLINE)
    return _lines(body.text(deep=True, separator=""))


def _is_inside(node: LexborNode, tag: str) -> bool:
    above = node.parent
    while above is not None and above.tag != tag:
        above = above.parent
    return above is not None


def _keep_lines(node: LexborNode) -> None:
    for inner in list(node.traverse(include_text=True)):
        if inner.is_text_node and (written := inner.text_content):
            inner.replace_with(written.replace("\n", _NEWLINE).replace(" ", _SPACE))


def _lines(text: str) -> str:
    """White space as HTML shows it, then at most one empty line in a row."""
    text = re.sub(r"[ \t\n\f\r\xa0]+", " ", text) if _NEWLINE in text else re.sub(r"[ \t\f\r\xa0]+", " ", text)
    lines = text.replace(_NEWLINE, "\n").split("\n")
    text = "\n".join(line.strip(" ").replace(_SPACE, " ").rstrip() for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()
