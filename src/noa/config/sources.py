"""Where settings come from: the environment, ``.env`` and ``noa.yaml``, in one tree that knows its origins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import platformdirs

from noa.config.noa_yaml import read_file
from noa.config.settings import Tree, checked
from noa.config.variables import Variables, lay_over

FILE_NAME = "noa.yaml"


class Sources(NamedTuple):
    """What was found. ``path`` is the file that was read, if any; ``tree`` has the variables laid over it."""

    folder: Path
    variables: Variables
    path: Path | None
    tree: Tree

    @classmethod
    def gather(
        cls, prefix: str, *, environ: Mapping[str, str] | None, cwd: Path | None, file: str | Path | None = None
    ) -> Self:
        """Read everything; ``file`` stands in place of the ``noa.yaml`` that would be found.

        Raises ``ConfigurationError`` for a file that cannot be read or is wrong. The tree is still to be checked.
        """
        folder = (cwd if cwd is not None else Path()).absolute()
        variables = Variables.gather(os.environ if environ is None else environ, prefix, folder)
        path = _find_file(variables, folder) if file is None else absolute(file, folder)
        tree = Tree({}, {})
        if path is not None:
            tree = read_file(path, path.name if path.parent == folder else str(path), variables.value)
            checked(tree)
        return cls(folder, variables, path, lay_over(tree, variables))

    def located(self, text: str, where: str) -> Path:
        """A path of the file is meant from the file's folder, one of a variable from the working directory."""
        from_file = self.path is not None and self.tree.origin(where).place
        return absolute(text, self.path.parent if self.path is not None and from_file else self.folder)


def absolute(path: str | Path, folder: Path) -> Path:
    """The path, from ``folder`` if it is relative; ``~`` is the user's home, and ``..`` is resolved by name."""
    expanded = os.path.expanduser(path)  # noqa: PTH111  # pathlib's raises for users that do not exist
    return Path(os.path.normpath(folder / expanded))


def _find_file(variables: Variables, folder: Path) -> Path | None:
    named = variables.value("NOA_CONFIG")
    if named is not None:
        return absolute(named, folder)
    home = variables.value("NOA_HOME")
    general = absolute(home, folder) if home else platformdirs.user_config_path("noa", appauthor=False)
    return next((path for path in (folder / FILE_NAME, general / FILE_NAME) if path.is_file()), None)
