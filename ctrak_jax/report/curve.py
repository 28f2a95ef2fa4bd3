"""The damping curve as inline SVG, coloured by the page's style sheet."""

import math

from ctrak_jax.report.rows import damping_lines
from ctrak_jax.run.metrics import DampingCurve

_WIDTH, _HEIGHT = 300, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 8, 26


def damping_svg(damping: DampingCurve) -> str:
    """Precision against r on a log axis, the chosen r as vertical lines.

    Args:
      damping: a method with at least one line to draw.
    """
    lines = damping_lines(damping)
    marks = sorted(set(damping.chosen.values()))
    logs = [math.log10(r) for line in lines for r, _ in line.points]
    logs += [math.log10(r) for r in marks]
    low, high = min(logs), max(logs)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def x(r: float) -> float:
        return _LEFT + (math.log10(r) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(precision: float) -> float:
        return _TOP + (1 - precision) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
        f'y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(level) + 3.5:.1f}" text-anchor="end">{level:g}</text>'
        for level in (0.0, 0.5, 1.0)
    ]
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    # More than about six labels run into each other.
    parts += [
        f'<text x="{x(10.0**power):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">10'
        f'<tspan dy="-4" font-size="7.5">{power}</tspan></text>'
        for power in decades[:: max(1, -(-len(decades) // 6))]
    ]
    parts += [
        f'<line class="chosen" x1="{x(r):.1f}" x2="{x(r):.1f}" '
        f'y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        for r in marks
    ]
    for line in lines:
        kind = "validation" if line.split == "validation" else line.scenario
        path = " ".join(f"{x(r):.1f},{y(precision):.1f}" for r, precision in line.points)
        dots = "".join(
            f'<circle cx="{x(r):.1f}" cy="{y(precision):.1f}" r="2.4">'
            f"<title>r = {r:g}: {precision:.2f}</title></circle>"
            for r, precision in line.points
        )
        parts.append(f'<g class="{kind}"><polyline points="{path}"/>{dots}</g>')
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="precision against the damping factor r">{"".join(parts)}</svg>'
    )
