"""From source to tokens, in time that grows with the length alone: no pattern here can be tried in two ways."""

from __future__ import annotations

import re
from typing import NamedTuple

from penstock_coordinator.core.plan.cel.errors import InvalidCondition

_TOKEN = re.compile(
    r"""
    (?:[\ \t\r\n\f]|//[^\n]*)*+
    (?:
        (?P<name>[_a-zA-Z][_a-zA-Z0-9]*+(?!["']))
      | (?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:,()\[\]{}]|\.(?![0-9]))
      | (?P<text>\"\"\"(?s:[^\\]|\\.)*?\"\"\"|'''(?s:[^\\]|\\.)*?'''|"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
      | (?P<fraction>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
      | (?P<whole>0[xX][0-9a-fA-F]+|[0-9]+)
      | (?P<raw>[rR](?:\"\"\"(?s:.*?)\"\"\"|'''(?s:.*?)'''|"[^"\r\n]*"|'[^'\r\n]*'))
      | (?P<quoted>`[^`\r\n]+`)
      | (?P<end>\Z)
    )
    """,
    re.VERBOSE,
)
_SPACE = re.compile(r"(?:[ \t\r\n\f]|//[^\n]*)*+")

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip


_BYTES = re.compile(r"""[a-zA-Z]+["']""")


class Token(NamedTuple):
    kind: str
    """raw, text, fraction, whole, name, quoted, operator, or end."""
    text: str
    start: int


def tokenize(source: str) -> list[Token]:
    """The tokens of the source, the last of kind `end`. Raises `InvalidCondition`."""
    tokens: list[Token] = []
    at = 0
    for match in _TOKEN.finditer(source):
        if match.start() != at:
            break
        kind = str(match.lastgroup)
        text = match[kind]
        at = match.end()
        tokens.append(Token(kind, text, at - len(text)))
        if kind == "end":
            return tokens
    space = _SPACE.match(source, at)
    at = space.end() if space is not None else at
    raise InvalidCondition(_unreadable(source, at), at)


def _unreadable(source: str, at: int) -> str:
    character = source[at]
    if _BYTES.match(source, at):
        return "texts have no prefix but r: there are no bytes here"
    if character in "\"'":
        return "the text that begins here has no end on its line"
    if character == "=":
        return "'=' is no operator: compare with '=='"
    if character in "&|":
        return f"{character!r} is no operator: write {character * 2!r}"
    return f"{character!a} means nothing here"


def unquote(token: Token) -> str:
    """The value of a text token. Raises `InvalidCondition` for unknown escapes and for lone surrogates."""
    body = token.text[1:] if token.kind == "raw" else token.text
    width = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    inside = body[width:-width]
    if token.kind == "raw" or "\\" not in inside:
        return inside
    return _ESCAPE.sub(lambda match: _unescape(match, token.start), inside)


def _unescape(match: re.Match[str], position: int) -> str:
    byte, short, long, octal, simple = match.groups()
    if simple is not None:
        if simple not in _SIMPLE:
            raise InvalidCondition(f"the text has the unknown escape \\{simple}: write \\\\ for a backslash", position)
        return _SIMPLE[simple]
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise InvalidCondition(f"the text has the escape {match.group()}, which is no character", position)
    return chr(code)
