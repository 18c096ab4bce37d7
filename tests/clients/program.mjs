// What the programs in JavaScript share; program.py says how they work.

export const [BASE_URL, ...SCENARIOS] = process.argv.slice(2);
export const MODEL = "test-model";

export const askUser = ({ question }) => `${question} Blue.`;
export const ASK_USER = {
  name: "ask_user",
  description: "Ask the user something.",
  parameters: { type: "object", properties: { question: { type: "string" } }, required: ["question"] },
};

const QUESTIONS = ["fork one", "fork two", "fork three"];

export async function run({ ask, stream, askWithTool, streamWithTool, fork, streamFork, approve, streamApprove }) {
  const ways = {
    approve: [approve, streamApprove],
    client_tool: [askWithTool, streamWithTool],
    fork: [() => fork(...QUESTIONS), () => streamFork(...QUESTIONS)],
  };
  for (const scenario of SCENARIOS) {
    const [whole, streamed] = ways[scenario] ?? [ask, stream];
    const seen =
      scenario === "stop"
        ? { streamed: await stopped(stream(scenario)) }
        : { whole: await outcome(whole(scenario)), streamed: await outcome(streamed(scenario)) };
    console.log(JSON.stringify({ scenario, ...seen }));
  }
  for await (const _ of process.stdin); // a process that ends closes its connections, whatever its client did about them
}

async function outcome(events) {
  const seen = { text: "", calls: [] };
  try {
    for await (const [kind, value] of events) {
      if (kind === "text") seen.text += value;
      else seen.calls.push(value);
    }
  } catch (error) {
    seen.error = {
      type: error.name === "Error" ? error.constructor.name : error.name,
      status: error.status ?? error.statusCode ?? null,
      code: error.code ?? error.data?.error?.code ?? null,
      message: error.message,
    };
  }
  return seen;
}

async function stopped(events) {
  let text = "";
  for await (const [, value] of events) {
    text += value;
    if (text.split(" ").length > 2) break;
  }
  return { text };
}
