"""How fast a device multiplies matrices at best: what a training's use of it (MFU) is measured against."""

from __future__ import annotations

import time
from functools import lru_cache

import torch

from videolm.config import nearest
from videolm.errors import UserError

PEAKS: dict[str, tuple[float, float]] = {
    "B200": (2250e12, 75e12),
    "H200": (989e12, 67e12),
    "GH200": (989e12, 67e12),
    "H100 NVL": (835e12, 60e12),
    "H100 PCIe": (756e12, 51e12),
    "H100": (989e12, 67e12),
    "H20": (148e12, 44e12),
    "A100": (312e12, 19.5e12),
    "A40": (149.7e12, 37.4e12),
    "A10": (125e12, 31.2e12),
    "A6000": (154.8e12, 38.7e12),
    "L40S": (362e12, 91.6e12),
    "L40": (181e12, 90.5e12),
    "L4": (121e12, 30.3e12),
    "RTX 4090": (165.2e12, 82.6e12),
    "RTX 3090": (71e12, 35.6e12),
    "MI300X": (1307.4e12, 163.4e12),
}
"""FLOP/s in bfloat16 (dense, sums in float32) and float32 (no TF32) by words of a GPU's name, from the makers' data
sheets. NVIDIA: "<name> Tensor Core GPU Datasheet", bfloat16 figures "with sparsity" halved, and the appendices of the
GA102 and Ada white papers for GeForce cards. AMD: "Instinct MI300X Accelerator Data Sheet"."""


def named_peak(name: str, dtype: torch.dtype) -> float:
    """FLOP/s at best of the GPU that a name such as h100 says. Raises `UserError` for one that is not in `PEAKS`."""
    known = {words.lower().replace(" ", "-"): peak for words, peak in PEAKS.items()}
    key = name.lower().replace(" ", "-")
    if key not in known:
        raise UserError(f"unknown device '{name}'; {nearest(key, known)}")
    return known[key][dtype == torch.float32]


@lru_cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of matrix products on `device` at best: from `PEAKS`, or measured where it is not there, as on a CPU."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = next((PEAKS[words] for words in sorted(PEAKS, key=len, reverse=True) if words in name), None)
        if known is not None and dtype in (torch.bfloat16, torch.float32):
            return known[dtype == torch.float32]
    return measured_flops(device, dtype)


def measured_flops(device: torch.device, dtype: torch.dtype, size: int = 1024, rounds: int = 20) -> float:
    """FLOP/s of the fastest of `rounds` products of square matrices, after one that is not counted."""
    size = size if device.type == "cpu" else 8 * size
    one, other, product = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(3))
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        torch.mm(one, other, out=product)  # new memory for each would cost a CPU as much as a tenth
        float(product[0, 0])  # reading a value waits for the device
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times[1:])
