"""The right to use a loaded model, and those who have it or wait for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

from noa.errors import AIProviderError
from noa.lifecycle.messages import Admit, Done
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
        self.on_cut: Callable[[], object] | None = None
        self._release = release

    def cut(self) -> None:
        """Take the model away from whoever uses it."""
        self.is_cut = True
        if self.on_cut is not None:
            self.on_cut()

    def release(self) -> None:
        """Give it back. A second time does nothing."""
        self._release(self.number)


class Callers:
    """Everybody who asked the scheduler for something, by number: who waits for an answer, and who has a lease."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Admit | Done]] = {}
        self._leases: dict[int, Lease] = {}

    def number(self) -> int:
        """A number for one who is about to ask."""
        return next(self._numbers)

    def wait(self, number: int) -> asyncio.Future[Admit | Done]:
        """The answer that this one waits for from now on, until ``wait_no_longer``."""
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        return answer

    def wait_no_longer(self, number: int) -> None:
        """This one has its answer, or does not want it any more."""
        del self._answers[number]

    def admit(self, lease: Lease) -> None:
        """This one has a lease from now on."""
        self._leases[lease.number] = lease

    def lease(self, number: int) -> Lease:
        """The lease of one who was admitted."""
        return self._leases[number]

    def left(self, number: int) -> Lease | None:
        """This one has no lease any more. Gives the one it had, if it had one."""
        return self._leases.pop(number, None)

    def answer(self, number: int, answer: Admit | Done) -> None:
        """Give the answer, if it is still waited for."""
        future = self._answers.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def refuse(self, number: int, error: AIProviderError) -> None:
        """Answer with an error, if it is still waited for."""
        future = self._answers.get(number)
        if future is not None and not future.done():
            future.set_exception(error)

    def refuse_all(self, error: AIProviderError) -> None:
        """Answer everybody who waits with an error."""
        for number in self._answers:
            self.refuse(number, error)

    def cut(self, numbers: Iterable[int]) -> None:
        """Take the model away from those who use it."""
        for number in numbers:
            if lease := self._leases.get(number):
                lease.cut()
