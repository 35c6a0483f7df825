"""The files of a model that llama.cpp split into several: ``name-00001-of-00003.gguf`` and its sisters."""

from __future__ import annotations

import re
from pathlib import Path

_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
#: No model is split further; a name that claims more is not believed.
_MAX_SHARDS = 1000


def shard_names(name: str) -> tuple[str, ...]:
    """The names of all files of the model that the file ``name`` belongs to, in order; of a whole one just its own."""
    shard = _SHARD.fullmatch(name)
    count = int(shard["count"]) if shard else 1
    if shard is None or not 1 <= int(shard["index"]) <= count <= _MAX_SHARDS:
        return (name,)
    return tuple(f"{shard['stem']}-{index:05}-of-{count:05}.gguf" for index in range(1, count + 1))


def model_name(name: str) -> str:
    """What the model in the file ``name`` is called: its stem, without the number of the shard."""
    return shard["stem"] if (shard := _SHARD.fullmatch(name)) else Path(name).stem


def size_of_model(path: Path) -> int:
    """How many bytes the model takes whose (first) file is ``path``."""
    return sum(path.with_name(name).stat().st_size for name in shard_names(path.name))
