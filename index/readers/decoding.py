"""Bytes of any encoding to text whose character offsets stay exact.

Newlines are kept as they are; a line ends at "\\n", as `grep -n` and editors count. NUL becomes U+FFFD, one
character for one, because C code around SQLite ends a string there.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from dataclasses import dataclass

from ..errors import ReadError

SNIFF_BYTES = 8192
_DETECT_BYTES = 1 << 16
_REPLACEMENT = "\ufffd"
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Control bytes that text files hold: bell to carriage return (tab, newline, form feed among them) and escape (colours).
_CONTROLS = bytes(sorted(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}))
_SURROGATE = re.compile("[\ud800-\udfff]")
_LATE_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Text of a file and how it was read."""

    text: str
    encoding: str
    replaced: int = 0
    """Byte sequences that were no valid text and stand as U+FFFD."""

    @property
    def metadata(self) -> dict[str, str]:
        """What a document should say about its encoding; {} for plain UTF-8."""
        if self.replaced:
            return {"encoding": f"{self.encoding}, {self.replaced} invalid sequences replaced by U+FFFD"}
        return {} if self.encoding == "utf-8" else {"encoding": self.encoding}


def looks_binary(sample: bytes) -> bool:
    """Return whether the first bytes of a file are no text in any encoding: NULs or many control bytes, no mark."""
    if not sample or sample.startswith(tuple(mark for mark, _ in _MARKS)) or _bare_utf16(sample):
        return False
    if b"\0" in sample:
        return True
    return len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) // 50


def decode(data: bytes, name: str, *, declared: str | None = None) -> Decoded:
    """Return the text of `data`: byte order mark, then the declared charset, UTF-8, then detection.

    Raises ReadError when the bytes are binary."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _lenient(data[len(mark) :], encoding)
    if bare := _bare_utf16(data[:SNIFF_BYTES]):
        return _lenient(data, bare)
    if looks_binary(data[:SNIFF_BYTES]):
        raise ReadError(f"{name}: binary data where text was expected. Exclude the file or give it its real extension.")
    if declared is not None and (found := _declared(data, declared)) is not None:
        return found
    try:
        return Decoded(text=_without_nul(data.decode("utf-8")), encoding="utf-8")
    except UnicodeDecodeError:
        return _detect(data)


def clean(text: str) -> str:
    """Return `text` with NULs and lone surrogates (JSON escapes make them) as U+FFFD; SQLite takes neither well."""
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _without_nul(text)


def line_starts(text: str) -> list[int]:
    """Return the character at which each line begins; the first is 0."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def line_at(starts: list[int], char: int) -> int:
    """Return the 1-based line that holds character `char`."""
    return bisect_right(starts, char)


def _without_nul(text: str) -> str:
    return text.replace("\0", _REPLACEMENT)


def _lenient(data: bytes, encoding: str) -> Decoded:
    text = data.decode(encoding, "replace")
    own = data.count(_REPLACEMENT.encode(encoding)) if encoding.startswith("utf") else 0
    replaced = text.count(_REPLACEMENT) - own
    return Decoded(text=_without_nul(text), encoding=encoding, replaced=max(replaced, 0))


def _declared(data: bytes, declared: str) -> Decoded | None:
    """Return the text by the charset a file states, or None where that is unknown or does not fit."""
    try:
        codec = codecs.lookup(declared).name
        # Browsers read "latin-1" and "ascii" as windows-1252 (WHATWG encoding standard), and pages rely on it.
        codec = "cp1252" if codec in {"iso8859-1", "ascii"} else codec
        return Decoded(text=clean(data.decode(codec)), encoding=codec)
    except (LookupError, UnicodeError, TypeError, AssertionError):
        return None


def _bare_utf16(sample: bytes) -> str | None:
    """Return the codec when `sample` looks like UTF-16 without a mark: NULs on one side of its pairs only."""
    pairs = len(sample) // 2
    if pairs < 4 or b"\0" not in sample:
        return None
    even, odd = sample[: pairs * 2 : 2].count(0), sample[1 : pairs * 2 : 2].count(0)
    for codec, empty, full in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if empty > pairs * 0.4 and full < pairs * 0.02:
            try:
                text = sample[: pairs * 2].decode(codec, "strict")
            except UnicodeDecodeError as error:
                if error.start < pairs * 2 - 4:
                    continue
                text = sample[: error.start].decode(codec)
            if not any(ord(char) < 7 for char in text):
                return codec
    return None


def _detect(data: bytes) -> Decoded:
    """Return the text of bytes that are not valid UTF-8."""
    lenient = _lenient(data, "utf-8")
    wide = len(re.findall(r"[^\x00-\x7f]", lenient.text[:_DETECT_BYTES])) - lenient.text[:_DETECT_BYTES].count(
        _REPLACEMENT
    )
    broken = lenient.text[:_DETECT_BYTES].count(_REPLACEMENT)
    if wide > 4 * broken:
        # UTF-8 with a few broken bytes: another charset would garble every accent of the file to save these.
        return lenient
    return _lenient(data, _guess(data))


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    high = re.search(rb"[\x80-\xff]", data)
    start = max(0, (high.start() if high else 0) - _DETECT_BYTES // 2)
    sample = data[start : start + _DETECT_BYTES]
    if len(re.findall(rb"[\x80-\xff]", sample)) < 8 and not _LATE_1252.search(sample):
        # Too little to tell encodings apart by statistics; windows-1252 is by far the most common.
        return "cp1252"
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"
