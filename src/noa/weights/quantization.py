"""Which of a repository's files make which model: one model in several precisions, each in one file or several."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from noa.errors import ValidationError
from noa.weights.progress import decimal_size
from noa.weights.shards import model_name, shard_names

#: What is taken when nothing is said: small enough to be fast, good enough not to notice; then what is nearest to it.
PREFERENCE = (
    "Q4_K_M", "Q4_K_L", "Q4_K_XL", "Q4_K_S", "IQ4_XS", "IQ4_NL", "Q4_1", "Q4_0", "Q4", "MXFP4", "Q5_K_M", "Q5_K_S",
    "Q5_1", "Q5_0", "Q5", "Q6_K", "Q6", "Q8_0", "Q8", "IQ3_M", "Q3_K_L", "Q3_K_M", "IQ3_S", "Q3_K_S", "IQ3_XS",
    "IQ3_XXS", "BF16", "F16", "F32",
)  # fmt: skip
_LABEL = re.compile(
    r"(?<![A-Za-z0-9])(?P<label>(?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?(?:16|32)))"
    r"(?![A-Za-z0-9_])",
    re.IGNORECASE,
)
#: Files that go with a model and are none: projectors for pictures, and what quantising was steered by.
_COMPANION = re.compile(r"mmproj|imatrix", re.IGNORECASE)


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository: its path there, its size, and its SHA-256 where the repository tells."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The path without its folders."""
        return self.path.rpartition("/")[2]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A model in one precision: all its files in order. ``label`` is how the precision is called, where it is known."""

    label: str | None
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int | None:
        """What its files take together, if that is known of all."""
        sizes = [file.size_bytes for file in self.files if file.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    @property
    def described(self) -> str:
        """Its precision and its size, for a list."""
        label = self.label or self.files[0].path
        return label if self.size_bytes is None else f"{label} ({decimal_size(self.size_bytes)})"


def variants_in(files: Iterable[HubFile]) -> list[Variant]:
    """The models among the files of a repository. Those of which shards are missing are left out."""
    by_path = {file.path: file for file in files if file.path.lower().endswith(".gguf")}
    found: dict[tuple[str, ...], Variant] = {}
    for path, file in sorted(by_path.items()):
        folder = path.removesuffix(file.name)
        paths = tuple(folder + name for name in shard_names(file.name))
        if _COMPANION.search(file.name) is None and all(each in by_path for each in paths):
            found[paths] = Variant(label=_label(file), files=tuple(by_path[each] for each in paths))
    return list(found.values())


def choose(variants: Sequence[Variant], wanted: str | None, repository: str) -> Variant:
    """The variant in the wanted precision, or in the one that is taken when nothing is said.

    Raises ``ValidationError``, which lists what there is, if there is none or more than one.
    """
    if not variants:
        raise ValidationError(
            f"{repository} has no GGUF files, which are what the local engine runs; look for a repository of the same"
            " model with GGUF in its name."
        )
    by_label: dict[str, list[Variant]] = defaultdict(list)
    for variant in variants:
        by_label[variant.label or ""].append(variant)
    label = _preferred(by_label) if wanted is None else _named(by_label, wanted)
    if label is None:
        raise ValidationError(f"{repository} has no {wanted}; it has {_list(variants)}.")
    if len(by_label[label]) > 1:
        paths = ", ".join(variant.files[0].path for variant in by_label[label])
        raise ValidationError(f"{repository} has several such models; name one: hf:{repository}/FILE of {paths}.")
    return by_label[label][0]


def choose_file(variants: Sequence[Variant], path: str, repository: str) -> Variant:
    """The variant that this file is of. Raises ``ValidationError``, which lists what there is, if there is none."""
    for variant in variants:
        if path in (file.path for file in variant.files):
            return variant
    there = ", ".join(variant.files[0].path for variant in variants) or "no model in GGUF"
    raise ValidationError(f"{repository} has no model {path}; it has {there}.")


def _preferred(by_label: dict[str, list[Variant]]) -> str:
    """The most preferred label there is; of unknown ones, that of the smallest model."""
    for preferred in PREFERENCE:
        if (label := _named(by_label, preferred)) is not None:
            return label
    return min(by_label, key=lambda label: by_label[label][0].size_bytes or 0)


def _named(by_label: dict[str, list[Variant]], wanted: str) -> str | None:
    """The label that is meant: just so, or the one that some repositories mark as their own mixture (``UD-``)."""
    asked = _canonical(wanted)
    return next((label for label in (asked, f"UD-{asked}") if label in by_label), None)


def _label(file: HubFile) -> str | None:
    """The precision as the file's name has it, or the folder it is in."""
    for text in (model_name(file.name), file.path.removesuffix(file.name)):
        if found := _LABEL.findall(text):
            return _canonical(found[-1])
    return None


def _canonical(label: str) -> str:
    upper = label.upper()
    return upper.replace("FP", "F") if upper in ("FP16", "FP32") else upper


def _list(variants: Sequence[Variant]) -> str:
    ordered = sorted(variants, key=lambda variant: (variant.size_bytes or 0, variant.files[0].path))
    return ", ".join(variant.described for variant in ordered)
