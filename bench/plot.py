#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the picture of an experiment from the CSV file that it wrote.

usage: plot.py EXPERIMENT CSV[.gz] PNG

Needs numpy and matplotlib; `. cmake/setup.sh; vattn_setup plots` installs those of
/usr/bin/python3.
"""
import csv
import gzip
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

INK, GRID = "#222222", "#dddddd"
COLOURS = ("#c0392b", "#e08e0b", "#1f6fb4", "#3b8f5a", "#7b4fa3", "#777777", "#b05c2e", "#17a2a2")
CLASSES = ("sharp", "mid", "wide")

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
        "figure.dpi": 110,
    }
)


def read(path):
    """Columns of a CSV file as arrays: floats where every value is one."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        sys.exit(f"plot.py: {path}: no rows")
    table = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        try:
            table[key] = np.array([float(value) for value in values])
        except ValueError:
            table[key] = np.array(values)
    return table


def where(table, **wanted):
    """The rows in which every named column has the given value."""
    mask = np.ones(len(next(iter(table.values()))), dtype=bool)
    for key, value in wanted.items():
        mask &= table[key] == value
    return {key: column[mask] for key, column in table.items()}


def unique(column):
    """Distinct values in the order of the file."""
    return list(dict.fromkeys(column.tolist()))


def panels(count, height=2.9, width=3.3):
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained",
                                squeeze=False)
    return figure, axes[0]


def residuals(table):
    figure, axes = panels(3)
    for ax, (column, label) in zip(axes, (("mass_code", "mass left by 4-bit top-k"),
                                          ("kurtosis", "kurtosis left by sinks and window"),
                                          ("kurtosis_code", "kurtosis left by 4-bit top-k"))):
        for name, colour in zip(CLASSES, COLOURS):
            rows = where(table, **{"class": name})
            ax.plot(rows["entropy_share"], np.maximum(rows[column], 1e-6), ".", ms=2.5, alpha=0.5,
                    color=colour, label=name)
        ax.set(xscale="log", yscale="log", xlabel="entropy share exp(H) / n", ylabel=label)
    axes[0].legend(markerscale=4)
    return figure


def epsilon_error(table):
    """Mean errors of a class over epsilon at the middle delta; bars from 5 to 95 % of the rows."""
    names = unique(table["composition"])
    deltas = unique(table["delta"])
    figure, axes = plt.subplots(2, len(names), figsize=(3.2 * len(names), 5.6), sharex=True,
                                sharey=True, layout="constrained", squeeze=False)
    for line, error in zip(axes, ("denominator", "output")):
        for ax, name in zip(line, names):
            for i, group in enumerate(CLASSES):
                rows = where(table, composition=name, error=error, delta=deltas[len(deltas) // 2],
                             **{"class": group})
                x = rows["epsilon"] * 1.06 ** (i - 1)
                low = np.maximum(rows["row_5"], 1e-4)
                ax.vlines(x, low, np.maximum(rows["row_95"], low), color=COLOURS[i], lw=1)
                ax.plot(x, rows["mean"], "o-", ms=3, color=COLOURS[i], label=group)
            ends = [table["epsilon"].min(), table["epsilon"].max()]
            ax.plot(ends, ends, color=INK, lw=1, ls=(0, (4, 2)), label="asked epsilon")
            ax.set(xscale="log", yscale="log", title=f"{name}: {error}")
    axes[0][0].legend()
    figure.supxlabel("asked epsilon")
    figure.supylabel("mean relative error; bars: 5 to 95 % of the rows")
    return figure


def hybrid(table):
    """Median share of the rows that each method needs, over the length or by class."""
    errors = unique(table["error"])
    groups = [g for g in CLASSES if g in where(table, source="captured")["group"]]
    kinds = [kind for kind in unique(table["source"]) if kind != "captured"]
    figure, axes = panels(len(kinds) + 1, height=3.0, width=2.6)
    for i, method in enumerate(unique(table["method"])):
        rows = where(table, method=method, error=errors[-1])
        for ax, kind in zip(axes, kinds):
            mine = where(rows, source=kind)
            lengths = sorted(set(mine["n"]))
            shares = [np.median(where(mine, n=n)["share"]) for n in lengths]
            ax.plot(lengths, shares, "o-", ms=3, color=COLOURS[i], label=method)
            ax.set(xscale="log", yscale="log", title=kind, xlabel="keys")
        shares = [np.median(where(rows, source="captured", group=g)["share"]) for g in groups]
        axes[-1].plot(groups, shares, "o", color=COLOURS[i])
    axes[-1].set(yscale="log", title="captured")
    axes[0].set_ylabel(f"rows for a mean error of {errors[-1]:g}")
    axes[0].legend()
    return figure


def small_samples(table):
    """Failure rate of each interval over b, a panel a kurtosis class."""
    groups = unique(table["kurtosis"])
    figure, axes = panels(len(groups), height=2.8, width=2.6)
    methods = ("clt", "clt-fpc", "student-fpc", "hoeffding", "bernstein")
    for ax, group in zip(axes, groups):
        for name, colour in zip(methods, COLOURS):
            rows = where(table, kurtosis=group, method=name)
            ax.plot(rows["b"], 100 * rows["failures"], "o-", ms=3, color=colour, label=name)
        ax.axhline(10, color=INK, lw=1, ls=(0, (4, 2)))
        ax.set(xscale="log", ylim=(-2, 75), title=f"kurtosis {group}", xlabel="sampled rows b")
    axes[0].set_ylabel("intervals that miss, %")
    axes[0].legend()
    return figure


def coverage(table):
    """Density, outputs beyond epsilon and mean error of each composition, means over the rows."""
    figure, axes = panels(3)
    for name, colour in zip(unique(table["composition"]), COLOURS):
        mine = where(table, composition=name)
        epsilons = sorted(set(mine["epsilon"]))
        for ax, column in zip(axes, ("density", "output_violation", "mean_output_error")):
            means = [100 * where(mine, epsilon=e)[column].mean() for e in epsilons]
            ax.plot(epsilons, means, "o-", ms=3, color=colour, label=name)
            ax.set(xscale="log", xlabel="asked epsilon", ylabel=f"{column.replace('_', ' ')}, %")
    axes[0].set_yscale("log")
    axes[1].axhline(100 * table["delta"][0], color=INK, lw=1, ls=(0, (4, 2)))
    axes[0].legend()
    return figure


def adversary(table):
    """Outputs beyond epsilon and density of each composition, a panel an epsilon."""
    kinds = unique(table["adversary"])
    epsilons = sorted(set(table["epsilon"]))
    figure, axes = plt.subplots(2, len(epsilons), figsize=(3.4 * len(epsilons), 5), sharex=True,
                                layout="constrained", squeeze=False)
    names = unique(table["composition"])
    for line, column in zip(axes, ("output_beyond", "density")):
        for ax, epsilon in zip(line, epsilons):
            for i, name in enumerate(names):
                rows = where(table, composition=name, epsilon=epsilon)
                at = [kinds.index(kind) + 0.2 * (i - (len(names) - 1) / 2)
                      for kind in rows["adversary"]]
                ax.bar(at, 100 * rows[column], width=0.18, color=COLOURS[i], label=name)
            ax.set_title(f"{column.replace('_', ' ')} %, epsilon {epsilon:g}")
            ax.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right")
    for ax in axes[0]:
        ax.axhline(100 * table["delta"][0], color=INK, lw=1, ls=(0, (4, 2)))
    axes[0][0].legend()
    return figure


def equal_time(table):
    """Mean output error over time relative to the dense kernel."""
    sources = unique(table["source"])
    figure, axes = panels(len(sources))
    for ax, source in zip(axes, sources):
        names = [name for name in unique(table["method"]) if name != "dense"]
        for name, colour in zip(names, COLOURS):
            rows = where(table, source=source, method=name)
            ax.plot(rows["of_dense"], np.maximum(100 * rows["mean_error"], 1e-3), "o-", ms=3,
                    color=colour, label=name)
        ax.axvline(1, color=INK, lw=1, ls=(0, (4, 2)))
        ax.set(yscale="log", xscale="log", title=source, xlabel="time / dense")
    axes[0].set_ylabel("mean output error, %")
    axes[0].legend()
    return figure


def predictors(table):
    """Mass left to the sample over the time of a selection, a point a predictor."""
    sets = unique(table["set"])
    names = [name for name in unique(table["predictor"]) if name != "none"]
    colours = plt.get_cmap("tab20")(np.arange(len(names)) % 20)
    rows = (len(sets) + 2) // 3
    figure, axes = plt.subplots(rows + 1, 3, figsize=(11, 3.1 * rows + 1.1), layout="constrained",
                                gridspec_kw={"height_ratios": [3.1] * rows + [1.1]})
    for ax, group in zip(axes.flat, sets):
        for i, (name, colour) in enumerate(zip(names, colours)):
            row = where(table, set=group, predictor=name)
            ax.plot(row["select_over_dense"], np.maximum(row["mass_left"], 1e-2),
                    "os^Dv*"[i % 6], ms=6, color=colour, label=name)
        ax.set(xscale="log", yscale="log", title=group, xlabel="selection, % of dense")
        ax.grid(color=GRID)
    for ax in axes.flat[len(sets):]:
        ax.axis("off")
    for line in axes[:-1]:
        line[0].set_ylabel("mass left, %")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes[-1][1].legend(handles, labels, loc="center", ncols=6).set_in_layout(False)
    return figure


def proposals(table):
    """Bytes, misses and errors of each predictor as a proposal, a bar a predictor."""
    rows = where(table, **{"class": "all"})
    names = rows["predictor"].tolist()
    at = np.arange(len(names))
    figure, axes = plt.subplots(1, 3, figsize=(11, 0.27 * len(names) + 1.1), layout="constrained",
                                sharey=True)
    index = rows["index_bytes"]
    axes[0].barh(at, index, color=COLOURS[5], label="index")
    axes[0].barh(at, rows["density"], left=index, color=COLOURS[2], label="rows of K and V")
    axes[0].set(xlabel="bytes read, % of dense")
    failing = 100 * rows["rows_failing"] / rows["rows"]
    axes[1].barh(at - 0.2, rows["beyond"], height=0.4, color=COLOURS[1],
                 label="outputs beyond epsilon")
    axes[1].barh(at + 0.2, failing, height=0.4, color=COLOURS[0], label="rows beyond delta")
    for y, count in zip(at, rows["rows_failing"]):
        axes[1].annotate(f"{count:.0f}", (failing[y], y + 0.2), xytext=(3, 0), va="center",
                         textcoords="offset points", fontsize=7)
    axes[1].set(xlabel="%")
    for column, label, mark in (("error_50", "median", "o"), ("error_95", "95 %", "s"),
                                ("error_999", "99.9 %", "D"), ("error_worst", "worst", "x")):
        axes[2].plot(np.maximum(rows[column], 1e-2), at, mark, ms=4, label=label)
    axes[2].axvline(100 * rows["epsilon"][0], color=INK, lw=1, ls=(0, (4, 2)))
    axes[2].set(xscale="log", xlabel="output error, %")
    for ax in axes:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=7,
                  columnspacing=1.0, handletextpad=0.4, frameon=False)
    axes[0].set_yticks(at, names)
    axes[0].invert_yaxis()
    return figure


DRAWN = (coverage, residuals, epsilon_error, hybrid, small_samples, adversary, equal_time,
         predictors, proposals)
EXPERIMENTS = {draw.__name__: draw for draw in DRAWN}


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in EXPERIMENTS:
        sys.exit(f"{__doc__.strip()}\n\nExperiments: {' '.join(EXPERIMENTS)}")
    figure = EXPERIMENTS[sys.argv[1]](read(sys.argv[2]))
    figure.savefig(sys.argv[3])
    print(f"Picture: {sys.argv[3]}")


if __name__ == "__main__":
    main()
