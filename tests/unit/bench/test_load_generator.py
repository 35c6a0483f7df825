"""The generator and the service that it is tried on are real processes; a wrong answer must not pass for a result."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from bench.load_plan import LoadPlan
from bench.processes import loaded, service
from bench.scenarios import CHAT, scenarios
from bench.stream_client import WrongAnswerError


def test_every_load_is_answered_right_by_the_service_itself(tmp_path: Path) -> None:
    with service(tmp_path) as (process, port):
        for each in scenarios(0.05):
            if each.name == "stream-paced":
                continue  # It takes four seconds by design.
            plan = msgspec.structs.replace(each.towards(port, {}, ""), warm_up=1)
            with loaded(plan, process, process, tmp_path) as load:
                assert load.result.requests >= 1, each.name
                assert load.result.latency is not None
                assert (load.result.first is not None) is plan.streamed
                assert load.result.events == (load.result.requests * plan.markers if plan.streamed else 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"marker": "no such word"}, "0 times where 1 were expected"),
        ({"markers": 2}, "1 times where 2 were expected"),
        ({"ending": "never"}, "status 200"),
    ],
)
def test_a_wrong_answer_ends_the_load_and_is_shown(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    plan = LoadPlan(port=0, path=CHAT, body='{"model":"bench-chat"}', marker="lighthouse", requests=3)
    with service(tmp_path) as (process, port):
        wrong = msgspec.structs.replace(plan, port=port, **changed)
        with pytest.raises(WrongAnswerError, match=said), loaded(wrong, process, process, tmp_path):
            pass


def test_a_load_sends_as_many_requests_as_it_was_told_to(tmp_path: Path) -> None:
    body = '{"model":"bench-chat"}'
    plan = LoadPlan(port=0, path=CHAT, body=body, marker="lighthouse", requests=250, connections=8)
    with (
        service(tmp_path) as (process, port),
        loaded(msgspec.structs.replace(plan, port=port), process, process, tmp_path) as load,
    ):
        assert load.result.requests == 250
