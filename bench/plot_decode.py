#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what `bench/run.sh decode --json FILE` measured: time a KV head against the length of the cache
and against the density, and speed-ups over the dense kernel in every race.

usage: plot_decode.py FILE.json PNG

Needs numpy and matplotlib; `. cmake/setup.sh; vattn_setup plots` installs those of /usr/bin/python3.
"""
import json
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

INK, GRID = "#222222", "#dddddd"
STYLES = {
    "stream": (INK, "--"),
    "dense": ("#c0392b", "-"),
    "torch": ("#e08e0b", "-"),
    "ggml f16": ("#7b4fa3", "-"),
    "ggml q8_0": ("#7b4fa3", ":"),
    "uniform": ("#3b8f5a", "-"),
    "sign_hash(32)": ("#1f6fb4", "-"),
    "sign_hash(64)": ("#1f6fb4", "--"),
    "key_code(4)": ("#17a2a2", "-"),
    "standard": ("#b05c2e", "-"),
    "proportional": ("#b05c2e", ":"),
}
VERIFIED = {"standard": "D", "proportional": "s"}
ALIKE = ("dim", "group", "type", "threads")

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
        "legend.fontsize": 7.5,
        "figure.dpi": 110,
    }
)


def family(name):
    """`uniform 10 %` and `uniform 3277 rows` are both of `uniform`."""
    return re.sub(r" [0-9.]+ (%|rows)$", "", name)


def percent(name):
    found = re.search(r" ([0-9.]+) %$", name)
    return float(found.group(1)) if found else None


def times(contender):
    """Median and 10 .. 90 % of the time a KV head [us]."""
    scale = 1e6 * contender["seconds_per_head"] / contender["seconds"]["median"]
    return [scale * contender["seconds"][key] for key in ("median", "p10", "p90")]


def line(ax, x, contenders, style, label, marker="o", width=1.3):
    middle, low, high = np.array([times(c) for c in contenders]).T
    colour, dashes = style
    ax.plot(x, middle, marker=marker, ms=3, ls=dashes, lw=width, color=colour, label=label)
    ax.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)


def describe(race, *, rows=True):
    text = f"d = {race['dim']}, {race['group']} queries a KV head, {race['type']}, "
    text += f"{race['threads']} thread" + ("s" if race["threads"] > 1 else "")
    return (f"{race['rows']:,} keys, " if rows else "") + text


def by_length(ax, base, races):
    """Time against n: all that read everything, 10 %, a fixed number of rows, and the verified default."""
    races = [r for r in races if all(r[key] == base[key] for key in ALIKE)]
    races.sort(key=lambda race: race["rows"])
    names = {}
    for race in races:
        for c in race["contenders"]:
            names.setdefault(c["name"], []).append((race["rows"], c))
    for name, found in names.items():
        of = family(name)
        if percent(name) not in (None, 10.0) or of not in STYLES:
            continue
        fixed = name.endswith(" rows")
        colour, dashes = STYLES[of]
        line(ax, [n for n, _ in found], [c for _, c in found],
             (colour, (0, (1, 1)) if fixed else dashes), name, marker="s" if fixed else "o",
             width=2 if of == "standard" else 1.3)
    ax.set(xscale="log", yscale="log", xlabel="keys", ylabel="time a KV head [us]",
           title=describe(base, rows=False))
    ticks = [race["rows"] for race in races]
    ax.set_xticks(ticks, [f"{n // 1024}K" for n in ticks])
    ax.minorticks_off()
    ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def by_density(ax, race):
    """Time against the share of the rows that is read; across it, what reads all of them."""
    groups = {}
    for c in race["contenders"]:
        groups.setdefault(family(c["name"]), []).append(c)
    for of, members in groups.items():
        if of not in STYLES:
            continue
        colour, dashes = STYLES[of]
        sized = [c for c in members if percent(c["name"]) is not None]
        if sized:
            line(ax, [100 * c["density"] for c in sized], sized, STYLES[of], of)
        elif of in VERIFIED:
            c = members[0]
            ax.plot(100 * c["density"], times(c)[0], VERIFIED[of], ms=6, color=colour,
                    label=f"{of} (rows; codes on top)")
        elif of == "stream":
            x = np.array([1.5, 25.0])
            ax.plot(x, x / 100 * times(members[0])[0], color=colour, ls="--", lw=1,
                    label="plain read of as many rows")
        else:
            ax.axhline(times(members[0])[0], color=colour, ls=dashes, lw=1.1, label=of)
    ax.set(xscale="log", yscale="log", xlabel="rows read [%]", ylabel="time a KV head [us]",
           title=describe(race))
    ax.set_xticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    ax.minorticks_off()
    ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))


def by_race(ax, base, races):
    """Speed-up over the dense kernel, a group of bars a race."""
    wanted = ["stream", "torch", "ggml f16", "ggml q8_0", "uniform 10 %", "sign_hash(32) 10 %",
              "standard", "proportional"]
    names = [n for n in wanted if any(c["name"] == n for r in races for c in r["contenders"])]
    for i, name in enumerate(names):
        at, middle, low, high = [], [], [], []
        for k, race in enumerate(races):
            for c in race["contenders"]:
                if c["name"] == name:
                    ratio = c["speedup_vs_dense"]
                    at.append(k + 0.85 * ((i + 0.5) / len(names) - 0.5))
                    middle.append(ratio["median"])
                    low.append(ratio["median"] - ratio["p10"])
                    high.append(ratio["p90"] - ratio["median"])
        colour, dashes = STYLES[family(name)]
        ax.bar(at, middle, width=0.8 / len(names), color=colour, label=name,
               hatch="///" if dashes == ":" else None, edgecolor="white", lw=0.3)
        ax.errorbar(at, middle, (low, high), fmt="none", ecolor=INK, lw=0.6)
    ax.axhline(1, color=STYLES["dense"][0], lw=1)
    labels = []
    for race in races:
        forms = {"rows": "{} keys", "dim": "d = {}", "group": "g = {}", "type": "{}",
                 "threads": "{} threads"}
        varied = [form.format(race[key]) for key, form in forms.items() if race[key] != base[key]]
        labels.append(", ".join(varied) if varied else "base")
    ax.set_xticks(range(len(races)), labels, rotation=20, ha="right")
    ax.set(yscale="log", ylabel="speed-up over own dense", 
           title=f"base: {describe(base)}; whiskers: 10 .. 90 % of the rounds")
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.grid(axis="x", visible=False)
    ax.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.3))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    with open(sys.argv[1], encoding="utf-8") as file:
        measured = json.load(file)
    races = measured["races"]
    if not races:
        sys.exit(f"plot_decode.py: {sys.argv[1]}: no race")
    figure = plt.figure(figsize=(11, 10.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    left, right = upper.subplots(1, 2)
    by_length(left, races[0], races)
    by_density(right, races[0])
    by_race(lower.subplots(), races[0], races)
    machine = measured["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores, {machine['kernels']} kernels, "
                    f"{machine['compiler']}")
    figure.savefig(sys.argv[2])
    print(f"Picture: {sys.argv[2]}")


if __name__ == "__main__":
    main()
