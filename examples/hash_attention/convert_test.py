#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks convert.py on made-up weights in both layouts. usage: python3 convert_test.py"""
import os
import pickle
import tempfile
import unittest
from pathlib import Path

import torch
from safetensors import safe_open

import convert

LAYERS, HEADS, WIDTHS = (0, 3), 4, (16, 24, 24, 32)


def checkpoint(widths=WIDTHS):
    generator = torch.Generator().manual_seed(1)
    content = {}
    for layer in LAYERS:
        for part in "qk":
            for head in range(HEADS):
                for i, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:])):
                    name = f"{layer}.learning_to_hash_transformation_{part}.{head}.{2 * i}"
                    content[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator)
                    content[f"{name}.bias"] = torch.randn(outputs, generator=generator)
    return content


def as_pickle(content):
    """The other layout, as the authors' conversion makes it: matrices transposed, heads stacked."""
    made = {}
    for layer in LAYERS:
        parts = made[layer] = {}
        for part, name in (("q", "query"), ("k", "key")):
            of = f"{layer}.learning_to_hash_transformation_{part}"
            places = range(0, 2 * (len(WIDTHS) - 1), 2)
            stack = lambda place, kind: torch.stack([content[f"{of}.{h}.{place}.{kind}"] for h in range(HEADS)])  # noqa: E731
            parts[f"{name}_matrix"] = [stack(p, "weight").transpose(1, 2).contiguous() for p in places]
            parts[f"{name}_bias"] = [stack(p, "bias") for p in places]
    return made


class Malicious:
    def __reduce__(self):
        return os.system, ("touch was_run",)


class ConvertTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def write(self, name, save, content):
        path = self.folder / name
        if save == "torch":
            torch.save(content, path)
        elif save == "old":
            torch.save(content, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(pickle.dumps(content))
        return path

    def converted(self, path, **options):
        target = self.folder / "out.safetensors"
        convert.convert(path, target, options.get("kv_heads", 2), options.get("activation", "silu"))
        with safe_open(target, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()

    def refuses(self, path, why, **options):
        with self.assertRaisesRegex(convert.Refused, why):
            self.converted(path, **options)

    def test_both_layouts_give_the_same_file(self):
        content = checkpoint()
        ways = [("torch", content), ("old", content), ("pickle", as_pickle(content)), ("torch", as_pickle(content))]
        for number, (save, what) in enumerate(ways):
            tensors, metadata = self.converted(self.write(f"in{number}", save, what))
            self.assertEqual(len(tensors), 2 * 2 * HEADS * 3 * 2)
            for layer in LAYERS:
                for part in "qk":
                    for head in range(HEADS):
                        for i in range(3):
                            for kind in ("weight", "bias"):
                                source = f"{layer}.learning_to_hash_transformation_{part}.{head}.{2 * i}.{kind}"
                                got = tensors[f"layers.{layer}.heads.{head}.{part}.{i}.{kind}"]
                                self.assertTrue(torch.equal(got, content[source]), source)
            wanted = {"activation": "silu", "bits": "32", "head_dim": "16", "heads": "4", "kv_heads": "2"}
            self.assertEqual({k: metadata[k] for k in wanted}, wanted)

    def test_no_code_of_a_file_is_run(self):
        for save in ("torch", "old", "pickle"):
            for content in (Malicious(), {0: Malicious()}, {0: {"query_matrix": [Malicious()]}}):
                self.refuses(self.write("bad", save, content), "(asks for .*system)|(neither a checkpoint)")
                self.assertFalse((self.folder / "was_run").exists())

    def test_a_network_without_biases(self):
        content = {k: v for k, v in checkpoint().items() if not k.endswith("bias")}
        tensors, _ = self.converted(self.write("in", "torch", content))
        self.assertFalse([key for key in tensors if key.endswith("bias")])

    def test_what_does_not_fit_is_named(self):
        def spoilt(change):
            content = checkpoint()
            change(content)
            return self.write("bad", "torch", content)

        name = "3.learning_to_hash_transformation_k.1.2"
        self.refuses(spoilt(lambda c: c.pop(f"{name}.weight")), "layer 3, head 1, k: no weight at 2")
        self.refuses(spoilt(lambda c: [c.pop(f"{name}.{x}") for x in ("weight", "bias")]), r"linear layers at \[0, 4\]")
        self.refuses(spoilt(lambda c: c.update({f"{name}.weight": torch.zeros(24, 23)})), r"heads.1.k.1.weight: want \[outputs, 24\]")
        self.refuses(spoilt(lambda c: c[f"{name}.bias"].fill_(float("nan"))), "layers.3.heads.1.k.1.bias: a number is not finite")
        self.refuses(spoilt(lambda c: c.update({"model.weight": torch.zeros(1)})), "'model.weight' is no name")
        self.refuses(spoilt(lambda c: [c.pop(k) for k in list(c) if "3.learning_to_hash_transformation_k.2." in k]), "layers.3.heads.2.k is missing")
        self.refuses(self.write("bad", "torch", checkpoint((16, 24, 48))), "48 bits: want 32, 64")
        self.refuses(self.write("bad", "torch", checkpoint()), "3 KV heads do not divide 4", kv_heads=3)
        self.refuses(self.write("bad", "torch", {"0.learning_to_hash_transformation.0.1.weight": torch.zeros(32, 17)}), "lifted coordinate")
        self.refuses(self.write("bad", "torch", [1, 2]), "no dictionary")
        self.refuses(self.write("bad", "pickle", {}), "no dictionary")
        made = as_pickle(checkpoint())
        del made[3]["key_bias"]
        self.refuses(self.write("bad", "pickle", made), "layer 3: no key_matrix or key_bias")
        made = as_pickle(checkpoint())
        made[0]["query_bias"].pop()
        self.refuses(self.write("bad", "pickle", made), "layer 0: 3 of query_matrix, 2 of query_bias")

    def test_files_that_are_something_else(self):
        for name, content, why in (
            ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
            ("text", b"no weights at all", "neither a checkpoint"),
            ("empty", b"", "neither a checkpoint"),
        ):
            path = self.folder / name
            path.write_bytes(content)
            self.refuses(path, why)


if __name__ == "__main__":
    unittest.main()
