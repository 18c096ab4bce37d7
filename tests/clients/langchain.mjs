// LangChain's ChatOpenAI for JavaScript.

import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { ASK_USER, BASE_URL, MODEL, askUser, run } from "./program.mjs";

const model = new ChatOpenAI({ model: MODEL, apiKey: "none", maxRetries: 0, configuration: { baseURL: BASE_URL } });
const { parameters: schema, ...named } = ASK_USER;
const asking = tool(askUser, { ...named, schema });
const agent = model.bindTools([asking]);

async function* ask(question) {
  const message = await model.invoke(question);
  yield ["text", message.text];
  for (const call of message.tool_calls) yield ["call", call.name];
}

async function* stream(question) {
  for await (const chunk of await model.stream(question)) {
    yield ["text", chunk.text];
    for (const call of chunk.tool_call_chunks) yield ["call", call.name];
  }
}

async function* askWithTool(question) {
  const messages = [new HumanMessage(question)];
  do {
    const message = await agent.invoke(messages);
    messages.push(message);
    yield ["text", message.text];
    yield* answered(message, messages);
  } while (messages.at(-1).type === "tool");
}

async function* streamWithTool(question) {
  const messages = [new HumanMessage(question)];
  do {
    let message;
    for await (const chunk of await agent.stream(messages)) {
      yield ["text", chunk.text];
      message = message?.concat(chunk) ?? chunk;
    }
    messages.push(message);
    yield* answered(message, messages);
  } while (messages.at(-1).type === "tool");
}

async function* answered(message, messages) {
  for (const call of message.tool_calls) {
    yield ["call", call.name];
    messages.push(await asking.invoke(call));
  }
}

await run({ ask, stream, askWithTool, streamWithTool });
