"""Of a repository's files, the right ones are taken for a model in the wanted precision."""

from __future__ import annotations

import pytest

from noa.errors import ValidationError
from noa.weights.quantization import HubFile, choose, choose_file, variants_in


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path=path, size_bytes=1_000_000 * (index + 1)) for index, path in enumerate(paths)]


def chosen(wanted: str | None, *paths: str) -> list[str]:
    return [file.path for file in choose(variants_in(files(*paths)), wanted, "org/repo").files]


REPOSITORY = (
    "README.md",
    "M-BF16.gguf",
    "M-IQ2_XXS.gguf",
    "M-Q4_K_M.gguf",
    "M-Q8_0.gguf",
    "M-UD-Q4_K_XL.gguf",
    "imatrix_unsloth.gguf",
    "mmproj-F16.gguf",
    "M.mmproj-Q8_0.gguf",
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "M-Q4_K_M.gguf"),
        ("q8_0", "M-Q8_0.gguf"),
        ("Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
        ("UD-Q4_K_XL", "M-UD-Q4_K_XL.gguf"),
        ("bf16", "M-BF16.gguf"),
    ],
)
def test_the_wanted_precision_is_taken_and_q4_k_m_if_nothing_is_said(wanted: str | None, expected: str) -> None:
    assert chosen(wanted, *REPOSITORY) == [expected]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("m-fp16.gguf", "m-q4.gguf"), "m-q4.gguf"),
        (("m.Q8_0.gguf", "m.Q4_K_S.gguf", "m.Q5_K_M.gguf"), "m.Q4_K_S.gguf"),
        (("gpt-oss-20b-mxfp4.gguf",), "gpt-oss-20b-mxfp4.gguf"),
        (("model.gguf",), "model.gguf"),
        (("m-IQ1_S.gguf", "m-IQ2_M.gguf"), "m-IQ1_S.gguf"),
        (("Q6_K/m.gguf", "BF16/m.gguf"), "Q6_K/m.gguf"),
    ],
)
def test_without_the_usual_precision_the_sensible_next_is_taken(paths: tuple[str, ...], expected: str) -> None:
    assert chosen(None, *paths) == [expected]


def test_all_shards_are_taken_and_a_model_that_lacks_some_is_none() -> None:
    shards = [f"Q4_K_M/M-Q4_K_M-0000{index}-of-00003.gguf" for index in (1, 2, 3)]
    assert chosen(None, *shards, "M-Q2_K.gguf") == shards
    assert chosen(None, *shards[:2], "M-Q2_K.gguf") == ["M-Q2_K.gguf"]
    assert [file.path for file in choose_file(variants_in(files(*shards)), shards[1], "org/repo").files] == shards


@pytest.mark.parametrize(
    ("wanted", "paths", "says"),
    [
        (
            "Q5_K_M",
            REPOSITORY,
            r"has no Q5_K_M; it has BF16 \(2\.0 MB\), IQ2_XXS .*, UD-Q4_K_XL \(6\.0 MB\)\.",
        ),
        (None, ("README.md", "model.safetensors"), "has no GGUF files"),
        (None, ("mmproj-F16.gguf",), "has no GGUF files"),
        (None, ("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"), r"several such models; name one: .* a-Q4_K_M\.gguf, b-Q4_K_M\.gguf"),
    ],
)
def test_what_cannot_be_chosen_is_listed(wanted: str | None, paths: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        chosen(wanted, *paths)


def test_a_projector_is_no_model_even_when_it_is_named() -> None:
    with pytest.raises(ValidationError, match=r"has no model mmproj-F16\.gguf; it has M-BF16\.gguf, "):
        choose_file(variants_in(files(*REPOSITORY)), "mmproj-F16.gguf", "org/repo")
