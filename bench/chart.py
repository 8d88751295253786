"""The chart: how much of what each bar allows was used, as an SVG that reads on light and on dark ground."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.bars import Row

WIDTH, LEFT, RIGHT = 920, 400, 90
LINE, TOP, BOTTOM = 26, 46, 14
MOST_SHOWN = 2.0
"""Whatever is worse ends at the edge; its figure stands beside it."""

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .small { font-size: 12px; fill: #57606a }
  .met { fill: #2da44e } .missed { fill: #cf5b2e }
  .bar { stroke: #57606a; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9ba4ae } .met { fill: #3fb950 } .missed { fill: #f0883e }
    .bar { stroke: #9ba4ae }
  }
"""


def as_svg(rows: Sequence[Row]) -> str:
    """One line for each row that has a bar."""
    barred = [(row, row.used) for row in rows if row.used is not None]
    height = TOP + LINE * len(barred) + BOTTOM
    scale = (WIDTH - LEFT - RIGHT) / MOST_SHOWN
    edge = LEFT + scale
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>How much of what each bar allows was used</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="{LEFT}" y="18" class="small">part of what the bar allows; left of the line is met</text>',
        f'<text x="{edge:.0f}" y="36" text-anchor="middle" class="small">the bar</text>',
        f'<line x1="{edge:.0f}" x2="{edge:.0f}" y1="{TOP - 6}" y2="{height - BOTTOM}" class="bar"/>',
    ]
    for place, (row, used) in enumerate(barred):
        top = TOP + LINE * place
        verdict = "met" if row.is_met else "missed"
        length = max(1.0, min(used, MOST_SHOWN) * scale)
        lines += [
            f'<text x="{LEFT - 10}" y="{top + 14}" text-anchor="end">{escape(row.operation)}</text>',
            f'<rect x="{LEFT}" y="{top + 2}" width="{length:.0f}" height="16" rx="2" class="{verdict}"/>',
            f'<text x="{LEFT + length + 8:.0f}" y="{top + 14}" class="small">{used:.0%}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
