"""Writes unicode_table.c: what the tokenizer asks about code points, packed for one lookup each.

    python3 make_unicode_table.py ../../tests/golden/text/unicode.json > unicode_table.c

The classes come from that file (the reference's own answers, Unicode 16). "Inert" comes from Python's unicodedata: a code point
that NFC neither changes nor joins to what stands before it (combining class 0 and NFC_Quick_Check=Yes).
"""
import json
import sys
import unicodedata

OTHER, LETTER, NUMBER, SPACE, LIVELY = 0, 1, 2, 3, 4
PAGE = 256


def nibbles(table):
    bits = [OTHER] * 0x110000
    for name, value in (("letter", LETTER), ("number", NUMBER), ("space", SPACE)):
        for first, last in table[name]:
            for c in range(first, last + 1):
                bits[c] = value
    apart = set(table["not_composed"])
    for c in range(0x110000):
        s = chr(c)
        parts = unicodedata.decomposition(s)
        parts = [] if not parts or parts[0] == "<" else [int(x, 16) for x in parts.split()]
        if unicodedata.combining(s) or (unicodedata.normalize("NFC", s) != s and not 0xd800 <= c < 0xe000):
            bits[c] |= LIVELY
        elif len(parts) == 2 and c not in apart:
            bits[parts[1]] |= LIVELY
    for c in list(range(0x1161, 0x1176)) + list(range(0x11a7, 0x11c3)):
        bits[c] |= LIVELY
    for first, last in table["marks_not_reordered"]:
        for c in range(first, last + 1):
            bits[c] |= LIVELY
    return bits


def rows(name, kind, values, per_line):
    print(f"{kind} {name}[] = {{")
    for i in range(0, len(values), per_line):
        print("    " + ", ".join(str(v) for v in values[i:i + per_line]) + ",")
    print("};\n")


def main():
    table = json.load(open(sys.argv[1]))
    bits = nibbles(table)
    pages, index = {}, []
    for i in range(0, len(bits), PAGE):
        index.append(pages.setdefault(tuple(bits[i:i + PAGE]), len(pages)))
    packed = [page[i] | page[i + 1] << 4 for page in pages for i in range(0, PAGE, 2)]
    assert len(pages) <= 256
    print("/* unicode_table.c - made by make_unicode_table.py; do not edit. One nibble per code point, in shared pages of 256. */")
    print('#include "text/unicode_table.h"\n')
    print("/* clang-format off */")
    rows("berth_unicode_page", "const uint8_t", index, 32)
    rows("berth_unicode_bits", "const uint8_t", packed, 32)
    print("/* Marks that Unicode 9 does not know: normalisation must not reorder them. First and last of each range. */")
    marks = table["marks_not_reordered"]
    rows("berth_unicode_blind_marks", "const uint32_t", [f"{a:#x}, {b:#x}" for a, b in marks], 6)
    print(f"const size_t berth_unicode_n_blind_marks = {len(marks)};\n")
    print("/* Compositions that Unicode 9 does not know: neither made nor taken apart. */")
    rows("berth_unicode_apart", "const uint32_t", [f"{c:#x}" for c in sorted(table["not_composed"])], 8)
    print(f"const size_t berth_unicode_n_apart = {len(table['not_composed'])};")
    print("/* clang-format on */")


main()
