#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a report with pictures of the tables that runs in llama.cpp left in folders.

usage: report.py TABLES... [--out FOLDER] [--strict]
       report.py --self-test

Reads losses, heads, ruler, speed, generation, findings (.csv, .csv.gz, .jsonl or .json) and
settings.json of the folders TABLES, whichever are there, and puts their rows together; tasks.md
says what the columns are. Writes report.md and the pictures into FOLDER (the first of TABLES by
default). With --strict the exit status is 1 if a check is missed or could not be made.

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
from matplotlib.colors import LogNorm, to_rgb  # noqa: E402
from matplotlib.ticker import NullFormatter, NullLocator  # noqa: E402

INK, GRID, BEYOND = "#222222", "#dddddd", "#fbe9e7"
COLOURS = ("#1f6fb4", "#e08e0b", "#3b8f5a", "#7b4fa3", "#c0392b", "#777777", "#b05c2e", "#17a2a2")
# The same in all pictures; other kinds get the colours that are left.
KIND_COLOURS = {"dense": INK, "default": COLOURS[0], "topk": COLOURS[1], "oracle": COLOURS[2],
                "window": COLOURS[3], "exact": COLOURS[5]}
MARKS, LINES = "os^Dv", ("-", "--", ":", "-.")
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

# Of all heads of a policy together: how often one that keeps its promise may be called broken.
FALSE_ALARM = 1e-3
MOST_LINES = 8  # of a panel
MOST_FINDINGS = 20

# Columns of each table; those that may be left out, as a whole or in a row, are marked.
TEXT, NUMBER = "text", "number"
COLUMNS = {
    "losses": {"text": TEXT, "policy": TEXT, "epsilon": "number?", "first": NUMBER, "last": NUMBER,
               "loss": NUMBER, "dense_loss": NUMBER, "agreement": NUMBER, "density": NUMBER,
               "difference_error": "number?", "agreement_exact": "number?",
               "divergence": "number?", "divergence_exact": "number?"},
    "heads": {"policy": TEXT, "layer": NUMBER, "head": NUMBER, "step": NUMBER,
              "density": "number?", "error": "number?", "epsilon": "number?"},
    "ruler": {"task": TEXT, "length": NUMBER, "policy": TEXT, "score": NUMBER,
              "dense_score": NUMBER, "n": NUMBER, "difference_error": "number?",
              "epsilon": "number?"},
    "speed": {"tokens": NUMBER, "policy": TEXT, "tokens_per_second": NUMBER,
              "attention_share": "number?", "attention_seconds": "number?", "threads": "number?",
              "epsilon": "number?"},
    "generation": {"policy": TEXT, "tokens": NUMBER, "loss_under_dense": NUMBER,
                   "dense_generation_loss": NUMBER, "prompt": "text?", "density": "number?",
                   "same_tokens": "number?", "epsilon": "number?"},
    "findings": {"policy": TEXT, "layer": NUMBER, "head": NUMBER, "what": TEXT, "seen": NUMBER,
                 "threshold": NUMBER, "advice": "text?", "epsilon": "number?"},
}
BY_ROWS = ("topk", "oracle", "window")  # policies whose number is a density, not an epsilon
ALL_ROWS = ("dense", "exact")  # the engine's flash attention, the library's dense kernel
DENOMINATOR = ("paper",)  # promise something of the softmax denominator, nothing of the output


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

    def having(self, **more):
        return Table({**self.columns, **more})

    def by(self, *names):
        """The rows of each set of values of these columns, in the order of the file."""
        places = {}
        for i, key in enumerate(zip(*(self.columns[name].tolist() for name in names))):
            places.setdefault(key, []).append(i)
        return {key: self.take(np.array(mine)) for key, mine in places.items()}

    def rows(self):
        names = list(self.columns)
        return [dict(zip(names, values)) for values in zip(*self.columns.values())]


def unique(column):
    return list(dict.fromkeys(column.tolist()))


def tabled(rows):
    """A table of rows with the same columns."""
    return Table({name: np.array([row[name] for row in rows],
                                 dtype=object if isinstance(value, str) else float)
                  for name, value in rows[0].items()})


def joined(tables):
    return Table({name: np.concatenate([table[name] for table in tables])
                  for name in tables[0].columns})


def averaged(table, *keys, weight=None):
    """A row for each set of keys: means of the numbers by weight; weight and `count` are sums.

    Errors are put together as those of independent parts.
    """
    rows = []
    for part in table.by(*keys).values():
        weights = part[weight] if weight else np.ones(len(part))
        row = {name: column[0] if column.dtype == object or name in keys
               else np.average(column, weights=weights) for name, column in part.columns.items()}
        if "difference_error" in row:
            row["difference_error"] = (np.sqrt(((weights * part["difference_error"]) ** 2).sum())
                                       / weights.sum())
        if weight:
            row[weight] = weights.sum()
        rows.append({**row, "count": float(len(part))})
    return tabled(rows)


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
    return labelled(table)


def read_all(folders):
    """The tables that are there, of all folders together, and the folders with nothing in them."""
    tables, seen, empty = {}, set(), []
    for folder in folders:
        if not os.path.isdir(folder):
            raise Bad(f"{folder}: no such folder")
        if os.path.realpath(folder) in seen:
            raise Bad(f"{folder}: asked for twice")
        seen.add(os.path.realpath(folder))
        found = False
        for name in COLUMNS:
            paths = [os.path.join(folder, name + end)
                     for end in (".csv", ".csv.gz", ".jsonl", ".json")]
            there = [path for path in paths if os.path.exists(path)]
            if len(there) > 1:
                raise Bad(f"{there[0]} and {there[1]}: want one of them")
            if there:
                tables.setdefault(name, []).append(read(there[0], name))
                found = True
        if not found and not os.path.exists(os.path.join(folder, "settings.json")):
            empty.append(folder)
    if not tables:
        raise Bad(f"{folders[0]}: none of the tables {', '.join(COLUMNS)}")
    return {name: joined(found) for name, found in tables.items()}, empty


def once(losses):
    """Without the rows of dense and exact that each of several runs over a stretch wrote."""
    seen, keep = {}, []
    for row in losses.rows():
        key = row["text"], row["label"], row["first"], row["last"]
        keep.append(kind_of(row["policy"]) not in ALL_ROWS or key not in seen
                    or not math.isclose(seen[key], row["loss"], rel_tol=1e-6))
        seen.setdefault(key, row["loss"])
    return losses.take(np.array(keep))


def merged(stretches):
    """A row for each text and policy: its stretches by their steps, and `where` they are."""
    wheres = {}
    for (text, label), rows in stretches.by("text", "label").items():
        spans = []
        for first, last in sorted(zip(rows["first"], rows["last"])):
            if last <= first:
                raise Bad(f"losses: {text}, {label}: want first < last, got {first:.0f} to "
                          f"{last:.0f}")
            if spans and first < spans[-1][1]:
                raise Bad(f"losses: {text}, {label}: {first:.0f} to {last:.0f} overlaps with what "
                          f"comes before, up to {spans[-1][1]:.0f}")
            if spans and first == spans[-1][1]:
                spans[-1][1] = last
            else:
                spans.append([first, last])
        wheres[text, label] = "; ".join(f"{first:,.0f} to {last:,.0f}" for first, last in spans)
    table = averaged(stretches.having(steps=stretches["last"] - stretches["first"]), "text",
                     "label", weight="steps")
    return table.having(where=np.array([wheres[key] for key in zip(table["text"], table["label"])],
                                       dtype=object))


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
    kind, *parts = policy.split(":")
    if kind in BY_ROWS:
        name = "top-k" if kind == "topk" else kind
        if not parts:
            return name if math.isnan(epsilon) else f"{name}, rows of {epsilon:g}"
        value = parts[0].removeprefix("density=")
        rows = ", equal rows" if value == "same" else f" {share_of(value)}"
        return " ".join([name + rows, *parts[1:]])
    if parts or math.isnan(epsilon):
        return " ".join([kind, *parts])
    return f"{kind} {epsilon:g}"


def share_of(text):
    try:
        return f"{100 * float(text):g} %"
    except ValueError:
        return text


def labelled(table):
    """The table with a label for each policy and epsilon."""
    labels = {}
    column = np.empty(len(table), dtype=object)
    for i, key in enumerate(zip(table["policy"].tolist(), map(str, table["epsilon"].tolist()))):
        if key not in labels:
            labels[key] = label_of(key[0], float(key[1]))
        column[i] = labels[key]
    return table.having(label=column)


def colour_of(policy, table):
    """Of a policy of the table."""
    kinds = dict.fromkeys(kind_of(name) for name in unique(table["policy"]))
    others = [kind for kind in kinds if kind not in KIND_COLOURS]
    left = [colour for colour in COLOURS if colour not in KIND_COLOURS.values()]
    kind = kind_of(policy)
    return KIND_COLOURS.get(kind) or left[others.index(kind) % len(left)]


def lighter(colour, share):
    """The colour so far on its way to white."""
    return tuple(share + (1 - share) * part for part in to_rgb(colour))


def styles_of(table):
    """How the line of each label looks: a kind has a colour, each of its policies a shade."""
    styles, turns = {}, {}
    for label in unique(table["label"]):
        policy = table["policy"][table["label"] == label][0]
        turn = turns[kind_of(policy)] = turns.get(kind_of(policy), -1) + 1
        styles[label] = {"color": lighter(colour_of(policy, table), min(0.25 * turn, 0.6)),
                         "marker": MARKS[turn % len(MARKS)], "ls": LINES[turn % len(LINES)]}
    return styles


def is_default(row, epsilon=TARGET_EPSILON):
    return kind_of(row["policy"]) == "default" and math.isclose(row["epsilon"], epsilon)


def percent(value, digits=2):
    return f"{100 * value:.{digits}f} %"


def signed(value, error=math.nan, digits=2):
    """A difference in %, with its standard error if there is one."""
    around = "" if math.isnan(error) else f" ± {100 * error:.{digits}f}"
    return f"{100 * value:+.{digits}f}{around} %"


def over_dense(row):
    """Of a row of losses: the difference to dense as a share of it, and its standard error."""
    return row["loss"] / row["dense_loss"] - 1, row["difference_error"] / row["dense_loss"]


def share_error(share, count):
    """Standard error of a share of so many independent ones."""
    return math.sqrt(max(0.0, share * (1 - share)) / count)


def agreement_of(row):
    error = share_error(row["agreement"], row["steps"])
    return f"{100 * row['agreement']:.2f} ± {100 * error:.2f} %"


def without(table, kinds):
    """The rows of other kinds of policies."""
    names = {policy for policy in unique(table["policy"]) if kind_of(policy) not in kinds}
    return table.take(np.array([policy in names for policy in table["policy"]], dtype=bool))


def promising(table):
    """Rows of policies that promise an epsilon."""
    return without(table, BY_ROWS + ALL_ROWS)


# Checks -----------------------------------------------------------------------------------------


class Check:
    """A line of the table of verdicts. `gap`: by how much it is missed; 0 or less is met."""

    def __init__(self, what, wanted, seen, gap, unit="percentage points", met="met"):
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
    seen = ", ".join(f"{row['text']} {signed(*over_dense(row))}" for row in rows)
    return Check(what, wanted, seen, max(over_dense(row)[0] for row in rows) - LOSS_LIMIT)


def partner(row, rows):
    """The top-k row over the same steps for the same epsilon, or the nearest in density."""
    same = [other for other in rows
            if (other["text"], other["where"]) == (row["text"], row["where"])]
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
        return not_made(what, wanted, "no top-k run with as many rows over the same steps: "
                        f"{', '.join(alone)}")
    gaps = {row["text"]: (row["loss"] - other["loss"]) / row["dense_loss"] for row, other in pairs}
    seen = ", ".join(f"{row['text']} {signed(*over_dense(row))} against "
                     f"{signed(*over_dense(other))}" for row, other in pairs)
    # Equal losses are not less.
    return Check(what, wanted, seen, max(gaps.values()) + 1e-9)


def check_agreement(losses):
    what = f"greedy next token, default at epsilon {TARGET_EPSILON:g}"
    wanted = f"the dense one in {percent(AGREEMENT_LIMIT, 0)} of the steps of each text"
    rows = [row for row in losses.rows() if is_default(row)] if losses else []
    if not rows:
        return not_made(what, wanted, "no such rows")
    floors = {row["text"]: row for row in exact_rows(losses)}
    seen = []
    for row in rows:
        beside = []
        if row["text"] in floors:
            beside.append(f"noise floor {percent(floors[row['text']]['agreement'])}")
        if not math.isnan(row["agreement_exact"]):
            beside.append(f"with exact {percent(row['agreement_exact'])}")
        seen.append(f"{row['text']} {agreement_of(row)}"
                    + (f" ({', '.join(beside)})" if beside else ""))
    return Check(what, wanted, ", ".join(seen),
                 AGREEMENT_LIMIT - min(row["agreement"] for row in rows))


def exact_rows(losses):
    """What the library's dense kernel did, on each text."""
    return [row for row in losses.rows() if kind_of(row["policy"]) == "exact"]


def able(ruler):
    """Tasks and lengths at which the dense model can do them."""
    return ruler.take(ruler["dense_score"] > DENSE_SCORE)


def score_groups(ruler):
    """Of each label but dense: mean score, dense's, error of their difference, the rows."""
    groups = {}
    rows = able(ruler)
    for label in unique(without(rows, ("dense",))["label"]):
        mine = rows.where(label=label)
        error = np.sqrt((mine["difference_error"] ** 2).sum()) / len(mine)
        groups[label] = mine["score"].mean(), mine["dense_score"].mean(), error, mine
    return groups


def points(difference, error):
    around = "" if math.isnan(error) else f" ± {100 * error:.1f}"
    return f"{100 * difference:+.1f}{around}"


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
    mean, dense, error, rows = groups[label]
    seen = (f"{label}: {100 * mean:.1f} against {100 * dense:.1f}, {points(mean - dense, error)} "
            f"points, {len(rows)} tasks and lengths")
    return Check(what, wanted, seen, dense - mean - SCORE_LIMIT, "points")


def texts_of(generation):
    """A row a policy: means of its generated texts by their tokens."""
    rows = []
    for mine in generation.by("label").values():
        more = mine["loss_under_dense"] - mine["dense_generation_loss"]
        # All texts have as many tokens, or nearly so: their differences are a sample of one size.
        error = more.std(ddof=1) / math.sqrt(len(mine)) if len(mine) > 1 else math.nan
        worst = more / mine["dense_generation_loss"]
        row, = averaged(mine, "label", weight="tokens").rows()
        prompts = len(unique(mine["prompt"])) if mine["prompt"][0] else math.nan
        rows.append({**row, "over": row["loss_under_dense"] / row["dense_generation_loss"] - 1,
                     "error": error / row["dense_generation_loss"], "prompts": prompts,
                     "worst": worst[np.abs(worst).argmax()]})
    return rows


def check_generation(generation):
    what = "generated text, default"
    wanted = f"loss under dense within {percent(GENERATION_LIMIT, 0)} of dense generation's"
    rows = [row for row in texts_of(generation)
            if kind_of(row["policy"]) == "default"] if generation else []
    if not rows:
        return not_made(what, wanted, "no such rows")
    rows = [row for row in rows if is_default(row)] or rows
    seen = ", ".join(f"{row['label']} {signed(row['over'], row['error'])}, mean of "
                     f"{row['count']:.0f} texts with {row['tokens']:,.0f} tokens" for row in rows)
    return Check(what, wanted, seen, max(abs(row["over"]) for row in rows) - GENERATION_LIMIT)


def threads_of(row):
    return "" if not row["threads"] else f"{row['threads']:.0f} threads"


def beside_dense(speed):
    """A number for each row: how many times as many tokens a second as dense in the same place."""
    dense = {(row["threads"], row["tokens"]): row["tokens_per_second"]
             for row in speed.rows() if kind_of(row["policy"]) == "dense"}
    return [row["tokens_per_second"] / dense.get((row["threads"], row["tokens"]), math.nan)
            for row in speed.rows()]


def check_speed(speed, lengths=(2048, 4096, 8192)):
    what, wanted = "tokens a second", f"at {', '.join(map(str, lengths))} tokens, beside dense"
    seen = {}
    for row, times in zip(speed.rows(), beside_dense(speed)) if speed else ():
        if kind_of(row["policy"]) != "dense" and not math.isnan(times):
            seen.setdefault((threads_of(row), row["label"]), {})[row["tokens"]] = times
    complete = {key: found for key, found in seen.items() if set(lengths) <= set(found)}
    if not complete:
        return not_made(what, wanted, "not all of these lengths" if seen else "no such rows")
    parts = {}
    for (threads, label), found in complete.items():
        parts.setdefault(threads, []).append(
            f"{label} " + ", ".join(f"{found[length]:.2f}x" for length in lengths))
    text = "; ".join((f"{threads}: " if threads else "") + "; ".join(found)
                     for threads, found in parts.items())
    return Check(what, wanted, text, 0.0, met="shown")


def measured(heads):
    """Rows that have a density."""
    return heads.take(~np.isnan(heads["density"]))


def audited(heads):
    return promising(heads.take(~np.isnan(heads["error"]) & ~np.isnan(heads["epsilon"])))


def check_errors(heads, delta):
    what = "observed error, each policy that promises one of the output"
    wanted = f"beyond epsilon in at most {percent(delta, 0)} of the audited calls (delta)"
    rows = without(audited(heads), DENOMINATOR) if heads else None
    if rows is None or not len(rows):
        return not_made(what, wanted, "no audited calls")
    shares, seen = [], []
    for label in unique(rows["label"]):
        mine = rows.where(label=label)
        share = (mine["error"] > mine["epsilon"]).mean()
        heads = by_head(mine, delta)
        shares.append(share)
        seen.append(f"{label} {percent(share)} of {len(mine):,} calls, {broken(heads).sum()} of "
                    f"{len(heads)} heads beyond delta by more than chance")
    return Check(what, wanted, "; ".join(seen), max(shares) - delta)


def binomial_tail(least, count, chance):
    """How likely `least` or more of so many independent calls are, each of this chance."""
    if least <= 0:
        return 1.0
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))
    k = np.arange(least, count + 1)
    return float(np.exp(logs[count] - logs[k] - logs[count - k] + k * math.log(chance)
                        + (count - k) * math.log1p(-chance)).sum())


def by_head(rows, delta):
    """A row a head with audited calls, which are `count`."""
    order = np.lexsort((rows["head"], rows["layer"]))
    layer, head = rows["layer"][order], rows["head"][order]
    starts = np.flatnonzero((np.diff(layer) != 0) | (np.diff(head) != 0)) + 1
    found = []
    for mine in np.split(order, starts):
        errors = rows["error"][mine]
        beyond = int((errors > rows["epsilon"][mine]).sum())
        median, most, nearly_all = np.quantile(errors, (0.5, 1 - delta, 0.99))
        found.append({"layer": rows["layer"][mine[0]], "head": rows["head"][mine[0]],
                      "count": len(mine), "share": beyond / len(mine), "median": median,
                      "most": most, "nearly_all": nearly_all,
                      "chance": binomial_tail(beyond, len(mine), delta)})
    return tabled(found)


def broken(heads):
    """Heads with more errors beyond epsilon than a kept promise explains, by a binomial test."""
    return heads["chance"] < FALSE_ALARM / len(heads)


def least_seen(count, heads, delta):
    """The share beyond epsilon from which this test sees a head with so many calls, if it can."""
    return next((k / count for k in range(int(count * delta), count + 1)
                 if binomial_tail(k, count, delta) < FALSE_ALARM / heads), None)


# Pictures ---------------------------------------------------------------------------------------


def panels(count, across, width, height, **more):
    """`count` axes of one size, `across` in a line; those left over are switched off."""
    down = -(-count // across)
    across = min(across, count)
    width = max(width, 4.2 / across)  # room for the figure's labels
    figure, axes = plt.subplots(down, across, figsize=(width * across, height * down),
                                layout="constrained", squeeze=False, **more)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, axes.flat[:count]


def legend_above(figure, ax, across):
    """One legend for all panels, in a strip of its own."""
    handles, names = ax.get_legend_handles_labels()
    across = max(1, min(across, int(figure.get_figwidth() / 1.6)))
    lines = -(-len(names) // across)
    height = figure.get_size_inches()[1] + 0.22 * lines
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.22 * lines / height))
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.0), fontsize=8,
                  ncols=min(across, len(names)), frameon=False, borderpad=0.2)


def draw_losses(losses):
    """A panel a text: loss over dense of each policy, and the limit."""
    texts, labels = unique(losses["text"]), unique(losses["label"])
    over = 100 * (losses["loss"] / losses["dense_loss"] - 1)
    figure, axes = panels(len(texts), 2, 4.4, 0.24 * len(labels) + 0.8, sharey=True, sharex=True)
    # Room on the right, a third, for what is written beside the dots: 0 to 1 is as long as 1 to 10.
    low, most = min(-0.5, over.min() * 1.6), max(1.0, over.max())
    left = -low if low > -1 else 1 + math.log10(-low)
    high = 10 ** (1.55 * (left + 1 + math.log10(most)) - left - 1)
    for ax, text in zip(axes, texts):
        rows = losses.where(text=text)
        for row in rows.rows():
            y, x = labels.index(row["label"]), 100 * over_dense(row)[0]
            error = np.nan_to_num(200 * over_dense(row)[1])
            colour = colour_of(row["policy"], losses)
            ax.plot([0, x], [y, y], color=colour, lw=1.5, alpha=0.4)
            ax.errorbar(x, y, xerr=error, fmt="o", ms=4, color=colour, elinewidth=1, capsize=2)
            ax.annotate(f"{x:+.2f} %, rows {100 * row['density']:.0f} %", (max(x + error, 0), y),
                        xytext=(6, 0), textcoords="offset points", va="center", fontsize=7,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.9})
        ax.axvline(0, color=INK, lw=0.8)
        ax.axvline(100 * LOSS_LIMIT, color=INK, lw=1, ls=DASHES)
        ax.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        ax.set(xlim=(low, high), title=text)
        label_over(ax.xaxis, low, high, (0.5, 1, 10, 100))
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(labels) - 0.5, -0.5)
    figure.supxlabel("loss over dense, %; bars: 2 standard errors; dashed: 0.5 %", fontsize=9)
    return figure


def label_over(axis, low, high, above=(0.5, 1, 2, 5, 10, 20, 50, 100)):
    """Ticks of differences in % that are on a symlog scale."""
    ticks = [tick for tick in (*(-tick for tick in above), 0, *above) if low <= tick <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def draw_stretches(stretches):
    """A panel a text: loss over dense of each stretch, a line a policy."""
    texts, styles = unique(stretches["text"]), styles_of(stretches)
    figure, axes = panels(len(texts), 2, 5.0, 3.0, sharex=True, sharey=True)
    low, high = -0.5, 1.0
    for ax, text in zip(axes, texts):
        for i, (label, style) in enumerate(styles.items()):
            rows = sorted(stretches.where(text=text, label=label).rows(),
                          key=lambda row: row["first"])
            if not rows:
                continue
            # Side by side within the middle half of the stretch.
            aside = 0.5 * ((i + 0.5) / len(styles) - 0.5)
            x = [(row["first"] + row["last"]) / 2 + aside * (row["last"] - row["first"])
                 for row in rows]
            y, error = 100 * np.array([over_dense(row) for row in rows]).T
            error = 2 * np.nan_to_num(error)
            ax.errorbar(x, y, yerr=error, ms=3, lw=1, elinewidth=0.8, capsize=1.5, label=label,
                        **style)
            low, high = min(low, (y - error).min()), max(high, (y + error).max())
        ax.axhline(0, color=INK, lw=0.8)
        ax.axhline(100 * LOSS_LIMIT, color=INK, lw=1, ls=DASHES)
        ax.set_yscale("symlog", linthresh=1.0, linscale=1.0)
        ax.set(title=text)
    for ax in axes:
        ax.set_ylim(1.3 * low, 1.3 * high)
        label_over(ax.yaxis, 1.3 * low, 1.3 * high)
    fullest = max(axes, key=lambda ax: len(ax.get_legend_handles_labels()[1]))
    legend_above(figure, fullest, 4)
    figure.supxlabel("position", fontsize=9)
    figure.supylabel("loss over dense, %; bars: 2 standard errors", fontsize=9)
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
    labels = unique(heads["label"])
    first, last = heads["step"].min(), heads["step"].max()
    width = max(1.0, (last - first + 1) / bins)
    figure, axes = panels(len(labels), 4, 2.7, 2.4, sharex=True, sharey=True)
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
        colour = colour_of(rows["policy"][0], heads)
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


def draw_errors(heads, delta):
    """A panel a policy that promises an epsilon: error quantiles of its heads, sorted."""
    rows = audited(heads)
    labels = unique(rows["label"])
    quantiles = (("median", "50"), ("most", f"{100 * (1 - delta):g}"), ("nearly_all", "99"))
    figure, axes = panels(len(labels), 3, 3.5, 2.9, sharey=True)
    for ax, label in zip(axes, labels):
        mine = rows.where(label=label)
        epsilon = mine["epsilon"][0]
        found = by_head(mine, delta)
        order = np.argsort(found["most"], kind="stable")
        for i, ((column, share), mark) in enumerate(zip(quantiles, MARKS)):
            ax.plot(np.maximum(found[column][order], 1e-5), mark, ms=2.5,
                    color=COLOURS[(0, 1, 4)[i]], label=f"{share} % of the calls")
        ax.axhline(epsilon, color=INK, lw=1, ls=DASHES, label="asked epsilon")
        ax.set_yscale("log")
        ax.set_title(f"{label}\n{(found['share'] > delta).sum()} of {len(found)} heads beyond "
                     f"delta, {broken(found).sum()} by more than chance", fontsize=8)
        top = max(epsilon * 2, np.nanmax(found["nearly_all"]) * 1.5)
        ax.axhspan(epsilon, top * 10, color=BEYOND, lw=0, zorder=0)
        ax.set_ylim(top=top)
    legend_above(figure, axes[0], 4)
    figure.supxlabel(f"heads, sorted by the {100 * (1 - delta):g} % quantile of their error",
                     fontsize=9)
    figure.supylabel("observed relative error", fontsize=9)
    return figure


def draw_ruler(ruler):
    """Bars of each task, a panel a length; only what the dense model can do."""
    rows = able(ruler)
    lengths, tasks = sorted(set(rows["length"])), unique(rows["task"])
    labels = ["dense", *unique(without(rows, ("dense",))["label"])]
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
                colour = colour_of(policy, rows)
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
    """Tokens a second and attention's share, over the length; a line for each number of threads."""
    parts = list(speed.by("threads").values())
    figure, axes = panels(2 * len(parts), 2, 3.9, 2.7)
    lengths = sorted(set(speed["tokens"]))
    for i, part in enumerate(parts):
        pair = axes[2 * i:2 * i + 2]
        for label, style in styles_of(speed).items():
            rows = part.where(label=label)
            order = np.argsort(rows["tokens"], kind="stable")
            for ax, column, scale in zip(pair, ("tokens_per_second", "attention_share"), (1, 100)):
                ax.plot(rows["tokens"][order], scale * rows[column][order], ms=4, lw=1.2,
                        label=label, **style)
        threads = threads_of(part.rows()[0])
        for ax, title in zip(pair, ("tokens a second", "attention's share of the time, %")):
            ax.set(title=f"{title}, {threads}" if threads else title, xscale="log",
                   xlabel="tokens in the cache")
            ax.set_ylim(bottom=0)
            ax.set_xticks(lengths, [f"{length:,.0f}" for length in lengths])
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.tick_params(axis="x", which="minor", length=0)
    legend_above(figure, axes[0], 5)
    return figure


# The report -------------------------------------------------------------------------------------


def table_lines(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header),
            *("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
              for row in rows), ""]


def table_of_columns(columns, rows):
    """Of pairs: a column's name, and its cell of a row."""
    return table_lines([name for name, _ in columns],
                       [[cell(row) for _, cell in columns] for row in rows])


def noise_floor(losses):
    """How far the engine's dense attention and the library's agree."""
    floors = exact_rows(losses)
    if not floors:
        return []
    agreements = ", ".join(f"{row['text']} {agreement_of(row)}" for row in floors)
    return ["Noise floor: `exact`, the library's dense kernel, reads every row, as `dense` does, "
            "the engine's flash attention, which adds up f16 values in f16. Both have the same "
            f"greedy token in so many of the steps: {agreements}. Where a policy differs from "
            "dense, this is part of it.", ""]


def over_exact(row, exact):
    """The loss beside that of `exact` over the same steps, as a text."""
    other = exact.get((row["text"], row["where"]))
    return "" if other is None else f"{100 * (row['loss'] / other['loss'] - 1):+.3f} %"


def section_losses(losses):
    exact = {(row["text"], row["where"]): row for row in exact_rows(losses)}
    columns = [
        ("text", lambda row: row["text"]),
        ("policy", lambda row: row["label"]),
        ("positions", lambda row: row["where"]),
        ("steps", lambda row: f"{row['steps']:,.0f}"),
        ("loss", lambda row: f"{row['loss']:.4f}"),
        ("dense", lambda row: f"{row['dense_loss']:.4f}"),
        ("over dense", lambda row: signed(*over_dense(row), 3)),
        ("over exact", lambda row: over_exact(row, exact)),
        ("dense's greedy token", agreement_of)]
    if not np.isnan(losses["agreement_exact"]).all():
        columns.append(("exact's greedy token", lambda row: percent(row["agreement_exact"])))
    if not np.isnan(losses["divergence"]).all():
        columns.append(("KL to dense", lambda row: f"{row['divergence']:.2g}"))
    if not np.isnan(losses["divergence_exact"]).all():
        columns.append(("KL to exact", lambda row: f"{row['divergence_exact']:.2g}"))
    columns.append(("rows read", lambda row: percent(row["density"], 1)))
    return table_of_columns(columns, [row for text in unique(losses["text"])
                                      for row in losses.where(text=text).rows()])


def section_density(heads):
    heads = without(measured(heads), ALL_ROWS)
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
    rows = audited(heads)
    lines, worst = [], []
    for label in unique(rows["label"]):
        mine = rows.where(label=label)
        found = by_head(mine, delta)
        share = (mine["error"] > mine["epsilon"]).mean()
        least = least_seen(int(np.median(found["count"])), len(found), delta)
        fewest, most = found["count"].min(), found["count"].max()
        lines.append((label, f"{len(mine):,}", f"{np.median(mine['error']):.4f}",
                      f"{np.quantile(mine['error'], 1 - delta):.4f}",
                      f"{100 * share:.2f} ± {100 * share_error(share, len(mine)):.2f} %",
                      len(found), f"{fewest:,.0f}" + (f" to {most:,.0f}" if most > fewest else ""),
                      (found["share"] > delta).sum(), broken(found).sum(),
                      "never" if least is None else percent(least, 0)))
        worst += [(label, f"{row['layer']:.0f}", f"{row['head']:.0f}", f"{row['count']:,.0f}",
                   percent(row["share"], 1), f"{row['chance']:.1g}", f"{row['most']:.4f}",
                   row["chance"])
                  for row in found.rows() if row["share"] > delta]
    worst.sort(key=lambda line: line[7])
    quantile = f"{100 * (1 - delta):g} %"
    text = table_lines(("policy", "audited calls", "median error", f"{quantile} are below",
                        "beyond epsilon", "heads", "calls a head", "heads beyond delta",
                        "by more than chance", "seen from"), lines)
    text += [f"By more than chance: a binomial test of each head at a false-alarm rate of "
             f"{FALSE_ALARM:g} for all heads of a policy together (Bonferroni), its calls taken as "
             "independent; query heads that share a selection miss together. Seen from: the share "
             "beyond epsilon from which it finds a head with the median number of calls; less may "
             "be missed.", ""]
    others = unique(rows["label"][[kind_of(policy) in DENOMINATOR for policy in rows["policy"]]])
    if others:
        text += [f"{', '.join(others)}: epsilon is about the softmax denominator, so no promise is "
                 "broken here; what it is worth for the output is seen.", ""]
    if worst:
        text += ["The heads that a kept promise explains least; chance: of so many calls beyond "
                 "epsilon, or more, if delta of them were:", ""]
        text += table_lines(("policy", "layer", "head", "calls", "beyond epsilon", "chance",
                             f"{quantile} of the errors are below"),
                            [line[:7] for line in worst[:10]])
    return text


def section_ruler(ruler):
    groups = score_groups(ruler)
    lines = table_lines(
        ("policy", "mean score", "dense", "difference, points", "tasks and lengths", "answers"),
        [(label, f"{100 * mean:.1f}", f"{100 * dense:.1f}", points(mean - dense, error), len(rows),
          f"{rows['n'].sum():,.0f}") for label, (mean, dense, error, rows) in groups.items()])
    lost = [(label, row["task"], f"{row['length']:,.0f}", f"{100 * row['score']:.1f}",
             f"{100 * row['dense_score']:.1f}",
             points(row["score"] - row["dense_score"], row["difference_error"]),
             f"{row['n']:.0f}", row["score"] - row["dense_score"])
            for label, group in groups.items() for row in promising(group[3]).rows()
            if row["score"] < row["dense_score"] - 0.05]
    lost.sort(key=lambda line: line[7])
    if lost:
        lines += ["Tasks that lose more than 5 points with a policy that promises an epsilon, the "
                  "worst first:", ""]
        lines += table_lines(("policy", "task", "tokens", "score", "dense", "difference",
                              "samples"), [line[:7] for line in lost[:15]])
        if len(lost) > 15:
            lines += [f"And {len(lost) - 15} more.", ""]
    left_out = ruler.take(~(ruler["dense_score"] > DENSE_SCORE))
    names = sorted({f"{row['task']} at {row['length']:,.0f} ({100 * row['dense_score']:.0f})"
                    for row in left_out.rows()})
    if names:
        lines += [f"Left out, for the dense model's score is {100 * DENSE_SCORE:g} or less: "
                  f"{', '.join(names)}.", ""]
    return lines


def section_speed(speed):
    columns = [
        ("threads", lambda row: f"{row['threads']:.0f}" if row["threads"] else ""),
        ("tokens in the cache", lambda row: f"{row['tokens']:,.0f}"),
        ("policy", lambda row: row["label"]),
        ("tokens a second", lambda row: f"{row['tokens_per_second']:.2f}"),
        ("dense = 1", lambda row: "" if math.isnan(row["times"]) else f"{row['times']:.2f}x"),
        ("attention's share of the time", lambda row: "" if math.isnan(row["attention_share"])
         else percent(row["attention_share"], 1)),
        ("attention, ms a token", lambda row: "" if math.isnan(row["attention_seconds"])
         else f"{1e3 * row['attention_seconds']:.1f}")]
    return table_of_columns(columns, speed.having(times=np.array(beside_dense(speed))).rows())


def section_generation(generation):
    rows = texts_of(without(generation, ("dense",)))
    columns = [
        ("policy", lambda row: row["label"]),
        ("texts", lambda row: f"{row['count']:.0f}"),
        ("tokens", lambda row: f"{row['tokens']:,.0f}"),
        ("loss under dense", lambda row: f"{row['loss_under_dense']:.4f}"),
        ("dense generation's", lambda row: f"{row['dense_generation_loss']:.4f}"),
        ("difference", lambda row: signed(row["over"], row["error"])),
        ("text furthest off", lambda row: signed(row["worst"]))]
    more = [
        ("prompts", "prompts", lambda value: f"{value:.0f}"),
        ("same_tokens", "first tokens as dense's", lambda value: f"{value:,.0f}"),
        ("density", "rows read", lambda value: percent(value, 1))]
    for column, name, told in more:
        if not all(math.isnan(row[column]) for row in rows):
            columns.append((name, lambda row, column=column, told=told: told(row[column])))
    return table_of_columns(columns, rows)


def passed(row):
    """How far a finding is beyond its threshold, on either side."""
    return abs(math.log(max(abs(row["seen"]), 1e-12) / max(abs(row["threshold"]), 1e-12)))


def section_findings(findings, runs):
    """Failure signatures, what repairs them and which heads show them; `runs` of each label."""
    kinds = findings.by("what")
    most = max(3, MOST_FINDINGS // len(kinds))
    lines = []
    for (what,), mine in kinds.items():
        heads = sorted((sorted(rows.rows(), key=passed)
                        for rows in mine.by("label", "layer", "head").values()),
                       key=lambda rows: (-passed(rows[-1]), -len(rows)))
        counts = ", ".join(f"{label} ({len(rows.by('layer', 'head'))})"
                           for (label,), rows in mine.by("label").items())
        advice = next((text for text in mine["advice"] if text), "")
        lines += [f"**{what.replace('_', ' ').capitalize()}**, heads by policy: {counts}."
                  + (f" What repairs it: {advice}." if advice else ""), ""]
        lines += table_lines(
            ("policy", "layer", "head", "found in", "seen", "threshold"),
            [(rows[0]["label"], f"{rows[0]['layer']:.0f}", f"{rows[0]['head']:.0f}",
              f"{len(rows)} of {max(runs[rows[0]['label']], len(rows))} runs"
              if rows[0]["label"] in runs else f"{len(rows)} runs",
              range_of([row["seen"] for row in rows]),
              range_of([row["threshold"] for row in rows])) for rows in heads[:most]])
        if len(heads) > most:
            lines += [f"And {len(heads) - most} more heads.", ""]
    return lines


def range_of(values):
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def read_settings(path):
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


def settings_of(folders):
    """Those of the first folder that has some; the others' must not contradict."""
    paths = [os.path.join(folder, "settings.json") for folder in folders]
    found = {path: read_settings(path) for path in paths if os.path.exists(path)}
    first = next(iter(found), None)
    for path, settings in found.items():
        for key in ("delta", "model"):
            mine, other = found[first].get(key), settings.get(key)
            if None not in (mine, other) and mine != other:
                raise Bad(f"{path}: {key} {other}, but {mine} in {first}")
    return found[first] if first else {"delta": 0.1}


def make(folders, out):
    """Writes the report; the checks, in its order."""
    tables, empty = read_all(folders)
    absent = [name for name in COLUMNS if name not in tables]
    settings = settings_of(folders)
    delta = settings["delta"]
    stretches = once(tables["losses"]) if "losses" in tables else None
    if stretches:
        tables["losses"] = merged(stretches)
    if "ruler" in tables:
        tables["ruler"] = averaged(tables["ruler"], "task", "length", "label", weight="n")
    if "speed" in tables:
        threads = np.nan_to_num(tables["speed"]["threads"])  # 0 where it is not told
        tables["speed"] = averaged(tables["speed"].having(threads=threads),
                                   "threads", "tokens", "label")
    get = tables.get
    checks = [check_loss(get("losses")), check_top_k(get("losses")), check_agreement(get("losses")),
              check_ruler(get("ruler")), check_generation(get("generation")),
              check_errors(get("heads"), delta), check_speed(get("speed"))]
    os.makedirs(out, exist_ok=True)

    def picture(name, figure, what):
        figure.savefig(os.path.join(out, f"{name}.png"))
        plt.close(figure)
        return [f"![{what}]({name}.png)", ""]

    lines = ["# vattention in llama.cpp", "", "## Checks", ""]
    lines += table_lines(("check", "wanted", "seen", "verdict"),
                         [(check.what, check.wanted, check.seen, check.verdict)
                          for check in checks])
    lines += ["A check is met or missed by what was seen alone. After ± is one standard error, of "
              "steps, audited calls or samples taken as independent. Neighbouring steps and calls "
              "are not quite, so the true ones may be larger.", ""]
    if "losses" in tables:
        lines += noise_floor(tables["losses"])
    if absent:
        lines += [f"Not there, and so not in this report: {', '.join(absent)}.", ""]
    if empty:
        names = ", ".join(os.path.basename(os.path.normpath(folder)) for folder in empty)
        lines += [f"Folders without a table, such as a run that did not end leaves: {names}.", ""]
    lines += ["## Settings", ""]
    lines += table_lines(("setting", "value"),
                         [*sorted(settings.items()),
                          ("folders of tables", len(folders) - len(empty))])
    if "losses" in tables:
        lines += ["## Next-token loss", "",
                  "Each step's prediction is compared with the text, which all policies see alike. "
                  "Means over all steps; KL in nats a step.", ""]
        losses = without(tables["losses"], ("dense",))
        if len(losses):
            lines += picture("losses", draw_losses(losses), "Loss over dense")
            lines += section_losses(losses)
            lines += stretch_lines(without(stretches, ("dense",)), picture)
    if "ruler" in tables:
        lines += ["## RULER tasks", "", f"Tasks and lengths at which the dense model scores above "
                  f"{100 * DENSE_SCORE:g} of 100; each counts alike in the means. Being chosen by "
                  "the dense score on the same samples favours dense a little.", ""]
        if score_groups(tables["ruler"]):
            lines += picture("ruler", draw_ruler(tables["ruler"]), "Scores of the tasks")
        lines += section_ruler(tables["ruler"])
    if "generation" in tables and len(without(tables["generation"], ("dense",))):
        lines += ["## Long generation", "", "Greedy text of each policy, and how likely the dense "
                  "model finds it; means by tokens. The standard error is that of the texts.", ""]
        lines += section_generation(tables["generation"])
    if "heads" in tables:
        # The others read what they are told to.
        own = measured(promising(tables["heads"]))
        if len(without(measured(tables["heads"]), ALL_ROWS)):
            lines += ["## Density", ""]
            if len(own):
                lines += picture("density_map", draw_density_map(own), "Density by layer and head")
                lines += picture("density_steps", draw_density_steps(own), "Density over the steps")
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
        runs = {label: len(rows) for (label,), rows in stretches.by("label").items()
                } if stretches else {}
        lines += ["## Where the method fails", "",
                  "What audits found, the clearest first: a head that several runs found is one "
                  "row. Each run judges for itself.", ""]
        lines += section_findings(tables["findings"], runs)
    if "speed" in tables:
        lines += ["## Speed", "", "Decoding, one sequence, medians over the steps; dense is the "
                  "engine's own flash attention.", ""]
        lines += picture("speed", draw_speed(tables["speed"]), "Tokens a second, attention's share")
        lines += section_speed(tables["speed"])
    path = os.path.join(out, "report.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines).rstrip() + "\n")
    return path, checks


def stretch_lines(stretches, picture):
    """The picture over the positions, if there is more than one stretch."""
    if max(len(rows) for rows in stretches.by("text", "label").values()) == 1:
        return []
    labels = unique(stretches["label"])
    shown = stretches.take(np.isin(stretches["label"].astype(str), labels[:MOST_LINES]))
    lines = picture("stretches", draw_stretches(shown), "Loss over dense by position")
    if len(labels) > MOST_LINES:
        lines += [f"Not in the picture: {', '.join(labels[MOST_LINES:])}.", ""]
    return lines + pair_lines(stretches)


def pair_lines(stretches):
    """In how many stretches the default has less loss than each other policy."""
    mine = {(row["text"], row["first"], row["last"]): row for row in stretches.rows()
            if is_default(row)}
    seen = []
    for (label,), rows in without(stretches, ALL_ROWS).by("label").items():
        pairs = [(mine[key], row) for row in rows.rows()
                 if (key := (row["text"], row["first"], row["last"])) in mine]
        if pairs and not is_default(pairs[0][1]):
            less = sum(own["loss"] < row["loss"] for own, row in pairs)
            seen.append(f"{label} in {less} of {len(pairs)}")
    if not seen:
        return []
    return [f"Stretches in which default at epsilon {TARGET_EPSILON:g} has less loss than others: "
            f"{'; '.join(seen)}. All see the same steps, so their standard errors do not add up to "
            "that of the difference between two policies; this count may be tested instead.", ""]


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
    policies = (("dense", 0.0, 1.0), ("exact", 0.0003, 1.0), ("default:0.05", 0.001, 0.31),
                ("topk:same", 0.006, 0.31), ("oracle:same", 0.004, 0.31),
                ("window:same", 0.05, 0.31), ("default:0.1", 0.002, 0.14),
                ("default:0.2", 0.004, 0.07), ("topk:0.14", 0.012, 0.14))
    losses = []
    for text, dense in (("prose", 3.1), ("code", 1.2), ("licence", 0.8), ("dialogue", 3.4)):
        for first in range(4096, 8192, 1024):
            for policy, over, rows in policies:
                error = dense * (0.02 * math.sqrt(over) if over else 0)
                share = 1 - 0.3 * math.sqrt(over)
                losses.append({
                    "text": text, "policy": policy, "first": first, "last": first + 1024,
                    "loss": dense * (1 + over) + error / 4 * rng.normal(), "dense_loss": dense,
                    "density": rows * rng.uniform(0.99, 1.01), "agreement": share, "epsilon": "",
                    "difference_error": error, "agreement_exact": min(1.0, share + 0.002),
                    "divergence": over / 5, "divergence_exact": over / 6})
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
                              "score": dense * (1 - loss), "dense_score": dense, "n": 20,
                              "difference_error": 0.2 * loss})
    write(folder, "ruler", ruler)
    write(folder, "speed", [
        {"tokens": tokens, "policy": policy, "tokens_per_second": rate * (1 - tokens / cost),
         "attention_share": tokens / cost}
        for tokens in (2048, 4096, 8192)
        for policy, rate, cost in (("dense", 40, 16_000), ("default:0.05", 38, 24_000),
                                   ("default:0.1", 38, 40_000), ("topk:0.14", 39, 45_000))])
    write(folder, "generation", [
        {"policy": policy, "tokens": 1024, "loss_under_dense": loss + more, "prompt": prompt,
         "dense_generation_loss": 0.9 + more, "density": rows, "same_tokens": 200}
        for prompt, more in (("once", -0.1), ("twice", 0.0), ("thrice", 0.05))
        for policy, loss, rows in (("dense", 0.9, 1), ("default:0.05", 0.906 + more / 20, 0.3),
                                   ("default:0.2", 0.95, 0.07))])
    write(folder, "findings", [
        {"policy": policy, "layer": layer, "head": head, "what": what,
         "seen": seen * rng.uniform(0.9, 1.1), "threshold": threshold, "advice": advice}
        for policy, what, seen, threshold, advice, many in (
            ("default:0.2", "low_sparsity", 0.7, 0.5, "attend densely", 9),
            ("default:0.05", "error_far_below", 0.004, 0.01, "ask for a larger epsilon", 20),
            ("topk:same", "recall_failing", 0.2, 0.1, "more bits for the predictor", 2))
        for layer in range(many) for head in range(2) for _ in range(1 + (layer + head) % 4)])
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
        table = read(os.path.join(folder, f"{name}.csv"), name)
    return merged(once(table)) if name == "losses" else table


def loss_row(**more):
    return {"text": "prose", "policy": "default", "epsilon": 0.05, "first": 1, "last": 2,
            "loss": 2.0, "dense_loss": 2.0, "agreement": 1.0, "density": 0.2, **more}


def test_checks():
    assert check_loss(table_of("losses", [loss_row(loss=2.01)])).verdict == "met"
    missed = check_loss(table_of("losses", [loss_row(), loss_row(text="code", loss=2.02)]))
    assert missed.verdict == "**missed** by 0.5 percentage points" and "code +1.00 %" in missed.seen
    assert check_loss(table_of("losses", [loss_row(epsilon=0.1)])).verdict == "not made"
    assert check_loss(table_of("losses", [loss_row(policy="default:0.05", epsilon="")])).gap < 0

    seen = check_loss(table_of("losses", [loss_row(loss=2.01, difference_error=0.002)])).seen
    assert seen == "prose +0.50 ± 0.10 %"

    top_k = loss_row(policy="topk:0.2", epsilon="", loss=2.001)
    assert check_top_k(table_of("losses", [loss_row(), top_k])).verdict == "met"
    assert "missed" in check_top_k(table_of("losses", [loss_row(loss=2.001), top_k])).verdict
    far = {**top_k, "policy": "topk:0.4", "density": 0.4}
    assert check_top_k(table_of("losses", [loss_row(), far])).verdict == "not made"
    assert check_top_k(table_of("losses", [loss_row(), far, top_k])).verdict == "met"
    same = loss_row(policy="topk:same", epsilon="", loss=2.1)
    assert check_top_k(table_of("losses", [loss_row(), same])).verdict == "met"
    elsewhere = {**same, "first": 2, "last": 3}
    assert check_top_k(table_of("losses", [loss_row(), elsewhere])).verdict == "not made"

    assert check_agreement(table_of("losses", [loss_row(agreement=0.99)])).verdict == "met"
    two = [loss_row(agreement=0.985), loss_row(text="code")]
    assert "0.5 percentage points" in check_agreement(table_of("losses", two)).verdict
    # The noise floor is told; it changes no verdict.
    floor = loss_row(policy="exact", epsilon="", agreement=0.98, agreement_exact=1.0)
    check = check_agreement(table_of("losses", [
        loss_row(agreement=0.98, agreement_exact=0.995, last=101), {**floor, "last": 101}]))
    assert check.verdict == "**missed** by 1 percentage points"
    assert check.seen == "prose 98.00 ± 1.40 % (noise floor 98.00 %, with exact 99.50 %)"

    task = {"task": "vt", "length": 1024, "policy": "default:0.05", "score": 0.49,
            "dense_score": 0.5, "n": 9}
    weak = {**task, "task": "cwe", "score": 0.0, "dense_score": 0.3}
    assert check_ruler(table_of("ruler", [task, weak])).verdict == "met"
    pair = [{**task, "difference_error": 0.03}, {**task, "length": 9, "difference_error": 0.04}]
    assert "-1.0 ± 2.5 points" in check_ruler(table_of("ruler", pair)).seen
    assert "missed" in check_ruler(table_of("ruler", [{**task, "score": 0.47}])).verdict
    assert check_ruler(table_of("ruler", [weak])).verdict == "not made"
    assert check_ruler(None).verdict == "not made"

    text = {"policy": "default:0.05", "tokens": 9, "loss_under_dense": 0.9,
            "dense_generation_loss": 1.0}
    assert "missed" in check_generation(table_of("generation", [text])).verdict
    text["loss_under_dense"] = 1.0099
    assert check_generation(table_of("generation", [text])).verdict == "met"
    texts = [{**text, "loss_under_dense": 1.0}, {**text, "loss_under_dense": 1.02}, text]
    check = check_generation(table_of("generation", texts[:2]))
    assert check.seen == "default 0.05 +1.00 ± 1.00 %, mean of 2 texts with 18 tokens"
    row, = texts_of(table_of("generation", texts))
    assert math.isclose(row["worst"], 0.02) and row["count"] == 3 and math.isnan(row["prompts"])

    call = {"policy": "default:0.1", "layer": 0, "head": 0, "step": 1, "density": 0.1}
    calls = [{**call, "error": 0.2 if i < 2 else 0.05} for i in range(10)]
    assert "missed" in check_errors(table_of("heads", calls), 0.1).verdict
    calls += [{**call, "policy": "window:0.1", "error": 1.0}]  # it promises nothing
    assert check_errors(table_of("heads", calls), 0.2).verdict == "met"
    assert check_errors(table_of("heads", calls + [{**call, "policy": "exact", "error": 1.0}]),
                        0.2).verdict == "met"
    assert check_errors(table_of("heads", [{**call, "error": ""}]), 0.1).verdict == "not made"

    fast = [{"tokens": tokens, "policy": policy, "tokens_per_second": rate, "threads": 0}
            for tokens in (2048, 4096, 8192)
            for policy, rate in (("dense", 10), ("default:0.1", 12))]
    assert check_speed(table_of("speed", fast)).seen == "default 0.1 1.20x, 1.20x, 1.20x"
    assert check_speed(table_of("speed", fast[:4])).verdict == "not made"
    more = [{**row, "threads": 2, "tokens_per_second": 2 * row["tokens_per_second"]}
            if row["policy"] == "dense" else {**row, "threads": 2} for row in fast]
    assert check_speed(table_of("speed", fast + more)).seen == (
        "default 0.1 1.20x, 1.20x, 1.20x; 2 threads: default 0.1 0.60x, 0.60x, 0.60x")


def test_stretches():
    rows = [loss_row(first=0, last=100, loss=2.2, difference_error=0.03, agreement_exact=0.9),
            loss_row(first=100, last=400, loss=2.0, difference_error=0.02, agreement_exact=1.0),
            loss_row(first=100, last=400, policy="topk:same", epsilon="")]
    table = table_of("losses", rows)
    row = table.rows()[0]
    assert len(table) == 2 and row["steps"] == 400 and row["where"] == "0 to 400"
    assert math.isclose(row["loss"], 2.05) and math.isclose(row["agreement_exact"], 0.975)
    assert math.isclose(row["difference_error"], math.hypot(100 * 0.03, 300 * 0.02) / 400)
    assert table["label"][1] == "top-k, equal rows" and math.isnan(row["divergence"])
    gap = [rows[0], {**rows[1], "first": 200}]
    assert table_of("losses", gap)["where"][0] == "0 to 100; 200 to 400"
    refused(lambda: table_of("losses", [rows[0], {**rows[1], "first": 99}]),
            "prose, default 0.05", "99 to 400 overlaps", "up to 100")
    refused(lambda: table_of("losses", [loss_row(first=2)]), "want first < last")
    # Each run writes dense and exact; two runs over a stretch are no contradiction if they agree.
    exact = loss_row(policy="exact", epsilon="")
    assert table_of("losses", [exact, exact])["steps"][0] == 1
    refused(lambda: table_of("losses", [exact, {**exact, "loss": 2.1}]), "exact", "overlaps")
    refused(lambda: table_of("losses", [loss_row(), loss_row()]), "overlaps")


def test_heads():
    assert math.isclose(binomial_tail(2, 3, 0.1), 3 * 0.01 * 0.9 + 0.001)
    assert binomial_tail(0, 3, 0.1) == 1.0 and math.isclose(binomial_tail(3, 3, 0.5), 0.125)
    call = {"policy": "default:0.1", "layer": 0, "step": 1, "density": ""}
    calls = [{**call, "head": head, "error": 0.2 if i < bad else 0.05}
             for head, bad in ((0, 100), (2, 12), (1, 30)) for i in range(100)]
    rows = audited(table_of("heads", calls))
    found = by_head(rows, 0.1)
    assert found["head"].tolist() == [0, 1, 2] and found["share"].tolist() == [1, 0.3, 0.12]
    assert broken(found).tolist() == [True, True, False]
    least = least_seen(100, 3, 0.1)
    assert least_seen(3, 3, 0.1) is None
    assert 0.12 < least < 0.3 and binomial_tail(round(100 * least), 100, 0.1) < FALSE_ALARM / 3


def test_findings():
    row = {"policy": "default:0.05", "layer": 1, "head": 2, "what": "recall_failing", "seen": 0.2,
           "threshold": 0.1, "advice": "more bits"}
    rows = [row, {**row, "seen": 0.3}, {**row, "head": 0, "seen": 0.9},
            *[{**row, "layer": layer} for layer in range(5, 30)],
            {**row, "what": "low_sparsity", "policy": "default:0.2", "advice": ""}]
    lines = section_findings(table_of("findings", rows), {"default 0.05": 8})
    assert "| default 0.05 | 1 | 2 | 2 of 8 runs | 0.2 to 0.3 | 0.1 |" in lines
    assert lines.index("And 17 more heads.") > lines.index(
        "| default 0.05 | 1 | 0 | 1 of 8 runs | 0.9 | 0.1 |")
    assert sum("more bits" in line for line in lines) == 1
    assert "| default 0.2 | 1 | 2 | 1 runs | 0.2 | 0.1 |" in lines


def test_inputs():
    with tempfile.TemporaryDirectory() as folder:
        refused(lambda: make([folder], folder), "none of the tables")
        refused(lambda: make([os.path.join(folder, "x")], folder), "no such folder")
        row = loss_row()
        del row["density"]
        write(folder, "losses", [row])
        refused(lambda: make([folder], folder), "losses.csv:2", "no column density")
        write(folder, "losses", [loss_row(loss="much")])
        refused(lambda: make([folder], folder), "losses.csv:2", "much")
        write(folder, "losses", [loss_row()])
        with open(os.path.join(folder, "losses.csv"), "a", encoding="utf-8") as file:
            file.write("prose,default\n")
        refused(lambda: make([folder], folder), "losses.csv:3", "want 9 columns, got 2")
        write(folder, "losses", [loss_row()])
        with open(os.path.join(folder, "losses.jsonl"), "w", encoding="utf-8") as file:
            file.write(json.dumps(loss_row()) + "\n")
        refused(lambda: make([folder], folder), "want one of them")
        os.remove(os.path.join(folder, "losses.csv"))
        path, checks = make([folder], folder)  # one table of JSON lines is enough
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert "Not there, and so not in this report: heads, ruler" in text
        assert [check.verdict for check in checks] == ["met", "not made", "met", *["not made"] * 4]
        with open(os.path.join(folder, "settings.json"), "w", encoding="utf-8") as file:
            file.write('{"delta": 2}')
        refused(lambda: make([folder], folder), "delta")


def test_folders():
    with tempfile.TemporaryDirectory() as folder:
        folders = [os.path.join(folder, name) for name in "abc"]
        for path, first in zip(folders, (0, 100, 200)):
            os.mkdir(path)
            write(path, "losses", [loss_row(first=first, last=first + 100)])
        refused(lambda: make([*folders, folders[0] + "/"], folder), "asked for twice")
        empty = os.path.join(folder, "nothing")
        os.mkdir(empty)
        refused(lambda: make([empty], folder), "none of the tables")
        for path, settings in zip(folders[1:], ({"delta": 0.2, "model": "m"}, {"delta": 0.2})):
            with open(os.path.join(path, "settings.json"), "w", encoding="utf-8") as file:
                json.dump(settings, file)
        path, _ = make([*folders, empty], folder)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert "Folders without a table, such as a run that did not end leaves: nothing." in text
        assert "| 0 to 300 | 300 |" in text
        assert "| delta | 0.2 |" in text and "| model | m |" in text
        assert "(stretches.png)" in text and "| folders of tables | 3 |" in text
        for key, other in (("delta", 0.1), ("model", "n")):
            with open(os.path.join(folders[2], "settings.json"), "w", encoding="utf-8") as file:
                json.dump({"delta": 0.2, "model": "m", key: other}, file)
            refused(lambda: make(folders, folder), "c/settings.json", key, "b/settings.json")


def test_report():
    with tempfile.TemporaryDirectory() as folder:
        made_up(folder)
        path, checks = make([folder], folder)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        assert text.index("## Checks") < text.index("## Settings") < text.index("## Next")
        for name in ("losses", "stretches", "ruler", "density_map", "density_steps", "errors",
                     "speed"):
            assert f"({name}.png)" in text
            assert os.path.getsize(os.path.join(folder, f"{name}.png")) > 10_000
        assert "Not there" not in text and "invented.gguf" in text
        assert [check.verdict for check in checks[:2]] == ["met", "met"]
        assert "niah_multivalue at 8,192 (9)" in text and "attend densely" in text
        assert "Noise floor" in text and "window, equal rows in 16 of 16" in text
        assert all(check.gap is not None for check in checks)
        assert checks[-1].verdict == "shown"


def self_test():
    assert epsilon_in("default:0.05") == 0.05 and epsilon_in("topk:0.1") is None
    assert epsilon_in("default:epsilon=0.2:delta=0.05") == 0.2 and epsilon_in("dense") is None
    assert label_of("default", 0.05) == "default 0.05" == label_of("default:0.05", 0.05)
    assert number_of("") != number_of("")
    assert label_of("topk:same", math.nan) == "top-k, equal rows" and epsilon_in("exact") is None
    assert label_of("window:0.2", math.nan) == "window 20 %"
    assert label_of("exact", math.nan) == "exact"
    for test in (test_checks, test_stretches, test_heads, test_findings, test_inputs, test_folders,
                 test_report):
        test()
    print("report.py: self-test passed")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=__doc__.partition("\n\n")[2])
    parser.add_argument("tables", nargs="*", metavar="TABLES", help="folders of tables")
    parser.add_argument("--out", metavar="FOLDER",
                        help="where the report goes (the first of TABLES)")
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
        path, checks = make(asked.tables, asked.out or asked.tables[0])
    except (Bad, OSError) as error:
        sys.exit(f"report.py: {error}")
    for check in checks:
        print(f"{check.what}: {check.verdict.replace('*', '')} ({check.seen})")
    print(f"Report: {path}")
    if asked.strict and not all(check.good for check in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
