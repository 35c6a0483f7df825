// The Vercel AI SDK in conversation with Noa, told as JSON: node conversation.mjs '{"address": …}'
//
// `address` is Noa's, `result` is what the tool answers for Oslo; without it there is no tool. Each of the SDK's packages
// holds the conversation twice, whole and streamed. What came of it is printed as one JSON object.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { address, model, question, result } = JSON.parse(process.argv[2]);

const providers = {
  openai: () => createOpenAI({ baseURL: `${address}/v1`, apiKey: "unused" }).chat(model),
  "openai-compatible": () =>
    createOpenAICompatible({ name: "noa", baseURL: `${address}/v1`, includeUsage: true })(model),
  anthropic: () => createAnthropic({ baseURL: `${address}/v1`, apiKey: "unused" })(model),
};

const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => (city === "Oslo" ? result : "unknown"),
});

const options = {
  prompt: question,
  maxOutputTokens: 40,
  maxRetries: 0,
  ...(result && { tools: { get_weather: weather }, stopWhen: stepCountIs(3) }),
};

async function whole(model) {
  const { text, steps, usage, finishReason } = await generateText({ ...options, model });
  return { text, steps: steps.length, usage, reason: finishReason };
}

async function streamed(model) {
  const failures = [];
  const stream = streamText({ ...options, model, onError: ({ error }) => failures.push(String(error)) });
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  return {
    text: pieces.join(""),
    pieces: pieces.length,
    steps: (await stream.steps).length,
    usage: await stream.usage,
    reason: await stream.finishReason,
    failures,
  };
}

const told = {};
for (const [name, provider] of Object.entries(providers)) {
  told[name] = { whole: await whole(provider()), streamed: await streamed(provider()) };
}
console.log(JSON.stringify(told));
