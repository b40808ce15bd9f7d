"""Cuts a large module down to what is used of it: compiling all of pynvml takes a node longer than all else it does.

Works on lines, since parsing the module would cost this side what it saves the nodes. Blocks of lines are kept or left
out as they stand. Kept are blocks that define nothing (imports, conditions, calls), definitions of the names that are
asked for, and of every word that a kept block contains: more than is used, not less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = re.compile(r"[A-Za-z_]\w*")
_DEFINITION = re.compile(r"(?:@.*\n)*(?:def|class) +(\w+)|(\w+) *(?::[^=\n]+)?=(?!=)")
_CONTINUED = ("else", "elif", "except", "finally")


def words(text: str) -> set[str]:
    """Every word in a piece of code that could be a name."""
    return set(_WORD.findall(text))


def subset(source: str, wanted: set[str], prefix: str) -> str:
    """The module with nothing but what `wanted` needs, and the definitions of all names that begin with `prefix`.

    Returns the whole module where the cut would not compile, which no known version of pynvml does.
    """
    definitions: dict[str, list[int]] = {}
    kept, queue, blocks = set[int](), set(wanted), list(_blocks(source))
    for number, block in enumerate(blocks):
        match = _DEFINITION.match(block)
        name = (match[1] or match[2]) if match else None
        if name is not None:
            definitions.setdefault(name, []).append(number)
        if name is None or name.startswith(prefix):
            kept.add(number)
            queue |= words(block)
    while queue:
        for number in definitions.pop(queue.pop(), ()):
            kept.add(number)
            queue |= words(blocks[number])
    cut = "".join(blocks[number] for number in sorted(kept))
    try:
        compile(cut, "subset", "exec", dont_inherit=True)
    except SyntaxError:
        return source
    return cut


def _blocks(source: str) -> Iterator[str]:
    """Statements at the left margin, each with what is indented below it and the decorators above; no comments."""
    block: list[str] = []
    for line in source.splitlines(keepends=True):
        margin = line[0].isalpha() or line[0] in "_@"
        begins = margin and not line.startswith(_CONTINUED) and not (block and block[-1].startswith("@"))
        if begins and block:
            yield "".join(block)
            block = []
        if line[0] != "#":
            block.append(line)
    yield "".join(block)
