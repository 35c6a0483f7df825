"""Models in repositories of Hugging Face: which files there are, and where each is fetched from.

The extra ``hub`` (``huggingface_hub``) lists a repository and knows this machine's settings for it: ``HF_ENDPOINT``,
``HF_TOKEN`` and the other places of a token, ``HF_HUB_OFFLINE``, and the cache below ``HF_HOME``. The files themselves
come the way all files of the web come here. Its own downloads go on where they broke off too, but run in threads that
cannot be stopped by Ctrl-C, and check no SHA-256.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Self

import msgspec

from noa.config import Secret
from noa.errors import AIProviderError, ConfigurationError, ModelLoadError, ValidationError
from noa.weights.quantization import HubFile, Variant, choose, choose_file, variants_in
from noa.weights.web import WebFile

#: How long a repository may take to say what it holds, in seconds.
_PATIENCE_S = 20.0
_SOURCE = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+?)(?:/(?P<path>[^:]+\.gguf))?(?::(?P<quantization>[\w.-]+))?",
    re.ASCII | re.IGNORECASE,
)


class HubSource(msgspec.Struct, frozen=True, kw_only=True):
    """``hf:org/repo``, ``hf:org/repo:Q4_K_M`` or ``hf:org/repo/folder/file.gguf``."""

    repository: str
    path: str | None = None
    quantization: str | None = None

    @classmethod
    def parse(cls, source: str) -> Self:
        """Read a source. Raises ``ValidationError`` for one that makes no sense."""
        found = _SOURCE.fullmatch(source)
        if found is None or (found["path"] and found["quantization"]):
            raise ValidationError(
                f"“{source}” names no model of Hugging Face; give hf:org/repo, hf:org/repo:Q4_K_M or"
                " hf:org/repo/file.gguf."
            )
        return cls(**found.groupdict())


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository holds at one ``commit``, and how its files are got."""

    repository: str
    commit: str
    endpoint: str
    files: tuple[HubFile, ...]
    token: Secret | None = None

    def chosen(self, source: HubSource) -> Variant:
        """The model that ``source`` means. Raises ``ValidationError``, which lists what there is."""
        variants = variants_in(self.files)
        if source.path is not None:
            return choose_file(variants, source.path, self.repository)
        return choose(variants, source.quantization, self.repository)

    def web_file(self, file: HubFile) -> WebFile:
        """Where a file of it is fetched from, or taken from if a program has fetched it for its own use."""
        from huggingface_hub import hf_hub_url, try_to_load_from_cache  # the extra, imported where it is used

        cached = try_to_load_from_cache(self.repository, file.path, revision=self.commit)
        return WebFile(
            name=file.name,
            address=hf_hub_url(self.repository, file.path, revision=self.commit, endpoint=self.endpoint),
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            token=self.token,
            locked=locked(self.repository, self.endpoint, self.token is not None),
            cached=Path(cached) if isinstance(cached, str) else None,
        )


async def listed(repository: str) -> Listing:
    """Ask what a repository holds.

    Raises ``ConfigurationError`` without the extra, and where the repository is not for us; ``ModelLoadError`` where
    it is not, or does not answer.
    """
    try:
        import huggingface_hub  # noqa: F401 - whether there is one
    except ImportError as error:
        raise ConfigurationError(
            "Fetching from Hugging Face needs the extra “hub”: pip install 'noa[hub]'. Without it, give the https://"
            " address of the .gguf file."
        ) from error
    return await asyncio.to_thread(_list, repository)


def locked(repository: str, endpoint: str, token: bool) -> str:
    """What to do about a repository that does not let us in."""
    whose = "your HF_TOKEN may not read it" if token else "no HF_TOKEN is set"
    return (
        f"{repository} is gated or private, and {whose}: accept its licence at {endpoint}/{repository}, and set"
        " HF_TOKEN to a token of that account that may read it."
    )


def _list(repository: str) -> Listing:
    """Blocking."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, constants, get_token

    text = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    api = HfApi(endpoint=constants.ENDPOINT, token=text or False, library_name="noa")
    try:
        info = api.model_info(repository, files_metadata=True, timeout=_PATIENCE_S)
    except (HTTPError, OSError, ValueError) as error:
        raise _refusal(error, repository, constants.ENDPOINT, token=text is not None) from error
    return Listing(
        repository=repository,
        commit=info.sha or constants.DEFAULT_REVISION,
        endpoint=constants.ENDPOINT,
        files=tuple(
            HubFile(
                path=each.rfilename,
                size_bytes=each.lfs.size if each.lfs is not None else each.size,
                sha256=each.lfs.sha256 if each.lfs is not None else None,
            )
            for each in info.siblings or ()
        ),
        token=Secret(text) if text else None,
    )


def _refusal(error: Exception, repository: str, endpoint: str, *, token: bool) -> AIProviderError:
    """What kept a repository from being listed, for a person."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return ConfigurationError(locked(repository, endpoint, token))
        case errors.RepositoryNotFoundError():
            what = "set HF_TOKEN to a token that may read it" if not token else "see whether your HF_TOKEN may read it"
            return ModelLoadError(
                f"There is no {repository} at {endpoint}, or it is private: check the name, or {what}."
            )
        case errors.OfflineModeIsEnabled():
            return ConfigurationError(f"{repository} cannot be listed because HF_HUB_OFFLINE is set; unset it.")
        case errors.HFValidationError():
            return ValidationError(f"“{repository}” cannot be the name of a repository.")
        case errors.HfHubHTTPError(response=response) if response.status_code in (401, 403):
            if not token:
                return ConfigurationError(locked(repository, endpoint, token))
            return ConfigurationError(f"{endpoint} does not accept HF_TOKEN; set it to a valid token, or unset it.")
        case errors.HfHubHTTPError(response=response):
            return ModelLoadError(f"{endpoint} answered {response.status_code}; try again later.", retryable=True)
    return ModelLoadError(f"{endpoint} could not be asked for {repository}: no connection; try again.", retryable=True)
