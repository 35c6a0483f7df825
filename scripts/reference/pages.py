"""Which files of ``docs/`` are written from the code, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from scripts.reference import (
    command_line,
    error_tree,
    http_api,
    metric_table,
    python_api,
    python_values,
    settings,
    state_picture,
)

#: By its path below ``docs/``, what writes the file.
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "reference/settings.md": settings.page,
    "reference/command-line.md": command_line.page,
    "reference/http.md": http_api.page,
    "reference/python.md": python_api.page,
    "reference/python-values.md": python_values.page,
    "reference/metrics.md": metric_table.page,
    "reference/errors.md": error_tree.page,
    "images/model-states.svg": state_picture.picture,
}
