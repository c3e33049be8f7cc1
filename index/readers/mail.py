"""Mail: one message (eml) or a mailbox of them (mbox)."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parsedate_to_datetime

from ..documents import Anchor, Document, Section
from ..errors import ReadError
from .decoding import clean, decode
from .markup import html_text

_FROM_LINE = re.compile(rb"^From [^\n]*\d\d:\d\d[^\n]*\n", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_KNOWN = ("From", "To", "Subject", "Date", "Message-ID", "Received", "Cc", "MIME-Version")
_SHOWN = ("From", "To", "Cc", "Date")


def read_eml(data: bytes, name: str) -> Document:
    """Return one message: subject as title, its date as the document's, from and to in metadata."""
    message = _parse(data.lstrip(b"\r\n"), name)
    subject = _header(message, "Subject")
    metadata = {key.lower(): value for key in _SHOWN if (value := _header(message, key))}
    return Document(
        format="eml",
        sections=(_section(message, subject, Anchor(kind="message", value="1"), 1),),
        title=subject or None,
        date=_date(message),
        metadata=metadata,
    )


def read_mbox(data: bytes, name: str) -> Document:
    """Return one section per message, anchor "message" with its number from 1, subject as heading.

    Raises ReadError when the file does not begin with a "From " line, or a message has no header."""
    data = data.lstrip(b"\r\n")
    sections: list[Section] = []
    for number, (line, raw) in enumerate(_split(data, name), start=1):
        message = _parse(_QUOTED_FROM.sub(rb"\1", raw), f"{name}: message {number}")
        sections.append(_section(message, _header(message, "Subject"), Anchor(kind="message", value=str(number)), line))
    return Document(format="mbox", sections=tuple(sections))


def _split(data: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the 1-based line and the bytes of each message, without its "From " line."""
    if not data:
        return
    # A "From " line in a body is only a separator after a blank line, and has a time in it.
    marks = [
        found for found in _FROM_LINE.finditer(data)
        if found.start() == 0 or data.endswith((b"\n\n", b"\r\n\r\n"), 0, found.start())
    ]  # fmt: skip
    if not marks or marks[0].start() != 0:
        raise ReadError(f"{name}: not a mailbox: it begins with {data[:20]!r}, expected a line 'From address date'.")
    line, at = 1, 0
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        line += data.count(b"\n", at, mark.start())
        at = mark.start()
        yield line, data[mark.end() : following.start() if following is not None else len(data)]


def _parse(raw: bytes, name: str) -> Message:
    # The old policy: the new one parses headers on access and raises on those that spam and archives are full of.
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    if not any(key in message for key in _KNOWN):
        raise ReadError(f"{name}: no mail: it has none of the headers {', '.join(_KNOWN)}.")
    return message


def _section(message: Message, subject: str, anchor: Anchor, line: int) -> Section:
    head = [f"{key}: {value}" for key in _SHOWN if (value := _header(message, key))]
    body, attachments = _body(message)
    if attachments:
        body = f"{body}\n\nAttachments: {', '.join(attachments)}".strip()
    parts = ([f"Subject: {subject}"] if subject else []) + head
    text = "\n".join(parts) + (f"\n\n{body}" if body else "")
    return Section(text=clean(text), anchor=anchor, headings=(subject,) if subject else (), line=line)


def _body(message: Message) -> tuple[str, list[str]]:
    """Return the text of a message and the names of its attachments, which are not read.

    Of alternatives the plain one is taken, HTML only where there is no plain text with something in it."""
    if message.get_content_type() == "multipart/alternative" and message.is_multipart():
        found = [_body(part) for part in _parts(message)]
        kinds = [part.get_content_type() for part in _parts(message)]
        names = [name for _, inner in found for name in inner]
        plain = [text for (text, _), kind in zip(found, kinds, strict=True) if text and kind == "text/plain"]
        return (plain or [text for text, _ in found if text] or [""])[0], names
    if message.is_multipart():
        texts, names = [], []
        for part in _parts(message):
            text, inner = _body(part)
            texts.append(_forwarded(part, text))
            names += inner
        return "\n\n".join(text for text in texts if text), names
    filename = _decoded(message.get_filename() or "")
    if filename or message.get_content_disposition() == "attachment" or message.get_content_maintype() != "text":
        return "", [filename or message.get_content_type()]
    text = _text(message)
    return (html_text(text) if message.get_content_subtype() == "html" else text.strip()), []


def _parts(message: Message) -> list[Message]:
    payload = message.get_payload()
    return [part for part in payload if isinstance(part, Message)] if isinstance(payload, list) else []


def _forwarded(part: Message, text: str) -> str:
    """Return the text of a part; a message within a message is headed by its subject."""
    inner = _parts(part)[0] if part.get_content_type() == "message/rfc822" and _parts(part) else None
    subject = _header(inner, "Subject") if inner is not None else ""
    return f"Forwarded: {subject}\n\n{text}" if subject else text


def _text(message: Message) -> str:
    payload = message.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    charset = message.get_content_charset()
    try:
        text = decode(payload, "body", declared=charset).text
    except ReadError:
        # A text part with binary in it: keep what can be read rather than lose the whole mailbox.
        text = payload.decode("utf-8", "replace")
    return text.replace("\r\n", "\n")


def _header(message: Message, key: str) -> str:
    # raw_items: get() turns raw bytes in a header into U+FFFD before their charset can be guessed.
    return _decoded(next((str(value) for name, value in message.raw_items() if name.lower() == key.lower()), ""))


def _decoded(value: str) -> str:
    """Return a header with its encoded words decoded, as it stands where they are malformed."""
    with suppress(LookupError, ValueError, UnicodeError):
        value = str(make_header(decode_header(value)))
    # Raw bytes in headers come as surrogate escapes.
    try:
        value = decode(value.encode("utf-8", "surrogateescape"), "header").text
    except (ReadError, UnicodeEncodeError):
        value = clean(value)
    return " ".join(value.split())


def _date(message: Message) -> datetime | None:
    try:
        date = parsedate_to_datetime(_header(message, "Date"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
