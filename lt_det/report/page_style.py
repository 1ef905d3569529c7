"""Style sheet and script of a page: dark and light, paper, narrow screens; sort and search."""

from __future__ import annotations

import base64
import hashlib

#: Style sheet. Series have colours s0 to s7 (Okabe and Ito's, told apart by the colour-blind too).
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1b1b; --quiet: #5a6166; --soft: #f1f3f4;
  --line: #c9ced1; --shade: #0004; --error: #b3261e; --warning: #8a5a00; --note: #1d5fa8;
  --up: #0b6e4f; --r: #d55e00; --c: #b07a00; --f: #0072b2; --s0: #5f676d; --s1: #0072b2;
  --s2: #d55e00; --s3: #00785a; --s4: #a8518a; --s5: #8a6d00; --s6: #2a93c9; --s7: #7a3b00 }
@media (prefers-color-scheme: dark) { :root { --back: #16181a; --text: #e6e6e6; --quiet: #a9b1b7;
  --soft: #24282b; --line: #454b50; --shade: #000b; --error: #ff8a80; --warning: #ffc65c;
  --note: #8ec5ff; --up: #6fd6ae; --r: #ff8f4a; --c: #f0b53c; --f: #6bb8ee; --s0: #a9b1b7;
  --s1: #6bb8ee; --s2: #ff8f4a; --s3: #4fcfa3; --s4: #e39ac8; --s5: #e3cf4f;
  --s6: #9bd9ff; --s7: #d9a27a } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--text);
  margin: 0 auto; padding: 1rem; max-width: 84rem; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; scroll-margin-top: 3.5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .4rem 0; max-width: 52rem } a { color: var(--note) }
nav { position: sticky; top: 0; z-index: 2; background: var(--back); display: flex; gap: 0 .9rem;
  flex-wrap: wrap; padding: .5rem 0; border-bottom: 1px solid var(--line); font-size: .9rem }
nav a { white-space: nowrap }
.lead p { max-width: 60rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  gap: .8rem; margin: .8rem 0 }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem }
.tile h2 { font-size: .9rem; margin: 0; color: var(--quiet); font-weight: normal }
.tile p { line-height: 1.35 } .tile b { font-size: 1.25rem; font-variant-numeric: tabular-nums }
.quiet { color: var(--quiet); font-size: .9rem }
.missing { color: var(--quiet); border-left: 3px solid var(--line); padding-left: .6rem }
.scroll { overflow-x: auto; max-width: 100%; margin: .6rem 0; background:
  linear-gradient(to right, var(--back) 40%, transparent) left / 3rem 100% local,
  linear-gradient(to left, var(--back) 40%, transparent) right / 3rem 100% local,
  linear-gradient(var(--back) 40%, transparent) top / 100% 3rem local,
  linear-gradient(to top, var(--back) 40%, transparent) bottom / 100% 3rem local,
  linear-gradient(to right, var(--shade), transparent) left / .7rem 100% scroll,
  linear-gradient(to left, var(--shade), transparent) right / .7rem 100% scroll,
  linear-gradient(to top, var(--shade), transparent) bottom / 100% .7rem scroll;
  background-repeat: no-repeat }
.tall { max-height: 36rem; overflow-y: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left;
  vertical-align: top; overflow-wrap: normal; white-space: nowrap }
td.long { white-space: normal; min-width: 18rem; overflow-wrap: anywhere }
th.number { white-space: normal; min-width: 4.5rem }
thead th { background: var(--soft); vertical-align: bottom }
.tall thead th { position: sticky; top: 0 }
.tall td:first-child, .tall th:first-child { left: 0; z-index: 1 }
.tall td:first-child { position: sticky; left: 0; background: var(--back) }
.tall tr.strong td:first-child { background: var(--soft) }
th button { all: unset; cursor: pointer; font-weight: bold; display: block; width: 100% }
th button:focus-visible { outline: 2px solid var(--note) }
th[aria-sort=ascending] button::after { content: " \\25b2" }
th[aria-sort=descending] button::after { content: " \\25bc" }
th button::after { content: " \\2195"; color: var(--quiet) }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
tr.strong td { font-weight: bold; background: var(--soft) }
.error, .down { color: var(--error) } .warning { color: var(--warning) }
.note { color: var(--note) }
.up { color: var(--up) }
.find { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; margin: .6rem 0 }
input, select { font: inherit; color: inherit; background: var(--back);
  border: 1px solid var(--line);
  border-radius: 4px; padding: .25rem .5rem; max-width: 100% }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto; background: #fff }
figcaption { font-size: .9rem }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem }
.grid figure { margin: 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr));
  gap: 1rem 2rem } .charts figure { margin: 0; max-width: 36rem }
.chart { width: 100%; height: auto; display: block; font: 13.5px system-ui, sans-serif }
.chart text { fill: var(--text); stroke: var(--back); stroke-width: 3px; paint-order: stroke;
  stroke-linejoin: round } .chart .axis { stroke: var(--line); fill: none }
.chart .guide { stroke: var(--quiet); stroke-dasharray: 2 3; fill: none }
.dot { fill: var(--ink); stroke: var(--back); stroke-width: .6 } .chart .faint { opacity: .45 }
.chart .path { stroke: var(--ink); fill: none; stroke-width: 2 }
.chart .thin { stroke: var(--ink); fill: none; stroke-width: 1.2 }
.chart .band { fill: var(--ink); opacity: .16 } .chart .bar { fill: var(--ink) }
.chart .inside { fill: var(--back); stroke: none; font-weight: bold }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin: 0 0 .2rem }
.legend svg { width: .9rem; height: .9rem; vertical-align: -.1rem; margin-right: .25rem }
.r { --ink: var(--r) } .c { --ink: var(--c) } .f { --ink: var(--f) } .s0 { --ink: var(--s0) }
.s1 { --ink: var(--s1) } .s2 { --ink: var(--s2) } .s3 { --ink: var(--s3) } .s4 { --ink: var(--s4) }
.s5 { --ink: var(--s5) } .s6 { --ink: var(--s6) } .s7 { --ink: var(--s7) }
.scenes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr));
  gap: 1rem } .scenes figure { margin: 0 }
.rows { display: grid; gap: 1.2rem } .rows > figure { margin: 0 }
.panels { display: grid; max-width: 66rem; gap: .3rem .8rem; margin-top: .2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr)) }
.panels figure { margin: 0 }
.list { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)) }
.list details[open] { grid-column: 1 / -1 }
.scene { width: 100%; height: auto; display: block; background: #fff; max-height: 24rem }
.scene rect { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke }
.scene text.right { fill: #8dff70 } .scene text.wrong { fill: #ff9a9a }
.scene rect.truth { stroke: #fff; paint-order: stroke } .scene rect.right { stroke: #39ff14 }
.scene rect.wrong { stroke: #ff4040 } .scene .weak { stroke-dasharray: 4 3 }
.scene .halo { stroke: #000; stroke-width: 4; opacity: .55 } .scene .main { stroke-width: 4 }
.scene .main-halo { stroke: #000; stroke-width: 6; opacity: .55 }
.scene text { font: 11px system-ui, sans-serif; fill: #fff; stroke: #000; stroke-width: 3px;
  paint-order: stroke; stroke-linejoin: round }
.store { position: absolute; width: 0; height: 0; overflow: hidden }
details { border-bottom: 1px solid var(--line); padding: .2rem 0; scroll-margin-top: 3.5rem }
summary { cursor: pointer }
@media (max-width: 40rem) { section > div:not(.grid) > figure { overflow-x: auto }
  section > div:not(.grid) > figure img { max-width: none; width: 38rem }
  nav { position: static }
  th, td { padding: .2rem .4rem } td.long { min-width: 11rem }
  tr > :first-child { position: sticky; left: 0; background: var(--back); min-width: 8.8rem;
    white-space: normal; overflow-wrap: anywhere }
  thead tr > :first-child { background: var(--soft) }
  .words tr:has(td.long) td { display: block; border: 0; padding: .1rem .3rem; min-width: 0;
    position: static }
  .words tr:has(td.long) > td:first-child:not([class]) { color: var(--quiet) }
  .words tr:has(td.long) { display: block; border-bottom: 1px solid var(--line) }
  .words thead:has(+ tbody td.long) { display: none } }
@media print { :root { font-size: 11px } body { max-width: none; font-size: 1rem; padding: 0 }
  nav, .find, details:not([open]) { display: none }
  th button::after { content: none !important }
  .scroll, .tall { max-height: none; overflow: visible; background: none }
  .tall th, .tall td:first-child { position: static !important }
  th, td { white-space: normal; padding: .1rem .3rem }
  .tall table { font-size: .75rem } .tall td, .tall th { padding: .1rem .2rem }
  th.number { min-width: 0 } td.long { min-width: 8rem }
  figure, tr, h2, h3 { break-inside: avoid } h2, h3, section > p { break-after: avoid } }
"""

#: Script: a button in a head cell sorts, a field searches, a link opens the part that it leads to.
SCRIPT = """
"use strict";
function value(row, column) {
  const cell = row.cells[column];
  const given = cell.dataset.value;
  return given === undefined ? cell.textContent.trim() : given;
}
function sort(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const isNumber = head.classList.contains("number");
  const before = head.getAttribute("aria-sort");
  const down = before ? before === "ascending" : isNumber;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map(row => [value(row, column), row]);
  const compare = isNumber
    ? (a, b) => parseFloat(a) - parseFloat(b)
    : (a, b) => a.localeCompare(b, undefined, {numeric: true});
  rows.sort(([a], [b]) => a === "" || b === ""
    ? (a === "") - (b === "")
    : down ? compare(b, a) : compare(a, b));
  body.append(...rows.map(([, row]) => row));
}
function search(find) {
  const table = document.getElementById(find.dataset.table);
  const words = find.querySelector("input").value.toLowerCase().split(/\\s+/);
  const chosen = find.querySelector("select");
  const group = chosen ? chosen.value : "";
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    const fits = !group || row.dataset.group === group;
    row.hidden = !fits || !words.every(word => text.includes(word));
    shown += !row.hidden;
  }
  find.querySelector("output").textContent = shown + " of " + table.tBodies[0].rows.length;
}
function open_target() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement)
    if (node.tagName === "DETAILS") node.open = true;
  if (target) target.scrollIntoView();
}
document.addEventListener("click", event => {
  const button = event.target.closest("th button");
  if (button) sort(button.closest("table"), button.parentElement.cellIndex);
  const link = event.target.closest("a[href^='#']");
  if (link && link.hash === location.hash) open_target();
});
for (const find of document.querySelectorAll(".find"))
  find.addEventListener("input", () => search(find));
addEventListener("hashchange", open_target);
if (location.hash) open_target();
"""

#: The only script that a browser runs on the page, by its content: no name can be another.
SCRIPT_HASH = f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}"
