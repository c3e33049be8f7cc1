"""Write docs/img/query.svg from a real run: `searchctl index docs`, then a query, in a pseudo-terminal.

    python benchmarks/make_screenshot.py

Needs searchctl installed beside this interpreter. The collection is made in a temporary folder.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

TREE = Path(__file__).resolve().parent.parent
TARGET = TREE / "docs" / "img" / "query.svg"
QUESTION = "what happens if indexing is killed?"
COLUMNS = 100

# Rich's own template loads fonts from a content network; a picture in a repository must not.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" xml:space="preserve">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    searchctl = shutil.which("searchctl", path=str(Path(sys.executable).parent))
    if searchctl is None:
        sys.exit(f"no searchctl beside {sys.executable}: pip install -c constraints.txt -e .")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(TREE / "docs", Path(folder) / "docs", ignore=shutil.ignore_patterns("img"))
        subprocess.run([searchctl, "index", "docs"], cwd=folder, check=True)
        shown = run_in_terminal([searchctl, "query", QUESTION, "-k", "4"], Path(folder))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(shown), encoding="utf-8")
    print(TARGET)


def draw(shown: str) -> str:
    """Return the picture of a terminal in which the question was asked and `shown` was printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), f'searchctl query "{QUESTION}" -k 4'))
    console.print()
    console.print(Text.from_ansi(shown))
    return console.export_svg(title="searchctl", code_format=SVG, unique_id="searchctl")


def run_in_terminal(command: list[str], cwd: Path) -> str:
    """Return what `command` wrote to a terminal of COLUMNS columns, escape sequences included; stderr left out."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, cwd=cwd, stdout=child, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(child)
        shown = bytearray()
        while True:
            try:
                block = os.read(parent, 65536)
            except OSError:  # Linux reports the closed other end of a terminal as an error
                break
            if not block:
                break
            shown += block
    os.close(parent)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return shown.decode().replace("\r\n", "\n").rstrip("\n")


if __name__ == "__main__":
    main()
