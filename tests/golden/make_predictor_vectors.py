#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/predictor_vectors.hpp: what the authors' own predictors score and select.

    python3 tests/golden/make_predictor_vectors.py --sah PATH --sky PATH > tests/golden/predictor_vectors.hpp

PATHs are checkouts of the authors' two public repositories, whose files are checked before they are run:
    --sah  https://github.com/xAlg-ai/sparse-attention-hub
           at commit 1a048c9314b6b2cb7e8a7553f744c478b8abfef0
    --sky  https://github.com/skylight-org/sparse-attention-hub
           at commit f5abf91759c32f8eee66f0be6bd9d90b850b6c8e
Their maskers are run as they are, by PyTorch 2.15.0 on the CPU; which of equal scores torch.topk takes
and where k-means starts may be another in another version, the rest is the same. Needs torch and numpy.
The rest of what those packages import (adapters, ray, tqdm) has no part in a mask and is replaced by
stand-ins.

Queries, keys, values, weights and planes are whole numbers over a power of 2, from a generator of its
own, so they are exact as float, and so are most of the scores. Masks are written a character a row: '1'
is on, '.' is off; a mask contains the rows that were on before (sinks and window). Scores that the
maskers expose are as they come out of them, some to 6 digits.

What is random there is set by hand or recorded: planes and projections are put into the caches that the
maskers keep them in, and the centroids that k-means found (from seed 0 of torch) are written down with
their codes.
"""

import argparse
import hashlib
import importlib
import json
import os
import sys
import tempfile
import textwrap
import types

import numpy as np
import torch

ROOT = "sparse_attention_hub/sparse_attention/"
MASKERS = ROOT + "research_attention/maskers/"
FIXED = MASKERS + "fixed/implementations/"
# First half of the SHA-256 of each file that has a part in a mask.
SAH_FILES = {
    ROOT + "utils/mask.py": "1d57310efa00230617482539ec5e614d",
    ROOT + "utils/kv_utils.py": "b4db039067d3a915b0f28a9fab6ead86",
    ROOT + "utils/mask_attention_utils.py": "694358899175af34a20bd6a06d7653a9",
    MASKERS + "base.py": "0a8fd33f0509264c2ffdde40c049e4d6",
    MASKERS + "fixed/base.py": "06a13b0b9279201f921dc9a6432fe3de",
    MASKERS + "sampling/base.py": "f223a942f1aa6da014c7749b7ef3623b",
    FIXED + "oracle_top_k.py": "c7b1592b5d7e618fb57b5ce6bee9882a",
    FIXED + "oracle_top_p.py": "6aa7c7b478191333903fe7d7136aad0f",
    FIXED + "quest_top_k.py": "7f864dff0dea213c3e49947664a02d9d",
    FIXED + "double_sparsity_top_k.py": "5d6099e53718d6668608cfaac4f7e702",
    FIXED + "hashattention_top_k.py": "d2e0c08aca8adb37682a9a6cf524b3d7",
    FIXED + "utils/common_utils.py": "707c48a81bf6d5d72dd2487028d4d54d",
    FIXED + "utils/quest_utils.py": "ab444e2ee8ff6434de3a2ecd94b0e3db",
    FIXED + "utils/double_sparsity_utils.py": "f541b6cc32003ad4f3f272e49bb324ab",
    MASKERS + "sampling/implementations/magic_pig.py": "750d752dfbca812f1df6c1652d20acc3",
}
SKY_FILES = {
    ROOT + "utils/mask.py": "f46d26cbca5a5b2576bdb21ab2df36f2",
    ROOT + "utils/kv_utils.py": "b4db039067d3a915b0f28a9fab6ead86",
    MASKERS + "base.py": "892ba108a9c876b943115a2759547c79",
    MASKERS + "fixed/base.py": "80848ccff872526694793d1b37860088",
    FIXED + "pq_top_k.py": "a2e0674cd518c2a3f07600a1ec461f9d",
    FIXED + "socket_top_k.py": "b4a40b6ebc0e969296cee1759694d80f",
    FIXED + "utils/pq_utils.py": "4b52110ba0d13b249b202fae514346c9",
    FIXED + "utils/socket_utils.py": "36608bd8ea1e3a3808da2894cb77d866",
}

D_V = 4
UNIT = 8


class Stream:
    """Numerical Recipes' 64-bit congruential generator, upper bits."""

    def __init__(self, seed):
        self.state = seed * 2862933555777941757 + 3037000493

    def below(self, bound):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) * bound >> 31

    def around(self, spread, shape):
        """Sums of two draws, from -2 spread to 2 spread."""
        count = int(np.prod(shape))
        x = [self.below(2 * spread + 1) + self.below(2 * spread + 1) - 2 * spread
             for _ in range(count)]
        return np.array(x, dtype=np.int64).reshape(shape)


# --- the authors' code -----------------------------------------------------------------------------

def check_files(root, files, option):
    for name, want in files.items():
        with open(os.path.join(root, name), "rb") as file:
            got = hashlib.sha256(file.read()).hexdigest()[:32]
        if got != want:
            sys.exit(f"{option}: {name} is not the file of the commit named above: {got}, want {want}")


def open_package(root):
    """Makes the repository's modules importable without the __init__ files, which import all of it."""
    for name in [m for m in sys.modules if m.split(".")[0] == "sparse_attention_hub"]:
        del sys.modules[name]
    maskers = "sparse_attention_hub.sparse_attention.research_attention.maskers"
    names = ["sparse_attention_hub", "sparse_attention_hub.sparse_attention",
             "sparse_attention_hub.sparse_attention.utils",
             "sparse_attention_hub.sparse_attention.research_attention", maskers,
             *[maskers + "." + x for x in (
                 "fixed", "fixed.implementations", "fixed.implementations.utils", "sampling",
                 "sampling.implementations")]]
    for name in names:
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(root, *name.split("."))]
        sys.modules[name] = package
    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
    tune.grid_search = lambda values: values
    ray.tune = tune
    tqdm = types.ModuleType("tqdm")
    tqdm.tqdm = None
    sys.modules.update({"ray": ray, "ray.tune": tune, "tqdm": tqdm})
    return lambda name: importlib.import_module("sparse_attention_hub.sparse_attention." + name)


class Authors:
    def __init__(self, sah, sky):
        check_files(sah, SAH_FILES, "--sah")
        check_files(sky, SKY_FILES, "--sky")
        part = open_package(sah)
        self.sah_mask = part("utils.mask").Mask
        self.attention = part("utils.mask_attention_utils")
        maskers = "research_attention.maskers."
        fixed = maskers + "fixed.implementations."
        self.oracle = part(fixed + "oracle_top_k")
        self.top_p = part(fixed + "oracle_top_p")
        self.quest = part(fixed + "quest_top_k")
        self.sparsity = part(fixed + "double_sparsity_top_k")
        self.hash = part(fixed + "hashattention_top_k")
        self.pig = part(maskers + "sampling.implementations.magic_pig")
        part = open_package(sky)
        self.sky_mask = part("utils.mask").Mask
        self.pq = part(fixed + "pq_top_k")
        self.socket = part(fixed + "socket_top_k")
        self.socket_utils = part(fixed + "utils.socket_utils")


# --- what they are run on --------------------------------------------------------------------------

class Heads:
    """Integers `keys` [kv x n x d], `queries` [kv group x d], `values` [kv x n x 4], in eighths."""

    def __init__(self, kv, group, sinks, window, keys, queries, values):
        self.kv, self.group, self.sinks, self.window = kv, group, sinks, window
        self.keys, self.queries, self.values = keys, queries, values
        self.n, self.dim = keys.shape[1:]
        self.free = self.n - sinks - window
        self.valued = False

    def tensors(self, rows=None, keys=None):
        keys = self.keys if keys is None else keys
        as_float = lambda x: torch.tensor(x, dtype=torch.float32) / UNIT
        rows = self.n if rows is None else rows
        return dict(keys=as_float(keys[None, :, :rows]), values=as_float(self.values[None, :, :rows]),
                    queries=as_float(self.queries[None, :, None, :]))

    def before(self, mask, fixed=True, rows=None):
        """The mask with sinks and window on, anew for each masker: they write into it."""
        rows = self.n if rows is None else rows
        shape = (1, self.kv * self.group, 1, rows)
        dense = torch.zeros(shape)
        if not fixed:
            return mask.create_empty_mask(shape, dtype=torch.float32, device=torch.device("cpu"))
        dense[..., :self.sinks] = 1.0
        dense[..., rows - self.window:] = 1.0
        return mask.create_mask_from_dense_mask(shape, dense, dtype=torch.float32)

    def add(self, masker, before, meta=None, scaling=1.0, attention_mask=None, rows=None, keys=None,
            layer=0):
        """The dense mask `[heads x n]` after the masker."""
        meta = {} if meta is None else meta
        after = masker.add_mask(**self.tensors(rows, keys), attention_mask=attention_mask,
                                scaling=scaling, dropout=0.0, sparse_meta_data=meta,
                                previous_mask=before, layer_idx=layer)
        return after, after.get_dense_mask()[0, :, 0].numpy()

    def first_kv(self):
        return Heads(1, self.group, self.sinks, self.window, self.keys[:1], self.queries[:self.group],
                     self.values[:1])

    def record(self):
        return dict(kv_heads=self.kv, group=self.group, rows=self.n, dim=self.dim, sinks=self.sinks,
                    window=self.window, keys=self.keys.ravel(), queries=self.queries.ravel(),
                    values=self.values.ravel() if self.valued else [])


def random_heads(seed, kv, group, n, dim, sinks, window):
    """Keys whose mean over the rows is whole, and not 0, in every coordinate."""
    draw = Stream(seed)
    keys = draw.around(6, (kv, n, dim))
    mean = draw.around(1, (kv, dim))
    for h in range(kv):
        for j in range(dim):
            off = int(keys[h, :, j].sum() - n * mean[h, j])
            rows = [i * 7 % n for i in range(n)]
            for i in range(abs(off)):
                keys[h, rows[i % n], j] -= 1 if off > 0 else -1
    return Heads(kv, group, sinks, window, keys, draw.around(7, (kv * group, dim)),
                 draw.around(9, (kv, n, D_V)))


def labelled_heads(seed, n, sinks, window, sets):
    """Keys that 4-bit labels hold exactly in each set of channels, with the least and the largest label in
    each; and queries that 4 bits as well as 8 bits hold exactly there: -113, -97, ... 127, both ends in
    each set."""
    draw = Stream(seed)
    dim = sum(len(s) for s in sets)
    keys, queries = np.zeros((1, n, dim), np.int64), np.zeros((2, dim), np.int64)

    def labels(count):
        x = [draw.below(16) for _ in range(count)]
        low = draw.below(count)
        x[low], x[(low + 1 + draw.below(count - 1)) % count] = 0, 15
        return np.array(x)

    for channels in sets:
        for i in range(n):
            keys[0, i, channels] = labels(len(channels)) - 4 - draw.below(8)
        for h in range(2):
            queries[h, channels] = 16 * labels(len(channels)) - 113
    return Heads(1, 2, sinks, window, keys, queries, draw.around(9, (1, n, D_V)))


HASH_SEED, PIG_SEED = 169, 31
SETS = [[0, 5, 10, 15], [1, 4, 11, 14], [2, 7, 8, 13], [3, 6, 9, 12]]
HEADS = [
    random_heads(1, kv=1, group=2, n=96, dim=16, sinks=4, window=8),
    random_heads(4, kv=2, group=2, n=41, dim=8, sinks=2, window=3),
    random_heads(6, kv=1, group=3, n=50, dim=12, sinks=3, window=5),
    labelled_heads(1, n=48, sinks=2, window=6, sets=SETS),
    # 24 keys of one coordinate, 4 kinds of them: ties
    Heads(1, 1, 0, 0, np.array([[[x] for x in [8, -8, 8, 0, 4, 8, 0, 0, 4, 8, 4, 0] * 2]]),
          np.array([[8]]), np.ones((1, 24, D_V), np.int64)),
]


def marks(dense):
    return ["".join("1" if x != 0 else "." for x in row) for row in dense]


def digits(x, count):
    return [float(f"{y:.{count}g}") for y in np.asarray(x).ravel()]


def decided(h, scores, k, fixed=True, gap=0.0):
    """True if no tie, nor a difference up to `gap` of a score, decides which k free rows are best."""
    for row in np.asarray(scores).reshape(h.kv * h.group, -1):
        free = sorted(row[h.sinks:h.n - h.window] if fixed else row)[::-1]
        if k < len(free) and not free[k - 1] - free[k] > gap * abs(free[k - 1]):
            return False
    return True


def need(ok, what):
    if not ok:
        sys.exit("make_predictor_vectors.py: " + what)


# --- predictors ------------------------------------------------------------------------------------

def oracle_cases(authors):
    cases = []
    for at, h in enumerate(HEADS[:3]):
        for k, hidden in ((10, 0), (h.free + 3, 0), (10, 6), (h.n - 2, 6)):
            masker = authors.oracle.OracleTopK(authors.oracle.OracleTopKConfig(heavy_size=k))
            bias = None
            if hidden:
                bias = torch.zeros(1, 1, 1, h.n)
                first = h.n - h.window - hidden
                bias[..., first:h.n - h.window] = torch.finfo(torch.float32).min
            t = h.tensors()
            scores = masker._compute_raw_attention_scores(
                t["keys"], t["queries"], None, torch.zeros(1, h.kv * h.group, 1, h.n))[0, :, 0]
            if not hidden:
                need(decided(h, scores, k), f"oracle: a tie at heads {at}")
            _, dense = h.add(masker, h.before(authors.sah_mask), attention_mask=bias)
            whole = scores.numpy() * UNIT**2
            need((whole == np.round(whole)).all(), "oracle: scores are not exact")
            keep = k == 10 and not hidden
            cases.append(dict(heads=at, k=k, hidden=hidden,
                              scores_64=whole.astype(int).ravel() if keep else [],
                              masks=marks(dense)))
    return cases


def tie_cases(authors):
    h, cases = HEADS[4], []
    for k in (1, 4, 9, 14, 20):
        masker = authors.oracle.OracleTopK(authors.oracle.OracleTopKConfig(heavy_size=k))
        _, dense = h.add(masker, h.before(authors.sah_mask, fixed=False))
        cases.append(dict(k=k, masks=marks(dense)))
    return cases


def top_p_cases(authors):
    cases = []
    for at in (0, 1, 2, 4):
        h = HEADS[at]
        for p in (0.0, 0.25, 0.5, 0.9, 0.99):
            masker = authors.top_p.OracleTopPMasker(authors.top_p.OracleTopPMaskerConfig(top_p=p))
            before = h.before(authors.sah_mask, fixed=at != 4)
            _, dense = h.add(masker, before, scaling=0.25)
            cases.append(dict(heads=at, share=p, masks=marks(dense)))
    return cases


def quest_cases(authors):
    cases = []
    for at, page, heavy, fixed, bits in ((0, 8, 24, False, 16), (0, 8, 24, True, 16),
                                         (0, 8, 40, True, 16), (0, 8, 8, False, 16),
                                         (0, 8, 39, False, 16), (1, 2, 24, False, 4),
                                         (1, 4, 16, False, 16), (1, 4, 16, True, 16),
                                         (2, 16, 32, False, 16)):
        h, q = HEADS[at], authors.quest
        masker = q.QuestTopKMasker(q.QuestTopKMaskerConfig(heavy_size=heavy, page_size=page,
                                                           label_bits=bits))
        t = h.tensors()
        pages = (h.n + page - 1) // page
        keys = q.repeat_kv(t["keys"], h.group)
        low, high = q.compute_page_min_max(keys, page, pages)
        if bits < 16:
            low, high = q.pseudo_quantize(low, bits), q.pseudo_quantize(high, bits)
        scores = q.quest_page_scores(t["queries"], low, high)[0, :, 0].numpy()
        for row in scores:
            need(len(set(row)) == len(row), "quest: pages tie")
        _, dense = h.add(masker, h.before(authors.sah_mask, fixed))
        cases.append(dict(heads=at, page=page, k=heavy, bits=bits, fixed=int(fixed),
                          scores=scores.ravel(), masks=marks(dense)))
    return cases


def sparsity_cases(authors):
    """Layer 0 and layer 1 by a masker of its own each, and layer 1 by the one that did layer 0."""
    cases = []
    # of each query head, in the order of the file
    layers = [[SETS[0] + SETS[1] + SETS[2] + SETS[3], SETS[2] + SETS[0] + SETS[1] + SETS[3]],
              [SETS[1] + SETS[0] + SETS[2] + SETS[3], SETS[3] + SETS[0] + SETS[1] + SETS[2]]]
    d = authors.sparsity
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({f"model.layers.{i}.self_attn.qk_proj": x for i, x in enumerate(layers)}, file)
        file.flush()
        for at, bits in ((3, 4), (3, 16), (0, 4), (0, 16)):
            h = HEADS[at]

            def new():
                return d.DoubleSparsityTopKMasker(d.DoubleSparsityTopKMaskerConfig(
                    heavy_size=10, sorted_channel_file=file.name, group_factor=4, label_bits=bits))

            def scored(masker, layer):
                t = h.tensors()
                return masker._compute_grouped_scores(d.repeat_kv(t["keys"], h.group), t["queries"],
                                                      None, layer)[0, :, 0].numpy()

            for layer in (0, 1):
                used = new()
                scored(used, 0)
                scores = scored(new(), layer)
                if at == 3:
                    need(decided(h, scores, 10), f"double sparsity: a tie in layer {layer}")
                    need((scores * 2 * UNIT**2 % 1 == 0).all(), "double sparsity: not exact")
                _, dense = h.add(new(), h.before(authors.sah_mask), layer=layer)
                _, reused = h.add(used, h.before(authors.sah_mask), layer=layer)
                if at != 3 and layer != 0:
                    continue
                cases.append(dict(heads=at, bits=bits, layer=layer, k=10,
                                  channels=np.array([x[:4] for x in layers[layer]]).ravel(),
                                  scores_128=scores.ravel() * 128 if at == 3 and bits == 4 else [],
                                  scores=digits(scores, 6) if at != 3 else [],
                                  masks=marks(dense), masks_after_layer_0=marks(reused)))
    return cases


def pq_cases(authors):
    """A call with fewer rows, which fits the centroids, then one with all; of the first KV head."""
    cases = []
    for at, parts, first, metric, rounds in ((0, 4, 80, "euclidean", 100), (2, 3, 44, "euclidean", 100),
                                             (1, 2, 36, "euclidean", 1), (1, 2, 36, "ip", 100)):
        h, k = HEADS[at], 10
        masker = authors.pq.PQCache(authors.pq.PQCacheConfig(
            heavy_size=k, pq_group_factor=parts, pq_bits=4, kmeans_iter=rounds, init_offset=h.sinks,
            metric=metric))
        torch.manual_seed(0)
        meta = {}
        h.add(masker, h.before(authors.sky_mask, rows=first), meta, rows=first)
        # The rows that were fitted as if they were new.
        again = masker._quantize_new_keys(h.tensors(first)["keys"][:, :, h.sinks:],
                                          meta["pq_centroids"][0], 0, meta)[0, :, 0]
        _, dense = h.add(masker, h.before(authors.sky_mask), meta)
        centroids, codes = meta["pq_centroids"][0], meta["pq_codebook"][0]
        t = h.tensors()
        scores = masker._compute_pq_scores(t["queries"], t["keys"], centroids, codes)[0, :, 0].numpy()
        if rounds == 100 and metric == "euclidean":
            sinks = np.full((h.kv * h.group, h.sinks), -1e9, np.float32)
            need(decided(h, np.concatenate([sinks, scores], axis=1), k, gap=1e-4), "pq: a tie")
        settled = bool((again == codes[0, :first - h.sinks, 0]).all())
        need(settled == (metric == "euclidean" and rounds == 100), "pq: codes that are not the nearest")
        cases.append(dict(heads=at, parts=parts, first=first, rounds=rounds,
                          by_product=int(metric == "ip"), k=k,
                          centroids=centroids[0, 0, ..., :h.dim // parts].numpy().ravel(),
                          codes=codes[0, :, 0].numpy().ravel(),
                          codes_again=[] if settled else again.numpy().ravel(),
                          scores=digits(scores[:h.group], 6) if settled else [],
                          masks=marks(dense)[:h.group]))
    return cases


def socket_cases(authors):
    """Planes of our own; keys as they are, and less their mean."""
    cases, s = [], authors.socket_utils
    for at, tables, planes, tau in ((0, 3, 4, 0.3), (2, 5, 3, 0.125)):
        h, k = HEADS[at], 10
        h.valued = True
        hyper = Stream(20 + at).around(40, (tables, planes, h.dim))
        masker = authors.socket.SocketMasker(authors.socket.SocketMaskerConfig(
            heavy_size=k, K=planes, L=tables, tau=tau))
        normal = torch.tensor(hyper, dtype=torch.float32) / 64
        masker._planes_cache[(h.dim, torch.device("cpu"), torch.float32, tables, planes)] = normal
        case = dict(heads=at, tables=tables, planes=planes, tau=tau, k=k, planes_64=hyper.ravel())
        less_mean = h.keys - h.keys.sum(axis=1, keepdims=True) // h.n
        for name, keys in (("as_is", h.keys), ("centred", less_mean)):
            t = h.tensors(keys=keys)
            corners = s.get_protos_T({}, planes, torch.device("cpu"), torch.float32)
            buckets = s.hard_hash(t["keys"].repeat_interleave(h.group, dim=1), normal)
            chances = s.soft_hash(t["queries"], normal, corners, tau=tau)
            norms = torch.linalg.vector_norm(t["values"], dim=-1).repeat_interleave(h.group, dim=1)
            all_rows = torch.ones(1, h.group, 1, h.n, dtype=torch.bool)
            order, best = s.topk_soft_collision_scores_blockwise(chances, buckets, norms, all_rows, h.n)
            scores = torch.zeros_like(best).scatter_(-1, order, best)[0, :, 0].numpy()
            products = torch.einsum("bhnd,lkd->bhnlk", t["keys"], normal)
            need((products != 0).all(), f"socket: a key on a plane at heads {at}")
            for fixed in (False, True):
                need(decided(h, scores, k, fixed, 2e-3), f"socket: a near tie at heads {at}")
            _, dense = h.add(masker, h.before(authors.sky_mask, fixed=False), keys=keys)
            _, beside = h.add(masker, h.before(authors.sky_mask), keys=keys)
            case.update({"scores_" + name: digits(scores, 6), "masks_" + name: marks(dense),
                         "masks_beside_fixed": marks(beside)})
        cases.append(case)
    return cases


def hash_cases(authors):
    """Two layers with SiLU between them, for each query head, of queries and of keys."""
    at, hidden, bits = 1, 4, 32
    h, draw = HEADS[at], Stream(HASH_SEED)
    heads = h.kv * h.group
    raw = {}
    for kind in ("query", "key"):
        raw[kind] = [draw.around(6, (heads, h.dim, hidden)), draw.around(4, (heads, hidden)),
                     draw.around(6, (heads, hidden, bits)), draw.around(4, (heads, bits))]
    as_float = lambda x: torch.tensor(x, dtype=torch.float32) / UNIT
    weights = {}
    for kind, x in raw.items():
        weights[kind + "_matrix"] = [as_float(x[0]), as_float(x[2])]
        weights[kind + "_bias"] = [as_float(x[1]), as_float(x[3])]

    def new(k):
        return authors.hash.HashAttentionTopKMasker(authors.hash.HashAttentionTopKMaskerConfig(
            heavy_size=k, hat_bits=bits, hat_mlp_layers=2, hat_mlp_hidden_size=hidden,
            hat_mlp_activation="silu", hat_weights={0: weights}))

    t, masker = h.tensors(), new(10)
    for kind, x in (("query", t["queries"]), ("key", authors.hash.repeat_kv(t["keys"], h.group))):
        x = masker._apply_single_layer(x, weights[kind + "_matrix"][0], weights[kind + "_bias"][0])
        x = masker._apply_single_layer(torch.nn.functional.silu(x), weights[kind + "_matrix"][1],
                                       weights[kind + "_bias"][1])
        need((x.abs() > 1e-3).all(), "hash attention: an output near 0")
    scores = masker._compute_hashattention_score(t["queries"], t["keys"], None,
                                                 torch.zeros(1, heads, 1, h.n), {}, 0)[0, :, 0]
    cases = []
    for k in (10, h.free + 3):
        # Signatures of the first rows are kept from a call before.
        masker, meta = new(k), {}
        masker._update_key_signatures(authors.hash.repeat_kv(h.tensors(30)["keys"], h.group), meta, 0)
        _, dense = h.add(masker, h.before(authors.sah_mask), meta)
        first = not cases
        cases.append(dict(
            heads=at, k=k, hidden=hidden, bits=bits, scores=scores.numpy().ravel() if first else [],
            masks=marks(dense),
            **{f"{kind}_{name}": raw[kind][i].ravel() if first else []
               for kind in ("query", "key")
               for i, name in enumerate(("matrix_0", "bias_0", "matrix_1", "bias_1"))}))
    return cases


def pig_cases(authors):
    """Projections of our own, on the first KV head: as the masker is made, without centring, and without
    centring but with keys less their mean."""
    at, tables, planes = 1, 4, 3
    h = HEADS[at].first_kv()
    raw = Stream(PIG_SEED).around(40, (h.dim + 1, tables * planes))
    less_mean = h.keys - h.keys.sum(axis=1, keepdims=True) // h.n
    cases = []
    for kind, center, keys in (("as_is", True, h.keys), ("plain", False, h.keys),
                               ("keys", False, less_mean)):
        masker = authors.pig.MagicPig(authors.pig.MagicPigConfig(lsh_l=tables, lsh_k=planes,
                                                                 center=center))
        meta = {"projections": {0: torch.tensor(raw, dtype=torch.float32) / 64}}
        t = h.tensors(keys=keys)
        k, q = masker._center_KQ(authors.pig.repeat_kv(t["keys"], h.group), t["queries"], meta, 0)
        k, q = masker._transform_for_mips(k, q)
        chances = masker._compute_probabilities(k, q)[0, :, 0].numpy()
        for x in (k, q):
            need(((x @ meta["projections"][0]).abs() > 1e-4).all(), "magic pig: a key near a plane")
        _, dense = h.add(masker, h.before(authors.sah_mask, fixed=False), meta, keys=keys)
        _, beside = h.add(masker, h.before(authors.sah_mask), meta, keys=keys)
        cases.append(dict(heads=at, tables=tables, planes=planes, kind=kind,
                          projections_64=raw.ravel() if not cases else [],
                          chances=digits(chances, 6), stored=digits(dense, 6), masks=marks(dense),
                          masks_beside_fixed=marks(beside)))
    return cases


def denominator_cases(authors):
    """The sum of weights over a mask of certain rows."""
    cases = []
    for at in (0, 2):
        h = HEADS[at]
        h.valued = True
        masker = authors.oracle.OracleTopK(authors.oracle.OracleTopKConfig(heavy_size=10))
        after, dense = h.add(masker, h.before(authors.sah_mask))
        t = h.tensors()
        module = types.SimpleNamespace(training=False, num_key_value_groups=h.group)
        common = dict(module=module, attention_mask=None, scaling=0.25, dropout=0.0,
                      sparse_attention_mask=after)
        sums = authors.attention.get_attention_denominator(
            queries=t["queries"], keys=t["keys"], **common)
        out = authors.attention.get_masked_attention_output(**t, **common)
        out = out[0] if isinstance(out, tuple) else out
        cases.append(dict(heads=at, masks=marks(dense), denominators=sums.numpy().ravel(),
                          outputs=out.numpy().ravel()))
    return cases


# --- the header ------------------------------------------------------------------------------------

INTS, FLOATS, MASKS = "std::vector<int>", "std::vector<double>", "std::vector<std::string>"
HEADER = [
    ("heads", "Keys `[kv_heads x rows x dim]`, queries `[kv_heads group x dim]`, values "
     "`[kv_heads x rows x 4]` where they are used, all in eighths; rows that are on before.",
     [*[("int", x) for x in ("kv_heads", "group", "rows", "dim", "sinks", "window")],
      (INTS, "keys"), (INTS, "queries"), (INTS, "values")]),
    ("oracle", "OracleTopK; of some the products q.k in 64ths. `hidden` rows before the window have an "
     "attention mask.",
     [("int", "heads"), ("int", "k"), ("int", "hidden"), (INTS, "scores_64"), (MASKS, "masks")]),
    ("tie", "OracleTopK with nothing on before, on the heads whose keys tie.",
     [("int", "k"), (MASKS, "masks")]),
    ("top_p", "OracleTopPMasker at scale 1 / 4.",
     [("int", "heads"), ("double", "share"), (MASKS, "masks")]),
    ("quest", "QuestTopKMasker; scores `[heads x pages]`.",
     [("int", "heads"), ("int", "page"), ("int", "k"), ("int", "bits"), ("int", "fixed"),
      (FLOATS, "scores"), (MASKS, "masks")]),
    ("sparsity", "DoubleSparsityTopKMasker; channels `[heads x 4]` of the layer, scores `[heads x rows]`, "
     "exact in 128ths or to 6 digits.",
     [("int", "heads"), ("int", "bits"), ("int", "layer"), ("int", "k"), (INTS, "channels"),
      (INTS, "scores_128"), (FLOATS, "scores"), (MASKS, "masks"), (MASKS, "masks_after_layer_0")]),
    ("pq", "PQCache: fitted to rows [sinks, first), then run on all; centroids `[parts x 16 x width]`, "
     "codes `[rows - sinks x parts]`, again those of rows [sinks, first) as if new where they differ, "
     "else scores `[group x rows - sinks]`; of the first KV head.",
     [("int", "heads"), ("int", "parts"), ("int", "first"), ("int", "rounds"), ("int", "by_product"),
      ("int", "k"), (FLOATS, "centroids"), (INTS, "codes"), (INTS, "codes_again"), (FLOATS, "scores"),
      (MASKS, "masks")]),
    ("socket", "SocketMasker on keys as they are and on keys less their mean, on these also beside fixed "
     "rows; planes `[tables x planes x dim]` in 64ths; scores `[heads x rows]` to 6 digits.",
     [("int", "heads"), ("int", "tables"), ("int", "planes"), ("double", "tau"), ("int", "k"),
      (INTS, "planes_64"),
      (FLOATS, "scores_as_is"), (MASKS, "masks_as_is"), (FLOATS, "scores_centred"),
      (MASKS, "masks_centred"), (MASKS, "masks_beside_fixed")]),
    ("hash", "HashAttentionTopKMasker of two layers with SiLU between them, for each query head: "
     "matrices `[heads x in x out]` and biases `[heads x out]` in eighths; scores `[heads x rows]`.",
     [("int", "heads"), ("int", "k"), ("int", "hidden"), ("int", "bits"),
      *[(INTS, f"{kind}_{name}") for kind in ("query", "key")
        for name in ("matrix_0", "bias_0", "matrix_1", "bias_1")],
      (INTS, "scores"), (MASKS, "masks")]),
    ("pig", "MagicPig on the first KV head, kind as_is (as it is made: keys and queries less the keys' mean), plain "
     "(nothing centred) or keys (keys less their mean); projections `[dim + 1 x tables planes]` in 64ths; "
     "`[heads x rows]` chances of a match and what the mask stores, to 6 digits.",
     [("int", "heads"), ("int", "tables"), ("int", "planes"), ("std::string", "kind"),
      (INTS, "projections_64"), (FLOATS, "chances"), (FLOATS, "stored"), (MASKS, "masks"),
      (MASKS, "masks_beside_fixed")]),
    ("denominator", "Attention over the mask of OracleTopK at scale 1 / 4: denominators `[heads]`, outputs "
     "`[heads x 4]`.",
     [("int", "heads"), (MASKS, "masks"), (FLOATS, "denominators"), (FLOATS, "outputs")]),
]


def literal(kind, x):
    if kind == "int":
        return repr(int(x))
    if kind == "double":
        return repr(float(x))
    if kind == "std::string":
        return '"' + x + '"'
    if kind == MASKS:
        parts = ['"' + y + '"' for y in x]
    elif kind == FLOATS:
        parts = [shortest(y) for y in x]
    else:
        parts = [str(int(y)) for y in x]
    if not parts:
        return "{}"
    lines, line = [], ""
    for part in parts:
        if len(line) + len(part) > 118:
            lines.append(line)
            line = ""
        line += part + ","
    return "{\n" + "\n".join([*lines, line.rstrip(",")]) + "}"


def shortest(x):
    """The shortest decimal number that is this float."""
    text = str(np.float32(x))
    return text[:-2] if text.endswith(".0") else text


def print_header(groups):
    print("// SPDX-License-Identifier: Apache-2.0\n/// @file\n"
          "/// Generated by make_predictor_vectors.py, which says what the numbers are. Do not edit.\n"
          "// clang-format off\n"
          "#pragma once\n\n#include <string>\n#include <vector>\n\nnamespace vattn::test {")
    for name, text, fields in HEADER:
        print("\n" + textwrap.fill(text, 112, initial_indent="/// ", subsequent_indent="/// "))
        print(f"struct golden_{name} {{")
        for kind, field in fields:
            print(f"  {kind} {field};")
        plural = name if name == "heads" else name + "s"
        print(f"}};\ninline std::vector<golden_{name}> golden_{name}_cases() {{\n  return {{")
        for case in groups[name]:
            print("  {")
            for kind, field in fields:
                print(f"  .{field} = {literal(kind, case[field])},")
            print("  },")
        print("  };\n}")
    print("\n}  // namespace vattn::test\n// clang-format on")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sah", required=True, help="checkout of xAlg-ai/sparse-attention-hub")
    parser.add_argument("--sky", required=True, help="checkout of skylight-org/sparse-attention-hub")
    args = parser.parse_args()
    torch.set_num_threads(1)
    authors = Authors(args.sah, args.sky)
    groups = dict(
        oracle=oracle_cases(authors), tie=tie_cases(authors),
        top_p=top_p_cases(authors), quest=quest_cases(authors), sparsity=sparsity_cases(authors),
        pq=pq_cases(authors), socket=socket_cases(authors), hash=hash_cases(authors),
        pig=pig_cases(authors),
        denominator=denominator_cases(authors))
    print_header(dict(heads=[h.record() for h in HEADS], **groups))


if __name__ == "__main__":
    main()
