// The OpenAI SDK for JavaScript: calls, streams, and its runner of tools.

import OpenAI from "openai";
import { ASK_USER, BASE_URL, MODEL, askUser, run } from "./program.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "none", maxRetries: 0 });
const messages = (content) => [{ role: "user", content }];

async function* ask(question) {
  const { choices } = await client.chat.completions.create({ model: MODEL, messages: messages(question) });
  yield ["text", choices[0].message.content];
  for (const call of choices[0].message.tool_calls ?? []) yield ["call", call.function.name];
}

async function* stream(question) {
  const chunks = await client.chat.completions.create({ model: MODEL, messages: messages(question), stream: true });
  for await (const { choices } of chunks) {
    yield ["text", choices[0].delta.content ?? ""];
    for (const call of choices[0].delta.tool_calls ?? []) yield ["call", call.function.name];
  }
}

async function* worked(question, stream) {
  const calls = [];
  const called = (input) => calls.push(ASK_USER.name) && askUser(input);
  const tools = [{ type: "function", function: { ...ASK_USER, function: called, parse: JSON.parse } }];
  const runner = client.chat.completions.runTools({ model: MODEL, messages: messages(question), tools, stream });
  if (stream) {
    for await (const { choices } of runner) yield ["text", choices[0].delta.content ?? ""];
  } else {
    yield ["text", await runner.finalContent()];
  }
  for (const call of calls) yield ["call", call];
}

await run({
  ask,
  stream,
  askWithTool: (question) => worked(question, false),
  streamWithTool: (question) => worked(question, true),
});
