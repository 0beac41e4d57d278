"""The look of a report: light or dark as its reader has it, and fit for paper."""

STYLE = """
:root {
  --page: #f4f5f7; --card: #fff; --text: #18212c; --quiet: #5a6775; --line: #dfe4ea;
  --good: #1b7a48; --warn: #96590a; --bad: #b3261e;
  --read: #3b78b8; --gather: #8157b8; --alternate: #16828a; --wave: #8794a3; --recall: #c98a1b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f141a; --card: #18202a; --text: #e4e9ef; --quiet: #98a5b3; --line: #2c3845;
    --good: #2f9e63; --warn: #c98a2b; --bad: #e5675d;
    --read: #5d9ad8; --gather: #a27fd6; --alternate: #35a7b0; --wave: #657485; --recall: #dba33c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1, h2, h3, p { margin: 0; }
h2 { font-size: 18px; margin-bottom: 12px; }
h3 { font-size: 15px; margin: 20px 0 6px; }
a { color: inherit; }
h3 small { color: var(--quiet); font-weight: 400; margin-left: 4px; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin-top: 16px;
}
section h2 + h3 { margin-top: 0; }
.quiet, footer { color: var(--quiet); font-size: 13px; }
.quiet { margin: 8px 0; }
footer { margin-top: 20px; }
.banner { border-radius: 10px; padding: 22px 24px; color: #fff; }
.banner h1 { font-size: 34px; line-height: 1.2; }
.banner .over { opacity: .85; }
.banner .summary { font-size: 18px; margin: 6px 0; }
.banner.passed { background: #1b6b42; }
.banner.partial { background: #8a5208; }
.banner.failed { background: #a3221b; }
.banner.not_checked { background: #4a5665; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 24px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: 13px; }
.tile.alarm b { color: var(--bad); }
.share {
  display: flex; gap: 2px; height: 14px; margin: 16px 0; border-radius: 7px; overflow: hidden;
}
.share span { flex: 0 1 0; min-width: 4px; }
.share span, .counts i, .legend i { background: var(--wave); }
.share .verified, .counts .verified { background: var(--good); }
.share .unverified, .counts .unverified { background: var(--alternate); }
.share .kept, .counts .kept { background: var(--read); }
.share .unrestorable, .counts .unrestorable { background: var(--recall); }
.share .failed, .counts .failed { background: var(--bad); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 24px; }
.columns { align-items: start; }
.wide, .chart { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0; }
thead th { color: var(--quiet); font-weight: 500; font-size: 13px; white-space: nowrap; }
tbody tr { border-top: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; }
.counts th, .facts th { font-weight: 400; color: var(--quiet); }
.counts td { text-align: right; padding-right: 0; white-space: nowrap; }
.counts i, .legend i {
  display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 7px;
}
.facts th { width: 140px; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
td code, .free, .facts td, .banner p { overflow-wrap: anywhere; }
td small { color: var(--quiet); margin-left: 8px; white-space: nowrap; }
.when { white-space: nowrap; }
.free { display: inline-block; min-width: 16ch; }
.mark {
  display: inline-block; border: 1px solid var(--line); border-radius: 10px; font-size: 12px;
  padding: 0 8px; margin-right: 6px; color: var(--quiet);
}
.mark.alarm { border-color: var(--bad); color: var(--bad); }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; margin: 8px 0;
  font-size: 13px; color: var(--quiet);
}
svg { display: block; width: 100%; min-width: 760px; }
svg text { fill: var(--quiet); font-size: 12px; }
svg .group { fill: var(--text); font-weight: 600; }
svg .note { text-anchor: end; }
svg .tick, svg .in { text-anchor: middle; }
svg .in { fill: #fff; font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .work { fill: var(--read); }
svg .read { fill: var(--read); }
svg .gather { fill: var(--gather); }
svg .alternate { fill: var(--alternate); }
svg .failed { fill: var(--bad); }
svg .wave { fill: var(--wave); }
svg .recall { fill: var(--recall); }
.legend .work, .legend .read { background: var(--read); }
.legend .gather { background: var(--gather); }
.legend .alternate { background: var(--alternate); }
.legend .recall { background: var(--recall); }
.legend .failed { background: var(--bad); }
@media print {
  body { background: #fff; }
  main { max-width: none; padding: 0; }
  section { break-inside: auto; border-color: #ccc; }
  tr, .chart, .tiles { break-inside: avoid; }
  .banner, .share, i, svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
