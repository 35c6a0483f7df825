"""The conversation of the landing page, its script run by Node over as little of a document as it needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from typing import Any

import pytest

NODE = shutil.which("node")

DOCUMENT = """
const nodes = new Map();
class Node {
  constructor(text = "") {
    Object.assign(this, { textContent: text, children: [], dataset: {}, value: "", parentElement: null });
  }
  append(...added) {
    for (const each of added) if (each instanceof Node) { each.parentElement = this; this.children.push(each); }
  }
  replaceChildren(...made) { this.children = []; this.append(...made); }
  remove() { this.parentElement.children = this.parentElement.children.filter((each) => each !== this); }
  setAttribute() {} addEventListener() {} focus() {} querySelectorAll() { return []; }
}
globalThis.document = {
  createElement: () => new Node(),
  getElementById: (id) => nodes.get(id) ?? nodes.set(id, new Node()).get(id),
};
globalThis.EventSource = class { addEventListener() {} };
const asked = [];
const aborted = [];
let reply = "whole";
const piece = (text) => `data: ${JSON.stringify({ choices: [{ delta: { content: text } }] })}\\n\\n`;
globalThis.fetch = async (path, request = {}) => {
  if (!path.startsWith("v1/")) throw new Error("not played here");
  asked.push(JSON.parse(request.body).messages);
  if (reply === "refused") return new Response(JSON.stringify({ error: { message: "no" } }), { status: 503 });
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(piece("an answer")));
      if (reply === "whole") {
        controller.enqueue(new TextEncoder().encode("data: [DONE]\\n\\n"));
        controller.close();
      }
      request.signal.addEventListener("abort", () => {
        aborted.push(asked.length);
        controller.error(request.signal.reason);
      });
    },
  });
  return new Response(stream);
};
const tick = () => new Promise((resolve) => setTimeout(resolve, 20));
const question = (text) => { at("question").value = text; return send({ preventDefault() {} }); };
const shown = () => at("transcript").children.map((turn) => turn.children.map((part) => part.textContent).join(": "));
"""


def told(scenario: str) -> Any:
    """What a scenario prints at its end: who was asked what, which questions were cut off, what the page shows."""
    assert NODE is not None
    script = resources.files("noa.server").joinpath("static/page.js").read_text()
    ending = "console.log(JSON.stringify({ asked, aborted, shown: shown() }));"
    source = f"{DOCUMENT}\n{script}\n{scenario}\n{ending}"
    ran = subprocess.run([NODE, "--input-type=module"], input=source, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


pytestmark = pytest.mark.skipif(NODE is None, reason="Node, which runs the page's script, is not installed")

FIRST = {"role": "user", "content": "one"}
SECOND = {"role": "user", "content": "two"}
ANSWER = {"role": "assistant", "content": "an answer"}


def test_a_conversation_goes_on() -> None:
    assert told('await question("one"); await question("two");')["asked"] == [[FIRST], [FIRST, ANSWER, SECOND]]


def test_starting_over_ends_the_answer_and_forgets_it() -> None:
    seen = told(
        'reply = "endless"; const cut = question("one"); await tick(); startOver();'
        ' reply = "whole"; const next = question("two"); await cut; await next;'
    )
    assert seen["aborted"] == [1]
    assert seen["asked"] == [[FIRST], [SECOND]]
    assert len(seen["shown"]) == 2
    assert seen["shown"][0].endswith("two")


def test_a_question_that_failed_leaves_no_answer_behind() -> None:
    seen = told('reply = "refused"; await question("one"); reply = "whole"; await question("two");')
    assert seen["asked"] == [[FIRST], [SECOND]]
    assert seen["shown"][1].endswith("no")
