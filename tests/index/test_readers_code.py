"""Source code: symbols as anchors, and no line of the file lost."""

from __future__ import annotations

import pytest

from searchctl.index.readers import languages as languages_module
from searchctl.index.readers import read_document
from searchctl.index.readers.languages import GRAMMARS, tree_sitter_language

LONG = "x" * 1600

SOURCES: dict[str, tuple[str, str, list[str | None]]] = {
    "python": (
        "a.py",
        '"""Doc."""\nimport os\n\n# says f\n@deco\ndef f():\n    return 1\n\nX = 1\n\n\nclass Big:\n    """'
        + LONG
        + '"""\n'
        "    y = 2\n\n    def m(self):\n        return 2\n\n    # about n\n    @property\n    def n(self): ...\n\n\n"
        "class Small:\n"
        "    def o(self): ...\n",
        [None, "f", None, "Big", "Big.m", "Big.n", "Small"],
    ),
    "javascript": (
        "a.js",
        "import x from 'y';\n\n/** f */\nexport function f() {\n  return 1;\n}\n\nconst g = () => 2;\nconst k = 3;\n\n"
        "export default class A {\n  // " + LONG + "\n  m() { return 1; }\n}\n",
        [None, "f", "g", None, "A", "A.m"],
    ),
    "typescript": (
        "a.ts",
        "interface I { a: string }\n\ntype T = string;\nexport enum E { A }\n"
        "export const f = async (x: I): Promise<void> => {};\n",
        ["I", "T", "E", "f"],
    ),
    "tsx": ("a.tsx", "export function App(): JSX.Element {\n  return <p>hi</p>;\n}\n", ["App"]),
    "go": (
        "a.go",
        "package main\n\ntype T struct {\n\ta int\n}\n\n"
        "// M does.\nfunc (t *T) M() int {\n\treturn 1\n}\n\nfunc F() {}\n",
        [None, "T", "T.M", "F"],
    ),
    "rust": (
        "a.rs",
        "use std::io;\n\n/// S\n#[derive(Debug)]\nstruct S;\n\nimpl S {\n    // " + LONG + "\n    fn m(&self) {}\n}\n\n"
        "mod inner {\n    pub fn g() {}\n}\n",
        [None, "S", "S", "S.m", "inner", "inner.g"],
    ),
    "java": (
        "A.java",
        "package p;\n\n/** A */\npublic class A {\n  // " + LONG + "\n  A() {}\n  int m() { return 1; }\n}\n",
        [None, "A", "A.A", "A.m"],
    ),
    "c": (
        "a.c",
        "#include <x.h>\n\nstruct s { int a; };\n\n/* f */\nstatic int *f(int a)\n{\n  return 0;\n}\n"
        "#ifndef GUARD_H\n#define GUARD_H 1\nint g(void) { return 2; }\n#endif\n",
        [None, "s", "f", None, "g"],
    ),
    "cpp": (
        "a.cpp",
        "#include <x>\nnamespace n {\ntemplate <class T>\nT f(T a) { return a; }\n}\nint &A::g() { return 1; }\n",
        [None, "n", "n.f", "A::g"],
    ),
    "csharp": (
        "a.cs",
        "using X;\nnamespace N {\n  class A {\n    // " + LONG + "\n    int M() { return 1; }\n  }\n}\n",
        [None, "N", "N.A", "N.A.M"],
    ),
    "ruby": (
        "a.rb",
        "require 'x'\n\nmodule M\n  # f\n  def self.f\n    1\n  end\nend\n",
        [None, "M", "M.f"],
    ),
    "php": ("a.php", "<?php\nfunction f() { return 1; }\n\nclass A {\n  function m() {}\n}\n", [None, "f", "A"]),
    "bash": ("a.sh", "#!/bin/sh\nset -e\n\n# f\nf() {\n  echo 1\n}\n\nf\n", [None, "f", None]),
}


def test_definitions_become_symbols_and_every_line_is_kept_once(subtests: pytest.Subtests) -> None:
    for language in sorted(SOURCES):
        with subtests.test(language=language):
            name, source, symbols = SOURCES[language]
            document = read_document(source.encode(), name)
            assert document.format == language
            assert [section.anchor.value if section.anchor else None for section in document.sections] == symbols
            kept = "".join(section.text for section in document.sections)
            assert "".join(kept.split()) == "".join(source.split())
            for section in document.sections:
                assert section.char is not None
                assert source[section.char :].startswith(section.text)
                assert section.line == source.count("\n", 0, section.char) + 1


def test_every_grammar_of_the_table_is_installed_and_loads() -> None:
    assert {language for language in GRAMMARS if tree_sitter_language(language) is None} == set()
    assert set(SOURCES) == set(GRAMMARS)


def test_comments_and_decorators_before_a_definition_belong_to_it() -> None:
    sections = read_document(SOURCES["python"][1].encode(), "a.py").sections
    assert sections[1].text.startswith("# says f\n@deco\ndef f")
    assert sections[5].text.startswith("    # about n\n    @property")


def test_a_grammar_that_is_not_installed_falls_back_to_lines_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = GRAMMARS["bash"]
    missing = type(grammar)(module="tree_sitter_of_nothing", callables=grammar.callables)
    monkeypatch.setitem(languages_module.GRAMMARS, "bash", missing)
    tree_sitter_language.cache_clear()
    try:
        document = read_document(b"f() {\n  echo\n}\n", "a.sh")
    finally:
        tree_sitter_language.cache_clear()
    assert [section.anchor for section in document.sections] == [None]
    assert "tree_sitter_of_nothing is not installed" in document.metadata["note"]


def test_broken_and_minified_code_loses_nothing(subtests: pytest.Subtests) -> None:
    for source in [
        "def f(:\n  class (((\n", "}}}}\n", "function f(){}function g(){}", "\r\n\r\ndef f():\r\n  1\r\n",
    ]:  # fmt: skip
        for name in ["a.py", "a.js", "a.c", "a.rs"]:
            with subtests.test(source=source, name=name):
                kept = "".join(section.text for section in read_document(source.encode(), name).sections)
                assert "".join(kept.split()) == "".join(source.split())


def test_languages_without_a_grammar_are_verbatim_and_named() -> None:
    document = read_document(b"fun main() {}\n", "a.kt")
    assert document.format == "kotlin"
    assert [section.text for section in document.sections] == ["fun main() {}\n"]
    assert read_document(b"all:\n\techo\n", "Makefile").format == "make"
    assert read_document(b"FROM x\n", "Dockerfile").format == "dockerfile"
    assert read_document(b"project(x)\n", "CMakeLists.txt").format == "cmake"
