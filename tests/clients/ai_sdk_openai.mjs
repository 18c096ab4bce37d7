// The AI SDK with @ai-sdk/openai, whose default is the Responses API.

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { ASK_USER, BASE_URL, MODEL, askUser, run } from "./program.mjs";

const { parameters, description } = ASK_USER;
const model = createOpenAI({ baseURL: BASE_URL, apiKey: "none" })(MODEL);
const tools = { ask_user: tool({ description, inputSchema: jsonSchema(parameters), execute: askUser }) };
const options = (prompt) => ({ model, prompt, maxRetries: 0, onError: () => {} });
const withTool = (prompt) => ({ ...options(prompt), tools, stopWhen: stepCountIs(5) });
const mine = ({ toolCalls }) => toolCalls.filter((call) => !call.providerExecuted);

async function* whole(result) {
  const { text, steps } = await result;
  yield ["text", text];
  for (const step of steps) for (const call of mine(step)) yield ["call", call.toolName];
}

async function* streamed(settings) {
  const leaving = new AbortController();
  try {
    for await (const part of streamText({ ...settings, abortSignal: leaving.signal }).fullStream) {
      if (part.type === "text-delta") yield ["text", part.text];
      if (part.type === "tool-call" && !part.providerExecuted) yield ["call", part.toolName];
      if (part.type === "error") throw part.error;
    }
  } finally {
    leaving.abort();
  }
}

const user = (content) => ({ role: "user", content });

// It sends its messages again, and those that are stored as references to them.
async function* forked([first, second, third], answer) {
  const start = await generateText({ ...options([user(first)]) });
  const messages = [user(first), ...start.response.messages];
  await generateText(options([...messages, user(second)]));
  yield* answer(options([...messages, user(third)]));
}

// Its user approves a call of the server's tool; what is asked for is known from the messages of the answer.
async function* approved(question, answer) {
  const { content, response } = await generateText(options([user(question)]));
  const asked = content.filter((part) => part.type === "tool-approval-request");
  for (const { toolCall } of asked) yield ["call", toolCall.toolName];
  const approval = { type: "tool-approval-response", approved: true, providerExecuted: true };
  const answers = asked.map(({ approvalId }) => ({ ...approval, approvalId }));
  yield* answer(options([user(question), ...response.messages, { role: "tool", content: answers }]));
}

await run({
  ask: (question) => whole(generateText(options(question))),
  stream: (question) => streamed(options(question)),
  askWithTool: (question) => whole(generateText(withTool(question))),
  streamWithTool: (question) => streamed(withTool(question)),
  fork: (...questions) => forked(questions, (settings) => whole(generateText(settings))),
  streamFork: (...questions) => forked(questions, streamed),
  approve: (question) => approved(question, (settings) => whole(generateText(settings))),
  streamApprove: (question) => approved(question, streamed),
});
