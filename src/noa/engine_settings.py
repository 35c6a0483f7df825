"""What the engine needs of the configuration."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from noa.shape import Shape


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine needs of the configuration.

    ``providers`` maps every name of every known provider to the canonical one; ``advice`` says for each of them what to
    set to use it. ``default_model`` is loaded at start when nothing else is, and ``shape`` is for owned models, which
    the engine of this ``build`` runs.
    """

    providers: Mapping[str, str]
    advice: Mapping[str, str]
    default_model: str | None = None
    shape: Shape = Shape()
    build: str = ""
