"""scripts/api-reference: the headers have a comment for everything public, docs/api.md is what they say, and the reading of them
notices what it is there to notice. Usage: api_reference_test.py ROOT"""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = sys.argv.pop(1)
loader = importlib.machinery.SourceFileLoader("api_reference", os.path.join(ROOT, "scripts", "api-reference"))
spec = importlib.util.spec_from_loader(loader.name, loader)
api = importlib.util.module_from_spec(spec)
loader.exec_module(api)

SMALL = """/* x.h - a small header. */
#ifndef X_H
#define X_H
#define BERTH_MANY 7 /* how many */
typedef struct berth_box berth_box;

/* ---- boxes ---- */

/* What a box holds. */
typedef struct berth_box_options { %s
    size_t struct_size;
    int32_t a, b; /* two numbers */
    void (*call)(void *user, int what); /* a function */
    char name[BERTH_MANY];%s
} berth_box_options;
typedef enum berth_kind { BERTH_ONE = 4, /* the first */ BERTH_TWO%s } berth_kind; /* kinds */
/* Opens
 *   - one
 *   - or another. */
BERTH_API berth_status berth_box_open(const char *const *names, uint64_t sizes[2],
                                      berth_box **out, berth_error *err);
BERTH_API void berth_box_close(berth_box *box);
BERTH_API int berth_box_count(void);%s
#endif
"""


def read(*holes):
    with tempfile.NamedTemporaryFile("w", suffix=".h") as f:
        f.write(SMALL % holes)
        f.flush()
        return api.read_header(f.name)


class Reading(unittest.TestCase):
    full = ("", " /* its name */", " /* the second */", " /* of boxes */")

    def test_a_header_with_all_comments_has_no_holes(self):
        self.assertEqual(api.missing({"x.h": read(*self.full)}), [])

    def test_each_missing_comment_is_noticed(self):
        for hole, name in ((1, "field berth_box_options.name"), (2, "value BERTH_TWO"), (3, "function berth_box_count")):
            holes = list(self.full)
            holes[hole] = ""
            found = api.missing({"x.h": read(*holes)})
            self.assertEqual([f.split(": ")[1] for f in found], [name])

    def test_declarations_are_read_whole(self):
        items = {i["name"]: i for i in read(*self.full)["items"]}
        self.assertEqual([f["name"] for f in items["berth_box_options"]["fields"]], ["struct_size", "a", "b", "call", "name"])
        self.assertEqual(items["berth_box_options"]["fields"][4]["type"], "char[BERTH_MANY]")
        self.assertEqual([v["value"] for v in items["berth_kind"]["values"]], [4, 5])
        opened = items["berth_box_open"]
        self.assertEqual([p["name"] for p in opened["parameters"]], ["names", "sizes", "out", "err"])
        self.assertEqual(opened["parameters"][0]["type"], "const char *const *")
        self.assertIn("- or another.", opened["comment"])
        self.assertEqual(items["berth_box_count"]["parameters"], [])
        self.assertEqual(items["berth_box"]["kind"], "handle")


class Page(unittest.TestCase):
    def test_everything_public_has_a_comment_and_the_page_is_current(self):
        self.assertEqual(api.main(["--check"]), 0)


unittest.main()
