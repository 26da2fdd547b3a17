"""A benchmark's result to read: Markdown for a repository, and one page that needs nothing beside it."""

from __future__ import annotations

from html import escape

from ringkas.runtimes.measure.bench import BenchResult
from ringkas.runtimes.measure.table import Cells, Line, details, remarks, tables

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #59636e; --line: #d1d9e0; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --paper: #0d1117; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
th { color: var(--faint); font-weight: 600; }
tr.struck td { text-decoration: line-through; color: var(--faint); }
figure { margin: 0; } figure svg { width: 100%; height: auto; background: #fff; border-radius: .4rem; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
p { color: var(--faint); font-size: .9rem; }
"""


def to_markdown(result: BenchResult) -> str:
    """The tables and remarks as GitHub-flavoured Markdown."""
    parts = [_markdown_table(table) for table in [*tables(result), details(result)]]
    return "\n\n".join([*parts, *remarks(result)]) + "\n"


def to_html(result: BenchResult) -> str:
    """One self-contained page: the plots as inline SVG, the tables, the remarks.

    Raises:
        MissingExtra: matplotlib, which draws the plots, is not installed.
    """
    from ringkas.runtimes.measure.plots import plots

    names = ", ".join(row.measured.name for row in result.rows)
    figures = "".join(f"<figure>{svg}</figure>" for svg in plots(result))
    body = "".join(
        f"<h2>{escape(table.title)}</h2>{_html_table(table)}" for table in [*tables(result), details(result)]
    )
    said = "".join(f"<p>{escape(remark)}</p>" for remark in remarks(result))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Text embedding, measured: {escape(names)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>Text embedding, measured</h1>{said}<div class="plots">{figures}</div>{body}</body></html>\n'
    )


def _markdown_table(table: Cells) -> str:
    heads = [f"| {' | '.join(table.heads)} |", "|---" + "|---:" * (len(table.heads) - 1) + "|"]
    lines = [f"| {' | '.join(_struck(line))} |" for line in table.lines]
    return "\n".join([f"**{table.title}**", "", *heads, *lines])


def _struck(line: Line) -> list[str]:
    return [f"~~{cell}~~" if line.struck and cell else cell for cell in line.cells]


def _html_table(table: Cells) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    lines = "".join(
        f"<tr{' class=struck' if line.struck else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in line.cells)
        + "</tr>"
        for line in table.lines
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
