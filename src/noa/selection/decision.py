"""Who should serve, and why: filter, rank by the objective, explain.

The rule, after the research on routers: whoever cannot or may not serve is eliminated, each with the reason. The rest
is ranked by what the objective says. Among those within ``TIE`` of the best, ready and idle ones come first, and of two
drawn at random the less busy one (the power of two choices: Mitzenmacher, IEEE TPDS 12(10), 2001), so that a crowd does
not run to one model. If exploring is switched on, now and then the candidate whose figures are oldest has a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from noa.models import Value
from noa.selection.candidate import Candidate, Origin, Prediction
from noa.selection.wish import Objective, Wish

#: How near to the best one is as good, as a part of the best.
TIE = 0.05
#: Success rates so near to each other are the same.
SUCCESS_TIE = 0.01
#: Figures younger than this are not explored again, in seconds.
FRESH_S = 15.0
#: Below this success rate the cheapest is not the best, as in the quick start's cost pattern, but the last resort.
CHEAP_BUT_GOOD = 0.95
#: How much each of latency, cost and failures weighs when they are balanced.
BALANCE = (0.4, 0.3, 0.3)
#: A spread of failure rates below this is not blown up to the whole scale.
LEAST_FAILURE_SPREAD = 0.05

#: A number in [0, 1), new at each call.
Draw = Callable[[], float]


class Considered(Value, frozen=True, kw_only=True):
    """A candidate as a decision saw it: why it was eliminated, or its rank (1 is best) and what was predicted of it.

    ``for_now`` says that it was eliminated by a trouble that may soon be over.
    """

    key: str
    eliminated: str | None = None
    for_now: bool = False
    rank: int | None = None
    score: float | None = None
    ready: bool
    busy: float
    predicted_latency_ms: float | None
    predicted_ttft_ms: float | None
    predicted_cost_usd: float | None
    success_rate: float | None
    samples: int
    data_age_s: float | None
    origin: Origin | None
    price_source: str | None
    price_as_of: str | None


class Outcome(Value, frozen=True, kw_only=True):
    """What became of the request a decision was made for: prediction against fact. Times in milliseconds.

    It is the last attempt's, with the ``key`` of the model that made it; ``attempts`` counts all of them.
    """

    key: str
    attempts: int = 1
    success: bool
    latency_ms: float | None
    ttft_ms: float | None
    cost_usd: float | None
    error_code: str | None = None


class Decision(Value, frozen=True, kw_only=True):
    """Which model should serve, and why.

    ``order`` holds the keys that may serve, the chosen one first: whoever fails before its first byte is followed by
    the next. ``explored`` says that the chosen one had its turn to be measured again, not because it was best.
    """

    at: datetime
    wish: Wish
    chosen: str | None
    order: tuple[str, ...]
    rule: str
    reason: str
    explored: bool
    candidates: tuple[Considered, ...]
    request_id: str | None = None
    outcome: Outcome | None = None


class _Scored(msgspec.Struct, frozen=True):
    candidate: Candidate
    score: float | None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Which model should serve, before anybody has asked why; with everything that the explanation is made of.

    Of most requests nobody ever asks, and to explain takes as long as to decide.
    """

    at: datetime
    wish: Wish
    chosen: str | None
    order: tuple[str, ...]
    reason: str
    explored: bool
    everyone: tuple[Candidate, ...]
    eliminated: dict[str, str]
    ranked: tuple[_Scored, ...]

    @property
    def may_pass(self) -> bool:
        """Whether somebody was eliminated by a trouble that may soon be over."""
        return any(each.unfit is not None and self.eliminated.get(each.key) == each.unfit for each in self.everyone)

    def explained(self, request_id: str | None = None, outcome: Outcome | None = None) -> Decision:
        """With what there is to say of every candidate, and what became of the request."""
        ranks = {each.candidate.key: (place, each.score) for place, each in enumerate(self.ranked, 1)}
        return Decision(
            at=self.at,
            wish=self.wish,
            chosen=self.chosen,
            order=self.order,
            rule=_RULES[self.wish.prefer],
            reason=self.reason,
            explored=self.explored,
            candidates=tuple(
                _considered(each, self.eliminated.get(each.key), ranks.get(each.key)) for each in self.everyone
            ),
            request_id=request_id,
            outcome=outcome,
        )


class ExploreBudget:
    """How many requests may explore: each one decided on earns the wish's share of one, and up to ``MOST`` are saved.

    So they never are more than that share, and there are some left when a model turns out to have changed.
    """

    MOST = 3.0

    def __init__(self) -> None:
        self._saved = 0.0

    def earn(self, share: float) -> bool:
        """Count one more decision; whether it may explore."""
        self._saved = min(self.MOST, self._saved + share)
        return share > 0 and self._saved >= 1.0

    def spend(self) -> None:
        """One did."""
        self._saved -= 1.0


def decide(
    wish: Wish, candidates: Iterable[Candidate], *, at: datetime, draw: Draw, may_explore: bool = False
) -> Decision:
    """Choose among ``candidates``, and say why. ``draw`` is asked for chance where several are as good."""
    return judge(wish, candidates, at=at, draw=draw, may_explore=may_explore).explained()


def judge(
    wish: Wish, candidates: Iterable[Candidate], *, at: datetime, draw: Draw, may_explore: bool = False
) -> Judgement:
    """The same without the explanation."""
    everyone = tuple(candidates)
    eliminated = {each.key: why for each in everyone if (why := why_not(each, wish))}
    ranked = _ranked(wish, [each for each in everyone if each.key not in eliminated])
    ties = _ties(wish.prefer, ranked)
    chosen = _chosen(ties, draw)
    stalest = _to_explore(ranked, wish, chosen) if may_explore else None
    first = stalest or chosen
    order = dict.fromkeys(each.candidate.key for each in (first, chosen, *ranked) if each is not None)
    return Judgement(
        at=at,
        wish=wish,
        chosen=first.candidate.key if first else None,
        order=tuple(order),
        reason=_reason(wish, first, explored=stalest is not None, ties=len(ties)),
        explored=stalest is not None,
        everyone=everyone,
        eliminated=eliminated,
        ranked=tuple(ranked),
    )


def why_not(candidate: Candidate, wish: Wish) -> str | None:
    """Why a candidate may not serve, ``None`` if it may.

    An unknown price or window meets no limit on it. What can only be known by serving, speed and success, may be
    unknown: otherwise nobody would ever be the first to be measured.
    """
    window, found = candidate.context_window, candidate.prediction
    if missing := _missing(candidate, wish):
        return f"not known to do {', '.join(missing)}"
    if wish.models and candidate.key not in wish.models:
        return f"not among the models of {wish.policy or 'the request'}"
    if wish.providers and candidate.provider not in wish.providers:
        return f"not of the providers of {wish.policy or 'the request'}"
    if wish.min_context is not None and (window is None or window < wish.min_context):
        return "its context window is unknown" if window is None else f"its context window is {window:,} tokens only"
    if window is not None and window < wish.prompt_tokens:
        return f"the prompt of about {wish.prompt_tokens:,} tokens is too long for its window of {window:,}"
    if wish.max_cost is not None and found.cost_usd is None:
        return "its price is unknown, so it may not be shown to stay under the limit"
    if wish.max_cost is not None and found.cost_usd is not None and found.cost_usd > wish.max_cost:
        return f"it would cost {found.cost_usd:.6f} USD, more than {wish.max_cost:g}"
    if wish.max_ttft_ms is not None and found.ttft_ms is not None and found.ttft_ms > wish.max_ttft_ms:
        return f"its first token would take {found.ttft_ms:.0f} ms, more than {wish.max_ttft_ms:g}"
    success = found.success_rate
    if wish.min_success_rate is not None and success is not None and success < wish.min_success_rate:
        return f"only {success:.1%} of its requests succeed"
    return candidate.unfit


def _missing(candidate: Candidate, wish: Wish) -> Sequence[str]:
    missing: Sequence[str] = ()
    for each in wish.capabilities:
        if each not in candidate.capabilities:
            missing = [*missing, each.value]
    return missing


_RULES = {
    Objective.SPEED: "the lowest predicted latency",
    Objective.COST: "the lowest predicted cost; the faster of two that cost the same; under 95 % success comes last",
    Objective.RELIABILITY: "the highest success rate; the faster of two that are alike",
    Objective.BALANCED: "the lowest of 0.4 × latency + 0.3 × cost + 0.3 × failures, each from 0 (best) to 1 (worst)",
}


def _ranked(wish: Wish, eligible: Sequence[Candidate]) -> list[_Scored]:
    """Best first. Whoever has no score stands behind those that have one: ready ones first, then by key."""
    prefer = wish.prefer
    doubtful, then_faster = prefer is Objective.COST, prefer in (Objective.COST, Objective.RELIABILITY)
    scores = _scores(prefer, [each.prediction for each in eligible])
    scored = [_Scored(each, score) for each, score in zip(eligible, scores, strict=True)]
    scored.sort(
        key=lambda each: (
            doubtful and _is_unreliable(prefer, each.candidate.prediction),
            each.score is None,
            each.score or 0.0,
            _latency(each.candidate.prediction) if then_faster else 0.0,
            not each.candidate.ready,
            each.candidate.busy,
            each.candidate.key,
        )
    )
    return scored


def _is_unreliable(prefer: Objective, found: Prediction) -> bool:
    if prefer is not Objective.COST or found.success_rate is None:
        return False
    return found.success_rate + found.success_margin < CHEAP_BUT_GOOD


def _latency(found: Prediction) -> float:
    return float("inf") if found.latency_ms is None else found.latency_ms


def _scores(prefer: Objective, predictions: Sequence[Prediction]) -> list[float | None]:
    """Lower is better; ``None`` where what the objective is about is unknown."""
    match prefer:
        case Objective.SPEED:
            return [each.latency_ms for each in predictions]
        case Objective.COST:
            return [each.cost_usd for each in predictions]
        case Objective.RELIABILITY:
            # Rounded, so that of two that are alike the faster one is better.
            return [_failures(each, SUCCESS_TIE) for each in predictions]
        case Objective.BALANCED:
            return _balanced(predictions)


def _failures(prediction: Prediction, step: float) -> float | None:
    return None if prediction.success_rate is None else round((1 - prediction.success_rate) / step) * step


def _balanced(predictions: Sequence[Prediction]) -> list[float | None]:
    columns = (
        _from_best_to_worst([each.latency_ms for each in predictions]),
        _from_best_to_worst([each.cost_usd for each in predictions]),
        _from_best_to_worst([_failures(each, 1e-6) for each in predictions], LEAST_FAILURE_SPREAD),
    )
    slow, dear, failing = BALANCE
    return [slow * latency + dear * cost + failing * failures for latency, cost, failures in zip(*columns, strict=True)]


def _from_best_to_worst(values: Sequence[float | None], least_spread: float = 0.0) -> list[float]:
    """Each value between 0, the best, and 1, the worst; the unknown is worst, unless nothing is known of anybody."""
    known = [value for value in values if value is not None]
    if not known:
        return [0.0] * len(values)
    low = min(known)
    # Values that hardly differ are not blown up to the whole scale.
    spread = max(max(known) - low, 0.1 * max(known), least_spread)
    return [1.0 if value is None else (value - low) / spread if spread else 0.0 for value in values]


def _ties(prefer: Objective, ranked: Sequence[_Scored]) -> list[_Scored]:
    """Those that are about as good as the best, and it."""
    if not ranked:
        return []
    best = ranked[0]
    if best.score is None:
        return [each for each in ranked if each.score is None and each.candidate.ready == best.candidate.ready]
    room = TIE if prefer is Objective.BALANCED else 0.0 if prefer is Objective.RELIABILITY else TIE * best.score
    doubted = _is_unreliable(prefer, best.candidate.prediction)
    found = list[_Scored]()
    for each in ranked:
        worse = each.score is None or each.score > best.score + room
        if worse or _is_unreliable(prefer, each.candidate.prediction) != doubted:
            break  # Whoever comes after that is no better.
        if _is_as_fast(prefer, each.candidate.prediction.latency_ms, best.candidate.prediction.latency_ms):
            found.append(each)
    return found


def _is_as_fast(prefer: Objective, ours: float | None, its: float | None) -> bool:
    if prefer in (Objective.SPEED, Objective.BALANCED) or ours == its:
        return True
    return ours is not None and its is not None and ours <= its * (1 + TIE)


def _chosen(ties: Sequence[_Scored], draw: Draw) -> _Scored | None:
    idle = [each for each in ties if each.candidate.ready and each.candidate.busy == 0]
    choices = idle or [each for each in ties if each.candidate.ready] or ties
    if len(choices) < 2:
        return choices[0] if choices else None
    first = choices[int(draw() * len(choices))]
    others = [each for each in choices if each is not first]
    second = others[int(draw() * len(others))]
    return min(first, second, key=lambda each: each.candidate.busy)


def _to_explore(ranked: Sequence[_Scored], wish: Wish, chosen: _Scored | None) -> _Scored | None:
    """The candidate whose figures are oldest, if better ones could make it the best.

    One that had to be loaded for it is not explored, nor one that is measured just now by the requests it has.
    """
    if chosen is None:
        return None
    stale = [
        each
        for each in ranked
        if each is not chosen
        and each.candidate.ready
        and each.candidate.busy == 0
        and (_age_s(each.candidate) > FRESH_S or each.candidate.prediction.unsettled)
        and _could_win(wish.prefer, each.candidate.prediction, chosen.candidate.prediction)
    ]
    return max(stale, key=lambda each: (each.candidate.prediction.unsettled, _age_s(each.candidate)), default=None)


def _could_win(prefer: Objective, one: Prediction, best: Prediction) -> bool:
    """Whether being measured again could put it first. What it costs is known without measuring."""
    if prefer is not Objective.COST or one.cost_usd is None or best.cost_usd is None:
        return prefer is not Objective.COST
    return one.cost_usd <= best.cost_usd * (1 + TIE)


def _age_s(candidate: Candidate) -> float:
    age_s = candidate.prediction.age_s
    return float("inf") if age_s is None else age_s


def _reason(wish: Wish, first: _Scored | None, *, explored: bool, ties: int) -> str:
    if first is None:
        return "No model meets the conditions."
    if explored:
        return f"{first.candidate.key} was not measured lately, and {wish.explore:.0%} of requests may explore."
    if first.score is None:
        return f"{first.candidate.key}: nothing is known of any candidate’s {wish.prefer.value} yet."
    among = f", among {ties} about as good" if ties > 1 else ""
    return f"{first.candidate.key} has {_RULES[wish.prefer].partition(';')[0]}{among}."


def _considered(each: Candidate, eliminated: str | None, ranked: tuple[int, float | None] | None) -> Considered:
    rank, score = ranked or (None, None)
    found = each.prediction
    return Considered(
        key=each.key,
        eliminated=eliminated,
        for_now=eliminated is not None and eliminated == each.unfit,
        rank=rank,
        score=score,
        ready=each.ready,
        busy=each.busy,
        predicted_latency_ms=found.latency_ms,
        predicted_ttft_ms=found.ttft_ms,
        predicted_cost_usd=found.cost_usd,
        success_rate=found.success_rate,
        samples=found.samples,
        data_age_s=found.age_s,
        origin=found.origin,
        price_source=found.price_source,
        price_as_of=None if found.price_as_of is None else found.price_as_of.isoformat(),
    )
