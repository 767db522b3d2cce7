"""The content of an opaque S/MIME signature (RFC 8551 3.5.2), by the few elements of CMS that stand around it.

Nothing is verified here: what a signature proves is asked elsewhere, of the octets as they came. BER with indefinite
lengths and strings in pieces is read, as mail programs write it. Total; time grows with the octets, depth is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_SEQUENCE, _FIRST, _STRING, _PIECES = 0x30, 0xA0, 0x04, 0x24
_DEEPEST = 12
#: A tag, where its content begins and ends, and where the next element begins.
_Element = tuple[int, int, int, int]


def signed_content(data: bytes) -> bytes | None:
    """The signed octets, a MIME entity; None where this is no signature that holds them."""
    try:
        outer = list(_inside(data, _element(data, 0, 0)))
        if data[: outer[0][2]][-len(_SIGNED_DATA) :] != _SIGNED_DATA or outer[1][0] != _FIRST:
            return None
        signed = next(_inside(data, outer[1]))
        encapsulated = next(each for each in _inside(data, signed) if each[0] == _SEQUENCE)
        content = list(_inside(data, encapsulated))[1]
        return _string(data, next(_inside(data, content)))
    except (IndexError, StopIteration, ValueError):
        return None


def _string(data: bytes, element: _Element) -> bytes | None:
    tag, begin, end, _ = element
    if tag == _STRING:
        return data[begin:end]
    if tag != _PIECES:
        return None
    return b"".join(data[b:e] for t, b, e, _ in _inside(data, element) if t == _STRING)


def _inside(data: bytes, element: _Element) -> Iterator[_Element]:
    _, at, end, _ = element
    while at < end:
        found = _element(data, at, 0)
        yield found
        at = found[3]


def _element(data: bytes, at: int, depth: int) -> _Element:
    """The element that begins at `at`.

    Raises:
        IndexError, ValueError: There is none.
    """
    tag, length = data[at], data[at + 1]
    begin = at + 2
    if tag & 0x1F == 0x1F or depth > _DEEPEST:
        raise ValueError("an element of a kind that does not occur here")
    if length == 0x80:
        inner = begin
        while data[inner : inner + 2] != b"\0\0":
            inner = _element(data, inner, depth + 1)[3]
        return tag, begin, inner, inner + 2
    if length > 0x80:
        size = length - 0x80
        if size > 4:
            raise ValueError("longer than anything here")
        length = int.from_bytes(data[begin : begin + size], "big")
        begin += size
    if begin + length > len(data):
        raise ValueError("cut off")
    return tag, begin, begin + length, begin + length
