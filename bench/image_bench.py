"""The same work as image_bench, by Pillow and numpy: best of several runs in milliseconds. Needs pillow and numpy.

    python3 image_bench.py [FILE...]
"""
import sys
import time

import numpy as np
import PIL
from PIL import Image


def best(f, runs=9):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


i = np.arange(3000 * 2000 * 3, dtype=np.uint64)
im = Image.fromarray(((i * 2654435761 & 0xffffffff) >> 24).astype(np.uint8).reshape(2000, 3000, 3))
print("Pillow", PIL.__version__)
for size in ((1792, 1344), (448, 448), (4032, 448)):
    print(f"resize 3000x2000 -> {size[0]}x{size[1]}: {best(lambda: im.resize(size, Image.BICUBIC)):.2f} ms")
for path in sys.argv[1:]:
    print(f"decode {path}: {best(lambda: Image.open(path).convert('RGB')):.2f} ms")
