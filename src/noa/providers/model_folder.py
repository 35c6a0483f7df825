"""The folders that hold weights: which GGUF files there are, what each is called, what its header says."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from noa.errors import ValidationError
from noa.gguf import GgufHeader, read_header
from noa.models import EvidenceSource, FactSources, ModelInfo, Price, PriceSource
from noa.providers.header_evidence import evidence_in
from noa.providers.protocol import Locality, Offer

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"-(?P<index>\d{5})-of-(?P<count>\d{5})$")
#: What else comes as GGUF and is no model by itself (``general.type``, ``general.architecture``).
_OTHER_KINDS = frozenset({"adapter", "mmproj", "imatrix", "vocab"})
_PROJECTOR_ARCHITECTURE = "clip"
#: What runs here has no price per token.
_OF_OUR_OWN = Price(input=0, output=0, source=PriceSource.LOCAL)


class WeightsFile(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of one model: a file, or the first of its shards and the bytes of all."""

    root: Path
    path: Path
    stem: str
    size_bytes: int
    mtime_ns: int
    missing: str | None = None

    @property
    def relative(self) -> str:
        """Its name with the folders that lead to it."""
        return self.path.relative_to(self.root).with_name(self.stem).as_posix()


class ModelFolders:
    """Scans folders for models. Blocking; headers are read once per path, size and time of change."""

    def __init__(self, provider: str, folders: Sequence[Path]) -> None:
        self._provider = provider
        self._folders = tuple(folders)
        self._offers: dict[WeightsFile, Offer | None] = {}

    def scan(self) -> list[Offer]:
        """Every model there is now. One whose header cannot be read is listed with ``metadata["error"]``."""
        named = name_weights(find_weights(self._folders))
        offers: dict[WeightsFile, Offer | None] = {}
        for model_id, weights in named.items():
            offer = self._offers.get(weights)
            known = weights in self._offers and (offer is None or offer.model.id == model_id)
            offers[weights] = offer if known else self._describe(model_id, weights)
        self._offers = offers
        return [offer for offer in offers.values() if offer is not None]

    def _describe(self, model_id: str, weights: WeightsFile) -> Offer | None:
        try:
            return describe_weights(self._provider, model_id, weights)
        except Exception:
            logger.exception("%s is left out: reading its header failed unexpectedly", weights.path)
            return None


def find_weights(folders: Iterable[Path]) -> list[WeightsFile]:
    """The models' files below ``folders``, hidden ones and projectors (``mmproj*``) left out, in a stable order."""
    found: list[WeightsFile] = []
    seen_folders: set[str] = set()
    for root in folders:
        for folder, names in _walk(root, seen_folders):
            found += _group(root, folder, names)
    return found


def _walk(root: Path, seen: set[str]) -> Iterator[tuple[Path, list[str]]]:
    """Folders with their files, each folder once however many links lead to it."""
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _group(root: Path, folder: Path, names: Iterable[str]) -> Iterator[WeightsFile]:
    """The models among the files of one folder; shards are brought together."""
    shards: dict[tuple[str, int], dict[int, Path]] = defaultdict(dict)
    for name in names:
        path = folder / name
        if path.suffix.lower() != ".gguf" or name.lower().startswith("mmproj"):
            continue
        if shard := _SHARD.search(path.stem):
            shards[path.stem[: shard.start()], int(shard["count"])][int(shard["index"])] = path
        elif weights := _weigh(root, path.stem, [path]):
            yield weights
    for (stem, count), paths in shards.items():
        lacking = [index for index in range(1, count + 1) if index not in paths]
        missing = f"part {lacking[0]} of {count} is missing" if lacking else None
        if weights := _weigh(root, stem, [paths[index] for index in sorted(paths)], missing):
            yield weights


def _weigh(root: Path, stem: str, paths: Sequence[Path], missing: str | None = None) -> WeightsFile | None:
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None  # It was removed meanwhile, or it is a link to nothing.
    if not all(stat.S_ISREG(each.st_mode) for each in stats):
        return None  # A pipe or a device: opening one waits for whoever writes to it.
    return WeightsFile(
        root=root,
        path=paths[0],
        stem=stem,
        size_bytes=sum(each.st_size for each in stats),
        mtime_ns=max(each.st_mtime_ns for each in stats),
        missing=missing,
    )


def name_weights(found: Sequence[WeightsFile]) -> dict[str, WeightsFile]:
    """A name for each: the stem; with its subfolders where stems are equal; with the root's name where paths are."""
    stems: dict[str, list[WeightsFile]] = defaultdict(list)
    for weights in found:
        stems[weights.stem].append(weights)
    named: dict[str, WeightsFile] = {}
    for stem, namesakes in stems.items():
        for weights in namesakes:
            candidates = (
                (stem,) if len(namesakes) == 1 else (weights.relative, f"{weights.root.name}/{weights.relative}")
            )
            name = next((candidate for candidate in candidates if candidate not in named), None)
            if name is None:
                logger.warning("%s is left out: another model has the same name", weights.path)
            else:
                named[name] = weights
    return named


def describe_weights(provider: str, model_id: str, weights: WeightsFile) -> Offer | None:
    """The model in these weights, ``None`` if the file holds something else than a model."""
    try:
        with open(weights.path, "rb", opener=_open_at_once) as stream:
            header = read_header(stream, os.fstat(stream.fileno()).st_size, weights.path.name)
    except (OSError, ValidationError) as error:
        reason = error.message if isinstance(error, ValidationError) else f"it cannot be read: {error.strerror}"
        return _offer(ModelInfo(id=model_id, name=model_id, provider=provider, metadata={"error": reason}), weights)
    if header.kind in _OTHER_KINDS or header.architecture == _PROJECTOR_ARCHITECTURE:
        return None
    facts: dict[str, object | None] = {
        "title": header.name,
        "architecture": header.architecture,
        "quantization": header.quantization,
        "parameterCount": header.parameter_count or None,
        "error": f"{weights.stem}: {weights.missing}" if weights.missing else None,
    }
    evidence = evidence_in(header)
    model = ModelInfo(
        id=model_id,
        name=model_id,
        provider=provider,
        context_window=header.context_length,
        capabilities=tuple(each.capability for each in evidence if each.supported),
        metadata={name: value for name, value in facts.items() if value is not None},
        evidence=evidence,
        sources=FactSources(context_window=EvidenceSource.METADATA),
        price=_OF_OUR_OWN,
    )
    return _offer(model, weights, header)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, should a pipe have taken the file's place since it was looked at."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _offer(model: ModelInfo, weights: WeightsFile, header: GgufHeader | None = None) -> Offer:
    return Offer(
        model=model,
        locality=Locality.OWNED,
        path=str(weights.path),
        size_bytes=weights.size_bytes,
        modified_ns=weights.mtime_ns,
        header=header,
    )
