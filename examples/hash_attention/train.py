#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fits HashAttention networks (arXiv 2412.14468) to the KV heads of a capture and says what they find.

usage: train.py CAPTURE OUTPUT [options]      train.py --help lists them

CAPTURE is a safetensors file as ../data/README.md describes; OUTPUT is one as README.md here does. For each query
head a network of queries is fitted, and a network of keys for it (--keys own, as in the paper) or for all query heads
of the KV head (--keys shared): tanh of their outputs stands for signs, the score of a key is the product of the two
vectors, and a weighted cross-entropy asks it to be positive for the keys of largest q.k outside sinks and window.
What a query should find is known for any vector, so the queries of the training positions are joined by others about
them: q + r (q' - q''), r uniform in [0, 1), q' and q'' queries of one head of the group.

The last positions of the capture are kept out of all of this, and judged at the end: the share of the true top-k
that is among as many picks, by these networks and by signs of random directions of as many bits.
"""
import argparse
import math
import re
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open

import weights_file

ACTIVATE = {"none": lambda x: x, "relu": F.relu, "silu": F.silu, "gelu": F.gelu, "tanh": torch.tanh}
HIDDEN = -1e30  # the score of a row that is no candidate


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("capture", type=Path, help="safetensors file of KV heads")
    p.add_argument("output", type=Path, help="safetensors file to write")
    p.add_argument("--only", default="", help="KV heads, e.g. layer09.kv1,layer18.kv2 (default: all)")
    p.add_argument("--kv-heads", type=int, help="KV heads of the model's layers (default: as far as the capture's go)")
    p.add_argument("--keys", default="shared", choices=("shared", "own"), help="networks of keys: of KV or query heads")
    p.add_argument("--bits", type=int, default=64, choices=range(32, 257, 32), metavar="32..256", help="of a signature")
    p.add_argument("--layers", type=int, default=3, help="of a network")
    p.add_argument("--hidden", type=int, default=128, help="width of the layers between")
    p.add_argument("--activation", default="silu", choices=weights_file.ACTIVATIONS)
    p.add_argument("--held-out", type=int, default=16, help="last positions, which are judged and not trained on")
    p.add_argument("--validation", type=int, default=8, help="positions before those, which say when to stop")
    p.add_argument("--top-k", type=float, default=0.02, help="share of the rows that count as the best")
    p.add_argument("--sinks", type=int, default=32, help="first rows, which are read anyway")
    p.add_argument("--window", type=int, default=64, help="last rows, which are read anyway")
    p.add_argument("--weight", type=float, default=20.0, help="of a best key in the loss; any other has 1")
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--rate", type=float, default=2e-3, help="learning rate of Adam at its start")
    p.add_argument("--step-queries", type=int, default=64, help="queries of a step and head")
    p.add_argument("--step-keys", type=int, default=2048, help="keys of a step, drawn anew")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1, help="of PyTorch; steps are small, and on a busy machine more are slower")
    s = p.parse_args()
    if s.layers < 1 or s.hidden < 1 or s.hidden > 1024:
        p.error("want one layer or more, and 1 to 1024 hidden units")
    if s.held_out < 1 or s.validation < 1:
        p.error("want a position to judge by and one to stop by at least")
    return s


def read(path):
    """{name: (q [g, P, d], k [n, d])} of all KV heads, and the metadata."""
    heads = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():
            name = key.rsplit(".", 1)[0]
            if key.endswith(".q") and re.fullmatch(r"layer\d+\.kv\d+", name):
                heads[name] = (file.get_tensor(key).float(), file.get_tensor(name + ".k").float())
    if not heads:
        sys.exit(f"train.py: {path}: holds no KV head (tensors layerLL.kvK.q and .k)")
    return dict(sorted(heads.items()))


class Network:
    """Networks of the same shape for some heads at once: x [heads, m, in] -> [heads, m, bits]."""

    def __init__(self, heads, widths, activation, generator):
        self.activate = ACTIVATE[activation]
        self.layers = []
        for width, out in zip(widths[:-1], widths[1:]):
            bound = 1.0 / math.sqrt(width)
            shapes = (heads, out, width), (heads, 1, out)
            self.layers.append([(bound * (2.0 * torch.rand(s, generator=generator) - 1.0)).requires_grad_() for s in shapes])

    def parameters(self):
        return [p for layer in self.layers for p in layer]

    def __call__(self, x):
        for i, (weight, bias) in enumerate(self.layers):
            x = torch.baddbmm(bias, x, weight.transpose(1, 2))
            if i + 1 < len(self.layers):
                x = self.activate(x)
        return x

    def of_head(self, head, mean, deviation):
        """The layers of one head for vectors as they are, where it was fitted to (x - mean) / deviation."""
        layers = [(weight[head].detach().clone(), bias[head, 0].detach().clone()) for weight, bias in self.layers]
        weight, bias = layers[0]
        weight = weight / deviation
        layers[0] = weight, bias - weight @ mean
        return layers


def signs(x):
    return torch.where(x > 0.0, 1.0, -1.0)


def found(scores, logits, free, share):
    """Share of the k keys of largest logit among the k of largest score, ties by row; mean over the last axis but one."""
    k = max(1, int(share * logits.shape[-1]))
    by_row = scores - torch.arange(scores.shape[-1]) * 1e-6
    picked = torch.zeros_like(logits).scatter(-1, by_row.masked_fill(~free, HIDDEN).topk(k, -1).indices, 1.0)
    return picked.gather(-1, logits.masked_fill(~free, HIDDEN).topk(k, -1).indices).mean((-1, -2))


def random_signs(q, k, bits, centre, seeds=3):
    """Scores by signs of random orthonormal directions, one set of scores a seed; of keys less `centre`."""
    dim = q.shape[-1]
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        groups = [torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0] for _ in range(-(-bits // dim))]
        directions = torch.cat(groups)[:bits].T
        yield signs(q @ directions) @ signs((k - centre) @ directions).T


class Capture:
    """One KV head: queries, keys, exact logits, and which rows are candidates at each position."""

    def __init__(self, q, k, s):
        self.q, self.k = q, k
        self.heads, self.positions, self.dim = q.shape
        rows, row = k.shape[0], torch.arange(k.shape[0])
        sees = rows - self.positions + 1 + torch.arange(self.positions)[:, None]
        self.free = (row >= s.sinks) & (row < sees - s.window)  # [P, n]
        self.seen_by_all = rows - self.positions + 1
        self.logits = q @ k.T
        self.trained = self.positions - s.held_out - s.validation
        self.validated = slice(self.trained, self.positions - s.held_out)
        self.held_out = slice(self.positions - s.held_out, self.positions)

    def recall(self, scores, positions, share):
        return found(scores[:, positions], self.logits[:, positions], self.free[positions], share)


def fit(head, s, report):
    """(network of queries, of keys, mean and deviation of both) with the best recall of the validation positions."""
    generator = torch.Generator().manual_seed(s.seed)
    queries, keys = head.q[:, : head.trained], head.k[: head.seen_by_all]
    scale_of = lambda x: (x.mean(0), x.std(0) + 1e-6)  # noqa: E731
    q_mean, q_deviation = scale_of(queries.reshape(-1, head.dim))
    k_mean, k_deviation = scale_of(keys)
    widths = [head.dim] + [s.hidden] * (s.layers - 1) + [s.bits]
    key_heads = head.heads if s.keys == "own" else 1
    of_queries = Network(head.heads, widths, s.activation, generator)
    of_keys = Network(key_heads, widths, s.activation, generator)
    parameters = of_queries.parameters() + of_keys.parameters()
    optimizer = torch.optim.Adam(parameters, lr=s.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.steps)
    candidates = head.free[0].nonzero()[:, 0]
    own = torch.arange(head.heads)[:, None]
    hash_q = lambda x: of_queries((x - q_mean) / q_deviation)  # noqa: E731
    hash_k = lambda x: of_keys(((x - k_mean) / k_deviation).expand(key_heads, -1, -1))  # noqa: E731
    best = -1.0, None
    for step in range(s.steps + 1):
        if step % 50 == 0 or step == s.steps:
            with torch.no_grad():
                scores = signs(hash_q(head.q)) @ signs(hash_k(head.k)).transpose(1, 2)
                recall = head.recall(scores, head.validated, s.top_k).mean().item()
                if recall > best[0]:
                    best = recall, [p.detach().clone() for p in parameters]
            report(step, recall)
        if step == s.steps:
            break
        draw = lambda below: torch.randint(below, (head.heads, s.step_queries), generator=generator)  # noqa: E731
        other, far = draw(head.heads), torch.rand(head.heads, s.step_queries, 1, generator=generator)
        x = queries[own, draw(head.trained)] + far * (
            queries[other, draw(head.trained)] - queries[other, draw(head.trained)]
        )
        some = candidates[torch.randperm(len(candidates), generator=generator)[: s.step_keys]]
        logits = x @ head.k[some].T
        best_keys = logits.topk(max(1, round(s.top_k * len(some))), -1).indices
        target = torch.zeros_like(logits).scatter(-1, best_keys, 1.0)
        scores = torch.tanh(hash_q(x)) @ torch.tanh(hash_k(head.k[some])).transpose(1, 2)
        loss = F.binary_cross_entropy_with_logits(scores, target, weight=1.0 + (s.weight - 1.0) * target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        for parameter, value in zip(parameters, best[1]):
            parameter.copy_(value)
    return of_queries, of_keys, (q_mean, q_deviation), (k_mean, k_deviation)


def apply(layers, activation, x):
    """A network as the file has it."""
    for i, (weight, bias) in enumerate(layers):
        x = F.linear(x, weight, bias)
        if i + 1 < len(layers):
            x = ACTIVATE[activation](x)
    return x


def main():
    s = parse()
    torch.set_num_threads(max(1, s.threads))
    heads = read(s.capture)
    chosen = s.only.split(",") if s.only else list(heads)
    for name in chosen:
        if name not in heads:
            sys.exit(f"train.py: {s.capture}: no KV head {name}; there are {', '.join(heads)}")
    kv_heads = s.kv_heads or 1 + max(int(name.split(".kv")[1]) for name in heads)
    networks, table, group = {}, [], 1
    start = time.monotonic()
    for number, name in enumerate(chosen):
        layer, kv = (int(x) for x in re.findall(r"\d+", name))
        head = Capture(*heads[name], s)
        group = head.heads
        if kv >= kv_heads or head.trained < 1:
            sys.exit(f"train.py: {name}: want a KV head below {kv_heads} and a position to train on")

        def report(step, recall, name=name, number=number):
            spent = time.monotonic() - start
            done = number + step / s.steps
            left = f", {spent / done * len(chosen) - spent:.0f} s left" if done > 0.1 else ""
            line = f"{name} ({number + 1} of {len(chosen)}): step {step} of {s.steps}, validation {100 * recall:.1f} %{left}"
            if sys.stderr.isatty():
                print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            elif step in (0, s.steps):
                print(line, file=sys.stderr, flush=True)

        of_queries, of_keys, q_scale, k_scale = fit(head, s, report)
        scores = []
        for h in range(head.heads):
            name_of = f"layers.{layer}.heads.{kv * head.heads + h}"
            name_of_keys = f"{name_of}.k" if s.keys == "own" else f"layers.{layer}.kv_heads.{kv}.k"
            networks[f"{name_of}.q"] = of_queries.of_head(h, *q_scale)
            networks[name_of_keys] = of_keys.of_head(h if s.keys == "own" else 0, *k_scale)
            hashed = [signs(apply(networks[n], s.activation, x)) for n, x in ((f"{name_of}.q", head.q[h]), (name_of_keys, head.k))]
            scores.append(hashed[0] @ hashed[1].T)
        with torch.no_grad():
            judge = lambda all_scores: head.recall(all_scores, head.held_out, s.top_k)  # noqa: E731
            by_signs = [
                torch.stack([judge(r) for r in random_signs(head.q, head.k, s.bits, centre)]).mean(0)
                for centre in (0.0, head.k[:256].mean(0))
            ]
            table.append((name, judge(torch.stack(scores)), *by_signs))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)

    notes = {
        "source": "examples/hash_attention/train.py",
        "capture": s.capture.stem,
        "held_out_positions": str(s.held_out),
    }
    weights_file.write(s.output, networks, s.activation, group * kv_heads, kv_heads, notes)
    print(f"{s.output}: {len(table) * group} query heads, keys {s.keys}, {s.layers} layers, {s.bits} bits, {time.monotonic() - start:.0f} s")
    print(f"Share of the true best {100 * s.top_k:g} % found at the last {s.held_out} positions, which were not trained on:")
    print("query head      | trained | random signs | random signs of centred keys")
    sums = torch.zeros(3)
    for name, *columns in table:
        for h in range(group):
            print(f"{name}.q{h:<3} | {100 * columns[0][h]:5.1f} % | {100 * columns[1][h]:10.1f} % | {100 * columns[2][h]:10.1f} %")
        sums += torch.stack([c.mean() for c in columns])
    print("mean            | " + " | ".join(f"{x:{w}.1f} %" for x, w in zip(100 * sums / len(table), (5, 10, 10))))


if __name__ == "__main__":
    main()
