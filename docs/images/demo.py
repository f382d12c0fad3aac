#!/usr/bin/env python3
"""Draws demo.svg: what `berth run --show` prints on a terminal for the bundled receipt.

    docs/images/demo.py BERTH > docs/images/demo.svg      BERTH: the program, built
"""
import html
import os
import pty
import re
import subprocess
import sys

DEVICES = "cpu*4/mem=64MiB"
MODEL = "models/receipt-tiny"
COLUMNS = 138
COLOURS = {"": "#d8dee9", "2": "#7b8394", "32": "#a3be8c", "33": "#ebcb8b", "35": "#b48ead", "36": "#88c0d0"}
WIDTH, HEIGHT, LEFT, TOP = 8.43, 19, 20, 30  # of a character, of a line; margins


def printed(berth):
    """All that the program writes to a terminal."""
    command = [berth, "run", "-m", MODEL, "-i", MODEL + "/receipts/receipt-01.png", "-p", "Extract the fields as JSON.",
               "--devices", DEVICES, "--strategy", "balanced_low_0", "--show"]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm"})
    os.close(theirs)
    text = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the program has closed it
            break
        if not some:
            break
        text += some
    if child.wait() != 0:
        sys.exit(text.decode())
    return text.decode()


def lines(text):
    """Lines as lists of (style, characters); what a line overwrites itself is left out."""
    for line in text.replace("\r\n", "\n").split("\n"):
        style, spans = "", []
        for part in re.split(r"(\x1b\[[0-9;]*[a-zA-Z])", line.split("\r")[-1]):
            code = re.fullmatch(r"\x1b\[([0-9;]*)([a-zA-Z])", part)
            if code and code[2] == "m":
                style = "" if code[1] == "0" else code[1]
            elif not code and part:
                spans.append((style, part))
        yield spans


def main():
    rows = [[("1", f"$ scripts/demo --devices '{DEVICES}'")]] + list(lines(printed(sys.argv[1]).rstrip()))
    widest = max(sum(len(text) for _, text in row) for row in rows)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{round(2 * LEFT + widest * WIDTH)}" height="{TOP + len(rows) * HEIGHT}"'
          ' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">')
    print('<rect width="100%" height="100%" rx="8" fill="#20242c"/>')
    for i, row in enumerate(rows):
        at = 0
        for style, text in row:
            weight = ' font-weight="bold"' if style == "1" else ""
            print(f'<text x="{LEFT + at * WIDTH:.2f}" y="{TOP + i * HEIGHT}" fill="{COLOURS.get(style, COLOURS[""])}"{weight} xml:space="preserve"'
                  f' textLength="{len(text) * WIDTH:.2f}">{html.escape(text)}</text>')
            at += len(text)
    print("</svg>")


main()
