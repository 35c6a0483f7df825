"""Probing: real requests that find out what a model can do, and the record of what they found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, NamedTuple

from noa import probes
from noa.attempt import PROBE
from noa.chat import ChatReply, ChatRequest
from noa.engine import Engine
from noa.errors import AIProviderError, ModelNotFoundError, UnsupportedError, ValidationError
from noa.events import EventBus
from noa.facts import contradicted
from noa.inference import Inference
from noa.lease import Lease
from noa.models import CapabilityEvidence, ModelCapability, ProbeOutcome, ProbeResult
from noa.probes import Verdict
from noa.providers.protocol import Offer
from noa.state import CapabilityProbed
from noa.storage.protocol import StateStore

#: How long one probe may take, in seconds.
PATIENCE_S: Final = 120.0


class Refusal(NamedTuple):
    """A model or its service refused a request as such. That proves something only of a model that answers others."""

    detail: str


class Prober:
    """Probes models, writes down what that shows, and says where it contradicts what was known."""

    def __init__(
        self,
        engine: Engine,
        inference: Inference,
        state: StateStore,
        events: EventBus,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        choose: Callable[[Sequence[str]], str] = random.choice,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._engine = engine
        self._inference = inference
        self._state = state
        self._events = events
        self._clock = clock
        self._choose = choose
        self._patience_s = patience_s

    async def probe(self, key: str, capabilities: Collection[ModelCapability] | None = None) -> Sequence[ProbeResult]:
        """Probe a model for these capabilities (``None``: for all), one after the other, while it is held loaded.

        What was shown is written before it counts, is told as events, and survives a restart. Raises what keeps the
        model from being loaded, and ``StorageError`` if the results cannot be kept.
        """
        registry = self._engine.registry
        offer, claims = registry.offer(key), registry.claims(key)
        asked = probes.chosen(capabilities)
        self._events.publish("probing-started", {"key": key, "capabilities": asked})
        lease = await self._inference.hold(key, failover=False)
        try:
            verdicts = await self._run(lease, asked)
        finally:
            lease.release()
        if capabilities is None or ModelCapability.TEXT_GENERATION in capabilities:
            verdicts[ModelCapability.TEXT_GENERATION] = _of_text(verdicts[ModelCapability.CHAT_COMPLETION])
        at = self._clock()
        results = [
            ProbeResult(capability=capability, outcome=verdict.outcome, detail=verdict.detail, at=at)
            for capability, verdict in verdicts.items()
        ]
        shown = _shown(offer, results)
        await self._state.write(*shown)
        registry.prove(shown)
        self._tell_contradictions(claims, shown)
        self._events.publish("probing-completed", {"key": key, "results": results})
        return results

    def _tell_contradictions(self, claims: Sequence[CapabilityEvidence], shown: Iterable[CapabilityProbed]) -> None:
        for probe in shown:
            if (claim := contradicted(claims, probe)) is not None:
                data = {
                    "key": probe.key,
                    "capability": probe.capability,
                    "declared": claim.supported,
                    "source": claim.source,
                    "probed": probe.supported,
                    "detail": probe.detail,
                }
                self._events.publish("capability-contradicted", data)

    async def _run(self, lease: Lease, asked: Sequence[ModelCapability]) -> dict[ModelCapability, Verdict]:
        found: dict[ModelCapability, Verdict | Refusal] = {}
        for capability in asked:
            found[capability] = await self._ask(lease, capability)
            data = {"key": lease.key, "capability": capability, "done": len(found), "total": len(asked)}
            self._events.publish("probing-progress", data)
        answers = any(isinstance(each, Verdict) and each.outcome is ProbeOutcome.SUPPORTED for each in found.values())
        refused = any(isinstance(each, Refusal) for each in found.values())
        if refused and not answers:
            answers = await self._answers(lease, tried=found)
        return {capability: _concluded(each, answers=answers) for capability, each in found.items()}

    async def _answers(self, lease: Lease, *, tried: Collection[ModelCapability]) -> bool:
        """Whether the model answers anything at all, among the plain requests that were not tried."""
        for capability in (ModelCapability.CHAT_COMPLETION, ModelCapability.EMBEDDINGS):
            if capability not in tried:
                verdict = await self._ask(lease, capability)
                if isinstance(verdict, Verdict) and verdict.outcome is ProbeOutcome.SUPPORTED:
                    return True
        return False

    async def _ask(self, lease: Lease, capability: ModelCapability) -> Verdict | Refusal:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._judge(lease, capability)
        except TimeoutError:
            return Verdict(ProbeOutcome.INCONCLUSIVE, f"it did not answer within {self._patience_s:g} s")
        except UnsupportedError as error:
            return Verdict(ProbeOutcome.UNSUPPORTED, error.message)
        except (ValidationError, ModelNotFoundError) as error:
            return Refusal(error.message)
        except AIProviderError as error:
            return Verdict(ProbeOutcome.INCONCLUSIVE, error.message)

    async def _judge(self, lease: Lease, capability: ModelCapability) -> Verdict:
        if capability is ModelCapability.EMBEDDINGS:
            async with self._inference.serve(lease.key, "embeddings", within=lease.number, failover=False) as serving:
                return probes.judge_embedding(await serving.embed(probes.embedding_request()))
        if capability is ModelCapability.STREAMING:
            return await self._judge_stream(lease)
        if capability is ModelCapability.VISION:
            colour = self._choose(tuple(probes.COLOURS))
            return probes.judge_picture(await self._complete(lease, probes.picture_request(colour)), colour)
        request, judge = probes.JUDGES[capability]
        return judge(await self._complete(lease, request()))

    async def _judge_stream(self, lease: Lease) -> Verdict:
        async with (
            self._inference.serve(lease.key, PROBE, streamed=True, within=lease.number, failover=False) as serving,
            aclosing(serving.stream(probes.chat_request())) as events,
        ):
            return probes.judge_stream([event async for event in events])

    async def _complete(self, lease: Lease, request: ChatRequest) -> ChatReply:
        async with self._inference.serve(lease.key, PROBE, within=lease.number, failover=False) as serving:
            return await serving.complete(request)


def _shown(offer: Offer, results: Iterable[ProbeResult]) -> list[CapabilityProbed]:
    """The results that prove something, as they are kept."""
    return [
        CapabilityProbed(
            key=offer.model.key,
            capability=result.capability,
            supported=result.outcome is ProbeOutcome.SUPPORTED,
            at=result.at,
            detail=result.detail,
            file_bytes=offer.size_bytes,
            modified_ns=offer.modified_ns,
        )
        for result in results
        if result.outcome is not ProbeOutcome.INCONCLUSIVE
    ]


def _concluded(found: Verdict | Refusal, *, answers: bool) -> Verdict:
    if isinstance(found, Verdict):
        return found
    if answers:
        return Verdict(ProbeOutcome.UNSUPPORTED, found.detail)
    return Verdict(ProbeOutcome.INCONCLUSIVE, f"nothing was answered, so this proves nothing: {found.detail}")


def _of_text(chat: Verdict) -> Verdict:
    """What an answer in a conversation says of generating text: if it came, the model generates text."""
    if chat.outcome is ProbeOutcome.SUPPORTED:
        return chat
    return Verdict(ProbeOutcome.INCONCLUSIVE, f"it was asked in a conversation alone: {chat.detail}")
