"""The look of report pages: one style sheet, light and dark, for screen and paper, without anything from outside."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --paper: #fcfcfa; --card: #fff; --ink: #1b1f24; --soft: #5d6670; --rule: #e1e4e8;
  --tint: #f4f6f8; --accent: #0b5f83; --warn-ink: #7a4a00; --warn: #fff3dc; --good: #17693a; --bad: #a3261d; }
@media (prefers-color-scheme: dark) { :root { --paper: #101316; --card: #171b20; --ink: #e6e9ec; --soft: #99a3ad;
  --rule: #2b3138; --tint: #1d2228; --accent: #74c3e6; --warn-ink: #ffcf7d; --warn: #33270f; --good: #7fd4a0;
  --bad: #ff9a90; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5; font-size: 15px;
  font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 72px; }
h1 { font-size: 27px; line-height: 1.25; font-weight: 620; letter-spacing: -.012em; margin: 0 0 6px; }
h2 { font-size: 20px; line-height: 1.3; font-weight: 620; margin: 0; letter-spacing: -.006em; }
h3 { font-size: 13px; font-weight: 640; color: var(--soft); margin: 28px 0 8px; }
p { margin: 0 0 10px; max-width: 72ch; }
a { color: var(--accent); }
.lead { font-size: 17px; }
.soft { color: var(--soft); }
.marks { display: flex; flex-wrap: wrap; gap: 6px; margin: 12px 0 18px; padding: 0; list-style: none; }
.marks li { background: var(--warn); color: var(--warn-ink); border-radius: 4px; padding: 2px 9px; font-size: 13px;
  font-weight: 600; }
section.part > h2 { margin-bottom: 10px; }
section.job, section.part { margin-top: 44px; border-top: 1px solid var(--rule); padding-top: 26px; }
main > section.job:first-child { margin-top: 0; border-top: 0; padding-top: 0; }
.headline { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; }
figure { margin: 0 0 8px; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; background: #000; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
.wide { overflow-x: auto; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; padding: 5px 12px 5px 0;
  border-bottom: 1px solid var(--rule); white-space: nowrap; }
td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.n { font-weight: 560; }
code { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; font-size: 12.5px; color: var(--soft);
  overflow-wrap: anywhere; }
td code { white-space: nowrap; } .how td { color: var(--soft); font-size: 13px; padding-top: 14px; }
.swatch { display: inline-block; width: 13px; height: 13px; border: 3px solid; border-radius: 3px; margin-right: 8px;
  vertical-align: -1px; }
ul.notes { margin: 0; padding-left: 20px; max-width: 76ch; } ul.notes li { margin: 3px 0; }
.warning { color: var(--warn-ink); font-weight: 600; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
details { margin: 6px 0; } summary { cursor: pointer; color: var(--accent); font-size: 14px; padding: 3px 0; }
dl { display: grid; grid-template-columns: minmax(130px, max-content) 1fr; gap: 4px 20px; margin: 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.steps { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 1px; background: var(--rule);
  border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; margin: 0; padding: 0; list-style: none; }
.steps li { background: var(--card); padding: 12px 14px; } .steps b { display: block; font-size: 20px; font-weight: 620;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; } .steps span { color: var(--soft); font-size: 13px; }
@media print { :root { --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #bbb; --warn: #fff;
  --warn-ink: #000; --accent: #000; } body { font-size: 10.5pt; } main { padding: 0; max-width: none; }
  .marks li { border: 1px solid #000; } section.job { break-before: page; }
  section.job:first-child { break-before: auto; }
  figure, tr { break-inside: avoid; } thead { display: table-header-group; } summary { list-style: none; }
  details::details-content { content-visibility: visible; display: block; } }
""".strip()
