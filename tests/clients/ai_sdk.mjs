// The AI SDK with @ai-sdk/openai-compatible.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { ASK_USER, BASE_URL, MODEL, askUser, run } from "./program.mjs";

const { parameters, description } = ASK_USER;
const model = createOpenAICompatible({ name: "chat-agent", baseURL: BASE_URL, apiKey: "none" })(MODEL);
const tools = { ask_user: tool({ description, inputSchema: jsonSchema(parameters), execute: askUser }) };
const options = (prompt) => ({ model, prompt, maxRetries: 0, onError: () => {} });
const withTool = (prompt) => ({ ...options(prompt), tools, stopWhen: stepCountIs(5) });

async function* whole(result) {
  const { text, steps } = await result;
  yield ["text", text];
  for (const { toolCalls } of steps) for (const call of toolCalls) yield ["call", call.toolName];
}

async function* streamed(settings) {
  const leaving = new AbortController();
  try {
    for await (const part of streamText({ ...settings, abortSignal: leaving.signal }).fullStream) {
      if (part.type === "text-delta") yield ["text", part.text];
      if (part.type === "tool-call") yield ["call", part.toolName];
      if (part.type === "error") throw part.error;
    }
  } finally {
    leaving.abort();
  }
}

await run({
  ask: (question) => whole(generateText(options(question))),
  stream: (question) => streamed(options(question)),
  askWithTool: (question) => whole(generateText(withTool(question))),
  streamWithTool: (question) => streamed(withTool(question)),
});
