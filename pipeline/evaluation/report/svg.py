"""Charts as SVG inside a page: they take the page's colours and fonts, and describe themselves to screen readers."""

import re
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Matplotlib draws with these colours; each becomes a variable of the page's style, which has a light and a dark scheme.
INK, FAINT, OURS, THEIRS, ALARM = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "ink", FAINT: "faint", OURS: "ours", THEIRS: "theirs", ALARM: "alarm"}
SIZE = (4.8, 3.1)  # inches
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.6,
}


def svg_chart(
    name: str,
    title: str,
    description: str,
    draw: Callable[[Any], None],
    *,
    size: tuple[float, float] = SIZE,
    rows: int = 1,
) -> Markup:
    """An <svg> of what `draw` draws on the Axes it is given (a list of them for several rows).

    `name` makes the ids unique on the page; a screen reader reads title and description.
    """
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        axes: Any = figure.subplots(rows, 1, sharex=rows > 1)
        draw(list(axes) if rows > 1 else axes)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(_inline(text.getvalue(), name, title, description))


def without_vertical_grid(axes: Axes) -> None:
    """Keep only the horizontal grid lines."""
    axes.grid(False, axis="x")


def _inline(svg: str, name: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)[\")]", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)  # the page's own font
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    view = re.search(r'viewBox="[^"]*"', svg)
    labels = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{view[0] if view else ""} role="img" aria-labelledby="{name}-title {name}-desc">{labels}'
    )
    return head + svg[svg.index(">") + 1 :]
