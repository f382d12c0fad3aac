"""Draws what a command prints, colours included, as an SVG. Usage: terminal.py OUT.svg 'SHOWN COMMAND' -- COMMAND [ARG ...]"""
import html
import re
import subprocess
import sys

OUT, SHOWN, COMMAND = sys.argv[1], sys.argv[2], sys.argv[4:]
COLORS = {30: "#3b4252", 31: "#bf616a", 32: "#a3be8c", 33: "#ebcb8b", 34: "#81a1c1", 35: "#b48ead", 36: "#88c0d0", 93: "#ffe9a8", 96: "#a5e3f0"}
PLAIN, DIM, BACK, CELL, LINE = "#d8dee9", "#7b8394", "#20242c", 8.43, 19

run = subprocess.run(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
lines = [f"\x1b[1m$ {SHOWN}\x1b[0m"] + run.stdout.decode().rstrip("\n").split("\n")


def spans(line):
    color, bold, at = PLAIN, False, 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        m = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if m:
            for code in [int(c or 0) for c in m.group(1).split(";")]:
                if code == 0:
                    color, bold = PLAIN, False
                elif code == 1:
                    bold = True
                elif code == 2:
                    color = DIM
                else:
                    color = COLORS.get(code, color)
        elif part:
            yield at, part, color, bold
            at += len(part)


width = max(len(re.sub(r"\x1b\[[0-9;]*m", "", x)) for x in lines) * CELL + 40
height = len(lines) * LINE + 40
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">',
       f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>']
for i, line in enumerate(lines):
    for at, text, color, bold in spans(line):
        weight = ' font-weight="bold"' if bold else ""
        svg.append(f'<text x="{20 + at * CELL:.2f}" y="{30 + i * LINE}" fill="{color}"{weight} xml:space="preserve" textLength="{len(text) * CELL:.2f}">{html.escape(text)}</text>')
svg.append("</svg>")
open(OUT, "w").write("\n".join(svg) + "\n")
