"""Reads ``noa.yaml`` into raw values that remember their lines, and fills in ``${env.NAME}``.

Only the safe loader's scalars, lists and groups exist; a file cannot construct anything else. Files are bounded, so an
alias that multiplies itself is refused rather than expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noa.config.settings import Origin, Tree
from noa.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

MAX_FILE_BYTES = 1024 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 20

#: ``${env.NAME}`` and ``${NAME}``; ``$${`` stands for ``${`` itself. Anything else after ``${`` is a mistake.
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:env\.)?([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")

Lookup = Callable[[str], str | None]


def read_file(path: Path, shown_as: str, lookup: Lookup) -> Tree:
    """Read the file at ``path``; messages call it ``shown_as``, ``lookup`` gives the value of a variable.

    Raises ``ConfigurationError`` with file and line for whatever cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{shown_as} cannot be read: {error.strerror or type(error).__name__}.") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{shown_as} is larger than {MAX_FILE_BYTES // 1024} KiB, so it is no configuration.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{shown_as}:{line}: the file is not UTF-8 text.") from None
    return read_text(text, shown_as, lookup)


def read_text(text: str, shown_as: str, lookup: Lookup) -> Tree:
    """The same for the content of a file."""
    # PyYAML is imported here and below because most installations have no file, and importing Noa must stay quick.
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return _Reader(shown_as, lookup).tree(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = error.problem or error.context
        raise ConfigurationError(f"{shown_as}:{line}: this is not valid YAML: {problem}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(f"{shown_as}:{line}: this is not valid YAML: it has a control character.") from None
    except RecursionError:
        raise ConfigurationError(f"{shown_as} is nested too deeply.") from None


class _Reader:
    """Walks the nodes of one file."""

    def __init__(self, shown_as: str, lookup: Lookup) -> None:
        import yaml

        self._mapping_node, self._sequence_node = yaml.MappingNode, yaml.SequenceNode
        self._scalar_node = yaml.ScalarNode
        self._scalars = yaml.SafeLoader("")
        self._shown_as = shown_as
        self._lookup = lookup
        self._origins: dict[str, Origin] = {}
        self._nodes = 0

    def tree(self, root: yaml.Node | None) -> Tree:
        if root is None:
            return Tree({}, {})
        data = self._value(root, "$", "the file", 0)
        if data is None:
            return Tree({}, {})
        if not isinstance(data, dict):
            raise self._error(root, "the file must be a group of fields, like “models:”")
        return Tree(data, self._origins)

    def _value(self, node: yaml.Node, path: str, subject: str, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self._error(node, "the file is too large or nested too deeply from here on")
        self._origins[path] = Origin(self._place(node), subject)
        kind = node.tag.rpartition(":")[2]
        if isinstance(node, self._mapping_node) and kind == "map":
            return self._mapping(node, path, depth)
        if isinstance(node, self._sequence_node) and kind == "seq":
            return [
                self._value(item, f"{path}[{index}]", f"entry {index + 1} of {subject}", depth + 1)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, self._scalar_node):
            return self._scalar(node, kind)
        raise self._error(node, f"the tag {node.tag} has no place here")

    def _mapping(self, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise self._error(key_node, "a field's name must be text")
            line = key_node.start_mark.line + 1
            if key in lines:
                raise self._error(key_node, f"“{key}” is given twice; the first is on line {lines[key]}")
            lines[key] = line
            values[key] = self._value(value_node, f"{path}.{key}", f"“{key}”", depth + 1)
            # A value may begin on a later line than its name, and the name is what a person looks for.
            self._origins[f"{path}.{key}"] = Origin(f"{self._shown_as}:{line}", f"“{key}”")
        return values

    def _scalar(self, node: yaml.Node, kind: str) -> Any:
        if "${" in node.value:
            return _REFERENCE.sub(lambda match: self._substituted(match, node), node.value)
        if kind not in ("int", "float", "bool", "null"):
            return node.value
        try:
            return self._scalars.construct_object(node)
        except ValueError:
            raise self._error(node, "this is not the number it looks like") from None

    def _substituted(self, match: re.Match[str], node: yaml.Node) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None:
            raise self._error(node, "“${” must be followed by a variable and “}”, like “${env.OPENAI_API_KEY}”")
        value = self._lookup(name)
        if value is None:
            raise self._error(node, f"the variable {name} is not set; set it or take the field out")
        return value

    def _place(self, node: yaml.Node) -> str:
        return f"{self._shown_as}:{node.start_mark.line + 1}"

    def _error(self, node: yaml.Node, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._place(node)}: {what}.")
