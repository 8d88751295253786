"""The lines of vCards (RFC 6350, 3.3): unfolded, read, brought into the form of 4.0, and folded again.

`vobject` reads a line: groups, parameters in the ways of 2.1, 3.0 and 4.0, quoted-printable in its charsets. Its own
unfolding takes time quadratic in the size of a picture, and its pattern for a line exponential in the commas of a wrong
one; so lines are unfolded here, and those it is shown have a head that one linear look has found to be right.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct
from vobject.base import ContentLine, VObjectError, textLineToContentLine

LONGEST_LINE_BYTES = 75
NEWLINE = re.compile(r"\r\n|\r|\n")
VALUE = r'(?:"[^"]*"|[^";:,]*)'
HEAD = re.compile(rf"(?:[\w-]+\.)?[\w-]+(?:;[\w-]+(?:={VALUE}(?:,{VALUE})*)?)*:", re.ASCII)
NO_VALUE = re.compile(r";[\w-]+=(?=[;:])", re.ASCII)
QUOTED_PRINTABLE = re.compile(r"quoted-printable", re.IGNORECASE)
UNREADABLE = (VObjectError, LookupError, TypeError, ValueError)
ENCODINGS = frozenset({"7BIT", "8BIT", "BASE64", "B"})
MEDIA = {"PHOTO": "image", "LOGO": "image", "SOUND": "audio", "KEY": "application"}
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class LineError(ValueError):
    """A line that is none of a vCard."""


class Property(Struct, frozen=True):
    """A line: its value stays escaped; the names of parameters are in capitals."""

    name: str
    value: str
    params: dict[str, list[str]] = {}
    group: str | None = None

    @property
    def types(self) -> list[str]:
        """In small letters; 4.0 lets a list stand in quotation marks."""
        return [word.lower() for text in self.params.get("TYPE", ()) for word in text.split(",")]

    def first(self, name: str) -> str | None:
        return next(iter(self.params.get(name, ())), None)


def unfolded(text: str) -> Iterator[str]:
    """Lines as they were before they were folded, also in the way of quoted-printable."""
    pieces: list[str] = []
    goes_on = False
    for line in NEWLINE.split(text):
        if goes_on:
            pieces[-1] = pieces[-1][:-1]
            pieces.append(line)
        elif line[:1] in {" ", "\t"} and pieces:
            pieces.append(line[1:])
        else:
            if pieces:
                yield "".join(pieces)
            pieces = [line] if line.strip() else []
        goes_on = bool(pieces) and line.endswith("=") and bool(QUOTED_PRINTABLE.search(pieces[0].partition(":")[0]))
    if pieces:
        yield "".join(pieces)


def read_line(line: str) -> Property:
    """Raises LineError."""
    head = HEAD.match(line)
    if head is None:
        raise LineError(f'"{line[:40]}" is no line of a vCard')
    start = head[0] if '"' in head[0] else NO_VALUE.sub("", head[0])  # vobject would take the name for a value
    start = QUOTED_PRINTABLE.sub("QUOTED-PRINTABLE", start)  # which it knows in capitals alone
    try:
        read = textLineToContentLine(start + line[head.end() :])
    except UNREADABLE as error:
        raise LineError(f"{head[0][:40]} {error}") from error
    return _modern(read)


def _modern(line: ContentLine) -> Property:
    """As 4.0 says it: words without a name are types, pictures are data: URIs, a preference is a parameter."""
    params: dict[str, list[str]] = {name: list(values) for name, values in line.params.items()}
    encoding = [word.upper() for word in params.pop("ENCODING", [])]
    encoding += [word.upper() for word in line.singletonparams if word.upper() in ENCODINGS]
    types = [word for word in line.singletonparams if word.upper() not in ENCODINGS]
    types += [word for text in params.pop("TYPE", []) for word in text.split(",")]
    params.pop("CHARSET", None)
    if "pref" in map(str.lower, types):
        types = [word for word in types if word.lower() != "pref"]
        params.setdefault("PREF", ["1"])
    value = "\\n".join(NEWLINE.split(line.value))
    if {"B", "BASE64"} & set(encoding):
        value = "".join(value.split())
        if line.name in MEDIA:
            kind = types.pop(0).lower() if types else "octet-stream"
            value = f"data:{kind if '/' in kind else f'{MEDIA[line.name]}/{kind}'};base64,{value}"
        else:
            params["ENCODING"] = ["b"]
    elif line.name in MEDIA and params.get("VALUE", [""])[0].lower() == "uri":
        del params["VALUE"]
    if types:
        params["TYPE"] = [word.lower() for word in types]
    return Property(line.name, value, params, line.group)


def written_line(read: Property) -> str:
    """One line, not folded."""
    line = ContentLine(read.name, [], read.value, read.group)
    line.params = read.params
    text: str = line.serialize(lineLength=2**31)
    return text.removesuffix("\r\n")


def folded(lines: Iterable[str]) -> bytes:
    """Lines of at most 75 bytes, none of which ends within a character."""
    whole = bytearray()
    for line in lines:
        written = line.encode()
        begin, end = 0, LONGEST_LINE_BYTES
        while end < len(written):
            while written[end] & 0xC0 == 0x80:
                end -= 1
            whole += written[begin:end] + b"\r\n "
            begin, end = end, end + LONGEST_LINE_BYTES - 1
        whole += written[begin:] + b"\r\n"
    return bytes(whole)


def plain(value: str) -> str:
    """Text without its escapes (RFC 6350, 3.4)."""
    return ESCAPED.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def escaped(text: str) -> str:
    return re.sub(r"([\\,;])", r"\\\1", text).replace("\n", "\\n")


def components(value: str) -> list[str]:
    """What semicolons part, still escaped."""
    return _parted(value, ";")


def words(component: str) -> str:
    """A component as text; several values of it are told with a comma between."""
    return ", ".join(filter(None, (plain(each).strip() for each in _parted(component, ","))))


def _parted(value: str, sign: str) -> list[str]:
    parts, begin = [], 0
    for match in re.finditer(rf"\\.|{sign}", value, re.DOTALL):
        if match[0] == sign:
            parts.append(value[begin : match.start()])
            begin = match.end()
    return [*parts, value[begin:]]
