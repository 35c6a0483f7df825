// The landing page: lists the models, changes them, and chats with the current one.
// Whatever a model or a log says is shown as text, never as markup.

const at = (id) => document.getElementById(id);
const LIFECYCLE = [
  "model-registered", "model-updated", "provider-discovered", "model-loading", "model-loaded", "model-load-error",
  "model-unloaded", "model-evicted", "model-crashed", "model-switched", "inference-complete",
];
const busy = new Set();
let conversation = [];
let answering = null;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

async function ask(path, body) {
  const request = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const response = await fetch(`api/v1${path}`, request);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}

function complain(error) {
  at("problem").textContent = error ? error.message : "";
  at("problem").hidden = !error;
}

async function change(key, path) {
  busy.add(key);
  complain(null);
  await refresh();
  try {
    await ask(path, { key });
  } catch (error) {
    complain(error);
  } finally {
    busy.delete(key);
    await refresh();
  }
}

function action(label, key, path, disabled) {
  const button = element("button", label, { type: "button", "aria-label": `${label} ${key}` });
  button.dataset.action = `${label} ${key}`;
  button.disabled = disabled || busy.has(key);
  button.addEventListener("click", () => change(key, path));
  return button;
}

function row(model, current) {
  const made = element("tr");
  const name = element("td", model.key);
  if (model.key === current) name.append(element("span", "current", { class: "mark" }));
  if (model.error) name.append(element("p", model.error, { class: "why" }));
  const state = element("td");
  state.append(element("span", model.status, { class: "state", "data-state": model.status }));
  const speed = model.performanceMetrics?.tokensPerSecond;
  const actions = element("td");
  const loaded = model.status === "loaded" || model.status === "draining";
  actions.append(
    action(loaded ? "Unload" : "Load", model.key, loaded ? "/models/unload" : "/models/load", model.status === "loading"),
    action("Use", model.key, "/models/switch", model.key === current && loaded),
  );
  made.append(name, state, element("td", speed == null ? "–" : `${speed.toFixed(1)} tokens/s`), actions);
  return made;
}

async function refresh() {
  try {
    const [{ models }, health] = await Promise.all([ask("/models"), ask("/status/health")]);
    const order = { loaded: 0, draining: 1, loading: 2 };
    models.sort((one, two) => (order[one.status] ?? 3) - (order[two.status] ?? 3));
    const focused = document.activeElement?.dataset?.action;
    at("models").replaceChildren(...models.map((model) => row(model, health.currentModel)));
    for (const button of at("models").querySelectorAll("button")) {
      if (focused && button.dataset.action === focused) button.focus();
    }
    at("empty").hidden = models.length > 0;
    at("current").textContent = health.currentModel ?? "the current model";
    const problems = health.problems.length ? ` · ${health.problems.join(" ")}` : "";
    at("summary").textContent = `${health.loadedModels} of ${health.knownModels} models loaded · ${health.version}${problems}`;
  } catch (error) {
    at("summary").textContent = `The server does not answer: ${error.message}`;
  }
}

function say(who, text) {
  const turn = element("p", undefined, { class: "turn" });
  const words = element("span", text);
  turn.append(element("b", who), words);
  at("transcript").append(turn);
  at("transcript").scrollTop = at("transcript").scrollHeight;
  return words;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      for (const line of block.split("\n")) if (line.startsWith("data: ")) yield line.slice(6);
    }
  }
}

async function answer(turns, words, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: "current", messages: turns, stream: true }),
    signal,
  });
  if (!response.ok) throw new Error((await response.json()).error?.message ?? `The server answered ${response.status}.`);
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    words.textContent += chunk.choices?.[0]?.delta?.content ?? "";
    at("transcript").scrollTop = at("transcript").scrollHeight;
  }
  throw new Error("The answer broke off.");
}

async function send(event) {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!question || answering) return;
  at("question").value = "";
  say("You", question);
  const turns = conversation;
  turns.push({ role: "user", content: question });
  const words = say(at("current").textContent, "");
  const controller = new AbortController();
  answering = controller;
  at("send").disabled = true;
  at("stop").hidden = false;
  try {
    await answer(turns, words, controller.signal);
  } catch (error) {
    if (error.name !== "AbortError" && turns === conversation) say("Noa", error.message);
  } finally {
    settle(turns, words);
    if (answering === controller) finish();
  }
}

// A question without an answer is forgotten; one that was cut short is kept as far as it came.
function settle(turns, words) {
  if (words.textContent) {
    turns.push({ role: "assistant", content: words.textContent });
  } else {
    turns.pop();
    words.parentElement?.remove();
  }
}

function finish() {
  answering = null;
  at("send").disabled = false;
  at("stop").hidden = true;
  at("question").focus();
}

// The answer under way goes on with a conversation that nobody holds any more, until its end is noticed.
function startOver() {
  answering?.abort();
  finish();
  conversation = [];
  at("transcript").replaceChildren();
}

function listen() {
  let pending = null;
  const soon = () => {
    pending ??= setTimeout(() => { pending = null; refresh(); }, 150);
  };
  const source = new EventSource("api/v1/events");
  for (const type of LIFECYCLE) source.addEventListener(type, soon);
  source.addEventListener("open", soon);
  source.addEventListener("error", soon);
}

at("chat").addEventListener("submit", send);
at("stop").addEventListener("click", () => answering?.abort());
at("clear").addEventListener("click", startOver);
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
refresh();
listen();
