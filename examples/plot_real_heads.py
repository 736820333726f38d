#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws two pictures of real_heads.csv: errors against the asked epsilon, and density, for each head.

usage: plot_real_heads.py CSV [FOLDER]        writes FOLDER/real_heads_error.png and ..._density.png
"""
import csv
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

INK, GRID, BEYOND = "#222222", "#dddddd", "#fbe9e7"
SERIES = (  # column, label, colour, marker and its size
    ("error_worst", "worst", "#c0392b", "^", 6.5),
    ("error_95", "95 %", "#e08e0b", "s", 4),
    ("error_median", "median", "#1f6fb4", "o", 4),
)
FLOOR = 1e-4  # smaller errors are drawn here, hollow

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.edgecolor": "#888888",
        "axes.labelcolor": INK,
        "axes.titlesize": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "figure.dpi": 150,
    }
)


def read(path):
    """Rows of the CSV by head, in the order of the file; numbers as floats."""
    texts = ("head", "kind", "policy", "certificates")
    heads = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            row = {key: value if key in texts else float(value) for key, value in row.items()}
            heads.setdefault(row["head"], []).append(row)
    for rows in heads.values():
        rows.sort(key=lambda row: row["epsilon"])
    return heads


def percent(value, _=None):
    return f"{100 * value:g} %"


def caption(heads):
    row = next(iter(heads.values()))[0]
    calls = sorted({int(row["calls"]) for rows in heads.values() for row in rows})
    return f"{row['policy']}, delta = {row['delta']:g}, {calls[-1]} calls a point"


def draw_panel(ax, rows, limits):
    """One query head: three lines over the asked epsilon, and the diagonal."""
    (low, high), (bottom, top) = limits
    ax.fill_between([low, high], [low, high], top, color=BEYOND, lw=0, zorder=0)
    ax.plot([low, high], [low, high], color=INK, lw=1, ls=(0, (4, 2)), label="asked epsilon")
    for key, label, colour, marker, size in SERIES:
        ax.plot([row["epsilon"] for row in rows], [max(row[key], FLOOR) for row in rows],
                color=colour, marker=marker, ms=size, lw=1.2, label=label)
        tiny = [row["epsilon"] for row in rows if row[key] < FLOOR]
        ax.plot(tiny, [FLOOR] * len(tiny), color=colour, marker=marker, mfc="white", ms=size, lw=0)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(bottom, top))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.tick_params(which="minor", length=0)


def draw_errors(heads, path):
    """A column a KV head, one panel below the other for its query heads; at most six side by side."""
    columns = {}
    for head in heads:
        columns.setdefault(head.rpartition(".")[0], []).append(head)
    asked = sorted({row["epsilon"] for rows in heads.values() for row in rows})
    seen = [max(row[key], FLOOR) for rows in heads.values() for row in rows for key, *_ in SERIES]
    top = 2 * max(*seen, asked[-1])
    limits = (asked[0] / 1.35, asked[-1] * 1.35), (min(min(seen) / 1.5, top / 30), top)

    # Everything in inches: panels, the gap between bands of columns, margins.
    across, depth = min(6, len(columns)), max(len(column) for column in columns.values())
    bands = -(-len(columns) // across)
    panel_w, panel_h, gap, band = 2.2, 2.0, 0.15, 0.75
    width = 0.8 + across * (panel_w + gap)
    height = 1.2 + bands * (depth * (panel_h + gap) + band)
    left = 0.75
    if width < 5.2:  # room for the title
        left, width = left + (5.2 - width) / 2, 5.2
    figure = plt.figure(figsize=(width, height))
    for i, (kv_head, column) in enumerate(columns.items()):
        for y, head in enumerate(column):
            x_at = left + i % across * (panel_w + gap)
            y_at = (height - 0.75 - i // across * (depth * (panel_h + gap) + band)
                    - (y + 1) * (panel_h + gap) - 0.35)
            ax = figure.add_axes([x_at / width, y_at / height, panel_w / width, panel_h / height])
            draw_panel(ax, heads[head], limits)
            ax.set_xticks(asked, [f"{e:g}" for e in asked] if y + 1 == len(column) else [])
            ax.tick_params(labelleft=i % across == 0)
            ax.text(0.04, 0.95, f"{head.rpartition('.')[2]}  {heads[head][0]['kind']}",
                    transform=ax.transAxes, va="top", color=INK)
            if y == 0:
                ax.set_title("\n".join(kv_head.rpartition("/")[::2]))
    figure.supxlabel("asked epsilon", fontsize=10, y=0.36 / height)
    figure.supylabel("observed relative error of the output", fontsize=10, x=(left - 0.7) / width)
    figure.suptitle(f"Observed error against asked epsilon\n{caption(heads)}\n"
                    f"red: beyond epsilon; hollow: below {FLOOR:g}", fontsize=10,
                    y=1 - 0.1 / height)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, frameon=False)
    figure.savefig(path)


def draw_density(heads, path):
    """A line a query head, widest first; a dot an epsilon."""
    order = sorted(heads, key=lambda head: heads[head][0]["support"])
    asked = sorted({row["epsilon"] for rows in heads.values() for row in rows})
    colours = plt.get_cmap("viridis_r")
    figure, ax = plt.subplots(figsize=(8, 0.3 * len(order) + 1.7), layout="constrained")
    for y, head in enumerate(order):
        densities = [row["density"] for row in heads[head]]
        ax.plot([min(densities), max(densities)], [y, y], color="#bbbbbb", lw=2, zorder=1)
    for i, epsilon in enumerate(asked):
        points = [(row["density"], y) for y, head in enumerate(order) for row in heads[head]
                  if row["epsilon"] == epsilon]
        part = i / max(1, len(asked) - 1)  # smaller dots on larger ones, so that none is hidden
        ax.scatter(*zip(*points), s=90 * 0.2**part, zorder=2 + i, edgecolor="white", linewidth=0.6,
                   color=colours(0.1 + 0.8 * part), label=f"{epsilon:g}")
    ax.set(xscale="log", ylim=(-0.7, len(order) - 0.3),
           xlabel="rows read, share of the cache (mean over the calls)")
    ax.set_yticks(range(len(order)), [f"{head}   {heads[head][0]['kind']}, {label(heads[head])}"
                                      for head in order])
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if t >= ax.get_xlim()[0] * 0.8]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(percent))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="y", length=0)
    ax.set_title(f"Density per head\n{caption(heads)}", fontsize=11)
    ax.legend(title="asked epsilon", loc="best", frameon=True, edgecolor=GRID)
    figure.savefig(path)


def label(rows):
    support = 100 * rows[0]["support"]
    return f"{support:.0f} %" if support >= 10 else f"{support:.2g} %"


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    folder = sys.argv[2] if len(sys.argv) == 3 else os.path.dirname(sys.argv[1]) or "."
    heads = read(sys.argv[1])
    if not heads:
        sys.exit(f"plot_real_heads.py: {sys.argv[1]}: no rows")
    for draw, name in ((draw_errors, "error"), (draw_density, "density")):
        path = os.path.join(folder, f"real_heads_{name}.png")
        draw(heads, path)
        print(f"Picture: {path}")


if __name__ == "__main__":
    main()
