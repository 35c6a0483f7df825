"""The page of the errors: the tree of ``noa.errors``, class by class."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from scripts.reference import markdown
from scripts.reference.markdown import code

from noa import client, errors, gguf
from noa.cli.main import cli
from noa.cli.terminal import EXIT_CODES, INTERRUPTED, exit_code
from noa.errors import AIProviderError

#: Where the classes of the tree stand.
_HOMES = (errors.__name__, client.__name__, gguf.__name__)
_COLUMNS = ("Class", "Status", "Code", "`noa` exits with", "May be tried again", "When")


def page() -> str:
    """The page."""
    return markdown.page(
        "Errors",
        "Every failure is one of these classes, in the library as an exception and over HTTP as a status with a code. "
        "They are in `noa.errors`; a class is caught by any of those above it. The command line says the message on "
        "stderr and exits with the code of the table.",
        "Over HTTP, the inference routes answer as OpenAI or Anthropic would, and the management API with an envelope:",
        markdown.fenced(
            '{"error": {"message": "…", "code": "MODEL_NOT_FOUND", "provider": "openai", "retryable": false, …}}',
            "json",
        ),
        "“May be tried again” is what holds unless the error says otherwise (`retryable`); `retry_after_s`, over HTTP "
        "`Retry-After`, says when, if that is known. A message holds no secret.",
        markdown.table(_COLUMNS, [_row(error, depth) for error, depth in tree(AIProviderError)]),
        "## Exit codes",
        markdown.table(("Code", "Meaning"), _exit_codes()),
    )


def tree(root: type[AIProviderError], depth: int = 0) -> Iterator[tuple[type[AIProviderError], int]]:
    """Each class with its depth, those below a class right after it, in the order of the source."""
    yield root, depth
    for below in sorted(root.__subclasses__(), key=_place):
        if below.__module__ in _HOMES:
            yield from tree(below, depth + 1)


def _place(error: type) -> tuple[str, int]:
    return error.__module__, inspect.getsourcelines(error)[1]


def _row(error: type[AIProviderError], depth: int) -> list[str]:
    status = str(error.status)
    if error.inference_status is not None:
        status += f"; on `/v1` {error.inference_status}"
    above = f" ({', '.join(code(each.__name__) for each in error.__mro__[1:depth][:1])})" if depth > 1 else ""
    return [
        code(error.__name__) + above,
        status,
        code(error.code),
        str(exit_code(error(""))),
        "yes" if error.default_retryable else "no",
        markdown.line((error.__doc__ or "").split("\n\n")[0], error.__name__),
    ]


def _exit_codes() -> Iterator[list[str]]:
    said = dict(
        piece.split(" ", 1)
        for piece in markdown.told(cli.epilog, "noa").removeprefix("Exit codes: ").rstrip(".").split(", ")
    )
    for number in sorted({0, 1, 2, *EXIT_CODES.values(), INTERRUPTED}):
        codes = ", ".join(code(name) for name, exits in EXIT_CODES.items() if exits == number)
        yield [
            str(number),
            markdown.told(said.get(str(number)), f"Exit code {number}") + (f": {codes}" if codes else ""),
        ]
