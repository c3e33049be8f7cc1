"""Source code cut at its definitions by tree-sitter, or whole where there is no grammar; text is verbatim."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..documents import Anchor, Document, Section
from .decoding import decode, line_starts
from .languages import BARE_NAMES, GRAMMARS, LANGUAGES, Grammar, tree_sitter_language

if TYPE_CHECKING:
    from tree_sitter import Node

_SPLIT_CHARS = 1500
"""Containers longer than this are cut into their members."""
_CLOSERS = re.compile(r"#[ \t]*endif[^\n]*|\bend\b")
_NAMESPACES = frozenset(
    {"namespace_definition", "namespace_declaration", "linkage_specification", "mod_item", "module"}
)
"""Containers cut however short they are: they are no unit of meaning."""
_BODIES = frozenset({"block", "declaration_list", "field_declaration_list", "class_body", "interface_body", "enum_body",
                     "enum_body_declarations", "body_statement", "statement_block", "namespace_body"})  # fmt: skip
_CONDITIONALS = ("preproc_if", "preproc_el")
_EXTENSIONS = {extension: language for language, extensions in LANGUAGES.items() for extension in extensions.split()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Definition:
    """Lines first..last (0-based, inclusive) that define `path`."""

    first: int
    last: int
    path: tuple[str, ...]


def language_of(name: str) -> str | None:
    """Return the language of a file by its name, None when it is no known code."""
    lower = name.lower()
    if lower in BARE_NAMES:
        return BARE_NAMES[lower]
    return _EXTENSIONS.get(lower.rpartition(".")[2]) if "." in lower else None


def read_code(data: bytes, name: str) -> Document:
    """Return one section per definition (anchor "symbol", "Class.method") and one per stretch between them."""
    decoded = decode(data, name)
    language = language_of(name) or "text"
    metadata = dict(decoded.metadata)
    definitions: list[_Definition] = []
    if language in GRAMMARS:
        grammar = tree_sitter_language(language)
        if grammar is None:
            metadata["note"] = f"read by lines: {GRAMMARS[language].module} is not installed"
        else:
            definitions = _definitions(decoded.text, GRAMMARS[language], grammar)
    sections = tuple(_sections(decoded.text, definitions))
    return Document(format=language, sections=sections, metadata=metadata)


def _definitions(text: str, grammar: Grammar, pointer: object) -> list[_Definition]:
    from tree_sitter import Language, Parser

    tree = Parser(Language(pointer)).parse(text.encode("utf-8"))
    return list(_walk(tree.root_node, grammar, (), 0))


def _walk(parent: Node, grammar: Grammar, path: tuple[str, ...], floor: int) -> Iterator[_Definition]:
    """Yield the definitions among the children of a node, comments and decorators before them included."""
    last_code = floor - 1
    comment: int | None = None
    comment_end = 0
    for child in parent.named_children:
        first, last = child.start_point.row, _last_row(child)
        if "comment" in child.type or child.type in {"attribute_item", "decorator"}:
            if first > last_code and (comment is None or first > comment_end + 1):
                comment = first
            comment_end = last
            continue
        begin = first if comment is None or comment_end + 1 < first else comment
        comment = None
        if child.type.startswith(_CONDITIONALS):
            # The guard of a C header holds the whole file.
            yield from _walk(child, grammar, path, first)
        else:
            yield from _definition(child, grammar, path, max(begin, last_code + 1))
        last_code = max(last_code, last)


def _definition(node: Node, grammar: Grammar, path: tuple[str, ...], begin: int) -> Iterator[_Definition]:
    inner = _unwrap(node, grammar)
    if inner is None:
        return
    last = _last_row(node)
    here = (*path, *_name(inner))
    is_container = inner.type in grammar.containers
    is_long = node.end_byte - node.start_byte > _SPLIT_CHARS
    if is_container and (inner.type in _NAMESPACES or is_long):
        body = inner.child_by_field_name("body") or next((c for c in inner.children if c.type in _BODIES), None)
        if body is not None:
            inside = list(_walk(body, grammar, here, body.start_point.row))
            yield from _with_rest(begin, last, here, inside)
            return
    if here != path:
        yield _Definition(first=begin, last=last, path=here)


def _with_rest(first: int, last: int, path: tuple[str, ...], inside: list[_Definition]) -> Iterator[_Definition]:
    """Yield the members of a container and, under its own path, the lines between them."""
    at = first
    for member in inside:
        if member.first > at and path:
            yield _Definition(first=at, last=member.first - 1, path=path)
        yield member
        at = member.last + 1
    if at <= last and path:
        yield _Definition(first=at, last=last, path=path)


def _unwrap(node: Node, grammar: Grammar) -> Node | None:
    """Return the definition in a node, None when it defines nothing."""
    while node.type in grammar.wrappers:
        kinds = grammar.wrappers | grammar.callables | grammar.containers
        inside = next((child for child in node.named_children if child.type in kinds), None)
        if inside is None:
            return None
        node = inside
    if node.type == "lexical_declaration":
        declared = [child.child_by_field_name("value") for child in node.named_children]
        values = {value.type for value in declared if value is not None}
        return node if values & {"arrow_function", "function_expression", "class"} else None
    return node if node.type in grammar.callables or node.type in grammar.containers else None


def _name(node: Node) -> tuple[str, ...]:
    """Return the name of a definition, () where it has none."""
    for field in ("name", "declarator", "type"):
        found = node.child_by_field_name(field)
        if found is not None:
            break
    else:
        # Wrapped one level down: `const f = ...` and Go's `type T struct`.
        kinds = {"variable_declarator", "type_spec", "type_alias"}
        inside = next((child for child in node.named_children if child.type in kinds), None)
        return _name(inside) if inside is not None else ()
    while (deeper := _declared_in(found)) is not None:
        found = deeper
    name = (found.text or b"").decode("utf-8", "replace")
    receiver = node.child_by_field_name("receiver")
    if receiver is not None and receiver.text is not None:
        owner = receiver.text.decode("utf-8", "replace").strip("()").split()[-1:]
        return (*(part.lstrip("*").partition("[")[0] for part in owner), name)
    return (" ".join(name.split()),) if name else ()


def _declared_in(node: Node) -> Node | None:
    """Return what a C declarator wraps: pointers, references and parameter lists around a name."""
    inner = node.child_by_field_name("declarator")
    if inner is None and node.type in {"reference_declarator", "parenthesized_declarator"}:
        return next(iter(node.named_children), None)
    return inner


def _last_row(node: Node) -> int:
    """Return the last row a node has text on; one that ends with a newline does not reach into the next row."""
    row, column = node.end_point.row, node.end_point.column
    return row - 1 if column == 0 and row > node.start_point.row else row


def _sections(text: str, definitions: list[_Definition]) -> list[Section]:
    """Return the definitions and what stands between them, every line once."""
    starts = [min(start, len(text)) for start in (*line_starts(text), len(text))]
    rows = len(starts) - 1
    sections: list[Section] = []

    def add(first: int, last: int, path: tuple[str, ...]) -> None:
        part = text[starts[first] : starts[last + 1]]
        if not part.strip():
            return
        before = sections[-1] if sections else None
        if before is not None and before.char is not None and _is_remnant(part):
            sections[-1] = replace(before, text=text[before.char : starts[last + 1]])
            return
        anchor = Anchor(kind="symbol", value=".".join(path)) if path else None
        sections.append(Section(text=part, anchor=anchor, headings=path, line=first + 1, char=starts[first]))

    at = 0
    for definition in definitions:
        # Minified code puts several definitions on one row: what a row before it has taken stays there.
        first, last = max(definition.first, at), min(definition.last, rows - 1)
        if first > last:
            continue
        if first > at:
            add(at, first - 1, ())
        add(first, last, definition.path)
        at = last + 1
    if at < rows:
        add(at, rows - 1, ())
    return sections


def _is_remnant(part: str) -> bool:
    """Return whether a stretch is only the end of what came before: a brace, "end", "#endif"."""
    return not any(char.isalnum() for char in _CLOSERS.sub("", part))
