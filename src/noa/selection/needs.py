"""What a request itself asks of the model that will serve it. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from noa.chat import ChatRequest, ImagePart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from noa.models import ModelCapability
from noa.selection.wish import Wish

#: Characters of text in a token, roughly, of English and of code; good enough to compare models by.
CHARACTERS_PER_TOKEN: Final = 4
#: What an image takes, in tokens, roughly: services count from 85 to 1,600.
TOKENS_PER_IMAGE: Final = 800

_OF_OPERATION: Final = MappingProxyType(
    {
        "chat": ModelCapability.CHAT_COMPLETION,
        "completion": ModelCapability.TEXT_GENERATION,
        "embeddings": ModelCapability.EMBEDDINGS,
    }
)


def needs_of(operation: str, *, characters: int = 0, max_tokens: int | None = None) -> Wish:
    """What is known of a request by what it is for, and by how long it is."""
    capability = _OF_OPERATION.get(operation)
    return Wish(
        capabilities=() if capability is None else (capability,),
        prompt_tokens=-(-characters // CHARACTERS_PER_TOKEN) or Wish().prompt_tokens,
        output_tokens=max_tokens or Wish().output_tokens,
    )


def needs_of_chat(request: ChatRequest) -> Wish:
    """What a conversation needs: tools, sight, structured output; and how long it is, roughly."""
    parts = [part for message in request.messages for part in message.parts]
    images = sum(isinstance(part, ImagePart) for part in parts)
    characters = sum(_length(part) for part in parts) + images * TOKENS_PER_IMAGE * CHARACTERS_PER_TOKEN
    wish = needs_of("chat", characters=characters, max_tokens=request.max_tokens)
    needed = []
    if request.tools:
        needed.append(ModelCapability.FUNCTION_CALLING)
    if images:
        needed.append(ModelCapability.VISION)
    if request.json_output is not None:
        needed.append(ModelCapability.JSON_MODE)
    return wish.needing(*needed)


def _length(part: object) -> int:
    match part:
        case TextPart(text=text) | ThinkingPart(text=text) | ToolResultPart(text=text):
            return len(text)
        case ToolCallPart(arguments=arguments):
            return len(arguments)
        case _:
            return 0
