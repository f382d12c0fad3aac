"""Tests of berth.py: test_berth.py ROOT LIBRARY COMPILER [unittest's arguments]. Whole, against the bundled model."""
import asyncio
import ctypes
import gc
import importlib.machinery
import importlib.util
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

sys.dont_write_bytecode = True
ROOT, LIBRARY, COMPILER = sys.argv[1:4]
del sys.argv[1:4]
sys.path.insert(0, os.path.join(ROOT, "python"))
import berth  # noqa: E402

try:
    import numpy
except ImportError:
    numpy = None
try:
    import PIL.Image as pil
except ImportError:
    pil = None

MODEL = os.path.join(ROOT, "models", "receipt-tiny")
FIELDS = "Extract the fields as JSON."


def receipt(n):
    return os.path.join(MODEL, "receipts", f"receipt-{n:02}.png")


def answers():
    """(file name, question) -> the reference's row, made with transformers."""
    with open(os.path.join(ROOT, "tests", "golden", "receipts", "answers.jsonl"), encoding="utf-8") as f:
        return {(row["file"], row["question"]): row for row in map(json.loads, f)}


def png_pixels(path):
    """(width, height, RGB bytes) of an 8-bit RGB or grey PNG: a second reader, so that pixels come from elsewhere than berth."""
    with open(path, "rb") as f:
        data = f.read()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = {0: 1, 2: 3}[colour]
    assert depth == 8
    at, packed = 8, b""
    while at < len(data):
        (size,) = struct.unpack(">I", data[at:at + 4])
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + size]
        at += 12 + size
    raw, stride, rows = zlib.decompress(packed), width * channels, [bytearray(width * channels)]
    for y in range(height):
        kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride if kind else 0):
            a = line[x - channels] if x >= channels else 0
            b = rows[-1][x]
            c = rows[-1][x - channels] if x >= channels else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2] if kind == 4 else 0
            line[x] = (line[x] + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
        rows.append(line)
    flat = b"".join(rows[1:])
    return width, height, flat if channels == 3 else bytes(v for v in flat for _ in range(3))


def headers():
    """What scripts/api-reference reads from the public headers, as one list."""
    path = os.path.join(ROOT, "scripts", "api-reference")
    loader = importlib.machinery.SourceFileLoader("api_reference", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    folder = os.path.join(ROOT, "runtime", "include", "berth")
    return [item for name in ("status.h", "berth.h") for item in module.read_header(os.path.join(folder, name))["items"]]


def until(true_of, attempt):
    """The first of the attempt's results that this is true of. What comes too late once, on a busy machine, comes in time again."""
    for _ in range(100):
        result = attempt()
        if true_of(result):
            return result
    raise AssertionError(f"the last of 100: {result!r}")


class Layout(unittest.TestCase):
    """berth.py says of the C interface what the headers say."""

    def test_structs_lie_as_the_compiler_lays_them(self):
        structs = [i for i in headers() if i["kind"] == "struct"]
        self.assertEqual(sorted(s["name"] for s in structs), sorted(berth.STRUCTS))
        lines = []
        for s in structs:
            lines.append(f'printf("{s["name"]} %zu\\n", sizeof({s["name"]}));')
            for f in s["fields"]:
                lines.append(f'printf("{s["name"]}.{f["name"]} %zu %zu\\n", offsetof({s["name"]}, {f["name"]}), '
                             f'sizeof((({s["name"]} *)0)->{f["name"]}));')
        with tempfile.TemporaryDirectory() as folder:
            source, program = os.path.join(folder, "layout.c"), os.path.join(folder, "layout")
            with open(source, "w") as f:
                f.write("#include <berth/berth.h>\n#include <stdio.h>\nint main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
            subprocess.run([COMPILER, "-I", os.path.join(ROOT, "runtime", "include"), source, "-o", program], check=True)
            said = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
        here = []
        for s in structs:
            kind = berth.STRUCTS[s["name"]]
            here.append(f"{s['name']} {ctypes.sizeof(kind)}")
            here += [f"{s['name']}.{n} {getattr(kind, n).offset} {getattr(kind, n).size}" for n, _ in kind._fields_]
        self.assertEqual(said, here)
        self.assertGreater(len(said), 150)

    def test_functions_take_what_the_header_says(self):
        items = headers()
        handles = {i["name"] for i in items if i["kind"] == "handle"}
        enums = {i["name"] for i in items if i["kind"] == "enum"}
        callbacks = {i["name"] for i in items if i["kind"] == "callback"}
        plain = {"int": ctypes.c_int, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "uint32_t": ctypes.c_uint32,
                 "uint64_t": ctypes.c_uint64, "size_t": ctypes.c_size_t, "void *": ctypes.c_void_p, "void": None,
                 "const char *": ctypes.c_char_p, "char *": ctypes.c_void_p, "char **": ctypes.POINTER(ctypes.c_void_p),
                 "const char **": ctypes.POINTER(ctypes.c_char_p)}

        def kind_of(text):
            text = text.strip()
            if text in plain:
                return plain[text]
            base = text.replace("const ", "")
            if base in enums:
                return ctypes.c_int
            if base in callbacks or base.endswith(" *") and base[:-2] in handles:
                return ctypes.c_void_p
            if base.endswith(" **") and base[:-3] in handles:
                return ctypes.POINTER(ctypes.c_void_p)
            if base.endswith("*"):
                inner = base[:-1].strip()
                return ctypes.POINTER(berth.STRUCTS[inner] if inner in berth.STRUCTS else kind_of(inner))
            raise AssertionError(f"no Python type is known for {text!r}")

        wanted = {i["name"]: (kind_of(i["returns"]), [kind_of(p["type"]) for p in i["parameters"]])
                  for i in items if i["kind"] == "function"}
        self.assertEqual(sorted(wanted), sorted(berth.FUNCTIONS))
        for name, (result, arguments) in wanted.items():
            self.assertEqual(berth.FUNCTIONS[name], (result, arguments), name)

    def test_constants(self):
        values = {v["name"]: v["value"] for i in headers() if i["kind"] == "enum" for v in i["values"]}
        for status in berth.Status:
            self.assertEqual(values["BERTH_" + status.name], status.value)
        self.assertEqual(values["BERTH_STATUS_COUNT"], len(berth.Status))
        for prefix, names in (("LOG", berth.LOG_LEVELS), ("ORDER", berth.START_ORDERS)):
            self.assertEqual([values[f"BERTH_{prefix}_{n.upper()}"] for n in names], list(range(len(names))))
        for name in ("TEXT", "IMAGE_FILE", "IMAGE_BYTES", "PIXELS"):
            self.assertEqual(values["BERTH_CONTENT_" + name], getattr(berth, name))
        for name in ("NONE", "TOKEN", "END"):
            self.assertEqual(values["BERTH_COMPLETION_" + name], getattr(berth, name))
        alone = [v for i in headers() if i["kind"] == "enum" and not i["name"] for v in i["values"]]
        self.assertGreaterEqual(len(alone), 3)
        for value in alone:
            self.assertEqual(value["value"], getattr(berth, value["name"][len("BERTH_"):]))

    def test_every_function_is_in_the_library(self):
        for name in berth.FUNCTIONS:
            berth.load().function(name)


class Plans(unittest.TestCase):
    def setUp(self):
        self.runtime = berth.Runtime()
        self.model = self.runtime.open_model(MODEL)
        self.addCleanup(self.runtime.close)
        self.addCleanup(self.model.close)

    def test_a_plan_as_dicts(self):
        plan = self.model.plan(devices="cpu*3/mem=1GiB", strategy="balanced", n_seqs=2, place=["lm_head=0"])
        whole = plan.as_dict()
        self.assertEqual(whole["schema"], "berth.plan/1")
        self.assertEqual([d["name"] for d in plan.devices()], ["cpu:0", "cpu:1", "cpu:2"])
        self.assertEqual([d["total"] for d in plan.devices()], [d["total_bytes"] for d in whole["devices"]])
        self.assertEqual(plan.device_map()["lm_head"], 0)
        modules = {m["path"]: m for m in plan.modules()}
        self.assertEqual(modules["lm_head"]["device"], 0)
        self.assertEqual(modules[""]["device"], -1)
        self.assertTrue(plan.fits)
        self.assertEqual((plan.strategy, plan.n_devices, plan.n_replicas, plan.missing), ("balanced", 3, 1, (0, -1)))
        self.assertEqual(len(plan.copies()), sum(whole["replicas"][0][p]["n_copies"] for p in ("encode", "step")))
        edges = plan.edges(n_tiles=4, n_prompt=100, n_new=1)
        self.assertEqual([len(row) for row in edges], [4] * 4)
        self.assertGreater(edges[3][0], 0)  # from the host to where pictures are encoded
        self.assertEqual(plan.explain("lm_head")["module"]["path"], "lm_head")
        self.assertIn("digraph", plan.dot(berth.ALL_REPLICAS))
        self.assertEqual(plan.sizes(), {k: whole[k] for k in ("context", "n_seqs", "chunk", "tiles", "max_tiles")})
        self.assertGreater(len(plan.as_dict(program=True)["replicas"][0]["step"]["program"]), 0)
        self.assertTrue(plan.program_text())

    def test_a_plan_that_does_not_fit_says_what_is_missing(self):
        plan = self.model.plan(devices="cpu/mem=4MiB", strategy="single", show_misfit=1)
        self.assertFalse(plan.fits)
        self.assertGreater(plan.missing[0], 0)
        self.assertEqual(plan.binds["room_bytes"], -plan.missing[0])
        with self.assertRaises(berth.BerthError) as caught:
            plan.engine()
        self.assertEqual(caught.exception.status, berth.Status.DOES_NOT_FIT)

    def test_a_device_map_may_be_a_dict(self):
        plan = self.model.plan(devices="cpu*2", device_map={"": 1})
        self.assertEqual(plan.modules()[0]["device"], 1)

    def test_limits(self):
        limits = self.model.limits(devices="cpu/mem=64MiB")
        self.assertEqual(sorted(limits), ["context", "n_seqs", "tiles", "weights_fit"])
        self.assertGreater(limits["n_seqs"], 0)

    def test_text_and_ids(self):
        text = "Total: 237.54 \u00fc\u4e2d <|im_end|>"
        ids = self.model.tokenize(text)
        self.assertEqual(self.model.detokenize(ids), text)
        self.assertEqual(self.model.detokenize([]), "")

    def test_info(self):
        info = self.model.info()
        self.assertEqual(info["schema"], "berth.model/1")
        with open(os.path.join(ROOT, "docs", "embedding.md"), encoding="utf-8") as f:
            section = f.read().split("schema `berth.model/1`")[1].split("\n## ")[0]
        rows = [row.split("|")[1:4] for row in section.splitlines() if row.startswith("| `")]
        documented = [re.findall(r"`(\w+)", names)[0] for names, _, _ in rows]
        self.assertEqual(documented, list(info))
        for names, _, meaning in rows:  # of an object, all that it holds is named
            value = info[re.findall(r"`(\w+)", names)[0]]
            for key in value if isinstance(value, dict) else value[0] if isinstance(value, list) else ():
                self.assertIn(f"`{key}`", meaning)
        self.assertEqual(info["weight_bytes"], self.model.plan().modules()[0]["weight_bytes"])
        self.assertEqual(info["text"]["n_layers"], 6)

    def test_errors_carry_status_and_message(self):
        with self.assertRaises(berth.BerthError) as caught:
            self.runtime.open_model("/no/such/folder")
        self.assertEqual(caught.exception.status, berth.Status.NOT_FOUND)
        self.assertIn("/no/such/folder", str(caught.exception))
        with self.assertRaises(berth.BerthError) as caught:
            self.model.plan(strategy="no_such")
        self.assertEqual(caught.exception.status, berth.Status.INVALID_ARGUMENT)
        with self.assertRaisesRegex(TypeError, "did you mean 'devices'"):
            self.model.plan(devises="cpu")

    def test_values_of_another_type_are_named(self):
        for given, message in (({"devices": 3}, "devices=3: expected a text"), ({"devices": ["cpu"]}, "expected a text"),
                               ({"strategy": "x\0y"}, "without NUL"), ({"n_seqs": "2"}, "n_seqs='2'"), ({"n_seqs": 1.5}, "n_seqs=1.5")):
            with self.subTest(given), self.assertRaises(TypeError) as caught:
                self.model.plan(**given)
            self.assertIn(message, str(caught.exception))
        with self.assertRaisesRegex(OverflowError, "n_seqs"):
            self.model.plan(n_seqs=1 << 32)
        with self.assertRaisesRegex(ValueError, "null byte"):
            self.runtime.open_model(f"{MODEL}\0x")

    def test_one_place_may_be_a_text(self):
        self.assertEqual(self.model.plan(devices="cpu*2", strategy="single", place="vision.*=cpu:1").as_dict(),
                         self.model.plan(devices="cpu*2", strategy="single", place=["vision.*=cpu:1"]).as_dict())

    def test_closed_handles_say_so(self):
        plan = self.model.plan()
        plan.close()
        plan.close()
        with self.assertRaisesRegex(berth.BerthError, "this Plan is closed"):
            plan.fits

    def test_log_messages_arrive(self):
        said = []
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(MODEL, "config.json"), "rb") as f, open(os.path.join(folder, "config.json"), "wb") as out:
                out.write(f.read())
            with berth.Runtime(log=lambda level, message: said.append((level, message))) as runtime:
                runtime.open_model(folder, allow_missing_weights=1).close()
        self.assertEqual([level for level, _ in said], ["warning"])
        self.assertIn("no weight files", said[0][1])

    def test_what_is_not_closed_is_closed_when_collected(self):
        for _ in range(50):
            model = berth.Runtime().open_model(MODEL)
            model.plan()
        del model
        gc.collect()

    def test_two_libraries_side_by_side(self):
        other = berth.Library(LIBRARY)
        with berth.Runtime(library=other) as runtime, runtime.open_model(MODEL) as model:
            self.assertEqual(model.plan().strategy, self.model.plan().strategy)
        with self.assertRaisesRegex(berth.BerthError, "cannot be loaded"):
            berth.Library("/no/such/libberth.so")


class Engines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.runtime = berth.Runtime()
        cls.model = cls.runtime.open_model(MODEL)
        cls.engine = cls.model.plan(devices="cpu*2", strategy="balanced", context=512, n_seqs=4).engine()
        cls.rows = answers()

    @classmethod
    def tearDownClass(cls):
        for handle in (cls.engine, cls.model, cls.runtime):
            handle.close()

    def row(self, n, question=FIELDS):
        return self.rows[(f"receipt-{n:02}.png", question)]

    def ask(self, n, question=FIELDS):
        return [berth.Image(receipt(n)), question]

    def test_generate_gives_the_references_tokens(self):
        result = self.engine.generate(self.ask(1), no_prefix_cache=True)
        self.assertEqual(result.token_ids, self.row(1)["ids"])
        self.assertEqual(result.text, self.row(1)["text"])
        self.assertEqual((result.finish_reason, result.n_prompt_tokens), ("stop", self.row(1)["n_prompt"]))
        self.assertGreater(result.timings["total_ns"], result.timings["first_token_ns"])
        self.assertEqual([len(row) for row in result.edge_bytes], [3] * 3)
        self.assertEqual([[n > 0 for n in row] for row in result.edge_bytes], [[ns > 0 for ns in row] for row in result.edge_ns])
        self.assertEqual(self.engine.edge(2, 0), {"transport": "local", "note": ""})
        self.assertTrue(0 < result.decode_image_ns + result.tiles_ns <= result.timings["image_ns"])
        self.assertTrue(0 < result.project_ns < result.timings["encode_ns"])

    def test_a_picture_in_every_form(self):
        width, height, pixels = png_pixels(receipt(1))
        view = memoryview(pixels).cast("B", (height, width, 3))
        with open(receipt(1), "rb") as f:
            encoded = f.read()
        for image in (berth.Image(encoded), berth.Image(view), encoded, {"type": "image", "image": receipt(1)}):
            self.assertEqual(self.engine.generate([image, FIELDS]).token_ids, self.row(1)["ids"])

    @unittest.skipUnless(numpy, "numpy is not installed")
    def test_numpy_pixels(self):
        width, height, pixels = png_pixels(receipt(2))
        array = numpy.frombuffer(pixels, numpy.uint8).reshape(height, width, 3)
        self.assertEqual(self.engine.generate([array, FIELDS]).token_ids, self.row(2)["ids"])
        turned = numpy.ascontiguousarray(array.transpose(1, 0, 2)).transpose(1, 0, 2)  # the same pixels, another order in memory
        self.assertEqual(self.engine.generate([turned, FIELDS]).token_ids, self.row(2)["ids"])
        for wrong in (array[:, :, 0], array.astype(numpy.float32), array[:, :, :2]):
            with self.assertRaisesRegex(TypeError, "uint8 RGB"):
                berth.Image(wrong)

    @unittest.skipUnless(pil, "Pillow is not installed")
    def test_pil_images(self):
        with pil.open(receipt(1)) as image:
            self.assertEqual(self.engine.generate([image, FIELDS]).token_ids, self.row(1)["ids"])

    def test_messages(self):
        result = self.engine.generate([{"role": "user", "content": [{"type": "image", "image": receipt(1)},
                                                                    {"type": "text", "text": FIELDS}]}])
        self.assertEqual(result.token_ids, self.row(1)["ids"])
        content = [berth.Image(receipt(1)), FIELDS]
        self.assertEqual(self.engine.generate({"role": "user", "content": content}).token_ids, self.row(1)["ids"])
        with self.assertRaisesRegex(TypeError, "a message is"):
            self.engine.generate([{"role": "user"}])

    def test_stream_tells_token_by_token(self):
        with self.engine.stream(self.ask(2), logprobs=1) as stream:
            tokens = list(stream)
        self.assertEqual([t.id for t in tokens], self.row(2)["ids"])
        self.assertEqual([t.index for t in tokens], list(range(len(tokens))))
        self.assertEqual("".join(t.text for t in tokens), self.row(2)["text"])
        self.assertTrue(all(t.logprob <= 0 for t in tokens) and any(t.logprob < 0 for t in tokens))
        self.assertEqual(sorted(t.at_ns for t in tokens), [t.at_ns for t in tokens])
        self.assertEqual(stream.result.token_ids, self.row(2)["ids"])

    def test_cancel_ends_a_stream_early(self):
        def cancel_at_the_fourth():
            with self.engine.stream("Read all the text.", ignore_stop=1, max_new_tokens=400) as stream:
                for token in stream:
                    if token.index == 3:
                        stream.cancel()
                return stream.result
        result = until(lambda r: r.finish_reason != "length", cancel_at_the_fourth)
        self.assertEqual(result.finish_reason, "cancelled")
        self.assertLess(result.n_tokens, 400)

    def test_leaving_a_stream_cancels_it(self):
        with self.engine.stream("Read all the text.", ignore_stop=1, max_new_tokens=400) as stream:
            next(stream)
        self.assertEqual(self.engine.cancel(stream.id), False)  # over
        self.assertEqual(list(stream), [])

    def test_a_cancel_switch_from_another_thread(self):
        def switch_at_the_first():
            switch, began = berth.Cancel(), threading.Event()
            thread = threading.Thread(target=lambda: began.wait() and switch.set())
            thread.start()
            result = self.engine.generate("Read all the text.", ignore_stop=1, max_new_tokens=450, cancel=switch,
                                          on_token=lambda token: began.set() or True)
            thread.join()
            return result
        result = until(lambda r: r.finish_reason != "length", switch_at_the_first)
        self.assertEqual(result.finish_reason, "cancelled")
        self.assertLess(result.n_tokens, 450)

    def test_a_waiting_call_is_interrupted_by_a_signal(self):
        def on_alarm(*_):
            raise InterruptedError("alarm")
        old = signal.signal(signal.SIGALRM, on_alarm)
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with self.assertRaises(InterruptedError):
            while True:
                self.engine.generate("Read all the text.", ignore_stop=1, max_new_tokens=450)
        self.assertEqual(self.engine.generate(self.ask(1)).token_ids, self.row(1)["ids"])

    def test_on_token_may_stop_and_raise(self):
        seen = []
        result = self.engine.generate(self.ask(1), on_token=lambda t: seen.append(t) or len(seen) < 2)
        self.assertIn(result.finish_reason, ("cancelled", "stop"))
        self.assertEqual(len(seen), 2)

        def fails(token):
            raise KeyError("mine")
        with self.assertRaises(KeyError):
            self.engine.generate(self.ask(1), on_token=fails)

    def test_a_failing_request_raises(self):
        with self.assertRaises(berth.BerthError) as caught:
            self.engine.generate([berth.Image("/no/such.png"), FIELDS])
        self.assertEqual(caught.exception.status, berth.Status.NOT_FOUND)
        with self.assertRaises(berth.BerthError) as caught:
            self.engine.generate("x", max_new_tokens=-1)
        self.assertEqual(caught.exception.status, berth.Status.INVALID_ARGUMENT)
        with self.assertRaises(TypeError):
            self.engine.generate("x", temprature=1.0)

    def test_a_queue_with_many_requests_and_poll(self):
        with self.runtime.queue() as queue:
            wanted = {}
            for i in range(12):
                number = self.engine.submit(self.ask(1 + i % 2), queue, user=i, quiet=1)
                wanted[number] = self.row(1 + i % 2)["ids"]
            poll = select.poll()
            poll.register(queue, select.POLLIN)
            got = {}
            while len(got) < 12:
                self.assertTrue(poll.poll())
                completion = queue.next(0)
                if completion is not None:
                    self.assertEqual((completion.kind, completion.error), ("end", None))
                    got[completion.id] = completion.result.token_ids
            self.assertEqual(got, wanted)
            self.assertIsNone(queue.next(0))
            before = time.monotonic()
            self.assertIsNone(queue.next(0.05))
            self.assertGreaterEqual(time.monotonic() - before, 0.05)
            self.assertEqual(list(queue), [])

    def test_threads(self):
        got, errors = {}, []

        def work(n):
            try:
                got[n] = self.engine.generate(self.ask(1 + n % 2)).token_ids
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        self.assertEqual(got, {n: self.row(1 + n % 2)["ids"] for n in range(6)})

    def test_asyncio(self):
        async def both():
            stream = self.engine.stream_async(self.ask(1))
            others = [asyncio.ensure_future(self.engine.generate_async(self.ask(1 + n % 2))) for n in range(5)]
            ids = [token.id async for token in stream]
            return ids, (await stream.result()).token_ids, [r.token_ids for r in await asyncio.gather(*others)]
        for _ in range(2):  # a second loop, with a queue of its own
            ids, result, others = asyncio.run(both())
            self.assertEqual((ids, result), (self.row(1)["ids"],) * 2)
            self.assertEqual(others, [self.row(1 + n % 2)["ids"] for n in range(5)])

    def test_cancelling_a_task_cancels_its_request(self):
        async def is_cancelled(after):
            task = asyncio.ensure_future(self.engine.generate_async("x", ignore_stop=1, max_new_tokens=450))
            await asyncio.sleep(after)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return True
            return False
        self.assertTrue(asyncio.run(is_cancelled(0)))  # before its end can be told
        until(bool, lambda: asyncio.run(is_cancelled(0.02)))

    def test_an_async_failure_raises(self):
        async def failing():
            await self.engine.generate_async([berth.Image("/no/such.png"), FIELDS])
        with self.assertRaises(berth.BerthError):
            asyncio.run(failing())

    def test_stats(self):
        before = self.engine.stats()
        self.engine.generate(self.ask(1))
        after = self.engine.stats()
        self.assertEqual(after["n_submitted"], before["n_submitted"] + 1)
        self.assertGreater(after["n_new_tokens"], before["n_new_tokens"])

    def test_the_engines_plan(self):
        self.assertEqual(self.engine.plan.strategy, "balanced")
        with self.assertRaises(berth.BerthError):
            self.engine.plan.engine()

    def test_progress_is_told_and_may_raise(self):
        said = []
        with self.model.plan().engine(progress=lambda done, total: said.append((done, total))):
            self.assertEqual(said[-1][0], said[-1][1])

        def fails(done, total):
            raise KeyError("mine")
        with self.assertRaises(KeyError):
            self.model.plan().engine(progress=fails)


class Sessions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.runtime = berth.Runtime()
        cls.engine = cls.runtime.open_model(MODEL).plan(context=1024, n_seqs=2).engine()

    @classmethod
    def tearDownClass(cls):
        cls.engine.close()
        cls.runtime.close()

    def test_a_conversation(self):
        with self.engine.session() as session:
            first = session.generate([berth.Image(receipt(1)), FIELDS])
            second = session.generate("What is the total?")
            self.assertGreater(second.n_reused_tokens, 0)
            self.assertEqual([t["role"] for t in session.turns()], ["user", "assistant"] * 2)
            self.assertEqual(session.turns()[1]["text"], first.text)
            self.assertEqual(session.info()["n_turns"], 4)
            whole = self.engine.generate([
                {"role": "user", "content": [berth.Image(receipt(1)), FIELDS]},
                {"role": "assistant", "content": first.text},
                {"role": "user", "content": "What is the total?"}])
            self.assertEqual(second.token_ids, whole.token_ids)

    def test_rewind_fork_save_load(self):
        with self.engine.session() as session, tempfile.TemporaryDirectory() as folder:
            session.generate([berth.Image(receipt(2)), FIELDS])
            path = os.path.join(folder, "talk.session")
            session.save(path)
            with session.fork() as fork, self.engine.load_session(path) as loaded:
                said = [s.generate("What is the total?").token_ids for s in (session, fork, loaded)]
            self.assertEqual(said[0], said[1])
            self.assertEqual(said[0], said[2])
            session.rewind(2)
            self.assertEqual(len(session.turns()), 2)
            self.assertEqual(session.generate("What is the total?").token_ids, said[0])
            with open(path, "r+b") as f:
                f.seek(100)
                f.write(b"\xff\x00\xff")
            with self.assertRaises(berth.BerthError) as caught:
                self.engine.load_session(path)
            self.assertEqual(caught.exception.status, berth.Status.BAD_FILE)


if __name__ == "__main__":
    berth.load(LIBRARY)
    unittest.main()
