"""Programming languages: their file names and, where one is installed, their tree-sitter grammar."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Where a grammar lives and which of its nodes are definitions."""

    module: str
    function: str = "language"
    callables: frozenset[str]
    """Nodes that become one section."""
    containers: frozenset[str] = frozenset()
    """Nodes that are split into members when they are long."""
    wrappers: frozenset[str] = frozenset()
    """Nodes that only dress a definition: decorators, export, template."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_JS_CALLABLES = "function_declaration generator_function_declaration method_definition lexical_declaration"
_TS = Grammar(
    module="tree_sitter_typescript",
    function="language_typescript",
    callables=_set(
        _JS_CALLABLES + " interface_declaration type_alias_declaration enum_declaration public_field_definition"
    ),
    containers=_set("class_declaration abstract_class_declaration internal_module module"),
    wrappers=_set("export_statement ambient_declaration expression_statement"),
)
_CPP = Grammar(
    module="tree_sitter_cpp",
    callables=_set("function_definition enum_specifier type_definition"),
    containers=_set("class_specifier struct_specifier namespace_definition linkage_specification"),
    wrappers=_set("template_declaration"),
)
_BODIES = "struct_declaration class_declaration interface_declaration enum_declaration"

GRAMMARS: dict[str, Grammar] = {
    "python": Grammar(
        module="tree_sitter_python",
        callables=_set("function_definition"),
        containers=_set("class_definition"),
        wrappers=_set("decorated_definition"),
    ),
    "javascript": Grammar(
        module="tree_sitter_javascript",
        callables=_set(_JS_CALLABLES + " field_definition"),
        containers=_set("class_declaration"),
        wrappers=_set("export_statement"),
    ),
    "typescript": _TS,
    "tsx": Grammar(
        module=_TS.module,
        function="language_tsx",
        callables=_TS.callables,
        containers=_TS.containers,
        wrappers=_TS.wrappers,
    ),
    "go": Grammar(module="tree_sitter_go", callables=_set("function_declaration method_declaration type_declaration")),
    "rust": Grammar(
        module="tree_sitter_rust",
        callables=_set("function_item struct_item enum_item union_item macro_definition function_signature_item"),
        containers=_set("impl_item trait_item mod_item"),
    ),
    "java": Grammar(
        module="tree_sitter_java",
        callables=_set("method_declaration constructor_declaration annotation_type_declaration"),
        containers=_set("class_declaration interface_declaration enum_declaration record_declaration"),
    ),
    "c": Grammar(
        module="tree_sitter_c",
        callables=_set("function_definition struct_specifier enum_specifier type_definition"),
        containers=_set("linkage_specification"),
    ),
    "cpp": _CPP,
    "csharp": Grammar(
        module="tree_sitter_c_sharp",
        callables=_set("method_declaration constructor_declaration property_declaration delegate_declaration"),
        containers=_set(_BODIES + " record_declaration namespace_declaration"),
    ),
    "ruby": Grammar(
        module="tree_sitter_ruby", callables=_set("method singleton_method"), containers=_set("class module")
    ),
    "php": Grammar(
        module="tree_sitter_php",
        function="language_php",
        callables=_set("function_definition method_declaration"),
        containers=_set(
            "class_declaration interface_declaration trait_declaration enum_declaration namespace_definition"
        ),
    ),
    "bash": Grammar(module="tree_sitter_bash", callables=_set("function_definition")),
}

LANGUAGES: dict[str, str] = {
    "python": "py pyi pyw",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts mts cts",
    "tsx": "tsx",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx h++ cu cuh ino",
    "csharp": "cs",
    "ruby": "rb rake gemspec",
    "php": "php php5 phtml",
    "bash": "sh bash zsh ksh",
    "ada": "adb ads",
    "assembly": "s asm",
    "clojure": "clj cljs cljc edn",
    "cmake": "cmake",
    "cython": "pyx pxd pxi",
    "css": "css scss sass less",
    "d": "d",
    "dart": "dart",
    "elixir": "ex exs",
    "elm": "elm",
    "erlang": "erl hrl",
    "fish": "fish",
    "fortran": "f f90 f95 f03 for",
    "fsharp": "fs fsi fsx",
    "gradle": "gradle",
    "graphql": "graphql gql",
    "groovy": "groovy",
    "haskell": "hs lhs",
    "julia": "jl",
    "kotlin": "kt kts",
    "lisp": "lisp cl el scm rkt",
    "lua": "lua",
    "make": "mk mak",
    "nim": "nim",
    "nix": "nix",
    "objc": "m mm",
    "ocaml": "ml mli",
    "pascal": "pas pp",
    "perl": "pl pm t",
    "powershell": "ps1 psm1 psd1",
    "prolog": "pro",
    "protobuf": "proto",
    "r": "r",
    "scala": "scala sc",
    "solidity": "sol",
    "sql": "sql ddl",
    "svelte": "svelte",
    "swift": "swift",
    "terraform": "tf tfvars hcl",
    "vbnet": "vb",
    "verilog": "v sv vh",
    "vhdl": "vhd vhdl",
    "vim": "vim",
    "vue": "vue",
    "zig": "zig",
}
"""Language to its extensions; those without a grammar are read by lines."""

BARE_NAMES: dict[str, str] = {
    "makefile": "make",
    "gnumakefile": "make",
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "cmakelists.txt": "cmake",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "vagrantfile": "ruby",
    "jenkinsfile": "groovy",
    ".bashrc": "bash",
    ".bash_profile": "bash",
    ".profile": "bash",
    ".zshrc": "bash",
    ".vimrc": "vim",
}


@cache
def tree_sitter_language(language: str) -> Any | None:
    """Return the grammar of a language as tree-sitter's pointer capsule; None when there is none installed."""
    grammar = GRAMMARS.get(language)
    if grammar is None:
        return None
    try:
        return getattr(importlib.import_module(grammar.module), grammar.function)()
    except (ImportError, AttributeError):
        return None
