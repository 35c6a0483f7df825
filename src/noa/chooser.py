"""Chooses among the models there are, by what is known and was measured of them; remembers why, and what came of it."""

from __future__ import annotations

import random
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import msgspec

from noa.chat import Usage
from noa.errors import ModelNotFoundError, ModelUnavailableError, ValidationError
from noa.events import Event, EventBus
from noa.lifecycle.slots import SlotView
from noa.measurement.cost import cost_usd
from noa.measurement.estimates import Estimates, Observation
from noa.models import ModelInfo, ModelStatus
from noa.providers.protocol import Locality, Offer
from noa.registry import Registry
from noa.selection.candidate import Candidate, Prediction
from noa.selection.decision import Decision, ExploreBudget, Judgement, Outcome, judge
from noa.selection.faults import NOT_THE_MODELS_FAULT
from noa.selection.shortlist import Shortlists
from noa.selection.wish import Objective, Wish, split_auto
from noa.state import RequestRecord

#: How many decisions are remembered, for whoever asks why.
REMEMBERED: Final = 2_000
#: How many candidates an error names that nobody could be chosen from.
MOST_NAMED: Final = 20
#: How many candidates that were never used are kept.
MOST_KEPT: Final = 4_096
#: Where a model stands, if it ever was in use.
View = Callable[[str], SlotView | None]
#: Why a model had better not be asked just now (its breaker is open, it asked to slow down), ``None`` if it may.
Unfit = Callable[[str], str | None]


class Chooser:
    """Decides for those who leave the choice to Noa.

    ``policies`` are the named wishes of the configuration, ``share`` the part of all requests that may explore.
    """

    def __init__(
        self,
        registry: Registry,
        view: View,
        unfit: Unfit,
        *,
        policies: Mapping[str, Wish],
        explore: float = 0.0,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._view = view
        self._unfit = unfit
        self._policies = policies
        self._explore = explore
        self._clock = clock
        self._draw = draw
        self._estimates: dict[str, Estimates] = {}
        self._load_s: dict[str, float] = {}
        self._budgets: dict[str, ExploreBudget] = defaultdict(ExploreBudget)
        self._shortlists = Shortlists(self._listed)
        self._unused = _Unused()
        self._decisions: OrderedDict[str, tuple[Judgement, Outcome | None]] = OrderedDict()

    def reconfigure(self, policies: Mapping[str, Wish], explore: float) -> None:
        """From now on these count."""
        self._policies = policies
        self._explore = explore

    # What is asked for.

    def wish(self, name: str, needs: Wish | None = None) -> Wish:
        """What ``auto``, ``auto:<objective>`` or ``auto:<policy>`` asks for, with what the request itself ``needs``.

        Raises ``ValidationError`` for a word after the colon that means nothing.
        """
        objective, policy = split_auto(name, self._policies)
        return self._with_policy(objective, policy, needs or Wish())

    def policy(self, name: str) -> Wish:
        """A policy of the configuration. Raises ``ValidationError`` if there is none of that name."""
        if name not in self._policies:
            known = ", ".join(sorted(self._policies)) or "none"
            raise ValidationError(f"There is no policy “{name}”; noa.yaml has {known}.", details={"field": "policy"})
        return self._policies[name]

    def _with_policy(self, objective: Objective | None, policy: str | None, needs: Wish) -> Wish:
        base = self.policy(policy) if policy is not None else Wish(explore=self._explore)
        wish = msgspec.structs.replace(
            base,
            prefer=objective or base.prefer,
            prompt_tokens=needs.prompt_tokens,
            output_tokens=needs.output_tokens,
            min_context=max(base.min_context or 0, needs.min_context or 0) or None,
        )
        return wish.needing(*needs.capabilities)

    # The decision.

    def choose(self, wish: Wish) -> Decision:
        """Which model should serve, and why.

        Raises ``ModelUnavailableError`` if some could serve again soon, else ``ModelNotFoundError``, with the reasons.
        """
        return self._choose(wish, None).explained()

    def line_up(self, wish: Wish, request_id: str) -> Sequence[str]:
        """Who should serve a request, and who comes after that, in order; it is remembered why, and may explore.

        Raises what ``choose`` does.
        """
        return self._choose(wish, request_id).order

    def _choose(self, wish: Wish, request_id: str | None) -> Judgement:
        judged = self._judge(wish, request_id)
        if judged.chosen is None and judged.may_pass:
            # Never are all of them out: whoever is in trouble may be out of it, and is the best there is.
            despite = self._judge(wish, request_id, despite_trouble=True)
            if despite.chosen is not None:
                reason = f"{despite.reason} All who could serve are in trouble."
                judged = self._remember(msgspec.structs.replace(despite, reason=reason), request_id)
        if judged.chosen is None:
            raise _nobody(judged.explained())
        return judged

    def _judge(self, wish: Wish, request_id: str | None, *, despite_trouble: bool = False) -> Judgement:
        """Decide; ``despite_trouble`` also considers those that had better be left alone."""
        # Each way to choose has its own, so that none explores on behalf of another.
        budget = self._budgets[wish.policy or wish.prefer]
        may_explore = request_id is not None and budget.earn(wish.explore)
        now_s = self._clock()
        judged = judge(
            wish,
            [self._candidate(key, wish, now_s, despite_trouble=despite_trouble) for key in self._pool(wish)],
            at=datetime.fromtimestamp(now_s, UTC),
            draw=self._draw,
            may_explore=may_explore,
        )
        if judged.explored:
            budget.spend()
        return self._remember(judged, request_id)

    def _remember(self, judged: Judgement, request_id: str | None) -> Judgement:
        if request_id is not None:
            self._decisions[request_id] = (judged, None)
            if len(self._decisions) > REMEMBERED:
                self._decisions.popitem(last=False)
        return judged

    def decision(self, request_id: str) -> Decision:
        """A remembered decision. Raises ``ModelNotFoundError`` when there was none, or it is too long ago."""
        try:
            judged, outcome = self._decisions[request_id]
        except KeyError:
            raise ModelNotFoundError(
                f"No decision is remembered for the request “{request_id[:80]}”; one is made where the model is “auto”."
            ) from None
        return judged.explained(request_id, outcome)

    def decisions(self, limit: int = 100) -> Sequence[Decision]:
        """The latest decisions, newest first."""
        return [self.decision(each) for each in islice(reversed(self._decisions), limit)]

    # What is measured.

    def observe(self, record: RequestRecord) -> None:
        """Take an attempt that is over into account, and note what became of the decision it was made by."""
        self._learn(record)
        remembered = self._decisions.get(record.request_id)
        if remembered is None:
            return
        judged, before = remembered
        outcome = Outcome(
            key=record.key,
            attempts=1 if before is None else before.attempts + 1,
            success=record.success,
            latency_ms=record.latency_ms,
            ttft_ms=record.ttft_ms,
            cost_usd=record.cost_usd,
            error_code=record.error_code,
        )
        self._decisions[record.request_id] = (judged, outcome)

    def remember(self, records: Iterable[RequestRecord]) -> None:
        """Learn from requests of an earlier run, oldest first."""
        for record in records:
            self._learn(record)

    def watch(self, events: EventBus) -> None:
        """Learn from the events how long models take to load."""
        begun: dict[str, float] = {}

        def loading(event: Event) -> None:
            begun.setdefault(str(event.data.get("key")), self._clock())

        def loaded(event: Event) -> None:
            key = str(event.data.get("key"))
            if key in begun:
                self._load_s[key] = max(0.0, self._clock() - begun.pop(key))

        def gave_up(event: Event) -> None:
            begun.pop(str(event.data.get("key")), None)

        events.on("model-loading", loading)
        events.on("model-loaded", loaded)
        events.on("model-load-error", gave_up)

    def _learn(self, record: RequestRecord) -> None:
        if record.error_code in NOT_THE_MODELS_FAULT:
            return
        if record.key not in self._estimates:
            self._estimates[record.key] = Estimates()
        self._estimates[record.key].observe(
            Observation(
                at_s=record.at.timestamp(),
                success=record.success,
                streamed=record.streamed,
                latency_ms=record.latency_ms,
                ttft_ms=record.ttft_ms,
                prompt_tokens=record.prompt_tokens,
                output_tokens=record.completion_tokens,
                cached_tokens=record.cached_tokens,
            )
        )

    # Who is considered.

    def _pool(self, wish: Wish) -> Iterable[str]:
        """Whom to look at: everybody, or, of very many, whoever was used and the cheapest of those who could serve."""
        registry = self._registry
        if wish.models:
            return [key for key in wish.models if key in registry]
        if len(registry) <= Shortlists.SIZE:
            return registry
        used = [key for key in self._estimates if key in registry]
        changed = registry.changed_since(self._shortlists.revision)
        return dict.fromkeys((*used, *self._shortlists.of(wish, registry.revision, changed, registry)))

    def _listed(self, key: str) -> ModelInfo | None:
        return self._registry.offer(key).model if key in self._registry else None

    def _candidate(self, key: str, wish: Wish, now_s: float, *, despite_trouble: bool) -> Candidate:
        offer = self._registry.offer(key)
        view = self._view(key)
        if view is None and key not in self._estimates and (despite_trouble or self._unfit(key) is None):
            return self._unused.candidate(key, offer, wish)
        owned = offer.locality is Locality.OWNED
        ready = not owned or (view is not None and view.status is ModelStatus.LOADED)
        busy = 0.0 if view is None else view.in_flight / (view.concurrency or 1) if owned else float(view.in_flight)
        return Candidate(
            key=key,
            provider=offer.model.provider,
            capabilities=offer.model.capabilities,
            context_window=offer.model.context_window,
            ready=ready,
            busy=busy,
            unfit=_failed(view) or (None if despite_trouble else self._unfit(key)),
            prediction=self._predict(key, offer, wish, now_s, ready=ready, waits=busy if owned else 0.0),
        )

    def _predict(self, key: str, offer: Offer, wish: Wish, now_s: float, *, ready: bool, waits: float) -> Prediction:
        known = self._estimates.get(key)
        if known is None:
            return _unpredicted(offer.model, _expected(wish, None))
        found = known.estimate(now_s, streamed=True, prompt_tokens=wish.prompt_tokens, output_tokens=wish.output_tokens)
        price = offer.model.price
        return Prediction(
            latency_ms=self._with_wait(key, found.latency_ms, ready=ready, waits=waits),
            ttft_ms=self._with_wait(key, found.ttft_ms, ready=ready, waits=waits),
            cost_usd=cost_usd(_expected(wish, found.cache_rate), price),
            success_rate=found.success_rate,
            success_margin=found.success_margin or 0.0,
            unsettled=found.unsettled,
            samples=found.samples,
            age_s=found.age_s,
            origin="live",
            price_source=None if price is None else price.source.value,
            price_as_of=None if price is None else price.as_of,
        )

    def _with_wait(self, key: str, milliseconds: float | None, *, ready: bool, waits: float) -> float | None:
        """With the turns of those who are before us in a local model, and the time it takes to load."""
        if milliseconds is None:
            return None
        if not ready and key not in self._load_s:
            return None
        return milliseconds * (1 + waits) + (0.0 if ready else self._load_s[key] * 1000)


class _Unused:
    """The candidates that were never used, and are in no trouble: these stay the same while what is offered does.

    They are kept for requests of one length, the latest; whoever asks for a choice mostly asks for the same again.
    """

    def __init__(self) -> None:
        self._tokens = Usage()
        self._candidates: dict[str, tuple[Offer, Candidate]] = {}

    def candidate(self, key: str, offer: Offer, wish: Wish) -> Candidate:
        tokens = self._tokens
        if tokens.prompt_tokens != wish.prompt_tokens or tokens.completion_tokens != wish.output_tokens:
            tokens = self._tokens = _expected(wish, None)
            self._candidates.clear()
        if len(self._candidates) > MOST_KEPT:
            self._candidates.clear()
        kept = self._candidates.get(key)
        if kept is not None and kept[0] is offer:
            return kept[1]
        model = offer.model
        candidate = Candidate(
            key=key,
            provider=model.provider,
            capabilities=model.capabilities,
            context_window=model.context_window,
            ready=offer.locality is not Locality.OWNED,
            prediction=_unpredicted(model, tokens),
        )
        self._candidates[key] = (offer, candidate)
        return candidate


def _unpredicted(model: ModelInfo, expected: Usage) -> Prediction:
    """What is known of a request to a model that has served none: at most what it costs."""
    price = model.price
    return Prediction(
        cost_usd=cost_usd(expected, price),
        price_source=None if price is None else price.source.value,
        price_as_of=None if price is None else price.as_of,
    )


def _expected(wish: Wish, cache_rate: float | None) -> Usage:
    cached = None if cache_rate is None else int(wish.prompt_tokens * cache_rate)
    return Usage(prompt_tokens=wish.prompt_tokens, completion_tokens=wish.output_tokens, cached_tokens=cached)


def _failed(view: SlotView | None) -> str | None:
    if view is None or view.status is not ModelStatus.FAILED:
        return None
    return f"it failed: {view.error.message}" if view.error is not None else "it failed"


def _nobody(decision: Decision) -> ModelUnavailableError | ModelNotFoundError:
    reasons = "; ".join(f"{each.key}: {each.eliminated}" for each in decision.candidates[:5])
    more = len(decision.candidates) - 5
    others = f"; and {more} more" if more > 0 else ""
    sentence = f"No model meets the conditions. {reasons}{others}." if reasons else _no_candidate(decision.wish)
    named = [{"key": each.key, "reason": each.eliminated} for each in decision.candidates[:MOST_NAMED]]
    details = {"count": len(decision.candidates), "candidates": named}
    if any(each.for_now for each in decision.candidates):
        return ModelUnavailableError(sentence, retry_after_s=5, details=details)
    return ModelNotFoundError(sentence, details=details)


def _no_candidate(wish: Wish) -> str:
    if not wish.models:
        return "There is no model to choose from."
    return (
        f"None of the models of “{wish.policy}” is known here: {', '.join(wish.models)}. See what there is with: noa ls"
    )
