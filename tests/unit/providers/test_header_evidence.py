"""What a weights file's header says that the model can do, and why."""

from __future__ import annotations

from noa.gguf import GgufHeader
from noa.models import CapabilityEvidence, ModelCapability
from noa.providers.header_evidence import evidence_in

CAN = ModelCapability


def judged(header: GgufHeader) -> dict[ModelCapability, CapabilityEvidence]:
    return {each.capability: each for each in evidence_in(header)}


def able(header: GgufHeader) -> set[ModelCapability]:
    return {capability for capability, each in judged(header).items() if each.supported}


def test_a_template_that_speaks_of_tools_calls_functions() -> None:
    header = GgufHeader(version=3, architecture="llama", chat_template="{{ tools }}", supports_tools=True)
    assert able(header) == {
        CAN.CHAT_COMPLETION,
        CAN.TEXT_GENERATION,
        CAN.STREAMING,
        CAN.JSON_MODE,
        CAN.FUNCTION_CALLING,
    }


def test_a_template_that_does_not_is_said_not_to() -> None:
    header = GgufHeader(version=3, architecture="llama", chat_template="{{ messages }}")
    tools = judged(header)[CAN.FUNCTION_CALLING]
    assert (tools.supported, tools.source, tools.detail) == (
        False,
        "metadata",
        "its chat template does not speak of tools",
    )
    assert CAN.CHAT_COMPLETION in able(header)


def test_without_a_template_it_writes_and_does_not_chat() -> None:
    header = GgufHeader(version=3, architecture="llama")
    assert able(header) == {CAN.TEXT_GENERATION, CAN.STREAMING, CAN.JSON_MODE}
    assert judged(header)[CAN.CHAT_COMPLETION].detail == "it has no chat template"


def test_pooling_and_encoders_embed_and_do_nothing_else() -> None:
    for header in (
        GgufHeader(version=3, architecture="llama", pooling_type=1, chat_template="{{ tools }}", supports_tools=True),
        GgufHeader(version=3, architecture="bert"),
    ):
        assert able(header) == {CAN.EMBEDDINGS}


def test_a_ranking_model_has_none_of_the_capabilities() -> None:
    assert able(GgufHeader(version=3, architecture="bert", pooling_type=4)) == set()


def test_nothing_is_left_unsaid() -> None:
    for header in (GgufHeader(version=3), GgufHeader(version=3, pooling_type=4), GgufHeader(version=3, pooling_type=1)):
        assert judged(header).keys() == set(ModelCapability)
