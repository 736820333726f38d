#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns HashAttention weights as their authors publish them into a safetensors file as README.md describes.

usage: convert.py INPUT OUTPUT --kv-heads K [--activation silu]

INPUT is either of the two layouts of xAlg-ai/HashAttention-1.0 and xAlg-ai/sparse-attention-hub:
  a checkpoint, torch.save of a dictionary whose keys are
      LAYER.learning_to_hash_transformation_{q|k}.HEAD.{0|2|4|...}.{weight|bias}           weights [out, in]
  a pickle of {LAYER: {query_matrix, query_bias, key_matrix, key_bias}}, each a list of one tensor a layer of the
      networks: matrices [heads, in, out], biases [heads, out]
Neither says how many KV heads the model has, nor the activation, which is SiLU in all that were published.

No code of a file is run: a checkpoint is read by torch.load(weights_only=True), a pickle by an unpickler that knows
tensors and nothing else; whatever else a file asks for, it is refused.
"""
import argparse
import collections
import io
import pickle
import re
import sys
import zipfile
from pathlib import Path

import torch

import weights_file

KEY = re.compile(r"(\d+)\.learning_to_hash_transformation_([qk])\.(\d+)\.(\d+)\.(weight|bias)")
PARTS = {"q": "query", "k": "key"}


class Refused(Exception):
    """Says in one line what is wrong with a file."""


def storage_of(data):
    """The storage that a tensor in a pickle of its own is rebuilt from."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


class TensorUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, text and tensors."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): storage_of,
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise Refused(f"it asks for {module}.{name}, which is no tensor")
        return self.KNOWN[module, name]


def load(path):
    """The object of a file: a zip archive is a checkpoint; anything else is taken for a pickle first."""
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                if file.read(7) == b"version":
                    raise Refused("a pointer of Git LFS, not the file itself: git lfs pull fetches it")
                file.seek(0)
                content = TensorUnpickler(file).load()
            if isinstance(content, dict):
                return content
        return torch.load(path, map_location="cpu", weights_only=True)  # also the checkpoints before zip archives
    except (pickle.UnpicklingError, EOFError, AttributeError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise Refused(f"neither a checkpoint nor a pickle of tensors ({str(error).splitlines()[0]})") from None


def from_checkpoint(content):
    """{(layer, head, part): {place: {"weight": tensor, "bias": tensor}}}, the layers of the networks in their order."""
    found = collections.defaultdict(lambda: collections.defaultdict(dict))
    for key, tensor in content.items():
        at = KEY.fullmatch(str(key))
        if at is None:
            if re.fullmatch(r"\d+\.learning_to_hash_transformation\..*", str(key)):
                raise Refused(f"'{key}': hashes of no layer, with a lifted coordinate, are no networks")
            raise Refused(f"'{key}' is no name of a network's tensor")
        layer, part, head, place, kind = at.groups()
        found[int(layer), int(head), part][int(place)][kind] = tensor
    networks = {}
    for (layer, head, part), places in sorted(found.items()):
        if sorted(places) != list(range(0, 2 * len(places), 2)):
            raise Refused(f"layer {layer}, head {head}, {part}: linear layers at {sorted(places)}, not at 0, 2, 4, ...")
        layers = []
        for place in sorted(places):
            if "weight" not in places[place]:
                raise Refused(f"layer {layer}, head {head}, {part}: no weight at {place}")
            layers.append((places[place]["weight"], places[place].get("bias")))
        networks[f"layers.{layer}.heads.{head}.{part}"] = layers
    return networks, 1 + max(head for _, head, _ in found)


def from_pickle(content):
    networks, heads = {}, None
    for layer, parts in sorted(content.items()):
        for short, name in PARTS.items():
            try:
                matrices, biases = parts[f"{name}_matrix"], parts[f"{name}_bias"]
            except (TypeError, KeyError):
                raise Refused(f"layer {layer}: no {name}_matrix or {name}_bias") from None
            if len(matrices) == 0 or len(matrices) != len(biases):
                raise Refused(f"layer {layer}: {len(matrices)} of {name}_matrix, {len(biases)} of {name}_bias")
            for matrix, bias in zip(matrices, biases):
                heads = heads or matrix.shape[0]
                if matrix.dim() != 3 or bias.dim() != 2 or matrix.shape[0] != heads or bias.shape[0] != heads:
                    raise Refused(f"layer {layer}: {name}_matrix {list(matrix.shape)}, {name}_bias {list(bias.shape)}")
            for head in range(heads):
                networks[f"layers.{layer}.heads.{head}.{short}"] = [
                    (matrix[head].t(), bias[head]) for matrix, bias in zip(matrices, biases)
                ]
    return networks, heads


def convert(source, target, kv_heads, activation):
    """Returns a line about what was converted."""
    content = load(source)
    if not isinstance(content, dict) or not content:
        raise Refused("no dictionary of weights")
    of_layers = all(isinstance(key, int) for key in content)
    networks, heads = from_pickle(content) if of_layers else from_checkpoint(content)
    for name in [n for n in networks if n.endswith(".q")]:
        if f"{name[:-1]}k" not in networks:
            raise Refused(f"{name[:-1]}k is missing")
    try:
        weights_file.write(target, networks, activation, heads, kv_heads, {"source": Path(source).name})
    except ValueError as error:
        raise Refused(str(error)) from None
    layers = {name.split(".")[1] for name in networks}
    some = next(iter(networks.values()))
    widths = " -> ".join(str(w) for w in [some[0][0].shape[1]] + [weight.shape[0] for weight, _ in some])
    return f"{target}: {len(layers)} layers of {heads} query heads, {widths}"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("input", type=Path)
    p.add_argument("output", type=Path)
    p.add_argument("--kv-heads", type=int, required=True, help="KV heads of a layer of the model, e.g. 8 of Llama-3.1-8B")
    p.add_argument("--activation", default="silu", choices=weights_file.ACTIVATIONS)
    s = p.parse_args()
    if s.kv_heads < 1:
        p.error("want a KV head at least")
    try:
        print(convert(s.input, s.output, s.kv_heads, s.activation))
    except (Refused, OSError) as error:
        sys.exit(f"convert.py: {s.input}: {error}")


if __name__ == "__main__":
    main()
