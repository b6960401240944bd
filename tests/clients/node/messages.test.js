// What Anthropic's official client of Node gets, where its ways differ from ../python.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { serve } from "./server.js";

let server, client;
before(async () => {
  server = await serve();
  client = claude(server);
});
after(() => server?.end());

const claude = ({ url }, options) =>
  new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0, ...options });
const ask = (more) => ({
  model: "claude-sonnet-4-5",
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  max_tokens: 24,
  seed: 1,
  ...more,
});
const tools = [
  {
    name: "weather",
    input_schema: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Oslo"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
];
const plain = ({ content, stop_reason, usage }) => [
  content.map(({ id, ...block }) => block),
  stop_reason,
  usage.output_tokens,
];

for (const fields of [
  {},
  { system: [{ type: "text", text: "Be brief." }] },
  { stop_sequences: ["a"] },
  { thinking: { type: "enabled", budget_tokens: 1024 }, max_tokens: 2048 },
  { tools, tool_choice: { type: "any" }, max_tokens: 300 },
  { tools, tool_choice: { type: "tool", name: "weather" }, max_tokens: 300 },
  { tools, tool_choice: { type: "auto", disable_parallel_tool_use: true } },
  { tools, tool_choice: { type: "none" } },
]) {
  test(`streamed or not it is the same: ${JSON.stringify(fields)}`, async () => {
    const whole = await client.messages.create(ask(fields));
    const streamed = await client.messages.stream(ask(fields)).finalMessage();
    assert.deepEqual(plain(streamed), plain(whole));
    for (const block of whole.content)
      if (block.type === "tool_use") assert(["Paris", "Oslo"].includes(block.input.city));
  });
}

test("events come in order, and text as it is written", async () => {
  const stream = client.messages.stream(ask());
  let text = "";
  stream.on("text", (delta) => (text += delta));
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  const final = await stream.finalMessage();
  assert.equal(final.content.map((block) => block.text).join(""), text);
  assert.equal(kinds[0], "message_start");
  assert.deepEqual(kinds.slice(-2), ["message_delta", "message_stop"]);
});

test("a tool loop finds its prefix cached", async () => {
  const fields = ask({ tools, tool_choice: { type: "any" }, max_tokens: 300 });
  const call = await client.messages.create(fields);
  const results = call.content
    .filter((block) => block.type === "tool_use")
    .map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "12 degrees" }));
  const messages = [
    ...fields.messages,
    { role: "assistant", content: call.content },
    { role: "user", content: results },
  ];
  const { usage } = await client.messages.create(ask({ tools, messages }));
  const before = call.usage.input_tokens + call.usage.cache_read_input_tokens;
  assert(usage.cache_read_input_tokens >= before + call.usage.output_tokens - 1);
});

test("tokens are counted, models are listed", async () => {
  const { input_tokens } = await client.messages.countTokens({
    model: "claude-opus-4-1",
    messages: ask().messages,
  });
  const { usage } = await client.messages.create(ask());
  assert.equal(input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
  const models = [];
  for await (const model of client.models.list()) models.push([model.type, model.id]);
  assert.deepEqual(models, [["model", "tiny"]]);
});

for (const [fields, kind, type] of [
  [{ model: "absent" }, Anthropic.NotFoundError, "not_found_error"],
  [{ messages: [] }, Anthropic.BadRequestError, "invalid_request_error"],
  [{ temperature: 3, stream: true }, Anthropic.BadRequestError, "invalid_request_error"],
]) {
  test(`a fault is ${kind.name}: ${JSON.stringify(fields)}`, async () => {
    await assert.rejects(client.messages.create(ask(fields)), (fault) => {
      assert(fault instanceof kind && fault.requestID);
      assert.equal(fault.error.error.type, type);
      return true;
    });
  });
}

test("either header carries the key", async () => {
  const narrow = await serve("--api-key", "right");
  try {
    for (const auth of [{ apiKey: "right" }, { apiKey: null, authToken: "right" }])
      assert((await claude(narrow, auth).messages.create(ask())).content.length);
    const wrong = claude(narrow, { apiKey: "wrong" }).messages.create(ask());
    await assert.rejects(wrong, Anthropic.AuthenticationError);
  } finally {
    narrow.end();
  }
});
