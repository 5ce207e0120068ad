"""The page's style sheet."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f8; --card: #ffffff; --ink: #1c2024; --quiet: #5f6872; --line: #dfe3e7; --accent: #1d6f8a;
  --faint: #e3f0f4; --wrong: #b3261e; --wrong-paper: #fdeceb; --noted: #8a5a00; --noted-paper: #fdf4e0; --right: #20703a;
  --right-paper: #e7f5eb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1d2125; --ink: #e6e9ec; --quiet: #9aa4ae; --line: #343a41; --accent: #6cc0da;
    --faint: #22343b; --wrong: #ff9c94; --wrong-paper: #3b1f1d; --noted: #f0c26b; --noted-paper: #352b17; --right: #7fd39a;
    --right-paper: #1b3224;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 3.5rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: 0 0 .75rem; }
a { color: var(--accent); }
.note, footer, figcaption { color: var(--quiet); }
.note, figcaption { font-size: .87rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: 0 0 1rem; }
nav {
  position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line); margin-bottom: 1rem;
}
nav div { max-width: 1120px; margin: 0 auto; padding: .5rem 1rem; display: flex; gap: 1rem; overflow-x: auto; }
nav a { white-space: nowrap; text-decoration: none; font-size: .9rem; }
.verdict { border-left: 6px solid; border-radius: 10px; padding: .9rem 1rem; margin: 1rem 0; }
.verdict h2 { margin: 0; }
.verdict ul { margin: .6rem 0 0; padding-left: 1.1rem; }
.verdict li { margin: .35rem 0; }
.verdict code { font-weight: 600; }
.wrong { border-color: var(--wrong); background: var(--wrong-paper); }
.wrong h2, .wrong code { color: var(--wrong); }
.noted { border-color: var(--noted); background: var(--noted-paper); }
.noted h2, .noted code { color: var(--noted); }
.right { border-color: var(--right); background: var(--right-paper); }
.right h2 { color: var(--right); }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .88em; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 1.75rem; margin: .75rem 0 0; padding: 0; list-style: none; }
.facts b { display: block; font-size: 1.25rem; line-height: 1.2; }
.facts span { color: var(--quiet); font-size: .87rem; }
.grid { columns: 2 27rem; column-gap: 2rem; }
.part + .part { margin-top: 1.25rem; }
.grid > .part { break-inside: avoid; margin: 0 0 1.25rem; }
.scroll { overflow-x: auto; margin: 0 0 .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: middle; overflow-wrap: normal; }
th { color: var(--quiet); font-weight: 600; font-size: .82rem; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.text { text-align: left; }
td.text { min-width: 8.5rem; max-width: 22rem; overflow-wrap: anywhere; }
.number { text-align: right; white-space: nowrap; }
.bar { display: inline-block; width: 4.5rem; height: .6rem; border-radius: 3px; background: var(--faint); }
.bar span { display: block; height: 100%; border-radius: 3px; background: var(--accent); min-width: 1px; }
.swatch {
  display: inline-block; width: 1.6rem; height: 1.1rem; border-radius: 3px; border: 1px solid var(--line);
  vertical-align: middle; margin-right: .5rem;
}
svg { display: inline-block; vertical-align: middle; }
.whisker .rule { stroke: var(--line); stroke-width: 1; }
.whisker .span { stroke: var(--accent); stroke-width: 3; opacity: .45; }
.whisker circle { fill: var(--accent); }
.histogram { width: 100%; max-width: 34rem; height: auto; display: block; margin-bottom: .75rem; }
.histogram rect { fill: var(--accent); }
.histogram text { fill: var(--quiet); font-size: 12px; }
.sets { display: flex; flex-wrap: wrap; gap: .75rem; }
.set { border: 1px solid var(--line); border-radius: 8px; padding: .6rem; max-width: 100%; }
.set > p { margin: 0 0 .4rem; font-size: .9rem; }
.tag { display: inline-block; border-radius: 4px; padding: 0 .4rem; font-size: .8rem; margin-right: .35rem; }
.tag.wrong, .tag.noted { border: 0; }
.tag.wrong { color: var(--wrong); }
.tag.noted { color: var(--noted); }
.pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; width: 112px; }
figure img { width: 112px; height: 112px; object-fit: contain; background: var(--paper); border-radius: 6px; display: block; }
figcaption { font-size: .78rem; line-height: 1.3; margin-top: .2rem; }
figcaption b { color: var(--ink); font-weight: 600; }
footer { padding-top: .5rem; padding-bottom: 2rem; font-size: .85rem; }
@media (max-width: 30rem) {
  header, main, footer { padding-left: .75rem; padding-right: .75rem; }
  nav div { padding-left: .75rem; padding-right: .75rem; }
  section { padding: .8rem; }
  figure, figure img { width: 90px; }
  figure img { height: 90px; }
  figcaption { font-size: .72rem; letter-spacing: -.01em; }
  th, td { padding: .3rem .35rem; }
  td.text { min-width: 6.5rem; }
  .pictures { gap: .45rem; }
  .set { padding: .45rem; }
}
@media print { nav { display: none; } section { break-inside: avoid; } }
"""
