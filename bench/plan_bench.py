#!/usr/bin/env python3
"""Planning InternVL3-8B on 4 GPUs of 16 GiB: berth beside Hugging Face accelerate, in turns, in one run.

    pip install accelerate torch
    bench/plan_bench.py build/bench/plan_bench

accelerate plans a module tree on the meta device, made before the clock starts from the record in tests/golden/placement; berth plans the tree of the opened configuration. Timed
are get_balanced_memory and infer_auto_device_map on one side, on the other the same rules (berth's "accelerate's map", the tree there already, as in accelerate) and berth's own best
strategy with all rates known ("optimal +rates"). Both by the CPU time of their thread; the ratio is that of each round, and the median and the worst are printed.
"""
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import accelerate
import torch
from accelerate.utils import get_balanced_memory, infer_auto_device_map
from torch import nn

ROUNDS, INNER = 9, 5
NO_SPLIT = ["InternVisionModel", "LlamaDecoderLayer", "Qwen2DecoderLayer"]
MEMORY = {0: 16 << 30, 1: 16 << 30, 2: 16 << 30, 3: 16 << 30, "cpu": 64 << 30}


def build():
    golden = pathlib.Path(__file__).parent.parent / "tests/golden/placement/placement_golden.json"
    record = json.loads(golden.read_text())["models"]["internvl3-8b"]
    modules = []
    for path, cls, params, buffers in record["modules"]:
        modules.append((path, cls, params, buffers))
    for prefix, n in record["repeat"].items():
        first = [m for m in modules if m[0] == prefix + ".0" or m[0].startswith(prefix + ".0.")]
        at = modules.index(first[-1]) + 1
        copies = [(prefix + f".{i}" + m[0][len(prefix) + 2:], *m[1:]) for i in range(1, n) for m in first]
        modules[at:at] = copies
    made = {}
    for path, cls, params, buffers in modules:
        module = type(cls, (nn.Module,), {})()
        for name, n, _ in params:
            module.register_parameter(name, nn.Parameter(torch.empty(n, dtype=torch.bfloat16, device="meta"), False))
        for name, n, _, persistent in buffers:
            module.register_buffer(name, torch.empty(n, device="meta"), persistent=bool(persistent))
        made[path] = module
        if path:
            above, _, name = path.rpartition(".")
            made[above].add_module(name, module)
    return made[""]


def peer(model):
    memory = get_balanced_memory(model, dict(MEMORY), no_split_module_classes=NO_SPLIT, dtype=torch.bfloat16)
    return infer_auto_device_map(model, memory, no_split_module_classes=NO_SPLIT, dtype=torch.bfloat16)


def main():
    torch.cuda.is_available = lambda: True  # else no budget is balanced; nothing runs on a GPU
    torch.cuda.device_count = lambda: 4
    model = build()
    peer(model)
    rows = []
    for _ in range(ROUNDS):
        peer_us = []
        for _ in range(INNER):
            start = time.thread_time()
            peer(model)
            peer_us.append((time.thread_time() - start) * 1e6)
        out = subprocess.run([sys.argv[1], "--json", "--only", "internvl3-8b", "--rounds", "15"], capture_output=True, text=True, check=True)
        ours = {row["what"]: row.get("median_us") for row in map(json.loads, out.stdout.splitlines())}
        rows.append((statistics.median(peer_us), ours["accelerate's map"], ours["accelerate's tree"], ours["optimal +rates"]))
    print(f"accelerate {accelerate.__version__}, torch {torch.__version__}, python {platform.python_version()}; {ROUNDS} rounds")
    print(f"accelerate                {statistics.median(r[0] for r in rows):10.1f} us")
    for i, name in ((1, "berth, accelerate's map"), (2, "berth, its tree"), (3, "berth, optimal +rates")):
        print(f"{name:25s} {statistics.median(r[i] for r in rows):10.1f} us")
    for i, name in ((1, "accelerate's map"), (3, "optimal +rates")):
        ratios = sorted(r[0] / r[i] for r in rows)
        print(f"{name}: {statistics.median(ratios):.0f} times as fast, in the worst round {ratios[0]:.0f}")


if __name__ == "__main__":
    main()
