"""Compiles one .cu file with an NVRTC library given by path. Usage: cuda_nvrtc.py LIBRARY SM [FILE]
Without FILE it exits 0 where the library knows that architecture, else 1."""

import ctypes
import os
import re
import sys


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


def knows(nvrtc, arch):
    n = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(n))
    archs = (ctypes.c_int * n.value)()
    nvrtc.nvrtcGetSupportedArchs(archs)
    return int(arch.removeprefix("sm_")) in archs


def main():
    library, arch, *path = sys.argv[1:]
    folder = os.path.dirname(os.path.abspath(library))
    for name in os.listdir(folder):  # found by name otherwise only on the loader's path
        if "nvrtc-builtins" in name and ".alt" not in name:
            ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(library)
    if not path:
        return 0 if knows(nvrtc, arch) else 1
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), inline_includes(path[0], set()).encode(), path[0].encode(), 0, None, None)
    options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if status != 0:
        sys.stderr.write(f"{path[0]} for {arch}: NVRTC status {status}\n{log.value.decode()}")
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
