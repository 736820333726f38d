#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a report with pictures of the tables that a run in llama.cpp left in a folder.

usage: report.py TABLES [--out FOLDER] [--strict]
       report.py --self-test

Reads losses, heads, ruler, speed, generation, findings (.csv, .csv.gz, .jsonl or .json) and
settings.json of the folder TABLES, whichever are there; tasks.md says what their columns are.
Writes report.md and the pictures into FOLDER (TABLES by default). With --strict the exit status is
1 if a check is missed or could not be made.

Needs numpy and matplotlib; `. cmake/setup.sh; vattn_setup plots` installs those of
/usr/bin/python3.
"""
import argparse
import array
import csv
import gzip
import json
import math
import os
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402
from matplotlib.ticker import NullFormatter  # noqa: E402

INK, GRID, BEYOND = "#222222", "#dddddd", "#fbe9e7"
COLOURS = ("#1f6fb4", "#e08e0b", "#3b8f5a", "#7b4fa3", "#c0392b", "#777777", "#b05c2e", "#17a2a2")
DASHES = (0, (4, 2))

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

# What must be shown.
TARGET_EPSILON = 0.05
LOSS_LIMIT = 0.005
AGREEMENT_LIMIT = 0.99
DENSE_SCORE = 0.3
SCORE_LIMIT = 0.01
GENERATION_LIMIT = 0.01
EQUAL_ROWS = 0.05

# Columns of each table; those that may be left out, as a whole or in a row, are marked.
TEXT, NUMBER = "text", "number"
COLUMNS = {
    "losses": {"text": TEXT, "policy": TEXT, "epsilon": "number?", "first": NUMBER, "last": NUMBER,
               "loss": NUMBER, "dense_loss": NUMBER, "agreement": NUMBER, "density": NUMBER},
    "heads": {"policy": TEXT, "layer": NUMBER, "head": NUMBER, "step": NUMBER,
              "density": "number?", "error": "number?", "epsilon": "number?"},
    "ruler": {"task": TEXT, "length": NUMBER, "policy": TEXT, "score": NUMBER,
              "dense_score": NUMBER, "n": NUMBER, "epsilon": "number?"},
    "speed": {"tokens": NUMBER, "policy": TEXT, "tokens_per_second": NUMBER,
              "attention_share": "number?", "epsilon": "number?"},
    "generation": {"policy": TEXT, "tokens": NUMBER, "loss_under_dense": NUMBER,
                   "dense_generation_loss": NUMBER, "epsilon": "number?"},
    "findings": {"policy": TEXT, "layer": NUMBER, "head": NUMBER, "what": TEXT, "seen": NUMBER,
                 "threshold": NUMBER, "advice": "text?", "epsilon": "number?"},
}
BY_ROWS = ("topk", "oracle", "window")  # policies whose number is a density, not an epsilon


class Bad(Exception):
    """What is wrong with an input, as one line."""


# Tables -----------------------------------------------------------------------------------------


def number_of(value):
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool):
        raise ValueError(f"want a number, got {value}")
    return float(value)


class Table:
    """Columns as arrays: float64 for numbers, objects for texts."""

    def __init__(self, columns):
        self.columns = columns
        self.size = len(next(iter(columns.values())))

    def __len__(self):
        return self.size

    def __getitem__(self, name):
        return self.columns[name]

    def where(self, **wanted):
        mask = np.ones(self.size, dtype=bool)
        for name, value in wanted.items():
            mask &= self.columns[name] == value
        return self.take(mask)

    def take(self, mask):
        return Table({name: column[mask] for name, column in self.columns.items()})

    def rows(self):
        names = list(self.columns)
        return [dict(zip(names, values)) for values in zip(*self.columns.values())]


def unique(column):
    return list(dict.fromkeys(column.tolist()))


def opened(path):
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def records(path):
    """Rows of a file with where they stand: lists by a header for CSV, else objects."""
    with opened(path) as file:
        if ".csv" in path:
            reader = csv.reader(file)
            header = next(reader, [])
            for row in reader:
                if row:
                    if len(row) != len(header):
                        raise Bad(f"{path}:{reader.line_num}: want {len(header)} columns, "
                                  f"got {len(row)}")
                    yield reader.line_num, dict(zip(header, row))
        elif path.endswith(".jsonl"):
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
        else:
            yield from enumerate(json.load(file), 1)


def read(path, name):
    """A table, checked against its columns."""
    kinds = COLUMNS[name]
    columns = {key: array.array("d") if kind.startswith(NUMBER) else []
               for key, kind in kinds.items()}
    line = 0
    try:
        for line, record in records(path):
            for key, kind in kinds.items():
                value = record.get(key)
                if value is None and not kind.endswith("?"):
                    raise Bad(f"{path}:{line}: no column {key}")
                columns[key].append(number_of(value) if kind.startswith(NUMBER)
                                    else sys.intern(str("" if value is None else value)))
    except (ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise Bad(f"{path}:{line}: {error}") from error
    made = {key: np.array(values, dtype=float if kinds[key].startswith(NUMBER) else object)
            for key, values in columns.items()}
    table = Table(made)
    if len(table) == 0:
        raise Bad(f"{path}: no rows")
    # A policy may carry its epsilon in its name, as `default:0.05`.
    if "epsilon" in kinds:
        for policy in unique(table["policy"]):
            value = epsilon_in(policy)
            if value is not None:
                mine = (table["policy"] == policy) & np.isnan(table["epsilon"])
                table["epsilon"][mine] = value
    return table


def read_all(folder):
    """The tables that are there, and a line for each that is not."""
    tables, absent = {}, []
    for name in COLUMNS:
        paths = [os.path.join(folder, name + end) for end in (".csv", ".csv.gz", ".jsonl", ".json")]
        there = [path for path in paths if os.path.exists(path)]
        if len(there) > 1:
            raise Bad(f"{there[0]} and {there[1]}: want one of them")
        if there:
            tables[name] = read(there[0], name)
        else:
            absent.append(name)
    return tables, absent


# Policies ---------------------------------------------------------------------------------------


def kind_of(policy):
    return policy.partition(":")[0]


def epsilon_in(policy):
    parts = policy.split(":")
    if kind_of(policy) in BY_ROWS:
        return None
    for part in parts[1:]:
        try:
            return float(part.removeprefix("epsilon="))
        except ValueError:
            continue
    return None


def label_of(policy, epsilon):
    if ":" in policy or math.isnan(epsilon):
        return policy.replace(":", " ")
    return f"{policy} {epsilon:g}" if kind_of(policy) not in BY_ROWS else (
        f"{policy}, rows of {epsilon:g}")


def labelled(table):
    """The table with a label for each policy and epsilon, in the order of the file."""
    labels = {}
    for policy, epsilon in zip(table["policy"], table["epsilon"]):
        key = (policy, None if math.isnan(epsilon) else epsilon)
        if key not in labels:
            labels[key] = label_of(policy, epsilon)
    column = np.array([labels[policy, None if math.isnan(epsilon) else epsilon]
                       for policy, epsilon in zip(table["policy"], table["epsilon"])], dtype=object)
    return Table({**table.columns, "label": column})


def kinds_of(table):
    return list(dict.fromkeys(kind_of(policy) for policy in unique(table["policy"])))


def colour_of(policy, kinds):
    if kind_of(policy) == "dense":
        return INK
    others = [kind for kind in kinds if kind != "dense"]
    return COLOURS[others.index(kind_of(policy)) % len(COLOURS)]


def is_default(row, epsilon=TARGET_EPSILON):
    return kind_of(row["policy"]) == "default" and math.isclose(row["epsilon"], epsilon)


def percent(value, digits=2):
    return f"{100 * value:.{digits}f} %"


def signed(value, digits=2):
    return f"{100 * value:+.{digits}f} %"


# Checks -----------------------------------------------------------------------------------------


class Check:
    """A line of the table of verdicts. `gap`: by how much it is missed; 0 or less is met."""

    def __init__(self, what, wanted, seen, gap, unit="points of %", met="met"):
        self.what, self.wanted, self.seen, self.gap = what, wanted, seen, gap
        self.unit, self.met = unit, met

    @property
    def good(self):
        return self.gap is not None and self.gap <= 1e-12

    @property
    def verdict(self):
        if self.gap is None:
            return "not made"
        if self.good:
            return self.met
        return f"**missed** by {100 * self.gap:.2g} {self.unit}"


def not_made(what, wanted, why):
    return Check(what, wanted, why, None)


def check_loss(losses):
    what = f"loss, default at epsilon {TARGET_EPSILON:g}"
    wanted = f"at most {percent(LOSS_LIMIT, 1)} above dense on each text"
    rows = [row for row in losses.rows() if is_default(row)] if losses else []
    if not rows:
        return not_made(what, wanted, "no such rows")
    over = {row["text"]: row["loss"] / row["dense_loss"] - 1 for row in rows}
    seen = ", ".join(f"{text} {signed(value)}" for text, value in over.items())
    return Check(what, wanted, seen, max(over.values()) - LOSS_LIMIT)


def partner(row, rows):
    """The top-k row of the same text that stands for the same epsilon, or is nearest in density."""
    same = [other for other in rows if other["text"] == row["text"]]
    asked = [other for other in same if math.isclose(other["epsilon"], row["epsilon"])]
    found = min(asked or same, key=lambda other: abs(math.log(other["density"] / row["density"])),
                default=None)
    if found is None or abs(found["density"] / row["density"] - 1) > EQUAL_ROWS:
        return None
    return found


def check_top_k(losses):
    what = f"loss, default at epsilon {TARGET_EPSILON:g} against top-k alone"
    wanted = f"less on each text, rows within {percent(EQUAL_ROWS, 0)}"
    all_rows = losses.rows() if losses else []
    rows = [row for row in all_rows if is_default(row)]
    others = [row for row in all_rows if kind_of(row["policy"]) == "topk"]
    pairs = [(row, partner(row, others)) for row in rows]
    alone = [row["text"] for row, other in pairs if other is None]
    if not rows:
        return not_made(what, wanted, "no such rows")
    if alone:
        return not_made(what, wanted, f"no top-k run with as many rows: {', '.join(alone)}")
    gaps = {row["text"]: (row["loss"] - other["loss"]) / row["dense_loss"] for row, other in pairs}
    seen = ", ".join(f"{row['text']} {signed(row['loss'] / row['dense_loss'] - 1)} against "
                     f"{signed(other['loss'] / row['dense_loss'] - 1)}" for row, other in pairs)
    # Equal losses are not less.
    return Check(what, wanted, seen, max(gaps.values()) + 1e-9)


def check_agreement(losses):
    what = f"greedy next token, default at epsilon {TARGET_EPSILON:g}"
    wanted = f"the dense one in {percent(AGREEMENT_LIMIT, 0)} of the steps of each text"
    rows = [row for row in losses.rows() if is_default(row)] if losses else []
    if not rows:
        return not_made(what, wanted, "no such rows")
    seen = ", ".join(f"{row['text']} {percent(row['agreement'])}" for row in rows)
    return Check(what, wanted, seen, AGREEMENT_LIMIT - min(row["agreement"] for row in rows))


def able(ruler):
    """Tasks and lengths at which the dense model can do them."""
    return ruler.take(ruler["dense_score"] > DENSE_SCORE)


def score_groups(ruler):
    """Of each label but dense: mean score, mean dense score, number of tasks and lengths."""
    rows = labelled(able(ruler))
    groups = {}
    for label in unique(rows["label"]):
        mine = rows.where(label=label)
        if kind_of(mine["policy"][0]) != "dense":
            groups[label] = (mine["score"].mean(), mine["dense_score"].mean(), len(mine), mine)
    return groups


def check_ruler(ruler):
    what = "RULER tasks, default"
    wanted = (f"mean within {100 * SCORE_LIMIT:g} point of dense where dense is above "
              f"{DENSE_SCORE:g}")
    if not ruler or not len(able(ruler)):
        return not_made(what, wanted, "no tasks that the dense model can do" if ruler else
                        "no such rows")
    groups = {label: group for label, group in score_groups(ruler).items()
              if kind_of(group[3]["policy"][0]) == "default"}
    if not groups:
        return not_made(what, wanted, "no default policy")
    label = min(groups, key=lambda name: abs(groups[name][3]["epsilon"][0] - TARGET_EPSILON)
                if not math.isnan(groups[name][3]["epsilon"][0]) else math.inf)
    mean, dense, count, _ = groups[label]
    seen = f"{label}: {100 * mean:.1f} against {100 * dense:.1f}, {count} tasks and lengths"
    return Check(what, wanted, seen, dense - mean - SCORE_LIMIT, "points")


def check_generation(generation):
    what = "generated text, default"
    wanted = f"loss under dense within {percent(GENERATION_LIMIT, 0)} of dense generation's"
    rows = [row for row in generation.rows()
            if kind_of(row["policy"]) == "default"] if generation else []
    if not rows:
        return not_made(what, wanted, "no such rows")
    rows = [row for row in rows if is_default(row)] or rows
    over = [row["loss_under_dense"] / row["dense_generation_loss"] - 1 for row in rows]
    seen = ", ".join(f"{label_of(row['policy'], row['epsilon'])} over {row['tokens']:,.0f} tokens "
                     f"{signed(value)}" for row, value in zip(rows, over))
    return Check(what, wanted, seen, max(map(abs, over)) - GENERATION_LIMIT)


def check_speed(speed, lengths=(2048, 4096, 8192)):
    what, wanted = "tokens a second", f"at {', '.join(map(str, lengths))} tokens, beside dense"
    rows = speed.rows() if speed else []
    seen = {}
    for row in rows:
        if kind_of(row["policy"]) != "dense":
            dense = [other["tokens_per_second"] for other in rows
                     if kind_of(other["policy"]) == "dense" and other["tokens"] == row["tokens"]]
            if dense:
                seen.setdefault(label_of(row["policy"], row["epsilon"]), {})[row["tokens"]] = (
                    row["tokens_per_second"] / dense[0])
    complete = {label: found for label, found in seen.items() if set(lengths) <= set(found)}
    if not complete:
        return not_made(what, wanted, "not all of these lengths" if seen else "no such rows")
    text = "; ".join(f"{label} " + ", ".join(f"{found[length]:.2f}x" for length in lengths)
                     for label, found in complete.items())
    return Check(what, wanted, text, 0.0, met="shown")


def promising(table):
    """Rows of policies that promise an epsilon."""
    return table.take(np.array([kind_of(policy) not in BY_ROWS for policy in table["policy"]],
                               dtype=bool))


def measured(heads):
    """Rows that have a density."""
    return heads.take(~np.isnan(heads["density"]))


def audited(heads):
    return promising(heads.take(~np.isnan(heads["error"]) & ~np.isnan(heads["epsilon"])))


def check_errors(heads, delta):
    what = "observed error, each policy that promises one"
    wanted = f"beyond epsilon in at most {percent(delta, 0)} of the audited calls (delta)"
    rows = audited(heads) if heads else None
    if rows is None or not len(rows):
        return not_made(what, wanted, "no audited calls")
    rows = labelled(rows)
    shares = {}
    for label in unique(rows["label"]):
        mine = rows.where(label=label)
        shares[label] = (mine["error"] > mine["epsilon"]).mean()
    seen = ", ".join(f"{label} {percent(share)}" for label, share in shares.items())
    return Check(what, wanted, seen, max(shares.values()) - delta)


# Pictures ---------------------------------------------------------------------------------------


def panels(count, across, width, height, **more):
    """`count` axes of one size, `across` in a line; those left over are switched off."""
    down = -(-count // across)
    across = min(across, count)
    figure, axes = plt.subplots(down, across, figsize=(width * across, height * down),
                                layout="constrained", squeeze=False, **more)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, axes.flat[:count]


def legend_above(figure, ax, across):
    """One legend for all panels, in a strip of its own."""
    handles, names = ax.get_legend_handles_labels()
    lines = -(-len(names) // across)
    height = figure.get_size_inches()[1] + 0.22 * lines
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.22 * lines / height))
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.0), fontsize=8,
                  ncols=min(across, len(names)), frameon=False, borderpad=0.2)


def draw_losses(losses):
    """A panel a text: loss over dense of each policy, and the limit."""
    losses = labelled(losses)
    texts, labels, kinds = unique(losses["text"]), unique(losses["label"]), kinds_of(losses)
    over = 100 * (losses["loss"] / losses["dense_loss"] - 1)
    figure, axes = panels(len(texts), 4, 3.0, 0.26 * len(labels) + 1.1, sharey=True, sharex=True)
    # Room on the right for what is written beside the dots.
    low, high = min(-0.5, over.min() * 1.6), 80 * max(1.0, over.max())
    for ax, text in zip(axes, texts):
        rows = losses.where(text=text)
        for row in rows.rows():
            y, x = labels.index(row["label"]), 100 * (row["loss"] / row["dense_loss"] - 1)
            colour = colour_of(row["policy"], kinds)
            ax.plot([0, x], [y, y], color=colour, lw=1.5, alpha=0.5)
            ax.plot(x, y, "o", ms=5, color=colour)
            ax.annotate(f"{x:+.2f} %, rows {100 * row['density']:.0f} %", (max(x, 0), y),
                        xytext=(6, 0), textcoords="offset points", va="center", fontsize=7,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.7})
        ax.axvline(0, color=INK, lw=0.8)
        ax.axvline(100 * LOSS_LIMIT, color=INK, lw=1, ls=DASHES)
        ax.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        ax.set(xlim=(low, high), title=text)
        ticks = [tick for tick in (-10, -1, 0, 0.5, 1, 10, 100)
                 if low <= tick <= max(1, over.max())]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.5, -0.5)
    figure.supxlabel("loss over dense, %; dashed: 0.5 %", fontsize=9)
    return figure


def grid_of(rows, value):
    """Means of a column by layer and head; NaN where a head was never called."""
    shape = (int(rows["layer"].max()) + 1, int(rows["head"].max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    at = rows["layer"].astype(int), rows["head"].astype(int)
    np.add.at(sums, at, rows[value])
    np.add.at(counts, at, 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def draw_density_map(heads):
    """Layers by heads, a panel a policy."""
    heads = labelled(heads)
    labels = unique(heads["label"])
    grids = [grid_of(heads.where(label=label), "density") for label in labels]
    layers, across = grids[0].shape
    figure, axes = panels(len(labels), 4, max(1.9, 0.28 * across + 1.0), 0.13 * layers + 1.2,
                          sharey=True)
    low = max(1e-3, min(np.nanmin(grid) for grid in grids))
    norm = LogNorm(vmin=min(low, 0.1), vmax=1)
    for ax, label, grid in zip(axes, labels, grids):
        image = ax.imshow(grid, aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
        ax.set_title(f"{label}\nmean {percent(np.nanmean(grid), 1)}")
        ax.set_xticks(range(grid.shape[1]))
        ax.grid(False)
    figure.supxlabel("head", fontsize=9)
    figure.supylabel("layer", fontsize=9)
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8)
    ticks = [tick for tick in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
             if tick >= norm.vmin]
    bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks])
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def draw_density_steps(heads, bins=80):
    """Density over the steps: mean over the heads, and where the middle 80 % of the heads are."""
    heads = labelled(heads)
    labels = unique(heads["label"])
    first, last = heads["step"].min(), heads["step"].max()
    width = max(1.0, (last - first + 1) / bins)
    figure, axes = panels(len(labels), 4, 2.7, 2.4, sharex=True, sharey=True)
    kinds = kinds_of(heads)
    for ax, label in zip(axes, labels):
        rows = heads.where(label=label)
        where = ((rows["step"] - first) // width).astype(int)
        name = (rows["layer"] * 10_000 + rows["head"]).astype(np.int64)
        _, head = np.unique(name, return_inverse=True)
        sums = np.zeros((where.max() + 1, head.max() + 1))
        counts = np.zeros_like(sums)
        np.add.at(sums, (where, head), rows["density"])
        np.add.at(counts, (where, head), 1)
        full = counts.sum(axis=1) > 0
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)[full]
        x = (first + (np.arange(len(full)) + 0.5) * width)[full]
        colour = colour_of(rows["policy"][0], kinds)
        low, high = np.nanquantile(means, (0.1, 0.9), axis=1)
        ax.fill_between(x, 100 * low, 100 * high, color=colour, alpha=0.2, lw=0)
        ax.plot(x, 100 * np.nanmean(means, axis=1), color=colour, lw=1.4)
        ax.set(title=label, yscale="log")
    low, high = axes[0].get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    for ax in axes:
        ax.tick_params(which="minor", length=0)
    figure.supxlabel("step; line: mean of the heads, band: 10 to 90 % of them", fontsize=9)
    figure.supylabel("rows read, %", fontsize=9)
    return figure


def head_quantiles(rows, quantiles):
    """A line a head with audited calls: layer, head, calls, share beyond epsilon, quantiles."""
    name = (rows["layer"] * 10_000 + rows["head"]).astype(np.int64)
    lines = []
    for key in np.unique(name):
        mine = name == key
        errors = rows["error"][mine]
        beyond = (errors > rows["epsilon"][mine]).mean()
        lines.append([key // 10_000, key % 10_000, len(errors), beyond,
                      *np.quantile(errors, quantiles)])
    return np.array(lines)


def draw_errors(heads, delta):
    """A panel a policy that promises an epsilon: error quantiles of its heads, sorted."""
    rows = audited(labelled(heads))
    labels = unique(rows["label"])
    asked = (0.5, 1 - delta, 0.99)
    figure, axes = panels(len(labels), 3, 3.5, 2.8, sharey=True)
    for ax, label in zip(axes, labels):
        mine = rows.where(label=label)
        epsilon = mine["epsilon"][0]
        lines = head_quantiles(mine, asked)
        lines = lines[np.argsort(lines[:, 5], kind="stable")]
        x = np.arange(len(lines))
        for i, (quantile, mark) in enumerate(zip(asked, "os^")):
            ax.plot(x, np.maximum(lines[:, 4 + i], 1e-5), mark, ms=2.5, color=COLOURS[(0, 1, 4)[i]],
                    label=f"{100 * quantile:g} % of the calls")
        ax.axhline(epsilon, color=INK, lw=1, ls=DASHES, label="asked epsilon")
        bad = int((lines[:, 3] > delta).sum())
        ax.set(yscale="log", title=f"{label}: {bad} of {len(lines)} heads beyond delta")
        top = max(epsilon * 2, np.nanmax(lines[:, 6]) * 1.5)
        ax.axhspan(epsilon, top * 10, color=BEYOND, lw=0, zorder=0)
        ax.set_ylim(top=top)
    legend_above(figure, axes[0], 4)
    figure.supxlabel(f"heads, sorted by the {100 * (1 - delta):g} % quantile of their error",
                     fontsize=9)
    figure.supylabel("observed relative error", fontsize=9)
    return figure


def draw_ruler(ruler):
    """Bars of each task, a panel a length; only what the dense model can do."""
    rows = labelled(able(ruler))
    lengths, tasks = sorted(set(rows["length"])), unique(rows["task"])
    labels = ["dense", *[label for label in unique(rows["label"]) if kind_of(label) != "dense"]]
    kinds = kinds_of(rows)
    figure, axes = panels(len(lengths), 1, max(5.0, 0.75 * len(tasks) + 2.2), 1.9, sharex=True)
    used = {}
    width = 0.84 / len(labels)
    for ax, length in zip(axes, lengths):
        here = rows.where(length=length)
        for i, label in enumerate(labels):
            if label == "dense":
                found = {row["task"]: row["dense_score"] for row in here.rows()}
                colour, hatch = "#999999", None
            else:
                mine = here.where(label=label)
                found = dict(zip(mine["task"], mine["score"]))
                policy = rows.where(label=label)["policy"][0]
                colour = colour_of(policy, kinds)
                # Policies of a kind share its colour and differ in their hatching.
                turn = used.setdefault(kind_of(policy), [])
                if label not in turn:
                    turn.append(label)
                hatch = (None, "///", "...", "xxx")[turn.index(label) % 4]
            at = [tasks.index(task) + (i - (len(labels) - 1) / 2) * width for task in found]
            ax.bar(at, [100 * score for score in found.values()], width=width, color=colour,
                   hatch=hatch, edgecolor="white", lw=0.3, label=label)
        ax.axhline(100 * DENSE_SCORE, color=INK, lw=0.8, ls=DASHES)
        ax.set(ylim=(0, 105), title=f"{length:,.0f} tokens")
        ax.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right", rotation_mode="anchor")
        ax.set_xlim(-0.6, len(tasks) - 0.4)
        ax.grid(axis="x", visible=False)
    legend_above(figure, axes[0], 5)
    figure.supylabel("score, %", fontsize=9)
    return figure


def draw_speed(speed):
    """Tokens a second and attention's share of the time, over the length."""
    speed = labelled(speed)
    labels, kinds = unique(speed["label"]), kinds_of(speed)
    figure, axes = panels(2, 2, 3.9, 3.0)
    seen = {}
    for label in labels:
        rows = speed.where(label=label)
        policy = rows["policy"][0]
        turn = seen.setdefault(kind_of(policy), len(seen) * 0)
        seen[kind_of(policy)] += 1
        order = np.argsort(rows["tokens"], kind="stable")
        for ax, column, scale in zip(axes, ("tokens_per_second", "attention_share"), (1, 100)):
            ax.plot(rows["tokens"][order], scale * rows[column][order], "os^Dv"[turn % 5],
                    ls=("-", "--", ":", "-.")[turn % 4], ms=4, lw=1.2,
                    color=colour_of(policy, kinds), label=label)
    lengths = sorted(set(speed["tokens"]))
    for ax, title in zip(axes, ("tokens a second", "attention's share of the time, %")):
        ax.set(title=title, xscale="log", xlabel="tokens in the cache")
        ax.set_ylim(bottom=0)
        ax.set_xticks(lengths, [f"{length:,.0f}" for length in lengths])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="x", which="minor", length=0)
    axes[0].legend(fontsize=8)
    return figure


# The report -------------------------------------------------------------------------------------


def table_lines(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header),
            *("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
              for row in rows), ""]


def section_losses(losses):
    rows = [(row["text"], label_of(row["policy"], row["epsilon"]),
             f"{row['first']:,.0f} to {row['last']:,.0f}", f"{row['loss']:.4f}",
             f"{row['dense_loss']:.4f}", signed(row["loss"] / row["dense_loss"] - 1),
             percent(row["agreement"]), percent(row["density"], 1)) for row in losses.rows()]
    return table_lines(("text", "policy", "positions", "loss", "dense", "over dense",
                        "same greedy token", "rows read"), rows)


def section_density(heads):
    heads = labelled(measured(heads))
    rows = []
    for label in unique(heads["label"]):
        grid = grid_of(heads.where(label=label), "density")
        at = np.unravel_index(np.nanargmax(grid), grid.shape)
        rows.append((label, percent(np.nanmean(grid), 1), percent(np.nanmedian(grid), 1),
                     f"{percent(grid[at], 1)} (layer {at[0]}, head {at[1]})",
                     f"{int((grid > 0.5).sum())} of {int(np.isfinite(grid).sum())}"))
    return table_lines(("policy", "rows read, mean", "median of the heads", "densest head",
                        "heads above 50 %"), rows)


def section_errors(heads, delta):
    """Each promise, then the heads that break it most."""
    rows = audited(labelled(heads))
    lines, worst = [], []
    for label in unique(rows["label"]):
        mine = rows.where(label=label)
        found = head_quantiles(mine, (0.5, 1 - delta, 0.99))
        lines.append((label, f"{len(mine):,}", f"{np.median(mine['error']):.4f}",
                      f"{np.quantile(mine['error'], 1 - delta):.4f}",
                      percent((mine["error"] > mine["epsilon"]).mean()),
                      f"{int((found[:, 3] > delta).sum())} of {len(found)}"))
        worst += [(label, f"{line[0]:.0f}", f"{line[1]:.0f}", f"{line[2]:,.0f}",
                   percent(line[3], 1), f"{line[5]:.4f}", line[3])
                  for line in found if line[3] > delta]
    worst.sort(key=lambda line: -line[6])
    most = f"{100 * (1 - delta):g} %"
    text = table_lines(("policy", "audited calls", "median error", f"{most} of them are below",
                        "beyond epsilon", "heads with more than delta beyond"), lines)
    if worst:
        text += ["Heads with the largest share beyond epsilon (few calls make large shares by "
                 "chance):", ""]
        text += table_lines(("policy", "layer", "head", "calls", "beyond epsilon",
                             f"{most} of the errors are below"),
                            [line[:6] for line in worst[:10]])
    return text


def section_ruler(ruler):
    groups = score_groups(ruler)
    lines = table_lines(
        ("policy", "mean score", "dense", "difference, points", "tasks and lengths"),
        [(label, f"{100 * mean:.1f}", f"{100 * dense:.1f}", f"{100 * (mean - dense):+.1f}", count)
         for label, (mean, dense, count, _) in groups.items()])
    broken = [(label, row["task"], f"{row['length']:,.0f}", f"{100 * row['score']:.1f}",
               f"{100 * row['dense_score']:.1f}", f"{row['n']:.0f}",
               row["score"] - row["dense_score"])
              for label, group in groups.items() for row in promising(group[3]).rows()
              if row["score"] < row["dense_score"] - 0.05]
    broken.sort(key=lambda line: line[6])
    if broken:
        lines += ["Tasks that lose more than 5 points with a policy that promises an epsilon, the "
                  "worst first:", ""]
        lines += table_lines(("policy", "task", "tokens", "score", "dense", "samples"),
                             [line[:6] for line in broken[:15]])
    left_out = ruler.take(~(ruler["dense_score"] > DENSE_SCORE))
    names = sorted({f"{row['task']} at {row['length']:,.0f} ({100 * row['dense_score']:.0f})"
                    for row in left_out.rows()})
    if names:
        lines += [f"Left out, for the dense model's score is {100 * DENSE_SCORE:g} or less: "
                  f"{', '.join(names)}.", ""]
    return lines


def section_speed(speed):
    rows = []
    for row in speed.rows():
        dense = [other["tokens_per_second"] for other in speed.rows()
                 if kind_of(other["policy"]) == "dense" and other["tokens"] == row["tokens"]]
        share = row["attention_share"]
        rows.append((f"{row['tokens']:,.0f}", label_of(row["policy"], row["epsilon"]),
                     f"{row['tokens_per_second']:.2f}",
                     f"{row['tokens_per_second'] / dense[0]:.2f}x" if dense else "",
                     "" if math.isnan(share) else percent(share, 1)))
    return table_lines(("tokens in the cache", "policy", "tokens a second", "dense = 1",
                        "attention's share of the time"), rows)


def section_generation(generation):
    rows = [(label_of(row["policy"], row["epsilon"]), f"{row['tokens']:,.0f}",
             f"{row['loss_under_dense']:.4f}", f"{row['dense_generation_loss']:.4f}",
             signed(row["loss_under_dense"] / row["dense_generation_loss"] - 1))
            for row in generation.rows()]
    return table_lines(("policy", "tokens", "loss under dense", "dense generation's",
                        "difference"), rows)


def section_findings(findings):
    """Failure signatures by policy, where they are and what repairs them."""
    findings = labelled(findings)
    rows = []
    for label in unique(findings["label"]):
        for what in unique(findings.where(label=label)["what"]):
            mine = findings.where(label=label, what=what).rows()
            mine.sort(key=lambda row: -abs(math.log(max(row["seen"], 1e-12)
                                                    / max(row["threshold"], 1e-12))))
            places = ", ".join(f"{row['layer']:.0f}.{row['head']:.0f} ({row['seen']:.3g})"
                               for row in mine[:4])
            rows.append((label, what.replace("_", " "), len(mine), f"{mine[0]['threshold']:.3g}",
                         places, mine[0]["advice"]))
    return table_lines(("policy", "signature", "heads", "threshold",
                        "layer.head (seen), the clearest first", "what repairs it"), rows)


def settings_of(folder):
    path = os.path.join(folder, "settings.json")
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        if not isinstance(settings, dict):
            raise ValueError("want an object")
        settings["delta"] = float(settings.get("delta", 0.1))
    except (ValueError, TypeError) as error:
        raise Bad(f"{path}: {error}") from error
    if not 0 < settings["delta"] < 1:
        raise Bad(f"{path}: delta: want a number in (0, 1), got {settings['delta']:g}")
    return settings


def make(folder, out):
    """Writes the report; the checks, in its order."""
    if not os.path.isdir(folder):
        raise Bad(f"{folder}: no such folder")
    tables, absent = read_all(folder)
    if not tables:
        raise Bad(f"{folder}: none of the tables {', '.join(COLUMNS)}")
    settings = settings_of(folder)
    delta = settings.get("delta", 0.1)
    get = tables.get
    checks = [check_loss(get("losses")), check_top_k(get("losses")), check_agreement(get("losses")),
              check_ruler(get("ruler")), check_generation(get("generation")),
              check_errors(get("heads"), delta), check_speed(get("speed"))]
    os.makedirs(out, exist_ok=True)

    def picture(name, figure, what):
        figure.savefig(os.path.join(out, f"{name}.png"))
        plt.close(figure)
        return [f"![{what}]({name}.png)", ""]

    lines = ["# vattention in llama.cpp", ""]
    if settings:
        lines += table_lines(("setting", "value"), sorted(settings.items()))
    lines += ["## Checks", ""]
    lines += table_lines(("check", "wanted", "seen", "verdict"),
                         [(check.what, check.wanted, check.seen, check.verdict)
                          for check in checks])
    if absent:
        lines += [f"Not there, and so not in this report: {', '.join(absent)}.", ""]
    if "losses" in tables:
        lines += ["## Next-token loss", "",
                  "Each step's prediction is compared with the text, which all policies see alike.",
                  ""]
        lines += picture("losses", draw_losses(tables["losses"]), "Loss over dense")
        lines += section_losses(tables["losses"])
    if "ruler" in tables:
        lines += ["## RULER tasks", "", f"Tasks and lengths at which the dense model scores above "
                  f"{100 * DENSE_SCORE:g} of 100.", ""]
        if score_groups(tables["ruler"]):
            lines += picture("ruler", draw_ruler(tables["ruler"]), "Scores of the tasks")
        lines += section_ruler(tables["ruler"])
    if "generation" in tables:
        lines += ["## Long generation", "", "Greedy text of each policy, and how likely the dense "
                  "model finds it.", ""]
        lines += section_generation(tables["generation"])
    if "heads" in tables:
        lines += ["## Density", ""]
        # The others read what they are told to.
        own = measured(promising(tables["heads"]))
        if len(own):
            lines += picture("density_map", draw_density_map(own), "Density by layer and head")
            lines += picture("density_steps", draw_density_steps(own), "Density over the steps")
        if len(measured(tables["heads"])):
            lines += section_density(tables["heads"])
        lines += ["## Observed error", ""]
        if len(audited(tables["heads"])):
            lines += ["Audited calls: the output beside exact attention's. A promise is kept by a "
                      f"head if at most delta = {delta:g} of its errors are beyond epsilon.", ""]
            lines += picture("errors", draw_errors(tables["heads"], delta), "Errors by head")
            lines += section_errors(tables["heads"], delta)
        else:
            lines += ["No call was audited.", ""]
    if "findings" in tables:
        lines += ["## Where the method fails", ""]
        lines += section_findings(tables["findings"])
    if "speed" in tables:
        lines += ["## Speed", "", "Decoding, one sequence; dense is the engine's own flash "
                  "attention.", ""]
        lines += picture("speed", draw_speed(tables["speed"]), "Tokens a second, attention's share")
        lines += section_speed(tables["speed"])
    path = os.path.join(out, "report.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")
    return path, checks


# Self-test --------------------------------------------------------------------------------------


def write(folder, name, rows):
    with open(os.path.join(folder, f"{name}.csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def made_up(folder, seed=1):
    """Tables of no run, for the self-test: every number in them is invented."""
    rng = np.random.default_rng(seed)
    epsilons = (0.05, 0.1, 0.2)
    density = {0.05: 0.31, 0.1: 0.14, 0.2: 0.07}
    over = {"default": 0.02, "topk": 0.09, "window": 0.9}
    losses = []
    for text, dense in (("prose", 3.1), ("code", 1.2), ("licence", 0.8), ("dialogue", 3.4)):
        for kind, much in over.items():
            for e in epsilons:
                # Window and top-k name their density, as the programs do.
                policy = f"default:{e:g}" if kind == "default" else f"{kind}:{density[e]:g}"
                losses.append({"text": text, "policy": policy, "first": 4096, "last": 8192,
                               "loss": dense * (1 + much * e * rng.uniform(0.5, 1.5)),
                               "dense_loss": dense, "density": density[e] * rng.uniform(0.98, 1.02),
                               "agreement": 1 - much * e * 2, "epsilon": ""})
    write(folder, "losses", losses)
    heads = []
    for e in epsilons:
        for layer in range(30):
            for head in range(3):
                share = min(1.0, density[e] * math.exp(rng.normal(0, 0.8)))
                size = e * 0.5 * math.exp(rng.normal(0, 0.25))
                for step in range(4096, 8192, 64):
                    row = {"policy": f"default:{e:g}", "layer": layer, "head": head, "step": step,
                           "density": share * (1 - step / 30_000), "error": "", "epsilon": e}
                    heads.append(row)
                    for query in range(3 * head, 3 * head + 3):
                        heads.append({**row, "head": query, "density": "",
                                      "error": abs(rng.normal(0, size))})
    write(folder, "heads", heads)
    tasks = ("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1",
             "niah_multikey_2", "niah_multivalue", "vt", "fwe", "cwe", "qa_1", "qa_2")
    ruler = []
    for length in (1024, 2048, 4096, 8192):
        for i, task in enumerate(tasks):
            dense = max(0.0, 1 - i * 0.08 - length / 16_000)
            for policy, loss in (("dense", 0), ("default:0.05", 0.004), ("default:0.1", 0.02),
                                 ("topk:0.31", 0.2), ("window:0.31", 0.6)):
                ruler.append({"task": task, "length": length, "policy": policy,
                              "score": dense * (1 - loss), "dense_score": dense, "n": 20})
    write(folder, "ruler", ruler)
    write(folder, "speed", [
        {"tokens": tokens, "policy": policy, "tokens_per_second": rate * (1 - tokens / cost),
         "attention_share": tokens / cost}
        for tokens in (2048, 4096, 8192)
        for policy, rate, cost in (("dense", 40, 16_000), ("default:0.05", 38, 24_000),
                                   ("default:0.1", 38, 40_000), ("topk:0.14", 39, 45_000))])
    write(folder, "generation", [
        {"policy": policy, "tokens": 4096, "loss_under_dense": loss, "dense_generation_loss": 0.9}
        for policy, loss in (("dense", 0.9), ("default:0.05", 0.906), ("default:0.2", 0.95))])
    write(folder, "findings", [
        {"policy": "default:0.2", "layer": layer, "head": head, "what": what, "seen": seen,
         "threshold": threshold, "advice": advice}
        for layer, head, what, seen, threshold, advice in (
            (0, 1, "low_sparsity", 0.7, 0.5, "a flat head: attend densely"),
            (0, 2, "low_sparsity", 0.9, 0.5, "a flat head: attend densely"),
            (12, 0, "recall_failing", 0.22, 0.1, "more bits for the predictor"))])
    with open(os.path.join(folder, "settings.json"), "w", encoding="utf-8") as file:
        json.dump({"model": "invented.gguf", "delta": 0.1, "note": "invented numbers"}, file)


def refused(action, *words):
    try:
        action()
    except Bad as error:
        assert all(word in str(error) for word in words), error
    else:
        raise AssertionError(f"not refused: want {words}")


def table_of(name, rows):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, name, rows)
        return read(os.path.join(folder, f"{name}.csv"), name)


def loss_row(**more):
    return {"text": "prose", "policy": "default", "epsilon": 0.05, "first": 1, "last": 2,
            "loss": 2.0, "dense_loss": 2.0, "agreement": 1.0, "density": 0.2, **more}


def test_checks():
    assert check_loss(table_of("losses", [loss_row(loss=2.01)])).verdict == "met"
    missed = check_loss(table_of("losses", [loss_row(), loss_row(text="code", loss=2.02)]))
    assert missed.verdict == "**missed** by 0.5 points of %" and "code +1.00 %" in missed.seen
    assert check_loss(table_of("losses", [loss_row(epsilon=0.1)])).verdict == "not made"
    assert check_loss(table_of("losses", [loss_row(policy="default:0.05", epsilon="")])).gap < 0

    top_k = loss_row(policy="topk:0.2", epsilon="", loss=2.001)
    assert check_top_k(table_of("losses", [loss_row(), top_k])).verdict == "met"
    assert "missed" in check_top_k(table_of("losses", [loss_row(loss=2.001), top_k])).verdict
    far = {**top_k, "density": 0.4}
    assert check_top_k(table_of("losses", [loss_row(), far])).verdict == "not made"
    assert check_top_k(table_of("losses", [loss_row(), far, top_k])).verdict == "met"

    assert check_agreement(table_of("losses", [loss_row(agreement=0.99)])).verdict == "met"
    two = [loss_row(agreement=0.985), loss_row(text="code")]
    assert "0.5 points" in check_agreement(table_of("losses", two)).verdict

    task = {"task": "vt", "length": 1024, "policy": "default:0.05", "score": 0.49,
            "dense_score": 0.5, "n": 9}
    weak = {**task, "task": "cwe", "score": 0.0, "dense_score": 0.3}
    assert check_ruler(table_of("ruler", [task, weak])).verdict == "met"
    assert "missed" in check_ruler(table_of("ruler", [{**task, "score": 0.47}])).verdict
    assert check_ruler(table_of("ruler", [weak])).verdict == "not made"
    assert check_ruler(None).verdict == "not made"

    text = {"policy": "default:0.05", "tokens": 9, "loss_under_dense": 0.9,
            "dense_generation_loss": 1.0}
    assert "missed" in check_generation(table_of("generation", [text])).verdict
    text["loss_under_dense"] = 1.0099
    assert check_generation(table_of("generation", [text])).verdict == "met"

    call = {"policy": "default:0.1", "layer": 0, "head": 0, "step": 1, "density": 0.1}
    calls = [{**call, "error": 0.2 if i < 2 else 0.05} for i in range(10)]
    assert "missed" in check_errors(table_of("heads", calls), 0.1).verdict
    calls += [{**call, "policy": "window:0.1", "error": 1.0}]  # it promises nothing
    assert check_errors(table_of("heads", calls), 0.2).verdict == "met"
    assert check_errors(table_of("heads", [{**call, "error": ""}]), 0.1).verdict == "not made"

    fast = [{"tokens": tokens, "policy": policy, "tokens_per_second": rate}
            for tokens in (2048, 4096, 8192)
            for policy, rate in (("dense", 10), ("default:0.1", 12))]
    assert check_speed(table_of("speed", fast)).seen == "default 0.1 1.20x, 1.20x, 1.20x"
    assert check_speed(table_of("speed", fast[:4])).verdict == "not made"


def test_inputs():
    with tempfile.TemporaryDirectory() as folder:
        refused(lambda: make(folder, folder), "none of the tables")
        refused(lambda: make(os.path.join(folder, "x"), folder), "no such folder")
        row = loss_row()
        del row["density"]
        write(folder, "losses", [row])
        refused(lambda: make(folder, folder), "losses.csv:2", "no column density")
        write(folder, "losses", [loss_row(loss="much")])
        refused(lambda: make(folder, folder), "losses.csv:2", "much")
        write(folder, "losses", [loss_row()])
        with open(os.path.join(folder, "losses.csv"), "a", encoding="utf-8") as file:
            file.write("prose,default\n")
        refused(lambda: make(folder, folder), "losses.csv:3", "want 9 columns, got 2")
        write(folder, "losses", [loss_row()])
        with open(os.path.join(folder, "losses.jsonl"), "w", encoding="utf-8") as file:
            file.write(json.dumps(loss_row()) + "\n")
        refused(lambda: make(folder, folder), "want one of them")
        os.remove(os.path.join(folder, "losses.csv"))
        path, checks = make(folder, folder)  # one table of JSON lines is enough
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert "Not there, and so not in this report: heads, ruler" in text
        assert [check.verdict for check in checks] == ["met", "not made", "met", *["not made"] * 4]
        with open(os.path.join(folder, "settings.json"), "w", encoding="utf-8") as file:
            file.write('{"delta": 2}')
        refused(lambda: make(folder, folder), "delta")


def test_report():
    with tempfile.TemporaryDirectory() as folder:
        made_up(folder)
        path, checks = make(folder, folder)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for name in ("losses", "ruler", "density_map", "density_steps", "errors", "speed"):
            assert f"({name}.png)" in text
            assert os.path.getsize(os.path.join(folder, f"{name}.png")) > 10_000
        assert "Not there" not in text and "invented.gguf" in text
        assert [check.verdict for check in checks[:2]] == ["met", "met"]
        assert "niah_multivalue at 8,192 (9)" in text and "flat head" in text
        assert all(check.gap is not None for check in checks)
        assert checks[-1].verdict == "shown"


def self_test():
    assert epsilon_in("default:0.05") == 0.05 and epsilon_in("topk:0.1") is None
    assert epsilon_in("default:epsilon=0.2:delta=0.05") == 0.2 and epsilon_in("dense") is None
    assert label_of("default", 0.05) == "default 0.05" == label_of("default:0.05", 0.05)
    assert number_of("") != number_of("")
    for test in (test_checks, test_inputs, test_report):
        test()
    print("report.py: self-test passed")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__.partition("\n\n")[2])
    parser.add_argument("tables", nargs="?", metavar="TABLES", help="folder of the tables")
    parser.add_argument("--out", metavar="FOLDER", help="where the report goes (TABLES)")
    parser.add_argument("--strict", action="store_true",
                        help="exit with 1 if a check is missed or was not made")
    parser.add_argument("--self-test", action="store_true")
    asked = parser.parse_args()
    if asked.self_test:
        self_test()
        return
    if not asked.tables:
        parser.error("want a folder of tables")
    try:
        path, checks = make(asked.tables, asked.out or asked.tables)
    except (Bad, OSError) as error:
        sys.exit(f"report.py: {error}")
    for check in checks:
        print(f"{check.what}: {check.verdict.replace('*', '')} ({check.seen})")
    print(f"Report: {path}")
    if asked.strict and not all(check.good for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
