"""YAML into plain data, with the place of every node.

Every scalar stays the text that was written: the schema decides what is a number or a truth value, so none of
YAML 1.1's surprises (`25:25` is 1525, `no` is false, `0755` is 493) can happen. Duplicate keys are refused.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

import yaml

from waypost.config.errors import Origin, Path, Problem, key_text
from waypost.config.yaml_syntax import explain

Data: TypeAlias = "dict[str, Data] | list[Data] | str | None"

MAX_NODES = 100_000  # aliases multiply: nine lines of them can ask for a thousand million nodes
_MAX_DEPTH = 100
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tree:
    """Nested data and where each node of it was written."""

    def __init__(self, source: str = "") -> None:
        self.source = source
        self.data: dict[str, Data] = {}
        self._values: dict[Path, Origin] = {}
        self._keys: dict[Path, Origin] = {}

    def get(self, path: Path) -> Data:
        """The node at `path`, or None."""
        node: Data = self.data
        for part in path:
            if isinstance(node, dict) and isinstance(part, str):
                node = node.get(part)
            elif isinstance(node, list) and isinstance(part, int) and 0 <= part < len(node):
                node = node[part]
            else:
                return None
        return node

    def put(self, path: Path, value: Data, origin: Origin) -> bool:
        """Sets one node, making the mappings above it. False when something else stands in the way."""
        node = self.data
        for part in path[:-1]:
            below = node.get(str(part))
            if below is None:
                below = node[str(part)] = {}
            if not isinstance(below, dict):
                return False
            node = below
        node[str(path[-1])] = value
        self._values[path] = self._keys[path] = origin
        return True

    def drop(self, path: Path) -> None:
        """Removes one entry of a mapping, if it is there."""
        parent = self.get(path[:-1])
        if isinstance(parent, dict):
            parent.pop(str(path[-1]), None)

    def mark(self, path: Path, origin: Origin, key: Origin | None = None) -> None:
        """Remembers where the node at `path`, and its key, were written."""
        self._values[path] = origin
        self._keys[path] = key or origin

    def written(self, path: Path) -> Path | None:
        """The part of `path` that somebody wrote and that decides its value, or None when nobody did.

        `upstreams.a.tls.mode` is decided by `upstreams.a.tls` when that is the one word `starttls`; an entry
        `gmail` of a list of names by the list's item.
        """
        node: Data = self.data
        for depth, part in enumerate(path):
            here = path[:depth]
            if isinstance(node, dict):
                if node.get(str(part)) is None:
                    return None
                node = node[str(part)]
            elif isinstance(node, list):
                index = node.index(part) if isinstance(part, str) and part in node else part
                if not isinstance(index, int) or not 0 <= index < len(node):
                    return here
                if index != part:
                    return (*here, index)
                node = node[index]
            else:
                return here
        return path

    def origin(self, path: Path) -> Origin | None:
        """Where the value at `path` comes from, or None when it is a default."""
        written = self.written(path)
        return None if written is None else self._values.get(written)

    def place(self, path: Path, *, key: bool = False) -> Origin:
        """The nearest written place to point at: the node itself (its key if `key`), or what surrounds it."""
        for depth in range(len(path), 0, -1):
            here = path[:depth]
            written = self.written(here)
            if written is None and here in self._values:
                written = here  # a key without a value
            if written is not None:
                table = self._keys if key and written == path else self._values
                if written in table:
                    return table[written]
        return Origin(self.source)

    def problem(self, path: Path, text: str, suggestion: str = "", *, key: bool = False) -> Problem:
        """A `Problem` with the node at `path`."""
        origin = self.place(path, key=key)
        return Problem(str(origin), origin.key or key_text(path), text, suggestion)


def parse(source: str, content: bytes) -> tuple[Tree, list[Problem]]:
    """The YAML mapping in `content`, and what is wrong with its form. `source` is the name for people."""
    tree = Tree(source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        return tree, [Problem(f"{source}:{line}:{column}", "", "is not UTF-8", "save the file as UTF-8")]
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        return tree, [_syntax_problem(source, error, text)]
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        return tree, [Problem(f"{source}:{line}:{column}", "", "is a control character, which YAML does not allow")]
    except (ValueError, OverflowError):  # PyYAML lets impossible escapes ("\UFFFFFFFF") and huge numbers through
        return tree, [Problem(source, "", "is not YAML: an escape sequence or a number in it is impossible")]
    except RecursionError:
        return tree, [Problem(source, "", "is nested too deeply")]
    if node is None or (isinstance(node, yaml.ScalarNode) and node.value in _NULLS):
        return tree, []
    reader = _Reader(tree)
    data = reader.read(node, ())
    if isinstance(data, dict):
        tree.data = data
    elif not reader.problems:
        what = "is a list" if isinstance(data, list) else "is just text"
        text = f"{what}, but a configuration is a mapping of settings"
        problem = Problem(str(_origin(source, node)), "", text, "begin with the name of a setting, like `listeners:`")
        reader.problems.append(problem)
    return tree, reader.problems


def _origin(source: str, node: yaml.Node) -> Origin:
    return Origin(source, node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_problem(source: str, error: yaml.MarkedYAMLError, text: str) -> Problem:
    said = explain(error, text)
    return Problem(str(Origin(source, said.line, said.column)), "", said.text, said.advice)


class _Reader:
    """Walks the nodes of one document once."""

    def __init__(self, tree: Tree) -> None:
        self.problems: list[Problem] = []
        self._tree = tree
        self._nodes = 0
        self._full = False

    def read(self, node: yaml.Node, path: Path) -> Data:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > _MAX_DEPTH:
            if not self._full:
                self._full = True
                self._report(node, path[:3], "is nested too deeply, or has too many nodes")
            return None
        if not path:
            self._tree.mark(path, _origin(self._tree.source, node))
        if node.tag not in _PLAIN_TAGS:
            self._report(node, path, "has a YAML tag (!), which no setting uses", "put the value in quotes")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        text = str(node.value)
        if _SURROGATE.search(text):
            self._report(node, path, "is not valid Unicode")
            return None
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return None if plain and text in _NULLS else text

    def _item(self, node: yaml.Node, path: Path) -> Data:
        self._tree.mark(path, _origin(self._tree.source, node))
        return self.read(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Data:
        data: dict[str, Data] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in self._pairs(node, path):
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "has a key that is not one word")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if _SURROGATE.search(key):
                self._report(key_node, path, "has a key that is not valid Unicode")
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                self._report(key_node, here, "is there twice", f"the first is on line {lines[key]}")
                continue
            lines[key] = line
            data[key] = self.read(value_node, here)
            self._tree.mark(here, _origin(self._tree.source, value_node), _origin(self._tree.source, key_node))
        return data

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The entries, with those of merge keys (`<<: *anchor`) last and only where nothing overrides them."""
        own = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if not (isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and key_node.style is None):
                yield key_node, value_node
                continue
            sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, yaml.MappingNode):
                    self._report(value_node, path, "merges (<<) something that is not a mapping")
                    continue
                for key, value in source.value:
                    if isinstance(key, yaml.ScalarNode) and key.value not in own:
                        merged.setdefault(key.value, (key, value))
        yield from merged.values()

    def _report(self, node: yaml.Node, path: Path, text: str, suggestion: str = "") -> None:
        place = str(_origin(self._tree.source, node))
        self.problems.append(Problem(place, key_text(path), text, suggestion))
