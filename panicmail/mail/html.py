"""HTML to text, and to the part of it that its writer wrote.

What is hidden is dropped (scripts, styles, elements styled away), block elements become lines, list items get a dash,
images their alternative text. The targets of links are given apart from the text, so that a text that shows one
address and leads to another cannot hide it. `own` is the same without the elements in which mail programs put the
quoted history.

The parser is quadratic in deep nesting and in the attributes of one tag, so it is given at most 256 Ki characters and
20,000 tags (of all HTML in a mail), and nothing from a tag of thousands of attributes on; beyond that `text` is made by
striking out tags, and `own` from the beginning alone. What is nested deeper than anybody writes is not walked at all.
Never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from selectolax.lexbor import LexborHTMLParser, LexborNode

MOST_CHARACTERS, MOST_TAGS, _MOST_LINKS, _MOST_PRE = 256 * 1024, 20_000, 200, 100
#: Elements inside each other, beyond which it is not walked.
_DEEPEST = 1000
#: A tag long enough to hold too many attributes, and what stands between attributes: so many are too many.
_LONG_TAG = re.compile(r"<[a-z][^>]{12000,}+", re.I)
_BETWEEN = re.compile(r"[\s/\"']+")
_MOST_ATTRIBUTES = 6000

_DROPPED = "script,style,head,title,template,noscript,object,embed,iframe,select,textarea,svg,math,[hidden]"
#: Where mail programs put what they quote: Gmail, Thunderbird and Apple Mail, Yahoo, Outlook on the web and on phones,
#: Proton, Zoho, FastMail, GMX and web.de. `_AFTER` begins it: everything that follows is history as well.
_HISTORY = (
    ".gmail_quote,.gmail_extra,blockquote[type=cite],.yahoo_quoted,.moz-cite-prefix,.protonmail_quote,.zmail_extra,"
    ".zmail_extra_hr,.tutanota_quote,#qt,.qt,.gmail_attr,#isReplyContent,.ms-outlook-mobile-reference-message"
)
_AFTER = "#divRplyFwdMsg,#OutlookMessageHeader,#appendonsend,#mail-editor-reference-message-container"
_SIGNATURE = ".gmail_signature,.moz-signature,#Signature,#ms-outlook-mobile-signature,.protonmail_signature_block"
_BLOCKS = (
    "address,article,aside,blockquote,center,dd,div,dl,dt,fieldset,figure,footer,form,h1,h2,h3,h4,h5,h6,header,hr,li,"
    "main,nav,ol,p,pre,section,table,tr,ul,caption"
)
_STYLED_AWAY = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all"
    r"|font-size\s*:\s*0(?:px|pt|em|%)?\s*(?:;|!|\Z)|max-height\s*:\s*0(?:px)?\s*(?:;|!|\Z)",
    re.I,
)
#: Stand-ins for what white-space collapsing must not touch; stripped from the source beforehand.
_NEWLINE, _SPACE = "\x1e", "\x1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """What an HTML body says."""

    text: str
    own: str  #: without quoted history and signature
    links: tuple[str, ...]
    whole: bool  #: False: too large to be read with care


def plain(source: str, *, characters: int = MOST_CHARACTERS, tags: int = MOST_TAGS) -> Plain:
    """Read one HTML body; the parser is given so many characters and tags of it at most."""
    source = source.replace(_NEWLINE, " ").replace(_SPACE, " ")
    cut = _cut(source[:characters], tags)
    try:
        return _read(cut, source)
    except Exception:  # the parser's own errors; what stands between the tags is text all the same
        return Plain(text=_struck(source), own="", links=(), whole=False)


def _read(cut: str, source: str) -> Plain:
    tree = LexborHTMLParser(cut)
    if _is_too_deep(tree.root):
        return Plain(text=_struck(source), own="", links=(), whole=False)
    links = tuple(_links(tree))
    text = _text(tree) if len(cut) == len(source) else _struck(source)
    tree = LexborHTMLParser(cut)
    _drop(tree, _HISTORY + "," + _SIGNATURE)
    _drop_what_follows(tree)
    return Plain(text=text, own=_text(tree), links=links, whole=len(cut) == len(source))


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


def _drop(tree: LexborHTMLParser, selector: str) -> None:
    for node in tree.css(selector):
        node.decompose()


def _drop_what_follows(tree: LexborHTMLParser) -> None:
    """Outlook marks where the history begins and puts it beside the mark, not inside."""
    start = tree.css_first(_AFTER)
    while start is not None and start.tag not in ("body", "html"):
        while (following := start.next) is not None:
            following.remove()
        above = start.parent
        if start.css_matches(_AFTER):
            start.remove()
        start = above


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
