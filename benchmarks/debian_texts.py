"""Training pairs out of the documentation in Debian packages: manual pages, HTML and help pages, dictionaries.

    python benchmarks/debian_texts.py OUT --packages coreutils python3.11-doc --debs /tmp/debs

`--packages` are names, fetched with `apt-get download` (as root, after `apt-get update`), .deb files, or folders of
.deb files; without it, the list below. Nothing is installed: the files are read out of the packages. Manual pages need
the command `mandoc`. With `--debs` what was fetched is kept and used again, so that a second run makes the same bytes.

OUT gets one .jsonl.gz file of {"query", "positive"} for each kind, because a batch of training is drawn from one file,
and manifest.json with the packages, versions, licences and digests. Only packages all of whose licences are known to be
free are read: the others are refused by name, with the licence that stands in the way.

With `--avoid FOLDER...` no pair is kept that has 13 words in a row in common with a .jsonl file there: give it the data
that encoders are measured on.

- manual: what a page is for, as its NAME line says it, and the beginning of its DESCRIPTION
- manual-sections: page and heading, and the section
- documents: heading path, and the section
- dictionaries: headword, and what it means
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from blake3 import blake3
from lxml import etree, html

SHORTEST, LONGEST = 40, 1000
LONGEST_QUERY = 150
RUN = 13
KINDS = ("manual", "manual-sections", "documents", "dictionaries")


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MANUALS = words(
    """
    acl apt bash bsdextrautils bsdutils btrfs-progs coreutils cryptsetup-bin curl debhelper devscripts
    diffutils dovecot-core dpkg dpkg-dev findutils fish-common freebsd-manpages gawk gdb git-man
    grep gzip iproute2 jq less libcurl4-doc libssl-doc lintian logrotate lvm2 make man-db
    manpages manpages-dev mdadm mount mutt nano ncurses-doc network-manager nftables notmuch openssh-client
    openssh-server parallel passwd perl-doc poppler-utils procps psmisc rsync schroot screen sed smartmontools
    sqlite3 subversion systemd systemd-container tar tmux unbound util-linux util-linux-extra wireguard-tools
    xfsprogs zstd
    """
)
DICTIONARIES = ("dict-foldoc", "dict-jargon")
SUBJECTS = {
    "apache2-doc": "Apache HTTP Server",
    "aptitude-doc-en": "Aptitude",
    "borgbackup-doc": "Borg backup",
    "cmake-doc": "CMake",
    "debian-faq": "Debian FAQ",
    "debian-handbook": "Debian Handbook",
    "debian-policy": "Debian Policy",
    "debian-reference-en": "Debian Reference",
    "developers-reference": "Debian Developer's Reference",
    "exim4-doc-html": "Exim",
    "fish-common": "fish shell",
    "gimp-help-en": "GIMP",
    "git-doc": "Git",
    "gnome-user-docs": "GNOME",
    "harden-doc": "Securing Debian",
    "installation-guide-amd64": "Debian Installation Guide",
    "libreoffice-help-en-us": "LibreOffice",
    "lintian": "Lintian",
    "mailman3-doc": "Mailman",
    "maint-guide": "Debian New Maintainers' Guide",
    "mutt": "Mutt",
    "octave-doc": "Octave",
    "postgresql-doc-15": "PostgreSQL",
    "python-celery-doc": "Celery",
    "python-cryptography-doc": "Python cryptography",
    "python-django-doc": "Django",
    "python-flask-doc": "Flask",
    "python-pandas-doc": "pandas",
    "python-pytest-doc": "pytest",
    "python-scipy-doc": "SciPy",
    "python-sklearn-doc": "scikit-learn",
    "python-sqlalchemy-doc": "SQLAlchemy",
    "python-sympy-doc": "SymPy",
    "python3.11-doc": "Python",
    "sphinx-doc": "Sphinx",
    "sqlite3-doc": "SQLite",
    "varnish-doc": "Varnish",
}
# They hold the licences of gimp-help-en and cmake-doc, whose folders of documentation are links to theirs.
CARRIERS = frozenset({"cmake-data", "gimp-help-common"})
DEFAULT = sorted({*MANUALS, *SUBJECTS, *DICTIONARIES, *CARRIERS})

# Short names of licences as debian/copyright files write them, small letters, without "+", "-only" and "-or-later".
# Each allows copies, changes and both of them for sale. A licence that forbids one of these is not in Debian's main
# archive, but may be elsewhere, and a name that says nothing ("other", "custom") is not taken on trust either.
FREE = re.compile(
    r"""(?x)
    (?! .* (non-?commercial | -nc\b | no-?deriv | -nd\b | nuclear))
    ((a|l)?gpl (-?\d(\.\d)*)? | artistic(-?\d(\.\d)*)? | apache(-?\d(\.\d)*)? | mpl-\d(\.\d)* | epl-\d(\.\d)*
    | bsd-?[0-4]-?clause.* | bsd-[23] | bsd-[23]-.* | 0bsd | bsla | bsd-lbnl | mazieres-bsd-style | powell-bsd-style
    | expat.* | mit | mit/x11 | mit-like | mit-us-export | x11.* | isc | zlib | zlib/libpng | curl | openssl | openssh
    | oldap-2\.8 | cc0(-1\.0)? | cc-by(-sa)?-\d(\.\d)? | public[ -]domain.* | pd | psf-?\d? | psf-baseconv | python
    | postgresql | tcl | unicode.* | gfdl-niv(-\d\.\d)? | gfdl-1\.3-no-invariant | fsfap | fsful | fsfullr
    | fsf-manpages | fsf-unlimited | gnu-all-permissive-license | permissive | preserve-notice | latex2e | boost(-1\.0)?
    | bsl-1(\.0)? | beerware | linux-man-pages-copyleft | less | spencer-86 | afl-3 | eupl-1\.\d | w3c | ruby | vim
    | sleepycat | ofl-1\.1 | bzip | pcre | purdue)
    """
)
# Names that mean something in one source package only, and what stands behind them was read: free, or of a file of code
# or a licence that no text here is from (zeus: ab.c; hsieh-derivative: a hash; dont-change-the-gpl: the GPL itself).
READ: Mapping[str, frozenset[str]] = {
    "apache2": frozenset({"cisco", "custom", "haines", "md5", "zeus"}),
    "debian-policy": frozenset({"fhs"}),
    "git": frozenset({"boost", "dlmalloc", "edl-1.0", "mingw-runtime"}),
    "perl": words(
        "artistic-dist dont-change-the-gpl hsieh-bsd hsieh-derivative regcomp rra-keep-this-notice "
        "sdbm-public-domain text-tabs"
    ),
    "libreoffice": frozenset({"other"}),
    "rsync": frozenset({"snprintf"}),
    "postgresql-15": frozenset(
        {"custom-pg_dump", "custom-regex", "custom-unicode", "double-metaphone", "nagaysau-ishii"}
    ),
    "scipy": frozenset({"bsd-generic", "bsdlike", "qhullbsd"}),
    "subversion": frozenset({"boostacmacros", "svnwrap", "utfwidth"}),
}
# Copyright files that no program can read, read by us: what they say, and the words that must still be there.
PROSE: Mapping[str, tuple[str, str]] = {
    "debian-faq": ("permissive copyleft", "Permission is granted to copy and distribute modified versions of"),
    "dict-foldoc": ("GFDL-NIV-1.1+", "with no Invariant Sections, Front- or Back-Cover Texts"),
    "exim4-doc-html": ("GPL-2+", "License: GPL v2+"),
    "installation-guide-amd64": ("GPL-2", "It is licensed under the terms of the GNU GPL, version 2."),
    "python3.11-doc": ("PSF-2", "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"),
}

LANGUAGES = words(
    """
    ar as be bg bn bs ca cs da de el eo es et eu fa fi fr gl gu he hi hr hu hy id it ja ka kk km kn ko lt lv mk ml
    mr ms nb ne nl nn or pa pl pt ro ru si sk sl sq sr sv ta te tg th tr ug uk ur vi zh
    """
)
OTHER_LANGUAGE = re.compile(rf"(?:^|[/.])(?:{'|'.join(sorted(LANGUAGES))})(?:[-_@][A-Za-z]+)?(?=[/.])")
MANUAL_FILE = re.compile(r"usr/share/man/man[1-9]/[^/]+\.gz")
PAGE_FILE = re.compile(r"usr/share/.+\.(?:html|page)(?:\.gz)?")
# Lists, searches and histories of changes; and pages made of docstrings, which are code: data for evaluation hold code.
NO_TEXT = re.compile(
    r"(?i)/(?:_modules|_sources|_static|generated|api|autosummary|search|releaselog|releases?|whats_?new|history"
    r"|RelNotes|syntax|whats-?new)(?:/|$)|(?:genindex|py-modindex|search|changes|changelog|changelogs|license|copyright"
    r"|contents|gfdl|gpl|syntaxdiagrams|release-?notes?|whats_?new|news|keyword_index|theindex|bookindex)[^/]*\.html"
)
NO_MANUAL = re.compile(r"perl.*delta|perlgpl|perlartistic")
DICTIONARY_FILE = re.compile(r"usr/share/dictd/[^/]+\.(?:index|dict\.dz)")

BLOCKS = words(
    """
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure form h1
    h2 h3 h4 h5 h6 header hr item li list main note ol p page section steps summary table tbody td terms th title
    tr ul
    """
)
SILENT = words(
    """
    button cite code-block comment footer form head iframe img info input math media nav noscript pre script screen
    select style svg table textarea figure
    """
)
SILENT_CLASSES = words(
    """
    admonition-title back-matter breadcrumbs bookinfo contents copyright entry-meta example-contents figure footer
    footnote headerlink highlight index list-of-tables literal-block menu nav navbar navfooter navheader navigation
    programlisting qindex quickview related rubric screen seealso sidebar sphinxsidebar syntax synopsis titlepage-info
    toc toctree toctree-wrapper top up versionadded versionchanged versionmodified deprecated
    """
)
SILENT_ROLES = frozenset({"navigation", "search", "banner", "contentinfo"})
HEADINGS = {f"h{level}": level for level in range(1, 7)}
SIGNED = frozenset({"sig", "deftypefn", "deftypefnx", "def-line"})
SIGNATURE = 7  # deeper than any heading: what a function does is a section below the one that lists it
NO_SECTION = re.compile(
    r"(?i)(?:name|synopsis|authors?|copyright|see also|reporting bugs|bugs|colophon|history|standards|conforming to"
    r"|versions?|attributes|availability|library|licen[cs]e|feedback|resources|maintainers?|credits|contributors"
    r"|acknowledge?ments?|contents|table of contents|index|references|bibliography|further reading|related topics"
    r"|search|indices and tables|author and copyright.*|copyright and licen[cs]e|disclaimer|notes?|warning|tip|caution"
    r"|important|copying|copying permissions|.*\blicen[cs]es?|licen[cs]es? .*|todo"
    r"|thread safety.*|git|errors|return values?|legal notice|about this document|abstract)"
)
LICENCE = re.compile(r"(?i)\bgnu .*licen[cs]e|creative commons")
NUMBERED = re.compile(
    r"^(?:(?:chapter|appendix|part|section|example)\s+)?(?:\d+|[A-Z](?=\.))(?:\.\d+)*[.:]?\s+", re.IGNORECASE
)
FUNCTION_WORDS = words(
    """
    a all also an and any are as at be been but by can do each for from has have if in into is it its may must no
    not of on one only or other see should so such than that the their then there these they this to use used
    using was when where which will with without would you your
    """
)
TEX = re.compile(r"\\[a-zA-Z(\[]|\$\$|\{\{|\{%")
SENTENCE_END = re.compile(r"[.!?][\"')\]\u201d\u2019]*(?=\s|$)")
# Manual pages write lists as terms that are no words.
BULLETS = frozenset({"", "\u2022", "*", "o", "\u00b7"})
Pair = tuple[str, str]
Element = Any


class RefusedError(Exception):
    """A package that is not read, with the reason."""


@dataclass(frozen=True, slots=True)
class Package:
    """What the head of a .deb file says."""

    path: Path
    name: str
    version: str
    source: str


@dataclass(slots=True)
class Paragraph:
    """A text of one block; `listed` when it is an entry of a list."""

    text: str
    listed: bool


@dataclass(slots=True)
class Section:
    """The headings above a text, outermost first, and its paragraphs up to the next heading."""

    path: tuple[str, ...]
    paragraphs: list[Paragraph] = field(default_factory=list)


# Texts


def folded(text: str) -> str:
    """Return a text on one line, without marks that are only there to be clicked and spaces that markup left behind."""
    text = text.translate({0x2010: "-", 0x2011: "-", 0xAD: None, 0x200B: None, 0xB6: None, 0xFEFF: None})
    # A point may begin a word (".profile"); a comma may not.
    return re.sub(r" +([,;)\]]|[.:](?= |$))", r"\1", re.sub(r"([(\[]) +", r"\1", " ".join(text.split())))


def whole_sentences(text: str, longest: int) -> str:
    """Return the sentences that end within the first `longest` characters."""
    ends = [match.end() for match in SENTENCE_END.finditer(text, 0, longest)]
    return text[: ends[-1]] if ends else ""


def cut(text: str) -> str:
    """Return a text of fair length, without the sentences that do not fit."""
    return text if len(text) <= LONGEST else whole_sentences(text, LONGEST)


def natural(text: str) -> bool:
    """Return whether a text is English prose: letters, and the small words without which no sentence is made."""
    found = re.findall(r"[a-z']+", text.lower())
    small = sum(word in FUNCTION_WORDS for word in found)
    letters = sum(letter.isalpha() or letter == " " for letter in text)
    return len(found) >= 6 and small >= 0.15 * len(found) and letters >= 0.85 * len(text)


def joined(paragraphs: Sequence[Paragraph]) -> str:
    """Return paragraphs as one text, empty when it is no prose.

    An entry of a list that ends in a word gets the full stop it had no need of. A sentence that ends in a colon led to
    code or a table, unless a list follows.
    """
    parts: list[str] = []
    for paragraph, after in zip(paragraphs, [*paragraphs[1:], None], strict=False):
        text = paragraph.text
        if text.endswith(":") and not (after and after.listed):
            text = whole_sentences(text, len(text) - 1)
        if text and not TEX.search(text):
            bare = paragraph.listed and (text[-1].isalnum() or text[-1] in ")]\"'")
            parts.append(f"{text}." if bare else text)
    found = cut(" ".join(parts))
    return found if len(found) >= SHORTEST and natural(found) else ""


def asked(parts: Sequence[str]) -> str:
    """Return a query from headings, outermost first: a question stands alone, equal neighbours are said once."""
    if parts[-1].endswith("?") and len(parts[-1].split()) > 3:
        return parts[-1]
    kept = [part for at, part in enumerate(parts) if part and (at == 0 or part.lower() != parts[at - 1].lower())]
    return ": ".join(kept if len(kept) <= 4 else [kept[0], *kept[-3:]])


def unwanted(headings: Iterable[str]) -> bool:
    """Return whether one of the headings is of a section that every page has, such as its authors."""
    return any(NO_SECTION.fullmatch(heading) for heading in headings)


# Pages: a walk over the tree that both HTML and the XML of help pages share


class Reader:
    """Sections of a page, in its order."""

    def __init__(self) -> None:
        self.sections = [Section(())]
        self._headings: list[tuple[int, str]] = []
        self._words: list[str] = []
        self._terms: list[str] = []
        self._lists = 0
        self._depth = 0
        self._holes = False

    def read(self, element: Element) -> None:
        """Take an element with all that is in it, not the text behind it."""
        if not isinstance(element.tag, str) or silent(element):
            return
        tag = etree.QName(element).localname
        if level := self._level(element, tag):
            self._open(level, element)
            return
        block = tag in BLOCKS
        if block:
            self._end_paragraph()
        self._inside(element, tag)
        if tag == "dt":
            term = folded("".join(self._words)).rstrip(":")
            self._terms += [term] if term not in BULLETS else []
            self._words = []
        elif block:
            self._end_paragraph()
        if tag == "dd":  # one without a text leaves its terms to nobody
            self._terms = []

    def _inside(self, element: Element, tag: str) -> None:
        listing, section = tag in {"dl", "ul", "ol", "list", "steps", "terms"}, tag == "section"
        self._lists += listing
        self._depth += section
        outer = list(self._headings) if tag == "dl" else None
        # An empty link of a help page stands for the title of another page, which is not at hand.
        self._holes |= tag == "link" and "xref" in element.attrib and not "".join(element.itertext()).strip()
        self._words.append("^" if tag == "sup" and (element.text or "")[:1].isdigit() else "")
        self._words.append(element.text or "")
        for child in element:
            self.read(child)
            self._words.append((" > " if tag == "guiseq" and child.getnext() is not None else "") + (child.tail or ""))
            if isinstance(child.tag, str) and child.tag == "br":
                self._words.append(" ")
        if outer is not None and outer != self._headings:
            self._end_paragraph()
            self._headings = outer
            self.sections.append(Section(tuple(text for _, text in outer)))
        self._lists -= listing
        self._depth -= section

    def _level(self, element: Element, tag: str) -> int:
        if tag == "title":  # of a help page, where depth is that of the sections around
            return self._depth + 1
        if tag == "dt" and not SIGNED.isdisjoint(element.get("class", "").split()):
            return SIGNATURE
        return HEADINGS.get(tag, 0)

    def _open(self, level: int, element: Element) -> None:
        self._end_paragraph()
        heading = NUMBERED.sub("", folded(signed(element) if level == SIGNATURE else readable(element)))
        heading = heading.strip(" :#-\u2013\u2014")
        self._headings = [*((depth, text) for depth, text in self._headings if depth < level), (level, heading)]
        self._terms = []
        path = [text for _, text in self._headings]
        # A name says by itself where it is; of the headings above, the page's is enough.
        self.sections.append(Section(tuple(path if level != SIGNATURE else dict.fromkeys([path[0], path[-1]]))))

    def _end_paragraph(self) -> None:
        text = folded("".join(self._words))
        self._words = []
        if text and not self._holes:
            term = ", ".join(self._terms)
            listed = self._lists > 0
            self.sections[-1].paragraphs.append(Paragraph(f"{term}: {text}" if term else text, listed))
            self._terms = []
        self._holes = False


def silent(element: Element) -> bool:
    """Return whether an element holds no text to learn from: navigation, code, tables, pictures."""
    tag = etree.QName(element).localname
    # "code" is a word in a sentence of HTML, and a block of lines in a help page.
    if tag in SILENT or (tag == "code" and not isinstance(element, html.HtmlElement) and "\n" in (element.text or "")):
        return True
    if tag == "sup" and element.find(".//a") is not None:  # a footnote
        return True
    return not SILENT_CLASSES.isdisjoint(element.get("class", "").split()) or element.get("role") in SILENT_ROLES


def signed(element: Element) -> str:
    """Return the name in a signature: Sphinx has the whole dotted one as id, texinfo the bare one in bold."""
    name: str = element.get("id", "")
    if "." in name and not name.startswith("cmdoption"):
        return name.removeprefix("module-").removeprefix("c.")
    bold = element.xpath(".//*[contains(@class, 'def-name')]")
    return readable(bold[0]) if bold else readable(element).split("(")[0]


def readable(element: Element) -> str:
    """Return the text of a heading without the links to itself."""
    inner = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and "headerlink" not in child.get("class", ""):
            inner.append(readable(child))
        inner.append(child.tail or "")
    return "".join(inner)


def sections_of(data: bytes, *, help_page: bool = False) -> list[Section]:
    """Return the sections of an HTML page, or of a Mallard help page. Empty for what no parser reads."""
    reader = Reader()
    if help_page:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
    else:
        document = html.document_fromstring(data, html.HTMLParser(encoding=encoding(data)), ensure_head_body=True)
        language = document.get("lang") or document.get("{http://www.w3.org/XML/1998/namespace}lang") or "en"
        root = document.body if language.lower().startswith(("en", "c")) else None
        mains = [] if root is None else root.xpath(".//*[@role='main'] | .//main")
        root = mains[0] if mains else root
    if root is not None:
        reader.read(root)
    return reader.sections


def encoding(data: bytes) -> str:
    """Return UTF-8 where the bytes are that, else Latin-1, which reads all there are: few old pages say."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def document_pairs(subject: str, files: Mapping[str, bytes]) -> Iterator[Pair]:
    """Yield heading paths and sections of the HTML and help pages of a package, files in the order of their names."""
    for name in sorted(files):
        # A page with nothing in it raises a ParserError, which lxml derives from this.
        try:
            sections = sections_of(files[name], help_page=".page" in name)
        except (etree.LxmlError, ValueError):
            continue
        # A manual page in HTML: the package of the manual pages has it too, in nearly the same words.
        if any(section.path[-1:] == (heading,) for section in sections for heading in ("NAME", "Name")):
            continue
        for section in sections:
            if section.path and not (unwanted(section.path[-1:]) or any(map(LICENCE.search, section.path))):
                text = joined(section.paragraphs)
                if text:
                    yield asked([subject, *section.path]), text


# Manual pages


def rendered(page: bytes) -> bytes:
    """Return a manual page as HTML."""
    done = subprocess.run(["mandoc", "-T", "html", "-O", "fragment"], input=page, capture_output=True, check=False)
    return done.stdout


def sentence_case(heading: str) -> str:
    """Return a heading that is all capitals, as manual pages have them, in small letters."""
    return heading.capitalize() if heading.isupper() and len(heading) > 4 else heading


def manual_pairs(name: str, page: bytes) -> tuple[list[Pair], list[Pair]]:
    """Return what a rendered page is for with its description, and its other sections."""
    sections = sections_of(b"<html><body>" + page + b"</body></html>")
    purpose = ""
    described: list[Pair] = []
    others: list[Pair] = []
    for section in sections:
        heading = section.path[-1] if section.path else ""
        if heading.upper() == "NAME" and section.paragraphs and not purpose:
            purpose = purpose_of(section.paragraphs[0].text)
        elif heading.upper() == "DESCRIPTION" and len(section.path) == 1:
            running = [paragraph for paragraph in section.paragraphs if not paragraph.listed]
            text = joined(running) or joined(section.paragraphs)
            if purpose and text:
                described.append((purpose, text))
        elif heading and purpose and not unwanted(section.path):
            text = joined(section.paragraphs)
            inner = [part for part in section.path if part.upper() != "DESCRIPTION"]
            if text and inner:
                others.append((asked([name, *map(sentence_case, inner)]), text))
    return described, others


def purpose_of(line: str) -> str:
    """Return the description in a NAME line, empty when it has none of at least two words."""
    parts = re.split(r"\s(?:-|--|\u2013|\u2014)\s", line, maxsplit=1)
    purpose = parts[1].strip().rstrip(".") if len(parts) == 2 else ""
    return purpose if len(purpose.split()) > 1 else ""


def pages_of(files: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the manual pages of a package with their names, rendered; a page that only points to another is none."""
    pages = []
    for path in sorted(files):
        page = gzip.decompress(files[path])
        name = PurePosixPath(path).name.removesuffix(".gz").rpartition(".")[0]
        if not page.lstrip().startswith(b".so ") and not NO_MANUAL.fullmatch(name):
            pages.append((name, page))
    with ThreadPoolExecutor(2) as threads:
        outputs = list(threads.map(rendered, (page for _, page in pages)))
    return [(name, output) for (name, _), output in zip(pages, outputs, strict=True)]


# Dictionaries in the format of dictd


_DIGITS = {letter: n for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}


def number(digits: str) -> int:
    """Return a number of a dictd index: base 64, most significant digit first."""
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS[digit]
    return value


def dictionary_pairs(files: Mapping[str, bytes]) -> Iterator[Pair]:
    """Yield headwords and what they mean, in the order of the text; of several names for one entry, its own."""
    for path in sorted(path for path in files if path.endswith(".index")):
        text = gzip.decompress(files[path.removesuffix("index") + "dict.dz"])
        places = set()
        for line in files[path].decode("utf-8").splitlines():
            word, start, length = line.split("\t")[:3]
            if not word.startswith("00"):
                places.add((number(start), number(length)))
        for at, size in sorted(places):
            word, meaning = entry(text[at : at + size].decode("utf-8"))
            if word and meaning:
                yield word, meaning


def entry(text: str) -> tuple[str, str]:
    """Return the headword of an entry and its meaning without marks: fields, cross references, dates, sources."""
    head, _, body = text.strip("\n").partition("\n")
    # Further names for the same thing stand at the margin, as does what the entry is about at the end.
    lines = body.split("\n")
    while lines and lines[0] and not lines[0][0].isspace():
        lines.pop(0)
    parts = re.split(r"\n\s*\n", "\n".join(lines))
    # What stands further in is code or verse; a line of its own with the word class stands further out.
    prose = [part for part in parts if part.strip() and not WORD_CLASS.fullmatch(folded(part))]
    margin = min(map(indent, prose), default=0)
    kept = [cleaned(folded(part)) for part in parts if indent(part) <= margin + 2]
    meaning = joined([Paragraph(part, listed=False) for part in kept if part])
    return folded(head.split("  ")[0]), meaning


def indent(part: str) -> int:
    """Return how far in a paragraph starts."""
    line = part.strip("\n").split("\n")[0].expandtabs()
    return len(line) - len(line.lstrip())


SPOKEN = re.compile(r"(?:/[^/]+/,? *(?:or +)?)+")
WORD_CLASS = re.compile(r"(?:/[^/]+/,? *)*(?:(?:n|v|adj|adv|vt|vi|excl|interj|prov|prep|abbrev|suff|pref)\.?,? ?)+")
MARKS = re.compile(r"(?<!\S)\[[^\]]*\]\.?|<?(?:https?|ftp)://[^\s>)]+>?|\(\d{4}-\d\d-\d\d\)|^(?:\d+\. )?<[^>]*>")


def cleaned(part: str) -> str:
    """Return a paragraph of a dictionary as it would be read out; empty when it only points elsewhere."""
    found = WORD_CLASS.match(part)
    if found and (part.startswith("/") or found.end() == len(part)):
        part = part[found.end() :]
    part = SPOKEN.sub("", part, count=1) if part.startswith("/") else part
    part = folded(re.sub(r" ?\(\s*\)\.?", "", MARKS.sub("", part.replace("{", "").replace("}", ""))))
    pointer = re.match(r"(?i)see(?: also)? |(?:compare|contrast|opposite|cf\.?) ", part) is not None
    return "" if pointer and len(part) < 200 else part


# Packages and their licences


def described_by(deb: Path) -> Package:
    """Return the name, the version and the source package of a .deb file."""
    lines = command("dpkg-deb", "--field", str(deb), "Package", "Version", "Source").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    source = fields.get("Source", fields["Package"]).split()[0]
    return Package(deb, fields["Package"], fields["Version"], source)


def command(*line: str, folder: Path | None = None) -> str:
    """Return what a command prints. Ends the program with its message when it fails."""
    try:
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"{line[0]} is not there: this needs a Debian system")
    if done.returncode:
        sys.exit(f"{' '.join(line[:2])} failed: {done.stderr.strip()}")
    return done.stdout


def contents(package: Package, wanted: Callable[[str], bool]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the files that are wanted, by their path without "./", and where symbolic links point."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    unpack = ["dpkg-deb", "--fsys-tarfile", str(package.path)]
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            path = member.name.removeprefix("./").removesuffix("/")
            if member.issym():
                links[path] = member.linkname
            elif member.isfile() and wanted(path):
                stream = archive.extractfile(member)
                assert stream is not None
                files[path] = stream.read()
    return files, links


def copyright_of(package: Package, packages: Mapping[str, Package]) -> str:
    """Return the copyright file of a package, or of the one that its folder links to. Raises RefusedError without."""
    folder = f"usr/share/doc/{package.name}"
    files, links = contents(package, lambda path: path == f"{folder}/copyright")
    if files:
        return next(iter(files.values())).decode("utf-8", errors="replace")
    other = PurePosixPath(links.get(folder, "")).name
    if other in packages and other != package.name:
        return copyright_of(packages[other], packages)
    raise RefusedError(
        f"its copyright file is in the package {other}, which was not given" if other else "no copyright file"
    )


def licences_in(text: str) -> list[str]:
    """Return the licence names of a machine-readable copyright file, as written. Raises RefusedError for any other."""
    if not re.match(r"\s*(?:Format|Format-Specification):", text):
        raise RefusedError("its copyright file is not machine-readable")
    found = {line.strip() for line in re.findall(r"^License:(.*)$", text, re.MULTILINE)}
    names: set[str] = set()
    for line in found - {""}:
        # An exception to a licence only allows more.
        plain = re.sub(r"(?i)[ -]+with[ -].*?exceptions?\b|\bwith \S+(?: \S+)? exception", "", line)
        names |= {
            part.strip()
            for part in re.split(r",|\+(?=[A-Z])|(?<![\w-])(?:and/or|and|or)(?![\w-])", plain)
            if part.strip()
        }
    if not names:
        raise RefusedError("its copyright file names no licence")
    return sorted(names)


def is_free(name: str, source: str) -> bool:
    """Return whether a licence is on the list, or was read for this source package."""
    plain = re.sub(r"\+|-only|-or-later", "", name.lower()).strip()
    return FREE.fullmatch(plain) is not None or plain in READ.get(source, frozenset())


def licences_of(package: Package, packages: Mapping[str, Package]) -> list[str]:
    """Return the licences of a package. Raises RefusedError unless all of them are free."""
    text = copyright_of(package, packages)
    if package.name in PROSE:
        licence, said = PROSE[package.name]
        if said not in " ".join(text.split()):
            raise RefusedError(f"its copyright file no longer says {said!r}")
        return [licence]
    names = licences_in(text)
    unknown = [name for name in names if not is_free(name, package.source)]
    if unknown:
        raise RefusedError(f"not on the list of free licences: {', '.join(unknown)}")
    return names


def find_packages(given: Sequence[str], debs: Path) -> dict[str, Package]:
    """Return the packages by name, those that are named fetched into `debs` unless they lie there."""
    paths: list[Path] = []
    names: list[str] = []
    for word in given:
        place = Path(word)
        if place.is_dir():
            paths += sorted(place.glob("*.deb"))
        elif word.endswith(".deb"):
            paths.append(place)
        else:
            names.append(word)
    missing = [name for name in names if not any(debs.glob(f"{name}_*.deb"))]
    if missing:
        command("apt-get", "download", *missing, folder=debs)
    paths += [path for name in names for path in sorted(debs.glob(f"{name}_*.deb"))]
    packages: dict[str, Package] = {}
    for path in dict.fromkeys(paths):
        package = described_by(path)
        if package.name in packages:
            sys.exit(f"{package.name} is there twice: {packages[package.name].path} and {path}")
        packages[package.name] = package
    return dict(sorted(packages.items()))


# All together


def wanted(path: str) -> bool:
    """Return whether a file of a package is read: English, and of a kind with texts."""
    if OTHER_LANGUAGE.search(path):
        return False
    if PAGE_FILE.fullmatch(path):
        in_help = path.startswith("usr/share/help/")
        return not NO_TEXT.search(path) and (not in_help or path.startswith("usr/share/help/C/"))
    return bool(MANUAL_FILE.fullmatch(path) or DICTIONARY_FILE.fullmatch(path))


def pairs_of(package: Package) -> dict[str, list[Pair]]:
    """Return the pairs of a package by kind, before anything is left out that another one has too."""
    files, _ = contents(package, wanted)
    manuals = {path: data for path, data in files.items() if MANUAL_FILE.fullmatch(path)}
    dictionaries = {path: data for path, data in files.items() if DICTIONARY_FILE.fullmatch(path)}
    pages = {
        path: gzip.decompress(data) if path.endswith(".gz") else data
        for path, data in files.items()
        if path not in manuals and path not in dictionaries
    }
    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for name, page in pages_of(manuals):
        described, others = manual_pairs(name, page)
        found["manual"] += described
        found["manual-sections"] += others
    subject = SUBJECTS.get(package.name, package.name.removesuffix("-doc"))
    found["documents"] = list(document_pairs(subject, pages))
    found["dictionaries"] = list(dictionary_pairs(dictionaries))
    return found


def runs(text: str) -> set[int]:
    """Return what stands for each run of 13 words, the length by which overlap with test data is found since GPT-3."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return {hash(" ".join(found[at : at + RUN])) for at in range(len(found) - RUN + 1)}


def runs_in(folders: Iterable[Path]) -> set[int]:
    """Return the runs of all strings in the .jsonl files below folders."""
    found: set[int] = set()
    for path in (path for folder in folders for path in folder.rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                for value in json.loads(line).values():
                    if isinstance(value, str):
                        found |= runs(value)
    return found


class Distinct:
    """Takes each query and each text once, whatever their case, and none that shares a run of words to be avoided."""

    def __init__(self, avoided: set[int]) -> None:
        self._seen: set[str] = set()
        self._avoided = avoided
        self.overlapping = 0

    def take(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the pairs that are new, and remember them."""
        new = []
        for query, text in pairs:
            keys = {f"query {query.lower()}", f"text {text.lower()}"}
            if 2 <= len(query) <= LONGEST_QUERY and len(text) >= SHORTEST and self._seen.isdisjoint(keys):
                self._seen |= keys
                if self._avoided.isdisjoint(runs(query) | runs(text)):
                    new.append((query, text))
                else:
                    self.overlapping += 1
        return new


def write(path: Path, pairs: Iterable[Pair]) -> dict[str, object]:
    """Write a file of pairs, the same bytes for the same pairs, and return what the manifest says of it."""
    lines = [json.dumps({"query": query, "positive": text}, ensure_ascii=False) + "\n" for query, text in pairs]
    data = "".join(lines).encode("utf-8")
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
        packed.write(data)
    return {
        "pairs": len(lines),
        "characters": sum(len(line) for line in lines),
        "blake3_unpacked": blake3(data).hexdigest(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def build(out: Path, packages: Mapping[str, Package], avoided: set[int]) -> dict[str, Any]:
    """Write the files of all kinds and the manifest, which is returned."""
    taken: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    distinct = Distinct(avoided)
    read: list[dict[str, object]] = []
    refused: dict[str, str] = {}
    for package in (package for name, package in packages.items() if name not in CARRIERS):
        try:
            licences = licences_of(package, packages)
        except RefusedError as reason:
            refused[package.name] = str(reason)
            print(f"refused {package.name}: {reason}", file=sys.stderr)
            continue
        new = {kind: distinct.take(pairs) for kind, pairs in pairs_of(package).items()}
        counts = Counter({kind: len(pairs) for kind, pairs in new.items() if pairs})
        print(f"{package.name}: {dict(counts)}", file=sys.stderr)
        if counts:
            for kind, pairs in new.items():
                taken[kind] += pairs
            read.append(
                {
                    "name": package.name,
                    "version": package.version,
                    "source": package.source,
                    "licences": licences,
                    "licences_read_by": "people" if package.name in PROSE else "program",
                    "pairs": dict(counts),
                }
            )
    files = {f"debian-{kind}.jsonl.gz": pairs for kind, pairs in taken.items() if pairs}
    written = {name: write(out / name, pairs) for name, pairs in files.items()}
    left_out = {"runs_of_words": len(avoided), "overlapping_pairs": distinct.overlapping}
    manifest = {"files": written, "packages": read, "refused": refused, "avoided": left_out}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pairs and their manifest")
    parser.add_argument("--packages", nargs="+", default=DEFAULT, help="names, .deb files, or folders of them")
    parser.add_argument("--debs", type=Path, help="folder where fetched packages are kept and looked for")
    parser.add_argument(
        "--avoid", type=Path, nargs="+", default=[], help="folders of .jsonl files to share no text with"
    )
    options = parser.parse_args()
    if shutil.which("mandoc") is None:
        sys.exit("mandoc is not there, which reads manual pages. As root: apt-get install mandoc")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        debs = options.debs or Path(scratch)
        debs.mkdir(parents=True, exist_ok=True)
        manifest = build(options.out, find_packages(options.packages, debs), runs_in(options.avoid))
    for name, facts in manifest["files"].items():
        print(f"{name}: {facts['pairs']} pairs, {facts['characters']} characters")


if __name__ == "__main__":
    main()
