#!/usr/bin/env python3
"""Random module trees placed by Hugging Face accelerate itself, in the record form of placement_golden.json.

    accelerate_random.py N SEED > ../accelerate_random.json      (bundled: 400 2024)
    accelerate_random.py N SEED odd > ../accelerate_odd.json     (bundled: 150 77)

Runs accelerate's own get_balanced_memory and infer_auto_device_map on meta tensors; no GPU is needed. Two things are set from outside:
torch.cuda.is_available() says yes, so that budgets are balanced at all, and groups of tied parameters come in registration order,
where accelerate takes the order of a hash set. "odd": loading in types of 8, 4 and 2 bits, every dtype, names that are numbers,
not ASCII or full of quotes, "Parameter" and "Tensor" among the classes not to be divided (tensors are looked up like modules), up to
8 GPUs in any order, and sizes that are fractions together with fallback allocation, where accelerate fails on its own limit
("'float' object has no attribute 'upper'"). Made with accelerate 1.15.0 and torch 2.15.0.
"""
import collections
import json
import logging
import random
import sys
import warnings

import accelerate
import torch
from accelerate.utils import modeling
from torch import nn

torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 8
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "i8": torch.int8, "u8": torch.uint8, "i64": torch.int64, "bool": torch.bool,
          "f16": torch.float16, "f64": torch.float64, "f8": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2, "i16": torch.int16,
          "i32": torch.int32}
ODD = sys.argv[3:] == ["odd"]
NAMES = ["a", "b", "c", "layers", "ay", "odel"]
ODD_NAMES = ["a", "ab", "ba", "layers", "layer", "w0", "buf0x", "A", "\u00e9", "x y", "z-1", "0", "1", "10", "01", "_", 'q"t', "tab\\n"]
LOADED = {None: None, 2: torch.float16, 4: torch.float32, 1: modeling.CustomDtype.FP8, 0.5: modeling.CustomDtype.INT4,
          0.25: modeling.CustomDtype.INT2, 8: torch.float64}
CLASSES = {name: type(name, (nn.Module,), {}) for name in ("A", "B", "C", "D", "Lin", "M")}

found = modeling.find_tied_parameters


def tied_in_registration_order(model, **kwargs):
    order = {name: i for i, name in enumerate(dict(model.named_parameters(remove_duplicate=False)))}
    groups = found(model, **kwargs)
    return sorted(groups, key=lambda group: min(order[name] for name in group))


modeling.find_tied_parameters = tied_in_registration_order


def numel(rng):
    return rng.choice([0, 1, 3, 8, 16, 16, 50, 100, rng.randrange(1, 60), rng.randrange(1, 500)])


def grow(rng, module, depth, buffer_types):
    for i in range(rng.choice([0, 0, 1, 1, 2, 3])):
        dtype = rng.choice(list(DTYPES) if ODD else ["bf16", "bf16", "f32", "f32", "i8", "u8"])
        tensor = torch.empty(numel(rng), dtype=DTYPES[dtype], device="meta")
        module.register_parameter(f"w{i}", nn.Parameter(tensor, requires_grad=False))
    if rng.random() < 0.2:
        dtype = rng.choice(buffer_types)
        module.register_buffer("buf0", torch.empty(numel(rng), dtype=DTYPES[dtype], device="meta"), persistent=rng.random() < 0.5)
    if depth == 0:
        return
    for i in range(rng.choice([0, 1, 2, 2, 3, 4])):
        # names that are prefixes and substrings of one another, as layers.1 and layers.10 are
        name = rng.choice(ODD_NAMES if ODD else NAMES) + str(rng.choice([i, i, 10 + i]))
        if hasattr(module, name):
            continue
        child = CLASSES[rng.choice(list(CLASSES))]()
        module.add_module(name, child)
        grow(rng, child, depth - 1, buffer_types)


def tie(rng, model):
    for _ in range(rng.choice([0, 0, 0, 0, 0, 1, 1, 2, 3])):
        places = [(m, n) for m in model.modules() for n, _ in m.named_parameters(recurse=False)]
        if len(places) < 2:
            return
        (m1, n1), (m2, n2) = rng.sample(places, 2)
        setattr(m2, n2, getattr(m1, n1))


def name_of(dtype):
    return next(name for name, value in DTYPES.items() if value == dtype)


def records(model):
    modules, groups = [], collections.OrderedDict()
    for path, module in model.named_modules(remove_duplicate=False):
        params = [[n, p.numel(), name_of(p.dtype)] for n, p in module._parameters.items() if p is not None]
        for n, p in module._parameters.items():
            groups.setdefault(id(p), []).append(f"{path}.{n}" if path else n)
        buffers = [[n, b.numel(), name_of(b.dtype), int(n not in module._non_persistent_buffers_set)] for n, b in module._buffers.items()]
        modules.append([path, type(module).__name__, params, buffers])
    return {"modules": modules, "tied": [sorted(names) for names in groups.values() if len(names) > 1]}


def budgets(rng, total):
    kinds = list(range(rng.choice([1, 1, 2, 2, 3, 3, 4, 4, 5] + ([8] if ODD else []))))
    if rng.random() < 0.1:
        kinds = sorted(rng.sample(range(6), len(kinds)))
    if rng.random() < 0.05:
        kinds = []
    memory = {k: int(total * rng.choice([0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, rng.random(), rng.random()])) for k in kinds}
    if not kinds or rng.random() < 0.6:
        memory["cpu"] = int(total * rng.choice([0.1, 0.5, 1.0, 2.0, rng.random()]))
    if rng.random() < 0.08:
        memory["disk"] = int(total * rng.random())
    if ODD:
        items = list(memory.items())
        rng.shuffle(items)
        memory = dict(items)
    return memory


def one(rng, number):
    model = CLASSES["M"]()
    fallback = rng.random() < 0.25
    whole = ["f32", "i64", "bf16"]
    grow(rng, model, rng.choice([1, 2, 3, 3] if ODD else [1, 2, 3, 3, 4]), list(DTYPES) if ODD else whole if fallback else whole[:2] + ["bool", "bf16"])
    tie(rng, model)
    dtype_bytes = rng.choice(list(LOADED) if ODD else [None, 2, 2, 4])
    dtype = LOADED[dtype_bytes]
    classes = ["A", "B", "C", "D"] + (["Parameter", "Tensor", "Nowhere"] if ODD else [])
    sizes = modeling.compute_module_sizes(model, dtype=dtype)
    case = {"id": f"random/{number}", "model": records(model), "strategy": rng.choice(["sequential", "auto", "balanced_low_0"]),
            "dtype_bytes": dtype_bytes, "no_split": sorted(rng.sample(classes, rng.choice([0, 1, 2, 3]))),
            "fallback": fallback}
    memory = budgets(rng, sizes[""] + 1)
    case["max_memory"] = [[k, v] for k, v in memory.items()]
    try:
        if case["strategy"] != "sequential":
            memory = modeling.get_balanced_memory(model, max_memory=memory, no_split_module_classes=case["no_split"], dtype=dtype,
                                                  low_zero=case["strategy"] == "balanced_low_0")
        else:
            memory = modeling.get_max_memory(memory)
        case["capped_memory"] = [[k, v] for k, v in memory.items()]
        arguments = dict(max_memory=memory, no_split_module_classes=case["no_split"], dtype=dtype, fallback_allocation=case["fallback"])
        case["raw_map"] = [[k, v] for k, v in modeling.infer_auto_device_map(model, clean_result=False, **arguments).items()]
        case["map"] = [[k, v] for k, v in modeling.infer_auto_device_map(model, **arguments).items()]
    except Exception as error:
        for key in ("capped_memory", "raw_map", "map"):
            case.pop(key, None)
        case["raises"] = type(error).__name__
    return case


def main():
    n, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    cases = [one(rng, i) for i in range(n)]
    print('{"schema": "berth-accelerate-random/1", "made_with": "accelerate %s, torch %s",\n"cases": [' % (accelerate.__version__, torch.__version__.split("+")[0]))
    print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
    print("]}")


main()
