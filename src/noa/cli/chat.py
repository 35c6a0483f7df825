"""``noa chat``: one question, or a conversation."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence

import click

from noa.chat import ChatEvent, FinishReason, ReplyFinished, ReplyStarted, TextDelta, Usage, UsageReported
from noa.cli.connection import connect, phases_shown
from noa.cli.terminal import interactive, json_option, note, printable, report, show_json
from noa.client import NoaClient
from noa.errors import AIProviderError
from noa.models import Value

HELP = "/switch KEY  use another model    /clear  start over    /quit  leave (or Ctrl-D)"


class Answer(Value, frozen=True, kw_only=True):
    """A whole answer, as ``noa chat --json`` prints it. ``model`` is what the provider says it served."""

    model: str | None
    content: str
    finish_reason: FinishReason | None
    prompt_tokens: int | None
    completion_tokens: int | None


class Transcript:
    """A conversation with one model, or with whichever is in use while it lasts; an answer has up to ``max_tokens``."""

    def __init__(self, model: str | None, *, max_tokens: int | None = None) -> None:
        self.model = model
        self._max_tokens = max_tokens
        self._messages: list[dict[str, str]] = []

    def clear(self) -> None:
        """Forget what was said."""
        self._messages.clear()

    async def say(self, client: NoaClient, text: str, *, echo: bool) -> Answer:
        """Send a message and return the answer, writing it to stdout as it comes if ``echo`` is set.

        A message that got no answer is forgotten; an answer that was cut short is kept as far as it came.
        """
        asked = {"role": "user", "content": text}
        events: list[ChatEvent] = []
        try:
            stream = client.chat_stream([*self._messages, asked], self.model, max_tokens=self._max_tokens)
            async with contextlib.aclosing(stream) as pieces:
                async for event in pieces:
                    events.append(event)
                    if echo and isinstance(event, TextDelta):
                        click.echo(_shown(event.text), nl=False)
        finally:
            answer = summed_up(events)
            if answer.content:
                self._messages += [asked, {"role": "assistant", "content": answer.content}]
                if echo and not answer.content.endswith("\n"):
                    click.echo()
        return answer


@click.command()
@click.argument("model", required=False)
@click.argument("prompt", nargs=-1)
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="End an answer after N tokens.")
@json_option
def chat(model: str | None, prompt: Sequence[str], max_tokens: int | None, as_json: bool) -> None:
    """Talk to a model.

    \b
    noa chat                                     a conversation with the model in use
    noa chat openai:gpt-4 "Say hello."           one answer of a model, on stdout
    noa chat "Say hello."                        one answer of the model in use
    cat notes.txt | noa chat                     the question is what is piped in
    cat notes.txt | noa chat current "Sum up" -  … or it stands for the dash

    MODEL is a key, an alias such as current, or auto. A first argument with a space in it is no model: it is the
    prompt, for the model in use.
    """
    if model is not None and any(character.isspace() for character in model):
        prompt, model = (model, *prompt), None
    if not prompt and sys.stdin.isatty():
        if as_json:
            raise click.UsageError("--json prints one answer, so it needs a prompt.")
        converse(Transcript(model, max_tokens=max_tokens))
        return
    words = prompt or ("-",)
    text = " ".join(sys.stdin.read().strip() if word == "-" else word for word in words).strip()
    if not text:
        raise click.UsageError("There is nothing to ask: give a prompt, or pipe one in.")
    answer = asyncio.run(_ask_once(Transcript(model, max_tokens=max_tokens), text, echo=not as_json))
    if as_json:
        show_json(answer)


def converse(transcript: Transcript) -> None:
    """Talk until the person leaves. Ctrl-C ends an answer that is being written, and at the prompt the conversation."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # editing and history for input(), where the platform has it
    note(HELP)
    client = connect()
    with asyncio.Runner() as runner:
        runner.run(client.__aenter__())
        try:
            while (line := _read_line()) is not None:
                if line in ("/quit", "/exit", "/bye"):
                    break
                if line:
                    _take_turn(runner, client, transcript, line)
        finally:
            runner.run(client.__aexit__(None, None, None))


def summed_up(events: Sequence[ChatEvent]) -> Answer:
    """What the events of an answer amount to, whole or not."""
    model = next((event.model for event in events if isinstance(event, ReplyStarted)), None)
    finishes = [event.finish_reason for event in events if isinstance(event, ReplyFinished)]
    usage = next((event.usage for event in reversed(events) if isinstance(event, UsageReported)), Usage())
    return Answer(
        model=model,
        content="".join(event.text for event in events if isinstance(event, TextDelta)),
        finish_reason=finishes[-1] if finishes else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


async def _ask_once(transcript: Transcript, text: str, *, echo: bool) -> Answer:
    async with connect() as client:
        return await transcript.say(client, text, echo=echo)


def _take_turn(runner: asyncio.Runner, client: NoaClient, transcript: Transcript, line: str) -> None:
    command, _, argument = line.partition(" ")
    try:
        if command == "/switch" and argument.strip():
            runner.run(_switch(client, transcript, argument.strip()))
        elif command == "/clear":
            transcript.clear()
        elif command.startswith("/"):
            note(HELP)
        else:
            runner.run(transcript.say(client, line, echo=True))
    except AIProviderError as error:
        report(error)
    except KeyboardInterrupt:
        note("(stopped)")


async def _switch(client: NoaClient, transcript: Transcript, key: str) -> None:
    async with phases_shown(client, key):
        answer = await client.switch(key, reason="chosen in a chat")
    transcript.model = None
    note(answer.message)


def _read_line() -> str | None:
    try:
        return input("> ").strip()
    except EOFError:
        click.echo()
        return None


def _shown(text: str) -> str:
    return printable(text) if interactive(sys.stdout) else text
