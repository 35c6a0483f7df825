"""What every command prints with ``--json``: its types, and the schema that is published of them.

``python -m noa.cli.json_output > docs/cli-json.schema.json`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from noa import client_answers as answers
from noa.cli.catalog import CatalogAbout, CatalogEntry, Refreshed
from noa.cli.chat import Answer
from noa.cli.completion import Completion
from noa.cli.config import Checked, EffectiveConfiguration
from noa.cli.doctor import Checkup
from noa.cli.profile import Histories, SideBySide
from noa.cli.pulling import Pulled
from noa.cli.serving import Listening
from noa.cli.show import Shown
from noa.config import Reloaded
from noa.models import Value
from noa.selection.decision import Decision
from noa.server.split_api import SplitAnswer


class Version(Value, frozen=True, kw_only=True):
    """What ``noa version --json`` prints."""

    version: str
    python: str
    platform: str


class LogLine(Value, frozen=True, kw_only=True):
    """A line of ``noa logs --follow --json``."""

    line: str


#: By command, what it prints on stdout. Where there are several, the first is what it prints without further options.
#: ``events``, ``logs --follow`` and ``ps --watch`` print one value to a line, the others a single one.
OUTPUT: Final[Mapping[str, tuple[type, ...]]] = {
    "serve": (Listening,),
    "demo": (Listening,),
    "ls": (answers.ModelList,),
    "ps": (answers.LoadedModels,),
    "pull": (Pulled,),
    "load": (answers.Acknowledgement, answers.Planned),
    "unload": (answers.Acknowledgement,),
    "switch": (answers.SwitchAcknowledgement,),
    "current": (answers.CurrentModel,),
    "chat": (Answer,),
    "show": (Shown,),
    "profile": (SideBySide, Histories),
    "select": (Decision,),
    "alias": (answers.AliasList,),
    "alias ls": (answers.AliasList,),
    "alias set": (answers.AliasAcknowledgement,),
    "alias rm": (answers.AliasAcknowledgement,),
    "alias rollback": (answers.AliasAcknowledgement,),
    "alias split": (SplitAnswer,),
    "alias promote": (answers.AliasAcknowledgement,),
    "alias history": (answers.AliasHistory,),
    "events": (answers.ServerEvent,),
    "logs": (answers.Logs, LogLine),
    "catalog": (CatalogAbout,),
    "catalog show": (CatalogEntry,),
    "catalog refresh": (Refreshed,),
    "catalog undo": (CatalogAbout,),
    "keys": (answers.CallerKeyList,),
    "keys ls": (answers.CallerKeyList,),
    "keys create": (answers.NewCallerKey,),
    "keys revoke": (answers.CallerKeyRevoked,),
    "stats": (answers.UsageTotals,),
    "doctor": (Checkup,),
    "config": (EffectiveConfiguration,),
    "config check": (Checked,),
    "config reload": (Reloaded,),
    "config schema": (dict,),
    "completion": (Completion,),
    "version": (Version,),
}


def schema() -> bytes:
    """The JSON Schema: a property for each command, and the types below ``$defs``."""
    types = [*dict.fromkeys(each for kinds in OUTPUT.values() for each in kinds)]
    schemas, definitions = msgspec.json.schema_components(
        types, schema_hook=_schema_of_anything, ref_template="#/$defs/{name}"
    )
    found = dict(zip(types, schemas, strict=True))
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of noa print with --json",
        "description": "A property for each command describes one value on stdout. Errors are sentences on stderr.",
        "properties": {
            command: found[kinds[0]] if len(kinds) == 1 else {"anyOf": [found[each] for each in kinds]}
            for command, kinds in OUTPUT.items()
        },
        "$defs": definitions,
    }
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


def _schema_of_anything(_: type) -> dict[str, Any]:
    return {"description": "Any JSON value."}


if __name__ == "__main__":
    sys.stdout.buffer.write(schema())
