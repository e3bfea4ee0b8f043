"""Stacks of samples: read from `perf script`, counted by thread group and function, drawn as a flame graph in SVG.

A stack is a list of (function, object) from the outermost caller to the function that was running; its weight is what one
sample stands for. A flame graph shows callers below and callees above, as wide as their share of all samples; beside each
other they are in alphabetical order, so that two graphs can be compared (Gregg, "The Flame Graph", CACM 59(6), 2016).
Standard library only."""
import collections
import html
import os
import re

import threads

UNKNOWN = "[unknown]"
_HEAD = re.compile(r"^(?P<comm>\S.*?)\s+\d+\s+(?P<period>\d+)\s*$")
_FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<name>.+) \((?P<object>[^()]*)\)$")

Stack = collections.namedtuple("Stack", "group frames weight")


def read(text):
    """Stacks from the output of `perf script -F comm,tid,period,ip,sym,dso`."""
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        head = _HEAD.match(lines[0])
        if not head:
            continue
        frames = [(_function(found["name"], _object(found["object"])), _object(found["object"]))
                  for found in map(_FRAME.match, lines[1:]) if found]
        yield Stack(threads.group_of(head["comm"]), _merged(reversed(frames)), int(head["period"]))


def _function(name, where):
    """Without the compiler's suffixes of parts and clones of a function. What has no name is called by its object."""
    if name == "[unknown]":
        return f"[{where}]" if where not in ("", "unknown") else UNKNOWN
    return re.sub(r"\.(part|isra|constprop|cold|lto_priv)\.?\d*\b", "", name)


def _object(path):
    """`kernel`, or the file's name without its version."""
    if path.startswith("[") or not path:
        return "kernel" if path.startswith(("[kernel", "[guest")) else path.strip("[]")
    return re.sub(r"\.so[.\d]*$", "", os.path.basename(path))


def _merged(frames):
    """Frames that nobody can name say nothing, and several in a row no more than one."""
    merged = []
    for name, where in frames:
        if name.startswith("[") and merged and merged[-1] == (name, where):
            continue
        merged.append((name, where))
    return merged


def hottest(stacks):
    """{group: {"share": of all samples, "functions": [{function, object, self, total}, hottest first]}}; shares of the
    group's own samples. `self`: the function was running; `total`: it or something that it called."""
    everything = sum(stack.weight for stack in stacks) or 1
    result = {}
    for group in threads.GROUPS:
        mine = [stack for stack in stacks if stack.group == group and stack.frames]
        weight = sum(stack.weight for stack in mine)
        if weight == 0:
            continue
        alone, within = collections.Counter(), collections.Counter()
        for stack in mine:
            alone[stack.frames[-1]] += stack.weight
            for frame in set(stack.frames):
                within[frame] += stack.weight
        result[group] = {"share": weight / everything, "functions": [
            {"function": name, "object": where, "self": alone[name, where] / weight, "total": within[name, where] / weight}
            for name, where in sorted(within, key=lambda frame: (-alone[frame], -within[frame], frame))]}
    return result


# --- the picture ------------------------------------------------------------------------------------------------------

WIDTH, ROW, MARGIN, TOP = 1400, 17, 12, 64  # pixels
LETTER = 6.4       # pixels of a character, of the 11 pixel monospace font
NARROWEST = 0.4    # pixels: what is narrower is not drawn
LETTERS_MIN = 3    # a text of fewer is left out
# Hues tell who was running. Each has a lightness that dark text can be read on.
COLOURS = {"kernel": ("the kernel", 205), "carillon": ("carillon", 28), "librocksdb": ("RocksDB", 120), "": ("libraries", 275)}


class _Node:
    """A function as called by those below it."""
    __slots__ = ("name", "where", "weight", "children")

    def __init__(self, name, where):
        self.name, self.where, self.weight, self.children = name, where, 0, {}

    def add(self, frames, weight):
        node = self
        node.weight += weight
        for name, where in frames:
            node = node.children.setdefault((name, where), _Node(name, where))
            node.weight += weight

    def depth(self):
        return 1 + max((child.depth() for child in self.children.values()), default=0)


def svg(stacks, title, subtitle=""):
    """The flame graph as text: one column a thread group, a tooltip for each frame."""
    root = _Node("all threads", "")
    for stack in stacks:
        root.add([(stack.group, "threads"), *stack.frames], stack.weight)
    height = TOP + root.depth() * ROW + MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
           'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="11">',
           "<style>rect{stroke:#fff;stroke-width:.5} g:hover rect{stroke:#222;stroke-width:1.2} text{pointer-events:none}"
           "</style>",
           f'<rect width="{WIDTH}" height="{height}" fill="#fcfcfa" style="stroke:none"/>',
           f'<text x="{MARGIN}" y="24" font-size="16" font-weight="bold">{html.escape(title)}</text>',
           f'<text x="{MARGIN}" y="44" fill="#555">{html.escape(subtitle)}</text>', *_legend()]
    if root.weight:
        _draw(out, root, MARGIN, height - MARGIN - ROW, (WIDTH - 2 * MARGIN) / root.weight, root.weight)
    out.append("</svg>\n")
    return "\n".join(out)


def _legend():
    at = WIDTH - MARGIN - 460
    for where, (label, _) in COLOURS.items():
        yield f'<rect x="{at}" y="14" width="12" height="12" fill="{_colour(where, label)}"/>'
        yield f'<text x="{at + 18}" y="24">{label}</text>'
        at += 115


def _colour(where, name):
    """Neighbours differ a little, and the same function looks the same in every graph."""
    if where == "threads" or name == "all threads":
        return "#d8d8d2"
    hue = COLOURS.get(where, COLOURS[""])[1]
    step = sum(map(ord, name)) % 7
    return f"hsl({hue},{62 + step * 2}%,{70 + step * 2}%)"


def _draw(out, node, x, y, scale, everything):
    width = node.weight * scale
    if width < NARROWEST:
        return
    share = f"{100 * node.weight / everything:.2f} %"
    where = f" ({node.where})" if node.where not in ("", "threads") else ""
    letters = int((width - 4) / LETTER)
    text = ""
    if letters >= LETTERS_MIN:
        name = node.name.removeprefix("rocksdb::")  # its colour says so
        shown = name if len(name) <= letters else name[:letters - 1] + "…"
        text = f'<text x="{x + 3:.1f}" y="{y + 12.5:.1f}">{html.escape(shown)}</text>'
    out.append(f'<g><title>{html.escape(node.name + where)}: {share}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" '
               f'height="{ROW - 1}" rx="1.5" fill="{_colour(node.where, node.name)}"/>{text}</g>')
    at = x
    for child in sorted(node.children.values(), key=_place):
        _draw(out, child, at, y - ROW, scale, everything)
        at += child.weight * scale


def _place(node):
    """Groups of threads in their order, functions by name."""
    group = threads.GROUPS.index(node.name) if node.where == "threads" else 0
    return group, node.name, node.where
