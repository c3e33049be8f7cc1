"""Look and behaviour of report pages: one style sheet and one script, put into the page itself."""

from __future__ import annotations

import re

_LIGHT = """
--ground:#fdfdfc;--raised:#f3f4f2;--ink:#1b1f23;--muted:#5b636b;--line:#d5d9dc;--accent:#0b5fa5;
--better:#0b6b4c;--worse:#a33b00;
--s0:#0072b2;--s1:#e69f00;--s2:#009e73;--s3:#cc79a7;--s4:#56b4e9;--s5:#d55e00;--s6:#7a7f85;--s7:#b8ab1c;
"""
_DARK = """
--ground:#14171a;--raised:#1e2226;--ink:#e9ecee;--muted:#a2abb3;--line:#3a4148;--accent:#7cc0f5;
--better:#5fd0a5;--worse:#ff9d66;
--s0:#3d9fdd;--s1:#f0b43c;--s2:#2fc59b;--s3:#e09cc4;--s4:#8accf2;--s5:#f0803c;--s6:#a9afb5;--s7:#e3d54a;
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The browser itself refuses whatever is not in the file."""
LIGHT = dict(re.findall(r"--(\w+):(#\w+);", _LIGHT))
"""The light colours by name, for pictures outside of a page."""
STYLE = (
    ":root{color-scheme:light;"
    + _LIGHT
    + "}@media (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;"
    + _DARK
    + "}}:root[data-theme=dark]{color-scheme:dark;"
    + _DARK
    + """}
*{box-sizing:border-box}
body{margin:0;
background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 64px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}
h2{font-size:1.25rem;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:26px 0 4px}
p{margin:6px 0 12px;max-width:78ch}
.lead{color:var(--muted)}
.note,figcaption,caption{color:var(--muted);font-size:.875rem}
header{display:flex;gap:16px;justify-content:space-between;align-items:flex-start}
button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}
.theme{border:1px solid var(--line);border-radius:6px;padding:4px 12px;font-size:.875rem;white-space:nowrap}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
nav{font-size:.9rem;margin:14px 0 0}nav a{margin-right:16px;white-space:nowrap}
a{color:var(--accent)}
code{font:.875em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:16px 0;font-size:.95rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:12px;
margin:18px 0 8px;padding:0;list-style:none}
.tiles.wide{grid-template-columns:repeat(auto-fill,minmax(250px,1fr))}
.tiles li{background:var(--raised);border-radius:8px;padding:12px 14px;border-left:4px solid var(--swatch)}
.tiles small{font-size:.95rem;font-weight:500;color:var(--muted)}
.tiles b{display:block;overflow-wrap:anywhere}
.tiles .big{color:var(--ink);font-size:1.6rem;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles span{display:block;color:var(--muted);font-size:.85rem}
.scroll{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:40%}
th,td{padding:5px 12px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--ground)}
thead th{border-bottom:2px solid var(--line);vertical-align:bottom;max-width:190px;white-space:normal}
.long th{min-width:7.5rem}.long th:first-child{min-width:0}
tbody th{font-weight:400}
tr.heading th{font-weight:650;padding-top:16px}
tr.heading span{color:var(--muted);font-weight:400}
tr.mean th,tr.mean td{font-style:italic;background:var(--raised)}
td b,td strong{font-weight:700}
.best{font-weight:750;text-decoration:underline;text-decoration-thickness:2px;text-underline-offset:3px}
.diff{display:block;color:var(--muted);font-size:.8rem}
.range{white-space:nowrap}.many .range{display:block}
.many{font-size:.85rem}.many th,.many td{padding:5px 7px}.many .diff{font-size:.75rem}
.diff.up{color:var(--better);font-weight:600}.diff.down{color:var(--worse);font-weight:600}
.text td,.text th{text-align:left;white-space:normal}
.text td{min-width:7rem;overflow-wrap:anywhere}.text td:nth-child(n+4){min-width:11rem}
th button[data-sort]{font-weight:600;text-align:right}
th button[data-sort]::after{content:"\\a0\\2195";color:var(--muted);font-weight:400}
th[aria-sort=ascending] button::after{content:"\\a0\\2191"}th[aria-sort=descending] button::after{content:"\\a0\\2193"}
figure{margin:14px 0 8px}
figure svg{width:100%;min-width:660px;height:auto;display:block}
figure svg text{font-family:inherit}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:6px 0;padding:0;list-style:none;font-size:.9rem}
.legend svg{width:14px;height:14px;vertical-align:-2px;margin-right:6px}
ul.notes{padding-left:20px;max-width:90ch}
pre{overflow-x:auto;background:var(--raised);border-radius:8px;padding:12px 14px;margin:10px 0}
details{margin:8px 0}summary{cursor:pointer;color:var(--accent)}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media print{.theme,nav{display:none}main{max-width:none}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""
)

SCRIPT = """
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.querySelector(".theme");
  const show = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  button.hidden = false;
  show();
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; show(); });
  for (const sorter of document.querySelectorAll("button[data-sort]")) {
    sorter.addEventListener("click", () => {
      const head = sorter.closest("th"), row = head.parentElement, column = [...row.children].indexOf(head);
      const named = column === 0;
      const was = head.getAttribute("aria-sort");
      const now = was === "descending" || (named && was === null) ? "ascending" : "descending";
      for (const other of row.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", now);
      const value = (line) => line.children[column].dataset.value;
      const missing = (line) => value(line) === undefined;
      const order = (a, b) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b);
        const by = named ? value(a).localeCompare(value(b)) : value(a) - value(b);
        return now === "ascending" ? by : -by;
      };
      for (const body of head.closest("table").tBodies) {
        const end = body.querySelector("tr.mean");
        for (const line of [...body.querySelectorAll("tr.task")].sort(order)) body.insertBefore(line, end);
      }
    });
  }
})();
"""
