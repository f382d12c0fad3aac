"""Answers of transformers on receipts, token for token. Usage:
    check.py MODEL_DIR answers OUT.jsonl         every bundled receipt and question: the reference that berth's test compares with
    check.py MODEL_DIR score N [FIRST_SEED]      exact answers among N receipts that training never saw
    check.py MODEL_DIR draw N DIR [FIRST_SEED]   the same receipts as PNG files with truth.jsonl, for other programs to answer

Float32, greedy, transformers' own classes and processor arithmetic of data.py (no rescaling but the thumbnail).
"""
import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, InternVLForConditionalGeneration

import data

MODEL, WHAT = sys.argv[1], sys.argv[2]
FIRST = 40_000_000
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def load():
    model = InternVLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(MODEL)


def pixels(im):
    return torch.stack([(torch.from_numpy(np.array(t)).permute(2, 0, 1).float() / 255 - MEAN) / STD for t in data.tiles(im)])


def answer(model, tk, im, question):
    px = pixels(im)
    per = (data.TILE // data.PATCH // 2) ** 2
    text = f"<|im_start|>user\n<img>{'<IMG_CONTEXT>' * (per * len(px))}</img>\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tk(text)["input_ids"]])
    with torch.no_grad():
        out = model.generate(input_ids=ids, pixel_values=px, attention_mask=torch.ones_like(ids), max_new_tokens=160, do_sample=False)
    new = out[0, ids.shape[1]:].tolist()
    return ids[0].tolist(), new, tk.decode(new, skip_special_tokens=True)


def answers(path):
    model, tk = load()
    root = os.path.join(MODEL, "receipts")
    with open(path, "w") as out:
        for name in sorted(n for n in os.listdir(root) if n.endswith((".png", ".jpg"))):
            im = Image.open(os.path.join(root, name)).convert("RGB")
            for question in [data.ASK_JSON, data.ASK_TEXT, *data.ASKS.values()]:
                prompt, new, text = answer(model, tk, im, question)
                row = {"file": name, "question": question, "n_prompt": len(prompt), "ids": new, "text": text}
                out.write(json.dumps(row) + "\n")


def score(n, first):
    model, tk = load()
    ok = right = 0
    for s in range(n):
        f, im, _, _ = data.make(first + s)
        want = data.answer_json(f)
        got = answer(model, tk, im, data.ASK_JSON)[2]
        ok += got == want
        try:
            a, b = json.loads(got), json.loads(want)
            right += sum(a.get(k) == v for k, v in b.items())
        except ValueError:
            pass
    print(f"exact {ok} of {n}, fields {right / (5 * n):.4f}")


def draw(n, folder, first):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "truth.jsonl"), "w") as out:
        for s in range(n):
            f, im, _, _ = data.make(first + s)
            name = f"{first + s}.png"
            im.save(os.path.join(folder, name))
            out.write(json.dumps({"file": name, "answer": data.answer_json(f)}) + "\n")


if WHAT == "answers":
    answers(sys.argv[3])
elif WHAT == "score":
    score(int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else FIRST)
else:
    draw(int(sys.argv[3]), sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else FIRST)
