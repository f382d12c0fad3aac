"""berth from Python: one file over ctypes, nothing to build, Python 3.9 or newer, standard library only.

    import berth

    with berth.Runtime() as runtime, runtime.open_model("models/receipt-tiny") as model:
        plan = model.plan(devices="cpu*4", strategy="balanced")
        print(plan.as_dict()["devices"])
        with plan.engine() as engine:
            print(engine.generate([berth.Image("receipt.png"), "Extract the fields as JSON."]).text)
            for token in engine.stream("What is berth?"):
                print(token.text, end="", flush=True)

Names, options and their meaning are those of berth/berth.h, which is the manual: every keyword argument of `Runtime`,
`open_model`, `plan`, `engine` and a request is a field of the option struct there; what is not given keeps its default.
A failing call raises BerthError with the status and the library's message. Every handle has close() and is a context manager;
what is not closed is closed when it is collected. Threads: as in berth.h; a waiting call lets other threads run and can be interrupted.
"""
from __future__ import annotations

import asyncio
import collections
import ctypes
import difflib
import enum
import glob
import itertools
import json
import os
import select
import time
import weakref
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64
from ctypes import c_size_t, c_uint32, c_uint64, c_void_p, sizeof

__all__ = ["AsyncStream", "BerthError", "Cancel", "Completion", "Engine", "Image", "Library", "Model", "Plan", "Queue",
           "Result", "Runtime", "Session", "Status", "Stream", "Token", "load"]


# ---- the C interface: structs and functions as in berth/status.h and berth/berth.h; tests compare them with the headers ----


class Status(enum.IntEnum):
    """berth_status."""

    (OK, INVALID_ARGUMENT, NOT_FOUND, IO_ERROR, BAD_FILE, UNSUPPORTED, OUT_OF_MEMORY, DOES_NOT_FIT, AFFINITY, DEVICE_ERROR,
     DEVICE_LOST, NUMERIC, CANCELLED, BUSY, DEADLINE, MISMATCH, INTERNAL, SLOW_CONSUMER) = range(18)


LOG_LEVELS = ("debug", "info", "warning")
START_ORDERS = ("arrival", "longest")
TEXT, IMAGE_FILE, IMAGE_BYTES, PIXELS = range(4)
NONE, TOKEN, END = range(3)
EXPLAIN_JSON = 1
PLAN_WITH_PROGRAM = 1
ALL_REPLICAS = -1

_LogFn = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
_AllocateFn = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
_ReleaseFn = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)
_ThreadFn = CFUNCTYPE(None, c_void_p, c_char_p)
_ProgressFn = CFUNCTYPE(None, c_void_p, c_uint64, c_uint64)


def _struct(name, *fields):
    """A ctypes struct of that C name; fields are (type, names...), as C declares them."""
    return type(name, (Structure,), {"_fields_": [(f, kind) for kind, *names in fields for f in names]})


berth_error = _struct("berth_error", (c_int, "status"), (c_int32, "device", "native_code"), (c_char_p, "native_api", "file"),
                      (c_int32, "line"), (c_char * 2048, "message"))
berth_runtime_options = _struct(
    "berth_runtime_options", (c_size_t, "struct_size"), (_LogFn, "log"), (c_void_p, "log_user"), (_AllocateFn, "allocate"),
    (_ReleaseFn, "release"), (c_void_p, "memory_user"), (_ThreadFn, "thread_begin", "thread_end"), (c_void_p, "thread_user"))
berth_model_options = _struct("berth_model_options", (c_size_t, "struct_size"), (c_int32, "allow_missing_weights"))
berth_plan_options = _struct(
    "berth_plan_options", (c_size_t, "struct_size"), (c_char_p, "devices", "strategy", "device_map", "dtype"),
    (c_int64, "context"), (c_int32, "n_seqs", "chunk", "tiles", "max_tiles"), (c_char_p, "kernels"), (c_int32, "trace"),
    (c_char_p, "strategy_dir"), (c_int32, "isolated", "strategy_timeout_ms"), (c_char_p, "strategy_host", "profile_dir"),
    (POINTER(c_char_p), "place"), (c_char_p, "split", "layers", "vision_device", "compat"), (c_int32, "show_misfit", "passes"),
    (c_int64, "kv_tokens"), (c_int32, "draft"), (c_int64, "batch_invariant"))
berth_plan_device = _struct(
    "berth_plan_device", (c_size_t, "struct_size"), (c_char_p, "name"),
    (c_uint64, "weights", "kv", "features", "activations", "workspace", "total", "limit", "kv_per_token"),
    (c_int32, "n_cores", "shares_cores"), (c_uint64, "context"), (c_char_p, "profile", "dtype"), (c_uint64, "token_bytes"),
    (c_double, "token_seconds"), (c_uint64, "taken", "used_before"))
berth_plan_module = _struct(
    "berth_plan_module", (c_size_t, "struct_size"), (c_char_p, "path", "class_name"), (c_int32, "parent", "depth", "is_tensor"),
    (c_uint64, "weight_bytes"), (c_int32, "is_unit"))
berth_plan_copy = _struct("berth_plan_copy", (c_size_t, "struct_size"), (c_char_p, "program", "value"), (c_int32, "from", "to"),
                          (c_uint64, "bytes_at_bounds"))
berth_plan_sizes = _struct("berth_plan_sizes", (c_size_t, "struct_size"), (c_int64, "context"),
                           (c_int32, "n_seqs", "chunk", "tiles", "max_tiles"))
berth_plan_limits = _struct("berth_plan_limits", (c_size_t, "struct_size"), (c_int64, "context"),
                            (c_int32, "n_seqs", "tiles", "weights_fit"))
berth_engine_options = _struct(
    "berth_engine_options", (c_size_t, "struct_size"), (c_int32, "strict"), (c_char_p, "transport"), (_ProgressFn, "progress"),
    (c_void_p, "progress_user"), (c_int32, "queue", "host_threads"), (c_int, "order"), (c_int32, "no_prefix_cache"),
    (c_int64, "consumer_bytes", "nvtx", "time_copies"))
berth_stats = _struct(
    "berth_stats", (c_size_t, "struct_size"), (c_int32, "n_waiting", "n_running", "n_sessions"),
    (c_int64, "n_submitted", "n_finished", "n_refused", "n_encode_passes", "n_step_passes", "n_tiles", "n_tiles_reused",
     "n_prompt_tokens", "n_reused_tokens", "n_new_tokens", "kv_tokens", "kv_used", "kv_cached", "loop_ns", "busy_ns",
     "load_ns", "load_bytes"))
berth_edge = _struct("berth_edge", (c_size_t, "struct_size"), (c_char_p, "transport", "note"))
berth_content = _struct("berth_content", (c_int, "kind"), (c_char_p, "data"), (c_size_t, "size"), (c_int32, "width", "height"))
berth_turn = _struct("berth_turn", (c_char_p, "role"), (POINTER(berth_content), "content"), (c_int32, "n_content"))
berth_token = _struct("berth_token", (c_int32, "id", "index"), (c_void_p, "text"), (c_size_t, "text_size"), (c_int64, "at_ns"),
                      (c_float, "logprob"))
berth_request = _struct(
    "berth_request", (c_size_t, "struct_size"), (POINTER(berth_turn), "turns"),
    (c_int32, "n_turns", "max_new_tokens", "max_tiles", "sample"), (c_float, "temperature"), (c_int32, "top_k"),
    (c_float, "top_p", "min_p", "repetition_penalty"), (c_uint64, "seed"), (c_int32, "ignore_stop"),
    (c_void_p, "on_token", "on_token_user", "cancel"), (c_int32, "priority"), (c_int64, "deadline_ms"),
    (c_int32, "speculate", "logprobs", "no_prefix_cache", "quiet"), (c_void_p, "session"))
berth_timings = _struct("berth_timings", (c_int64, "image_ns", "tokenize_ns", "encode_ns", "prefill_ns", "decode_ns",
                                          "first_token_ns", "total_ns"))
berth_result = _struct(
    "berth_result", (c_size_t, "struct_size"), (c_char_p, "text"), (POINTER(c_int32), "token_ids"),
    (c_int32, "n_tokens", "n_prompt_tokens", "n_tiles", "replica"), (c_char_p, "finish_reason"), (berth_timings, "timings"),
    (POINTER(c_uint64), "edge_bytes"), (c_int32, "n_devices", "n_reused_tokens", "n_drafted", "n_accepted"),
    (c_int64, "queue_ns", "decode_image_ns", "tiles_ns", "project_ns"), (POINTER(c_uint64), "edge_ns"))
berth_completion = _struct(
    "berth_completion", (c_size_t, "struct_size"), (c_int, "kind"), (c_uint64, "id"), (c_void_p, "user"), (berth_token, "token"),
    (c_int, "status"), (POINTER(berth_result), "result"), (POINTER(berth_error), "error"), (c_void_p, "memory"))
berth_session_info = _struct("berth_session_info", (c_size_t, "struct_size"), (c_int32, "n_turns", "n_tokens", "replica", "n_images"))

STRUCTS = {kind.__name__: kind for kind in (
    berth_error, berth_runtime_options, berth_model_options, berth_plan_options, berth_plan_device, berth_plan_module,
    berth_plan_copy, berth_plan_sizes, berth_plan_limits, berth_engine_options, berth_stats, berth_edge, berth_content, berth_turn, berth_token, berth_request,
    berth_timings, berth_result, berth_completion, berth_session_info)}

_H, _OUT, _ERR = c_void_p, POINTER(c_void_p), POINTER(berth_error)  # a handle; where one (or a text) is put; the error

# name: (result, arguments). A text that the caller must free is a c_void_p; one that is borrowed is a c_char_p.
FUNCTIONS = {
    "berth_status_name": (c_char_p, [c_int]),
    "berth_version": (c_char_p, []),
    "berth_free": (None, [c_void_p]),
    "berth_runtime_create": (c_int, [POINTER(berth_runtime_options), _OUT, _ERR]),
    "berth_runtime_destroy": (None, [_H]),
    "berth_model_open": (c_int, [_H, c_char_p, POINTER(berth_model_options), _OUT, _ERR]),
    "berth_model_close": (None, [_H]),
    "berth_model_json": (c_void_p, [_H]),
    "berth_model_tokenize": (c_int, [_H, c_char_p, c_size_t, POINTER(POINTER(c_int32)), POINTER(c_int32), _ERR]),
    "berth_model_detokenize": (c_int, [_H, POINTER(c_int32), c_int32, _OUT, POINTER(c_size_t), _ERR]),
    "berth_plan_create": (c_int, [_H, POINTER(berth_plan_options), _OUT, _ERR]),
    "berth_plan_destroy": (None, [_H]),
    "berth_plan_fits": (c_int32, [_H, POINTER(c_uint64), POINTER(c_int32)]),
    "berth_plan_strategy": (c_char_p, [_H]),
    "berth_plan_note": (c_char_p, [_H]),
    "berth_plan_refusal": (c_char_p, [_H]),
    "berth_plan_n_devices": (c_int32, [_H]),
    "berth_plan_n_replicas": (c_int32, [_H]),
    "berth_plan_n_modules": (c_int32, [_H]),
    "berth_plan_get_device": (c_int, [_H, c_int32, POINTER(berth_plan_device), _ERR]),
    "berth_plan_get_module": (c_int, [_H, c_int32, POINTER(berth_plan_module), _ERR]),
    "berth_plan_module_device": (c_int32, [_H, c_int32, c_int32]),
    "berth_plan_n_copies": (c_int32, [_H, c_int32]),
    "berth_plan_get_copy": (c_int, [_H, c_int32, c_int32, POINTER(berth_plan_copy), _ERR]),
    "berth_plan_binds": (c_int32, [_H, POINTER(c_char_p), POINTER(c_int64)]),
    "berth_plan_edges": (c_int, [_H, c_int32, c_int32, c_int64, c_int64, POINTER(c_uint64), _ERR]),
    "berth_plan_image_tiles": (c_int32, [_H]),
    "berth_plan_chunk": (c_int32, [_H]),
    "berth_plan_get_sizes": (c_int, [_H, POINTER(berth_plan_sizes), _ERR]),
    "berth_plan_limits_find": (c_int, [_H, POINTER(berth_plan_options), POINTER(berth_plan_limits), _ERR]),
    "berth_plan_explain": (c_int, [_H, c_int32, c_char_p, c_uint32, _OUT, _ERR]),
    "berth_plan_dot": (c_void_p, [_H, c_int32]),
    "berth_plan_json": (c_void_p, [_H, c_uint32]),
    "berth_plan_program_text": (c_void_p, [_H, c_int32]),
    "berth_plan_device_map": (c_void_p, [_H, c_int32]),
    "berth_engine_create": (c_int, [_H, POINTER(berth_engine_options), _OUT, _ERR]),
    "berth_engine_destroy": (None, [_H]),
    "berth_engine_plan": (c_void_p, [_H]),
    "berth_engine_get_stats": (c_int, [_H, POINTER(berth_stats), _ERR]),
    "berth_engine_get_edge": (c_int, [_H, c_int32, c_int32, POINTER(berth_edge), _ERR]),
    "berth_request_init": (None, [POINTER(berth_request)]),
    "berth_engine_run": (c_int, [_H, POINTER(berth_request), POINTER(berth_result), _ERR]),
    "berth_result_deinit": (None, [POINTER(berth_result)]),
    "berth_engine_submit": (c_int, [_H, POINTER(berth_request), _H, c_void_p, POINTER(c_uint64), _ERR]),
    "berth_engine_start": (c_int, [_H, POINTER(berth_request), c_void_p, c_void_p, POINTER(c_uint64), _ERR]),
    "berth_engine_cancel": (c_int, [_H, c_uint64, _ERR]),
    "berth_queue_create": (c_int, [_H, _OUT, _ERR]),
    "berth_queue_destroy": (None, [_H]),
    "berth_queue_descriptor": (c_int, [_H]),
    "berth_queue_next": (c_int, [_H, c_int64, POINTER(berth_completion), _ERR]),
    "berth_completion_deinit": (None, [POINTER(berth_completion)]),
    "berth_session_create": (c_int, [_H, _OUT, _ERR]),
    "berth_session_destroy": (None, [_H]),
    "berth_session_get_info": (c_int, [_H, POINTER(berth_session_info), _ERR]),
    "berth_session_get_turn": (c_int, [_H, c_int32, _OUT, _OUT, _ERR]),
    "berth_session_rewind": (c_int, [_H, c_int32, _ERR]),
    "berth_session_fork": (c_int, [_H, _OUT, _ERR]),
    "berth_session_save": (c_int, [_H, c_char_p, _ERR]),
    "berth_session_load": (c_int, [_H, c_char_p, _OUT, _ERR]),
}


# ---- the library -----------------------------------------------------------------------------------------------------


class BerthError(Exception):
    """A call that failed: `status` (a Status where this file knows it), `message`, and where the library says so `device`,
    `native_api`, `native_code` (errno and the like)."""

    def __init__(self, status, message, device=-1, native_api=None, native_code=0):
        self.status = Status(status) if status in Status._value2member_map_ else status
        self.message, self.device, self.native_api, self.native_code = message, device, native_api, native_code
        name = self.status.name.lower().replace("_", " ") if isinstance(self.status, Status) else f"status {status}"
        super().__init__(f"{name}: {message}" if message else name)

    @staticmethod
    def _of(status, error):
        return BerthError(status, _text(error.message), error.device, _text(error.native_api), error.native_code)


def _text(raw):
    return None if raw is None else raw.decode("utf-8", "replace")


def _candidates():
    """Where libberth.so.0 may be: named by BERTH_LIBRARY, installed beside this file, built beside this file, known to the loader."""
    if os.environ.get("BERTH_LIBRARY"):
        return [os.environ["BERTH_LIBRARY"]]
    here = os.path.dirname(os.path.abspath(__file__))
    folders = [os.path.join(here, "..", "..", "..", lib) for lib in ("lib", "lib64", os.path.join("lib", "*-linux-gnu"))]
    folders.append(os.path.join(here, "..", "build"))
    found = [path for folder in folders for path in sorted(glob.glob(os.path.join(folder, "libberth.so.0")))]
    return found + ["libberth.so.0"]


class Library:
    """libberth.so. Several may be open at once; a Runtime and all that comes of it belong to one."""

    def __init__(self, path=None):
        self._c, errors = None, []
        for candidate in [os.fspath(path)] if path is not None else _candidates():
            try:
                self._c, self.path = ctypes.CDLL(candidate), candidate
                break
            except OSError as error:
                errors.append(str(error))
        if self._c is None:
            raise BerthError(Status.NOT_FOUND, "libberth.so.0 cannot be loaded; install berth, or name the file with "
                             "Library(path) or BERTH_LIBRARY: " + "; ".join(errors))
        self.version = _text(self.function("berth_version")())
        if not self.version.startswith("0."):
            raise BerthError(Status.UNSUPPORTED, f"{self.path} is berth {self.version}; this berth.py is for 0.x")

    def function(self, name):
        """The C function of that name, with its types."""
        try:
            f = getattr(self._c, name)
        except AttributeError:
            raise BerthError(Status.UNSUPPORTED, f"{self.path} (berth) has no {name}; use a newer library") from None
        if f.argtypes is None:
            f.restype, f.argtypes = FUNCTIONS[name]
        return f

    def call(self, name, *args):
        """Calls one that answers a status; raises where it is not OK."""
        error = berth_error()
        status = self.function(name)(*args, byref(error))
        if status != Status.OK:
            raise BerthError._of(status, error)

    def create(self, name, *args):
        """Calls one whose last argument but the error is where a handle or a text is put; gives that."""
        out = c_void_p()
        self.call(name, *args, byref(out))
        return out.value

    def take_text(self, address, size=None):
        """The text at `address`, which is freed."""
        if not address:
            raise BerthError(Status.OUT_OF_MEMORY, "the library has no memory for a text")
        try:
            return _text(ctypes.string_at(address) if size is None else ctypes.string_at(address, size))
        finally:
            self.function("berth_free")(address)


_default = None


def load(path=None):
    """The Library that runtimes use when none is given; with a path, from now on that one."""
    global _default
    if _default is None or path is not None:
        _default = Library(path)
    return _default


def _path(given):
    """A path as the library takes it; as open(), one with a NUL is refused, not cut there."""
    path = os.fsencode(given)
    if b"\0" in path:
        raise ValueError(f"embedded null byte in the path {given!r}")
    return path


def _set_field(struct, name, given):
    """Sets a field, or says which one got what. ctypes alone would take a number for a text's address and cut large numbers short."""
    value = os.fsencode(given) if isinstance(given, (str, os.PathLike)) else given
    if dict(struct._fields_)[name] is c_char_p and (not isinstance(value, bytes) or b"\0" in value):
        raise TypeError(f"{name}={given!r}: expected a text" + (" without NUL" if isinstance(value, bytes) else ""))
    try:
        setattr(struct, name, value)
    except TypeError as error:
        raise TypeError(f"{name}={given!r}: {error}") from None
    kept = getattr(struct, name)
    if isinstance(value, int) and isinstance(kept, int) and kept != value:
        raise OverflowError(f"{name}={given!r} is too large for {dict(struct._fields_)[name].__name__}")


def _options(kind, given, **special):
    """An option struct from keyword arguments. `special` fields were converted by the caller."""
    out = kind(struct_size=sizeof(kind))
    known = [name for name, _ in kind._fields_ if name != "struct_size"]
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"{kind.__name__} has no field {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"))
        if value is not None:
            _set_field(out, name, value)
    for name, value in special.items():
        setattr(out, name, value)
    return out


def _fields(struct):
    """A filled struct as a dict, texts decoded, without struct_size."""
    values = {name: getattr(struct, name) for name, _ in struct._fields_ if name != "struct_size"}
    return {name: _text(v) if isinstance(v, bytes) else v for name, v in values.items()}


class _Handle:
    """What every handle shares: the library, the address, its end, and what must live as long (`keep`)."""

    def __init__(self, lib, address, end, keep=()):
        self._lib, self._address, self._keep = lib, address, keep
        self._end = weakref.finalize(self, _Handle._finish, lib, end, address, keep)

    @staticmethod
    def _finish(lib, end, address, keep):
        lib.function(end)(address)

    @property
    def handle(self):
        if self._address is None or not self._end.alive:
            raise BerthError(Status.INVALID_ARGUMENT, f"this {type(self).__name__} is closed")
        return self._address

    def close(self):
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _filled(self, kind, function, *args):
        out = kind(struct_size=sizeof(kind))
        self._lib.call(function, self.handle, *args, byref(out))
        return _fields(out)


# ---- runtime, model, plan --------------------------------------------------------------------------------------------


class Runtime(_Handle):
    """The start of everything. `log(level, message)` is called from any thread; level is "debug", "info" or "warning"."""

    def __init__(self, log=None, library=None):
        lib = library if library is not None else load()
        callback = _LogFn(lambda user, level, message: log(LOG_LEVELS[level], _text(message))) if log else _LogFn()
        options = _options(berth_runtime_options, {}, log=callback)
        super().__init__(lib, lib.create("berth_runtime_create", byref(options)), "berth_runtime_destroy", (callback,))

    def open_model(self, path, **options):
        """Opens a model directory; no weights are read yet."""
        o = _options(berth_model_options, options)
        address = self._lib.create("berth_model_open", self.handle, _path(path), byref(o))
        return Model(self._lib, address, "berth_model_close", (self,))

    def queue(self):
        """A completion queue for Engine.submit."""
        return Queue(self)


class Model(_Handle):
    """A model directory: what it is, its tokenizer, plans for it."""

    @property
    def runtime(self):
        return self._keep[0]

    def info(self):
        """What the model is, as a dict; schema in docs/embedding.md."""
        return json.loads(self._lib.take_text(self._lib.function("berth_model_json")(self.handle)))

    def tokenize(self, text):
        """Token ids of plain text."""
        raw, ids, n = text.encode("utf-8"), POINTER(c_int32)(), c_int32()
        self._lib.call("berth_model_tokenize", self.handle, raw, len(raw), byref(ids), byref(n))
        try:
            return ids[:n.value]
        finally:
            self._lib.function("berth_free")(ctypes.cast(ids, c_void_p))

    def detokenize(self, ids):
        """Text of token ids."""
        array, out, size = (c_int32 * len(ids))(*ids), c_void_p(), c_size_t()
        self._lib.call("berth_model_detokenize", self.handle, array, len(ids), byref(out), byref(size))
        return self._lib.take_text(out.value, size.value)

    @staticmethod
    def _plan_options(given):
        given = dict(given)
        place, device_map = given.pop("place", None), given.get("device_map")
        if isinstance(device_map, dict):
            given["device_map"] = json.dumps(device_map)
        options = _options(berth_plan_options, given)
        if place is not None:
            place = [place] if isinstance(place, str) else place
            options.place = (c_char_p * (len(place) + 1))(*[_path(p) for p in place], None)
        return options

    def plan(self, **options):
        """Decides where everything would live. `device_map` may be a dict, `place` is a list of "GLOB=DEVICE"."""
        o = Model._plan_options(options)
        address = self._lib.create("berth_plan_create", self.handle, byref(o))
        return Plan(self._lib, address, "berth_plan_destroy", (self,))

    def limits(self, **options):
        """What would still fit, as a dict: context, n_seqs, tiles, weights_fit."""
        o = Model._plan_options(options)
        return self._filled(berth_plan_limits, "berth_plan_limits_find", byref(o))

    def engine(self, **plan_options):
        """Plans and loads in one step."""
        return self.plan(**plan_options).engine()


class Plan(_Handle):
    """Where everything lives, as numbers, dicts and texts. An engine takes its plan: use engine.plan from then on."""

    def _value(self, name, *args):
        value = self._lib.function(name)(self.handle, *args)
        return _text(value) if isinstance(value, bytes) else value

    def _texts(self, name, *args):
        return self._lib.take_text(self._lib.function(name)(self.handle, *args))

    strategy = property(lambda self: self._value("berth_plan_strategy"))
    note = property(lambda self: self._value("berth_plan_note"), doc="What the strategy wants known.")
    refusal = property(lambda self: self._value("berth_plan_refusal"))
    n_devices = property(lambda self: self._value("berth_plan_n_devices"))
    n_replicas = property(lambda self: self._value("berth_plan_n_replicas"))
    image_tiles = property(lambda self: self._value("berth_plan_image_tiles"))
    chunk = property(lambda self: self._value("berth_plan_chunk"))
    fits = property(lambda self: bool(self._value("berth_plan_fits", None, None)))

    @property
    def missing(self):
        """(bytes, device) that are missing most; (0, -1) where the plan fits."""
        missing, device = c_uint64(), c_int32(-1)
        fits = self._lib.function("berth_plan_fits")(self.handle, byref(missing), byref(device))
        return (0, -1) if fits else (missing.value, device.value)

    @property
    def binds(self):
        """The device with the least room, the kind of memory that takes most on it, and that room in bytes."""
        kind, room = c_char_p(), c_int64()
        device = self._lib.function("berth_plan_binds")(self.handle, byref(kind), byref(room))
        return {"device": device, "kind": _text(kind.value), "room_bytes": room.value}

    def as_dict(self, program=False):
        """The whole plan; schema in docs/plan-schema.md."""
        return json.loads(self._texts("berth_plan_json", PLAN_WITH_PROGRAM if program else 0))

    def devices(self):
        return [self._filled(berth_plan_device, "berth_plan_get_device", d) for d in range(self.n_devices)]

    def modules(self, replica=0):
        """The module tree as a list of dicts, each with its `device` in a replica (-1: on several)."""
        out = []
        for m in range(self._value("berth_plan_n_modules")):
            row = self._filled(berth_plan_module, "berth_plan_get_module", m)
            row["device"] = self._value("berth_plan_module_device", replica, m)
            out.append(row)
        return out

    def copies(self, replica=0):
        """Each copy between devices of one pass."""
        n = self._value("berth_plan_n_copies", replica)
        return [self._filled(berth_plan_copy, "berth_plan_get_copy", replica, c) for c in range(n)]

    def edges(self, n_tiles=0, n_prompt=0, n_new=0, replica=0):
        """Bytes that such a request moves, as rows [from][to]; the last row and column are the host."""
        n = self.n_devices + 1
        out = (c_uint64 * (n * n))()
        self._lib.call("berth_plan_edges", self.handle, replica, n_tiles, n_prompt, n_new, out)
        return [list(out[row * n:(row + 1) * n]) for row in range(n)]

    def explain(self, name, replica=0):
        """Why a module, value or op is where it is, as a dict."""
        return json.loads(self._lib.take_text(
            self._lib.create("berth_plan_explain", self.handle, replica, name.encode("utf-8"), EXPLAIN_JSON)))

    def device_map(self, replica=0):
        """Hugging Face's form, as a dict."""
        return json.loads(self._texts("berth_plan_device_map", replica))

    def sizes(self):
        """What was planned for, defaults filled in: context, n_seqs, chunk, tiles, max_tiles."""
        return self._filled(berth_plan_sizes, "berth_plan_get_sizes")

    def dot(self, replica=0):
        """Graphviz; ALL_REPLICAS draws all of them."""
        return self._texts("berth_plan_dot", replica)

    def program_text(self, replica=0):
        return self._texts("berth_plan_program_text", replica)

    def engine(self, progress=None, order=None, **options):
        """Loads the model under this plan, which the engine takes. `progress(done_bytes, total_bytes)` while loading; `order` is
        "arrival" or "longest"."""
        raised = []

        def on_progress(_, done, total):
            try:
                if not raised:
                    progress(done, total)
            except BaseException as error:  # noqa: B902 raised again below, when C has returned
                raised.append(error)

        callback = _ProgressFn(on_progress) if progress else _ProgressFn()
        o = _options(berth_engine_options, options, progress=callback,
                     order=START_ORDERS.index(order) if order is not None else 0)
        model, plan = self._keep[0], self.handle
        if not isinstance(model, Model):
            raise BerthError(Status.INVALID_ARGUMENT, "this plan is an engine's already")
        self._end.detach()
        self._address = None
        engine = Engine(self._lib, self._lib.create("berth_engine_create", plan, byref(o)), "berth_engine_destroy", (model,))
        if raised:
            engine.close()
            raise raised[0]
        return engine


class _BorrowedPlan(Plan):
    """An engine's plan: lives as long as the engine."""

    def __init__(self, engine):
        self._lib, self._keep, self._engine = engine._lib, (engine,), engine

    @property
    def handle(self):
        return self._lib.function("berth_engine_plan")(self._engine.handle)

    def close(self):
        pass


# ---- what a request says, and what comes back --------------------------------------------------------------------------


class Image:
    """A picture: a path, an encoded PNG, JPEG, WebP, GIF or BMP (bytes), pixels as uint8 RGB [height, width, 3] (a numpy array or any
    such buffer), or a PIL image."""

    def __init__(self, source):
        self.width = self.height = 0
        if isinstance(source, (str, os.PathLike)):
            self.kind, self.data = IMAGE_FILE, _path(source)
        elif isinstance(source, (bytes, bytearray)):
            self.kind, self.data = IMAGE_BYTES, bytes(source)
        else:
            self.kind, self.data = PIXELS, self._pixels(source)

    def _pixels(self, source):
        if hasattr(source, "convert") and hasattr(source, "size"):  # PIL
            rgb = source.convert("RGB")
            self.width, self.height = rgb.size
            return rgb.tobytes()
        try:
            view = memoryview(source)
        except TypeError:
            raise TypeError(f"a picture is a path, bytes, pixels [height, width, 3] or a PIL image, not {type(source).__name__}") from None
        if view.format != "B" or view.ndim != 3 or view.shape[2] != 3:
            raise TypeError(f"pixels are uint8 RGB [height, width, 3]; these are {view.format!r} {list(view.shape or [])}")
        self.height, self.width = view.shape[:2]
        return view.tobytes()


def _part(part):
    """One piece of a turn as (kind, bytes, width, height)."""
    if isinstance(part, str):
        return TEXT, part.encode("utf-8"), 0, 0
    if isinstance(part, dict):
        if part.get("type") == "text":
            return _part(part["text"])
        if part.get("type") == "image":
            return _part(Image(part["image"]))
        raise TypeError('a part is {"type": "text", "text": ...} or {"type": "image", "image": ...}')
    image = part if isinstance(part, Image) else Image(part)
    return image.kind, image.data, image.width, image.height


class _Turns:
    """A prompt as an array of berth_turn: a text; a list of parts (one user turn); or one or a list of
    {"role": ..., "content": text or parts}."""

    def __init__(self, prompt):
        messages = [prompt] if isinstance(prompt, (str, Image, dict)) else list(prompt)
        if not messages or not all(isinstance(m, dict) and "role" in m for m in messages):
            messages = [{"role": "user", "content": messages}]
        self._keep = []
        self.array, self.n = (berth_turn * len(messages))(), len(messages)
        for turn, message in zip(self.array, messages):
            if "content" not in message:
                raise TypeError(f'a message is {{"role": ..., "content": text or parts}}, not one with {", ".join(message)}')
            content = message["content"]
            parts = [_part(p) for p in ([content] if isinstance(content, (str, Image)) else content)]
            pieces = (berth_content * len(parts))(*[(kind, data, len(data), w, h) for kind, data, w, h in parts])
            turn.role, turn.content, turn.n_content = message["role"].encode("utf-8"), pieces, len(parts)
            self._keep.append((turn, parts, pieces))


Token = collections.namedtuple("Token", "id index text at_ns logprob")
Token.__doc__ = "One generated token: `text` is what may be shown now, and may be empty."

Result = collections.namedtuple(
    "Result", "text token_ids finish_reason n_tokens n_prompt_tokens n_tiles replica timings edge_bytes n_reused_tokens n_drafted "
    "n_accepted queue_ns decode_image_ns tiles_ns project_ns edge_ns")
Result.__doc__ = "A request's answer and numbers: fields of berth_result; `timings` a dict, `edge_bytes` and `edge_ns` rows [from][to]."

Completion = collections.namedtuple("Completion", "kind id user token result error")
Completion.__doc__ = 'What a Queue gives: kind "token" with a Token, or "end" with a Result or, where it failed, a BerthError.'


def _token(t):
    return Token(t.id, t.index, _text(ctypes.string_at(t.text, t.text_size)) if t.text_size else "", t.at_ns, t.logprob)


def _result(r):
    n = r.n_devices + 1
    edges, times = ([per[row * n:(row + 1) * n] for row in range(n)] if per else [] for per in (r.edge_bytes, r.edge_ns))
    return Result(_text(r.text), r.token_ids[:r.n_tokens] if r.token_ids else [], _text(r.finish_reason), r.n_tokens,
                  r.n_prompt_tokens, r.n_tiles, r.replica, _fields(r.timings), edges, r.n_reused_tokens, r.n_drafted, r.n_accepted,
                  r.queue_ns, r.decode_image_ns, r.tiles_ns, r.project_ns, times)


class Cancel:
    """A switch that many requests may share: give it as `cancel=`, and set() it from any thread."""

    def __init__(self):
        self._flag = c_int(0)

    def set(self):
        self._flag.value = 1

    def is_set(self):
        return self._flag.value != 0


# ---- queues and streams ------------------------------------------------------------------------------------------------


class Queue(_Handle):
    """Takes what requests of any engines of one runtime tell. fileno() is readable while it is not empty: for select, epoll and
    asyncio's add_reader; do not read from it or close it."""

    def __init__(self, runtime):
        lib = runtime._lib
        super().__init__(lib, lib.create("berth_queue_create", runtime.handle), "berth_queue_destroy", (runtime,))
        self._users = {}
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def fileno(self):
        return self._lib.function("berth_queue_descriptor")(self.handle)

    def next(self, timeout=None):
        """The next Completion, or None when `timeout` seconds are over first (None: wait for ever)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            completion = self._take()
            if completion is not None:
                return completion
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._poll.poll(None if left is None else left * 1000)  # not in C, so that Ctrl-C is heard

    def _take(self):
        c = berth_completion(struct_size=sizeof(berth_completion))
        self._lib.call("berth_queue_next", self.handle, 0, byref(c))
        try:
            if c.kind == NONE:
                return None
            if c.kind == TOKEN:
                return Completion("token", c.id, self._users[c.user][0], _token(c.token), None, None)
            user = self._users.pop(c.user)[0]
            if c.status == Status.OK:
                return Completion("end", c.id, user, None, _result(c.result.contents), None)
            return Completion("end", c.id, user, None, None, BerthError._of(c.status, c.error.contents))
        finally:
            self._lib.function("berth_completion_deinit")(byref(c))

    def __iter__(self):
        """Completions until every request that was submitted to this queue has ended."""
        while self._users:
            yield self.next()


class Stream:
    """A request under way, told token by token: iterate, then see `result`. Leaving it early (close, `with`) cancels it."""

    def __init__(self, engine, prompt, options):
        self._engine, self._result, self._error, self._over = engine, None, None, False
        self._queue = Queue(engine.runtime)
        try:
            self.id = engine.submit(prompt, self._queue, **options)
        except BaseException:
            self._queue.close()
            raise

    def __iter__(self):
        return self

    def __next__(self):
        if self._over:
            raise StopIteration
        completion = self._queue.next()
        if completion.kind == "token":
            return completion.token
        self._over, self._result, self._error = True, completion.result, completion.error
        self._queue.close()
        if self._error is not None:
            raise self._error
        raise StopIteration

    @property
    def result(self):
        """The Result; waits for the end, past tokens that were not taken."""
        for _ in self:
            pass
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self):
        """Ends it within a step; the tokens so far and the end still come."""
        if not self._over:
            self._engine.cancel(self.id)

    def close(self):
        """Cancels what is still under way and waits for its end."""
        if self._over:
            return
        try:
            self.cancel()
            for _ in self:
                pass
        except BerthError:
            pass  # nobody is left to be told
        finally:
            self._over = True
            self._queue.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Dispatcher:
    """The requests of one engine in one asyncio loop: one queue, whose descriptor the loop watches while requests are under way."""

    def __init__(self, engine, loop):
        self._engine, self._loop, self._queue, self._streams = weakref.ref(engine), loop, None, 0

    def submit(self, stream, prompt, options):
        if self._queue is None:
            self._queue = Queue(self._engine().runtime)
            self._loop.add_reader(self._queue.fileno(), self._drain)
        try:
            number = self._engine().submit(prompt, self._queue, user=stream, **options)
            self._streams += 1
            return number
        finally:
            self._rest()

    def _rest(self):
        if self._streams == 0 and self._queue is not None:
            self._loop.remove_reader(self._queue.fileno())
            self._queue.close()
            self._queue = None

    def _drain(self):
        for _ in range(256):  # then others have their turn; the descriptor stays readable
            completion = self._queue.next(0)
            if completion is None:
                return
            if completion.kind == "end":
                self._streams -= 1
            completion.user._put(completion)
            if self._streams == 0:
                return self._rest()


class AsyncStream:
    """As Stream, for asyncio: `async for token in stream`, then `await stream.result()`."""

    def __init__(self, engine, prompt, options):
        self._engine, self._items, self._end, self._waiter = engine, collections.deque(), None, None
        self.id = engine._dispatcher(asyncio.get_running_loop()).submit(self, prompt, options)

    def _put(self, completion):
        if completion.kind == "end":
            self._end = completion
        else:
            self._items.append(completion.token)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._items:
            if self._end is not None:
                if self._end.error is not None:
                    raise self._end.error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items.popleft()

    async def result(self):
        """The Result; waits for the end, past tokens that were not taken. Cancelled when the awaiting task is."""
        try:
            async for _ in self:
                pass
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._end.result

    def cancel(self):
        if self._end is None:
            self._engine.cancel(self.id)


# ---- engine and session -------------------------------------------------------------------------------------------------

_users = itertools.count(1)


class Engine(_Handle):
    """A loaded model. A request's keyword arguments are the fields of berth_request (max_new_tokens, temperature, seed, priority,
    deadline_ms, ...), and `session` (a Session), `cancel` (a Cancel)."""

    def __init__(self, *args):
        super().__init__(*args)
        self._dispatchers = weakref.WeakKeyDictionary()

    @property
    def model(self):
        return self._keep[0]

    @property
    def runtime(self):
        return self.model.runtime

    @property
    def plan(self):
        return _BorrowedPlan(self)

    def _dispatcher(self, loop):
        if loop not in self._dispatchers:
            self._dispatchers[loop] = _Dispatcher(self, loop)
        return self._dispatchers[loop]

    def _request(self, prompt, options):
        """A filled berth_request, and what must live while it is used."""
        defaults = berth_request()
        self._lib.function("berth_request_init")(byref(defaults))
        options = dict(options)
        session, cancel = options.pop("session", None), options.pop("cancel", None)
        for name in ("turns", "n_turns", "on_token", "on_token_user"):
            if name in options:
                raise TypeError(f"{name!r} is not for Python; give the prompt as the first argument")
        request = _options(berth_request, options)
        for name in ("temperature", "top_p", "repetition_penalty"):
            if options.get(name) is None:
                setattr(request, name, getattr(defaults, name))
        turns = _Turns(prompt)
        request.turns, request.n_turns = turns.array, turns.n
        if session is not None:
            request.session = session.handle
        if cancel is not None:
            request.cancel = ctypes.addressof(cancel._flag)
        return request, (turns, session, cancel)

    def submit(self, prompt, queue, user=None, **options):
        """Starts a request that tells `queue`, and gives its id. `user` comes back in each Completion."""
        request, keep = self._request(prompt, options)
        key, number = next(_users), c_uint64()
        queue._users[key] = (user, keep[1:])
        try:
            self._lib.call("berth_engine_submit", self.handle, byref(request), queue.handle, key, byref(number))
        except BaseException:
            del queue._users[key]
            raise
        return number.value

    def cancel(self, number):
        """Ends a request within one step; False where it is over already."""
        try:
            self._lib.call("berth_engine_cancel", self.handle, number)
            return True
        except BerthError as error:
            if error.status != Status.NOT_FOUND:
                raise
            return False

    def stream(self, prompt, **options):
        """Starts a request and gives its Stream of tokens."""
        return Stream(self, prompt, options)

    def generate(self, prompt, on_token=None, **options):
        """Runs a request to its end and gives its Result. `on_token(token)`, where given, may answer False to stop."""
        if on_token is None:
            options.setdefault("quiet", 1)
        with self.stream(prompt, **options) as stream:
            for token in stream:
                if on_token is not None and on_token(token) is False:
                    stream.cancel()
                    on_token = None
            return stream.result

    def stream_async(self, prompt, **options):
        """As stream, in a running asyncio loop: an AsyncStream."""
        return AsyncStream(self, prompt, options)

    async def generate_async(self, prompt, **options):
        """As generate, in a running asyncio loop; cancelling the task cancels the request."""
        options.setdefault("quiet", 1)
        return await self.stream_async(prompt, **options).result()

    def session(self):
        """A conversation that remembers its turns."""
        return Session(self._lib, self._lib.create("berth_session_create", self.handle), "berth_session_destroy", (self,))

    def load_session(self, path):
        """A conversation that Session.save wrote."""
        address = self._lib.create("berth_session_load", self.handle, _path(path))
        return Session(self._lib, address, "berth_session_destroy", (self,))

    def stats(self):
        """Counts and times since the engine was made, as a dict."""
        return self._filled(berth_stats, "berth_engine_get_stats")

    def edge(self, source, target):
        """The way from a device to another (n_devices: the host), as a dict: `transport`, and in `note` why not a better one."""
        return self._filled(berth_edge, "berth_engine_get_edge", source, target)


class Session(_Handle):
    """A conversation: each request says only what is new."""

    @property
    def engine(self):
        return self._keep[0]

    def generate(self, prompt, **options):
        return self.engine.generate(prompt, session=self, **options)

    def stream(self, prompt, **options):
        return self.engine.stream(prompt, session=self, **options)

    async def generate_async(self, prompt, **options):
        return await self.engine.generate_async(prompt, session=self, **options)

    def info(self):
        return self._filled(berth_session_info, "berth_session_get_info")

    def turns(self):
        """What is remembered: a list of {"role", "text"}; pictures are "<image>"."""
        out = []
        for turn in range(self.info()["n_turns"]):
            role, text = c_void_p(), c_void_p()
            self._lib.call("berth_session_get_turn", self.handle, turn, byref(role), byref(text))
            out.append({"role": self._lib.take_text(role.value), "text": self._lib.take_text(text.value)})
        return out

    def rewind(self, n_turns):
        """Forgets all but the first n turns."""
        self._lib.call("berth_session_rewind", self.handle, n_turns)

    def fork(self):
        """A second conversation with the same past."""
        return Session(self._lib, self._lib.create("berth_session_fork", self.handle), "berth_session_destroy", self._keep)

    def save(self, path):
        self._lib.call("berth_session_save", self.handle, _path(path))
