"""How a page looks, in light and in dark, on a desk and on a phone. No font and no rule from elsewhere."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --sheet: #ffffff; --ink: #1a2029; --soft: #56606e; --line: #dde1e7; --faint: #eef0f4;
  --accent: #2f62c9; --good: #17774a; --good-page: #e4f4ea; --bad: #b3261e; --bad-page: #fbe6e4;
  --neutral-page: #e9eef8; --code: #eef0f4;
  --c0: #2f62c9; --c1: #d1620f; --c2: #17774a; --c3: #a03fb0;
  --c4: #8a6d00; --c5: #0b8292; --c6: #b3261e; --c7: #56606e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --sheet: #1a1f26; --ink: #e6e9ee; --soft: #9ea8b6; --line: #303843; --faint: #222831;
    --accent: #7fa8f5; --good: #5ccb93; --good-page: #15301f; --bad: #ff8a80; --bad-page: #3a1b19;
    --neutral-page: #1f2a3d; --code: #262d37;
    --c0: #7fa8f5; --c1: #f2a15f; --c2: #5ccb93; --c3: #d993e6;
    --c4: #d6bb52; --c5: #5cc6d6; --c6: #ff8a80; --c7: #9ea8b6;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0.1rem 0 0.35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 0.35rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.35rem 0 0.8rem; max-width: 54rem; }
.over { color: var(--soft); font-size: 0.85rem; margin: 0; }
.soft { color: var(--soft); }
section {
  background: var(--sheet); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin: 1.1rem 0;
}
.verdict { border-width: 0 0 0 6px; border-radius: 8px; padding: 1rem 1.3rem; }
.verdict h2 { font-size: 1.3rem; margin: 0; }
.verdict ul { margin: 0.5rem 0 0; padding-left: 1.2rem; }
.verdict.met { background: var(--good-page); border-color: var(--good); }
.verdict.met h2 { color: var(--good); }
.verdict.missed { background: var(--bad-page); border-color: var(--bad); }
.verdict.missed h2 { color: var(--bad); }
.verdict.none { background: var(--neutral-page); border-color: var(--accent); }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 0.8rem;
  margin: 1.1rem 0;
}
.facts div { background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; padding: 0.8rem 1rem; }
.facts dt { color: var(--soft); font-size: 0.82rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.facts dd small { display: block; font-size: 0.8rem; font-weight: 400; color: var(--soft); }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.4rem; }
th, td { text-align: left; padding: 0.42rem 0.6rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
th:first-child, td:first-child { padding-left: 0.2rem; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: 0.82rem; white-space: nowrap; border-bottom-width: 2px; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:hover > * { background: var(--faint); }
.number { text-align: right; white-space: nowrap; }
.sentence { min-width: 15rem; }
td small { display: block; color: var(--soft); font-size: 0.84em; }
.tall { max-height: 26rem; overflow: auto; }
.tall thead th { position: sticky; top: 0; background: var(--sheet); }
code, .hash {
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.86em;
}
code { background: var(--code); border-radius: 4px; padding: 0.1em 0.35em; overflow-wrap: anywhere; }
.hash { overflow-wrap: anywhere; }
.mark {
  display: inline-block; border-radius: 99px; padding: 0.05rem 0.6rem; font-size: 0.8rem;
  font-weight: 600; white-space: nowrap;
}
.mark.met { background: var(--good-page); color: var(--good); }
.mark.missed { background: var(--bad-page); color: var(--bad); }
.mark.none { background: var(--faint); color: var(--soft); }
svg { display: block; max-width: none; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.1rem 1.4rem; }
figure.lines { margin: 0; min-width: 0; }
figure.lines figcaption { font-size: 0.9rem; }
svg.chart { width: 100%; height: auto; }
svg.chart text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .curve.c0 { stroke: var(--c0); } svg .point.c0 { fill: var(--c0); } .legend span.c0 { background: var(--c0); }
svg .curve.c1 { stroke: var(--c1); } svg .point.c1 { fill: var(--c1); } .legend span.c1 { background: var(--c1); }
svg .curve.c2 { stroke: var(--c2); } svg .point.c2 { fill: var(--c2); } .legend span.c2 { background: var(--c2); }
svg .curve.c3 { stroke: var(--c3); } svg .point.c3 { fill: var(--c3); } .legend span.c3 { background: var(--c3); }
svg .curve.c4 { stroke: var(--c4); } svg .point.c4 { fill: var(--c4); } .legend span.c4 { background: var(--c4); }
svg .curve.c5 { stroke: var(--c5); } svg .point.c5 { fill: var(--c5); } .legend span.c5 { background: var(--c5); }
svg .curve.c6 { stroke: var(--c6); } svg .point.c6 { fill: var(--c6); } .legend span.c6 { background: var(--c6); }
svg .curve.c7 { stroke: var(--c7); } svg .point.c7 { fill: var(--c7); } .legend span.c7 { background: var(--c7); }
svg .zero { stroke: var(--soft); stroke-width: 1; }
svg .border { stroke: var(--bad); stroke-width: 1; stroke-dasharray: 3 2; }
svg .forbidden { fill: var(--bad-page); }
svg .bar.plain, svg .dot.plain { fill: var(--accent); }
svg .bar.met, svg .dot.met { fill: var(--good); }
svg .bar.missed, svg .dot.missed { fill: var(--bad); }
svg .bar { fill-opacity: 0.45; }
svg .dot { stroke: var(--sheet); stroke-width: 1.5; }
details { margin: 0.6rem 0 0; }
summary { cursor: pointer; color: var(--accent); }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
dl.pairs { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.2rem; margin: 0.5rem 0; }
dl.pairs dt { color: var(--soft); }
dl.pairs dd { margin: 0; overflow-wrap: anywhere; }
figure.worst { margin: 0.4rem 0 1.5rem; }
figure.worst figcaption { margin-bottom: 0.5rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.7rem; }
.panels div { font-size: 0.82rem; color: var(--soft); }
.panels img {
  display: block; width: 100%; height: auto; border-radius: 6px; border: 1px solid var(--line);
  background: #000;
}
.panels.pairwise { grid-template-columns: repeat(auto-fit, minmax(7.6rem, 1fr)); }
.legend {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; padding: 0; margin: 0.2rem 0 0.9rem;
  list-style: none; font-size: 0.84rem;
}
.legend span {
  display: inline-block; width: 0.85em; height: 0.85em; border-radius: 2px; margin-right: 0.4em;
  vertical-align: -0.06em; border: 1px solid var(--line);
}
footer { color: var(--soft); font-size: 0.85rem; margin-top: 1.6rem; }
@media (max-width: 40rem) {
  main { padding: 1.2rem 0.8rem 3rem; }
  section { padding: 1rem 0.9rem; }
  h1 { font-size: 1.4rem; }
  .facts { grid-template-columns: repeat(2, 1fr); }
  .facts dd { font-size: 1.15rem; }
  dl.pairs { grid-template-columns: 1fr; gap: 0; }
  dl.pairs dd { margin-bottom: 0.5rem; }
  .panels, .panels.pairwise { grid-template-columns: repeat(2, 1fr); }
  .panels.pairwise div:first-child { grid-column: 1 / -1; }
}
@media print { body { background: #fff; } section, .facts div { break-inside: avoid; } .tall { max-height: none; } }
"""
