"""Builds tokenizer.json of the published Qwen2 vocabulary (151643 + 31 entries), which is too large to lie here.

    pip download --no-deps dashscope && unzip -j dashscope-*.whl dashscope/resources/qwen.tiktoken
    python3 qwen2_vocab.py qwen.tiktoken OUTDIR [--pairs]
    BERTH_TEST_QWEN2=OUTDIR ctest -R golden

qwen.tiktoken lists every token with its rank. A token's merge is what the merges before it leave of it: always two parts. The result has
the published file's size to the byte, in both spellings of merges.
"""
import argparse
import base64
import json
import os
import sys
import types

for name in ("tokenizers",):                     # text.py makes files with it; here only its layout of a file is used
    stub = types.ModuleType(name)
    for member in ("Regex", "Tokenizer", "models", "normalizers", "pre_tokenizers", "trainers"):
        setattr(stub, member, None)
    sys.modules.setdefault(name, stub)
import text  # noqa: E402


def halves(token, ranks, limit):
    """The two tokens that the merges of rank below `limit` leave of a token."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, i = min((r, i) for i in range(len(parts) - 1) for r in [ranks.get(parts[i] + parts[i + 1])] if r is not None and r < limit)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("tiktoken")
    ap.add_argument("out")
    ap.add_argument("--pairs", action="store_true")
    a = ap.parse_args()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in open(a.tiktoken, "rb") if line.strip()}
    tokens = sorted(ranks, key=ranks.get)
    assert [ranks[t] for t in tokens] == list(range(151643))
    _, table = text.byte_alphabet()
    spell = lambda b: "".join(table[x] for x in b)
    merges = [tuple(spell(h) for h in halves(t, ranks, r)) for r, t in enumerate(tokens) if r >= 256]
    spelled = [spell(t) for t in tokens]
    assert spelled == text.from_merges(merges)
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(a.out, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(text.tokenizer_json(spelled, merges, text.ADDED, a.pairs), f, ensure_ascii=False, indent=2)


main()
