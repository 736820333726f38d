# SPDX-License-Identifier: Apache-2.0
"""The safetensors file that ../support/hash_weights.hpp reads; README.md describes it."""
import torch
from safetensors.torch import save_file

ACTIVATIONS = ("none", "relu", "silu", "gelu", "tanh")
TYPES = (torch.float32, torch.float16, torch.bfloat16)


def write(path, networks, activation, heads, kv_heads, notes=()):
    """`networks` are lists of layers, each (weight [out, in], bias [out] or None), by what their tensors' names begin
    with: layers.L.heads.H.q, layers.L.heads.H.k, layers.L.kv_heads.K.k."""
    if not networks:
        raise ValueError("no network to write")
    if heads % kv_heads != 0:
        raise ValueError(f"{kv_heads} KV heads do not divide {heads} query heads")
    first = next(iter(networks.values()))
    bits, head_dim = first[-1][0].shape[0], first[0][0].shape[1]
    if bits % 32 != 0 or not 32 <= bits <= 256:
        raise ValueError(f"{bits} bits: want 32, 64, ... 256")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation}: want one of {', '.join(ACTIVATIONS)}")
    tensors = {}
    for name, layers in networks.items():
        wanted = head_dim
        for i, (weight, bias) in enumerate(layers):
            if weight.dim() != 2 or weight.shape[1] != wanted:
                raise ValueError(f"{name}.{i}.weight: want [outputs, {wanted}], got {list(weight.shape)}")
            wanted = weight.shape[0]
            tensors[f"{name}.{i}.weight"] = weight
            if bias is not None:
                if list(bias.shape) != [wanted]:
                    raise ValueError(f"{name}.{i}.bias: want [{wanted}], got {list(bias.shape)}")
                tensors[f"{name}.{i}.bias"] = bias
        if wanted != bits:
            raise ValueError(f"{name}: {wanted} bits where others have {bits}")
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name}: a number is not finite")
        tensors[name] = tensor.detach().clone().contiguous()
    metadata = {
        "activation": activation,
        "bits": str(bits),
        "head_dim": str(head_dim),
        "heads": str(heads),
        "kv_heads": str(kv_heads),
    }
    save_file(tensors, path, metadata={**dict(notes), **metadata})
