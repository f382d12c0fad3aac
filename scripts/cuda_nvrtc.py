"""Compiles .cu files with an NVRTC library given by path. Usage: cuda_nvrtc.py LIBRARY SM [--hmma] [FILE ...]
Without FILE it exits 0 where the library knows that architecture, else 1. --hmma: each kernel of these files must hold
tensor-core instructions; counted in the machine code itself, so that no disassembler is needed."""

import collections
import ctypes
import os
import re
import struct
import sys

# Low 12 bits of an instruction: HMMA.884 of Volta, HMMA of Turing and later (both read off cubins of one mma each).
HMMA = (0x236, 0x23C)


def inline_includes(path, seen):
    """The file with its own includes in place, each once: NVRTC then needs no folder, as at run time from embedded source."""
    text = []
    for line in open(path):
        found = re.match(r'#include "(.*)"', line)
        if not found:
            text.append(line)
        elif found[1] not in seen:
            seen.add(found[1])
            text.append(inline_includes(found[1], seen))
    return "".join(text)


def open_library(library):
    folder = os.path.dirname(os.path.abspath(library))
    for name in os.listdir(folder):  # found by name otherwise only on the loader's path
        if "nvrtc-builtins" in name and ".alt" not in name:
            ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(library)


def knows(nvrtc, arch):
    n = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(n))
    archs = (ctypes.c_int * n.value)()
    nvrtc.nvrtcGetSupportedArchs(archs)
    return int(arch.removeprefix("sm_")) in archs


def fetch(get_size, get, program):
    size = ctypes.c_size_t()
    get_size(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.raw


def compile_file(nvrtc, arch, path):
    """The cubin, or None with the compiler's words on stderr."""
    program = ctypes.c_void_p()
    source = inline_includes(path, set()).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, path.encode(), 0, None, None)
    options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if status != 0:
        log = fetch(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        sys.stderr.write(f"{path} for {arch}: NVRTC status {status}\n{log.rstrip(bytes(1)).decode()}")
    cubin = None if status else fetch(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return cubin


def opcodes(cubin):
    """For each kernel how often each opcode stands in it; an instruction is 16 bytes from Volta on."""
    (offset,) = struct.unpack_from("<Q", cubin, 40)
    size, n, names = struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, offset + i * size) for i in range(n)]
    for section in sections:
        start = sections[names][4] + section[0]
        name = cubin[start : cubin.index(b"\0", start)].decode()
        if name.startswith(".text."):
            code = cubin[section[4] : section[4] + section[5]]
            words = (struct.unpack_from("<Q", code, i)[0] for i in range(0, len(code) - 15, 16))
            yield name.removeprefix(".text."), collections.Counter(word & 0xFFF for word in words)


def check_hmma(cubin, path, arch):
    kernels = {name: sum(found[code] for code in HMMA) for name, found in opcodes(cubin)}
    for name, count in kernels.items():
        print(f"{arch} {name}: {count} HMMA")
    without = [name for name, count in kernels.items() if count == 0]
    if without or not kernels:
        sys.stderr.write(f"{path} for {arch}: no tensor-core instructions in {', '.join(without) or 'the image'}\n")
    return bool(kernels) and not without


def main():
    library, arch, *paths = sys.argv[1:]
    hmma = "--hmma" in paths
    paths = [path for path in paths if path != "--hmma"]
    nvrtc = open_library(library)
    if not paths:
        return 0 if knows(nvrtc, arch) else 1
    ok = True
    for path in paths:
        cubin = compile_file(nvrtc, arch, path)
        ok = ok and cubin is not None and (not hmma or check_hmma(cubin, path, arch))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
