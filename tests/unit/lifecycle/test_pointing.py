"""Aliases besides ``current``: pointed without a load, dropped, each change written before it counts."""

from __future__ import annotations

from noa.errors import ConflictError, ModelNotFoundError, StorageError
from noa.models import ModelStatus
from noa.state import AliasPointed
from simulation.stage import Stage


def test_an_alias_is_pointed_without_loading_and_its_model_loaded_on_demand() -> None:
    stage = Stage()
    stage.known("a")
    number = stage.point("prod", "a")
    assert (stage.done[number].key, stage.done[number].previous) == ("a", None)
    assert stage.scheduler.aliases == {"prod": "a"}
    assert stage.status("a") is ModelStatus.AVAILABLE
    request = stage.acquire("prod")
    stage.started("a")
    assert stage.admitted[request] == "a"


def test_a_change_counts_when_it_is_written_and_not_at_all_if_it_cannot_be() -> None:
    stage = Stage()
    stage.known("a", "b")
    stage.point("prod", "a")
    stage.disk_waits = True
    number = stage.point("prod", "b")
    assert stage.scheduler.aliases == {"prod": "a"}
    stage.disk_fails = True
    stage.write()
    assert isinstance(stage.refused[number], StorageError)
    dropped = stage.drop("prod")
    stage.write()
    assert isinstance(stage.refused[dropped], StorageError)
    assert stage.scheduler.aliases == {"prod": "a"}
    assert [event.type for event in stage.events if event.type.startswith("alias")] == ["alias-pointed"]


def test_those_who_wait_through_a_change_land_where_the_alias_points_then() -> None:
    stage = Stage()
    stage.known("a")
    stage.with_loaded("b")
    stage.point("prod", "a")
    waiting = stage.acquire("prod")
    assert waiting not in stage.admitted
    stage.point("prod", "b")
    assert stage.admitted[waiting] == "b"


def test_a_dropped_alias_is_no_name_any_more() -> None:
    stage = Stage()
    stage.known("a")
    stage.point("prod", "a")
    waiting = stage.acquire("prod")
    number = stage.drop("prod")
    assert (stage.done[number].key, stage.done[number].previous) == ("a", "a")
    assert stage.scheduler.aliases == {}
    assert isinstance(stage.refused[waiting], ModelNotFoundError)
    assert isinstance(stage.refused[stage.drop("prod")], ModelNotFoundError)
    assert isinstance(stage.written[-1], AliasPointed)
    assert (stage.written[-1].key, stage.written[-1].previous) == (None, "a")


def test_compare_and_set_names_both() -> None:
    stage = Stage()
    stage.known("a", "b")
    stage.point("prod", "a", expected=None)
    refused = stage.refused[stage.point("prod", "b", expected="b")]
    assert isinstance(refused, ConflictError)
    assert refused.message == "“prod” means a now, not b."
    refused = stage.refused[stage.point("prod", "b", expected=None)]
    assert refused.message == "“prod” means a now, not nothing."
    assert stage.point("prod", "b", expected="a") in stage.done


def test_changes_of_one_alias_are_made_one_after_the_other_and_of_others_at_once() -> None:
    stage = Stage()
    stage.known("a", "b")
    stage.disk_waits = True
    first = stage.point("prod", "a", expected=None)
    too_late = stage.point("prod", "b", expected=None)
    unknown = stage.point("prod", "nowhere")
    third = stage.drop("prod")
    other = stage.point("fast", "a")
    assert [change.changes[0] for change in stage.writing] == [
        AliasPointed(name="prod", key="a", previous=None, reason="asked for"),
        AliasPointed(name="fast", key="a", previous=None, reason="asked for"),
    ]
    stage.disk_waits = False
    stage.write()
    assert {first, third, other} == set(stage.done)
    assert isinstance(stage.refused[too_late], ConflictError)
    assert isinstance(stage.refused[unknown], ModelNotFoundError)
    assert stage.scheduler.aliases == {"fast": "a"}


def test_a_switch_of_the_same_alias_waits_for_the_change_that_is_being_written() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.disk_waits = True
    stage.point("prod", "a")
    switched = stage.switch("b", alias="prod")
    stage.disk_waits = False
    stage.write()
    assert stage.done[switched].previous == "a"
    assert stage.scheduler.aliases["prod"] == "b"


def test_pointing_to_what_it_means_already_is_done_at_once_and_announces_nothing() -> None:
    stage = Stage()
    stage.known("a")
    stage.point("prod", "a")
    written, told = len(stage.written), len(stage.events)
    assert stage.done[stage.point("prod", "a")].previous == "a"
    assert (len(stage.written), len(stage.events)) == (written, told)


def test_only_current_is_announced_as_a_switch() -> None:
    stage = Stage()
    stage.with_loaded("a", "b")
    stage.switch("b", alias="prod")
    stage.drop("prod")
    assert stage.events_of("model-switched") == []
    assert stage.events_of("alias-pointed")[0].data == {
        "alias": "prod", "key": "b", "previous": None, "reason": "asked for",
    }  # fmt: skip
    assert stage.events_of("alias-removed")[0].data == {"alias": "prod", "previous": "b", "reason": "asked for"}
