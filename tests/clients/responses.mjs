// The OpenAI SDK for JavaScript with the Responses API: calls, and its helper for streams.

import OpenAI from "openai";
import { ASK_USER, BASE_URL, MODEL, askUser, run } from "./program.mjs";

const client = new OpenAI({ baseURL: BASE_URL, apiKey: "none", maxRetries: 0 });
const tools = [{ type: "function", strict: false, ...ASK_USER }];

function* seen({ output, output_text: text }) {
  yield ["text", text];
  for (const item of output) if (item.type === "function_call") yield ["call", item.name];
}

async function* streamed(body) {
  const stream = client.responses.stream({ model: MODEL, ...body });
  try {
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") yield ["text", event.delta];
      if (event.type === "response.output_item.added" && event.item.type === "function_call")
        yield ["call", event.item.name];
      if (event.type === "response.failed") throw new OpenAI.APIError(undefined, event.response.error, undefined);
    }
    return await stream.finalResponse();
  } finally {
    stream.abort();
  }
}

async function* worked(question, answer) {
  let body = { input: question };
  for (;;) {
    const response = yield* answer({ ...body, tools });
    const input = response.output
      .filter((item) => item.type === "function_call")
      .map(({ call_id, arguments: given }) => ({
        type: "function_call_output",
        call_id,
        output: askUser(JSON.parse(given)),
      }));
    if (!input.length) return;
    body = { input, previous_response_id: response.id };
  }
}

async function* whole(body) {
  const response = await client.responses.create({ model: MODEL, ...body });
  yield* seen(response);
  return response;
}

async function* forked(questions, answer) {
  const start = await finished(answer({ input: questions[0] }));
  await finished(answer({ input: questions[1], previous_response_id: start.id }));
  yield* answer({ input: questions[2], previous_response_id: start.id });
}

async function finished(events) {
  for (;;) {
    const { done, value } = await events.next();
    if (done) return value;
  }
}

await run({
  ask: (question) => whole({ input: question }),
  stream: (question) => streamed({ input: question }),
  askWithTool: (question) => worked(question, whole),
  streamWithTool: (question) => worked(question, streamed),
  fork: (...questions) => forked(questions, whole),
  streamFork: (...questions) => forked(questions, streamed),
});
