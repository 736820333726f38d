#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copies chosen KV heads of a safetensors capture, bit for bit, into a smaller file.

usage: choose.py CAPTURE OUTPUT HEAD...        e.g. choose.py full.safetensors small.safetensors layer00.kv0
"""
import json
import struct
import sys

PARTS = ("q", "k", "v")


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        return header.pop("__metadata__", {}), header, file.read()


def choose(capture, output, heads):
    metadata, tensors, data = read(capture)
    chosen, body = {}, bytearray()
    for head in heads:
        for part in PARTS:
            name = f"{head}.{part}"
            if name not in tensors:
                sys.exit(f"choose.py: {capture}: no tensor {name}")
            tensor = tensors[name]
            first, last = tensor["data_offsets"]
            chosen[name] = {**tensor, "data_offsets": [len(body), len(body) + last - first]}
            body += data[first:last]
    if "heads" in metadata:  # one remark a head, "NAME: text; NAME: text"
        remarks = metadata["heads"].split("; ")
        metadata["heads"] = "; ".join(r for r in remarks if r.split(":")[0] in heads)
    header = json.dumps({"__metadata__": metadata, **chosen}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format wants the data aligned to 8 bytes
    with open(output, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + body)


if __name__ == "__main__":
    if len(sys.argv) < 4 or "--help" in sys.argv:
        sys.exit(__doc__.strip())
    choose(sys.argv[1], sys.argv[2], sys.argv[3:])
