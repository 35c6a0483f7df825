"""The right to use a loaded model."""

from __future__ import annotations

from collections.abc import Callable

from noa.models import Endpoint, ModelInfo
from noa.providers.protocol import Provider


class Lease:
    """The right to use a loaded model until ``release``.

    ``is_cut`` says that the model was taken away by force. ``on_cut`` is called when that happens: whoever waits for
    the upstream puts there what ends the waiting.
    """

    __slots__ = ("_release", "endpoint", "generation", "is_cut", "key", "model", "number", "on_cut", "provider")

    def __init__(
        self,
        number: int,
        key: str,
        generation: int,
        provider: Provider,
        model: ModelInfo,
        endpoint: Endpoint | None,
        release: Callable[[int], None],
    ) -> None:
        self.number = number
        self.key = key
        self.generation = generation
        self.provider = provider
        self.model = model
        self.endpoint = endpoint
        self.is_cut = False
        self.on_cut: Callable[[], None] | None = None
        self._release = release

    def cut(self) -> None:
        """Take the model away from whoever uses it."""
        self.is_cut = True
        if self.on_cut is not None:
            self.on_cut()

    def release(self) -> None:
        """Give it back. A second time does nothing."""
        self._release(self.number)
