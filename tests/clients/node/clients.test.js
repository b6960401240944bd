// What the official client of Node gets: the same tables as in ../python, where its ways differ.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { serve } from "./server.js";

let server, client;
before(async () => {
  server = await serve();
  client = server.client();
});
after(() => server?.end());

const ask = (more) => ({
  model: "tiny",
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  max_tokens: 24,
  seed: 1,
  ...more,
});
const endless = { max_tokens: 4000, ignore_eos: true, repetition_guard: false, stream: true };
const Report = z.object({ mood: z.enum(["good", "bad"]), windy: z.boolean() });

/** The choices of a stream, put together. */
async function told(stream) {
  const choices = [];
  for await (const chunk of stream) {
    for (const { index, delta, finish_reason, logprobs } of chunk.choices) {
      const into = (choices[index] ??= { text: "", tokens: [] });
      into.text += delta.content ?? "";
      into.tokens.push(...(logprobs?.content ?? []));
      into.finish = finish_reason ?? into.finish;
    }
  }
  return choices;
}

for (const fields of [
  {},
  { n: 3 },
  { logprobs: true, top_logprobs: 5 },
  { stop: ["a"] },
  { temperature: 0 },
  { max_tokens: undefined, max_completion_tokens: 3 },
]) {
  test(`streamed or not it is the same: ${JSON.stringify(fields)}`, async () => {
    const whole = await client.chat.completions.create(ask(fields));
    const stream = await client.chat.completions.create(ask({ ...fields, stream: true }));
    const streamed = await told(stream);
    const choices = whole.choices.map(({ message, finish_reason, logprobs }) => ({
      text: message.content,
      tokens: logprobs?.content ?? [],
      finish: finish_reason,
    }));
    assert.deepEqual(streamed, choices);
  });
}

test("usage comes last where it is asked for", async () => {
  const fields = ask({ stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const chunk of await client.chat.completions.create(fields)) chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual([last.choices, last.usage.completion_tokens], [[], 24]);
  assert(chunks.every((chunk) => chunk.usage === null));
});

test("the stream helper follows an answer", async () => {
  const stream = client.chat.completions.stream(ask({ logprobs: true }));
  let content = "";
  stream.on("content", (delta) => (content += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, content);
  assert.equal((await client.chat.completions.create(ask())).choices[0].message.content, content);
});

test("an answer has the shape of a schema", async () => {
  const response_format = zodResponseFormat(Report, "report");
  const fields = ask({ response_format, max_tokens: 400 });
  const whole = await client.chat.completions.parse(fields);
  Report.parse(whole.choices[0].message.parsed);
  const streamed = await client.chat.completions.stream(fields).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, whole.choices[0].message.parsed);
});

test("tools are called, and called back", async () => {
  const tools = [zodFunction({ name: "report", parameters: Report })];
  const alone = { tool_choice: "required", parallel_tool_calls: false };
  const fields = ask({ tools, ...alone, max_tokens: 400 });
  const whole = await client.chat.completions.parse(fields);
  assert.equal(whole.choices[0].finish_reason, "tool_calls");
  const calls = whole.choices[0].message.tool_calls;
  calls.forEach((call) => Report.parse(call.function.parsed_arguments));
  const streamed = await client.chat.completions.stream(fields).finalChatCompletion();
  const plain = ({ function: { name, arguments: text } }) => [name, JSON.parse(text)];
  assert.deepEqual(streamed.choices[0].message.tool_calls.map(plain), calls.map(plain));
  const results = calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "done" }));
  const messages = [...fields.messages, whole.choices[0].message, ...results];
  const next = await client.chat.completions.create(ask({ tools, messages }));
  assert.equal(next.choices[0].finish_reason, "length");
});

test("completions, streamed and scored", async () => {
  const fields = { model: "tiny", prompt: "kanetoli", max_tokens: 8, seed: 1 };
  const whole = await client.completions.create(fields);
  let text = "";
  for await (const chunk of await client.completions.create({ ...fields, stream: true }))
    text += chunk.choices[0]?.text ?? "";
  assert.equal(text, whole.choices[0].text);
  const scoring = { ...fields, echo: true, logprobs: 1, max_tokens: 0 };
  const scored = await client.completions.create(scoring);
  assert.equal(scored.choices[0].logprobs.tokens.join(""), "kanetoli");
  assert.equal(scored.choices[0].logprobs.token_logprobs[0], null);
});

test("embeddings as floats and packed", async () => {
  const of = (more) => client.embeddings.create({ model: "tiny", input: ["a", "b"], ...more });
  const [floats, packed] = [await of({ encoding_format: "float" }), await of()];
  assert.equal(floats.data[0].embedding.length, 1024);
  packed.data.forEach(({ embedding }, at) =>
    assert.deepEqual(Float32Array.from(embedding), Float32Array.from(floats.data[at].embedding)),
  );
});

test("models", async () => {
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.deepEqual(models, ["tiny"]);
  assert.equal((await client.models.retrieve("tiny")).object, "model");
  await assert.rejects(client.models.retrieve("absent"), OpenAI.NotFoundError);
});

for (const [fields, kind, expected] of [
  [{ temperature: 3 }, OpenAI.BadRequestError, { param: "temperature" }],
  [{ n: 0, stream: true }, OpenAI.BadRequestError, { param: "n" }],
  [{ model: "absent" }, OpenAI.NotFoundError, { code: "model_not_found", param: "model" }],
  [{ messages: [] }, OpenAI.BadRequestError, { param: "messages" }],
]) {
  test(`a fault is ${kind.name} with ${JSON.stringify(expected)}`, async () => {
    await assert.rejects(client.chat.completions.create(ask(fields)), (fault) => {
      assert(fault instanceof kind && fault.requestID);
      for (const [name, value] of Object.entries(expected)) assert.equal(fault[name], value);
      return true;
    });
  });
}

test("a client that leaves or waits no longer leaves nothing behind", async () => {
  const stream = await client.chat.completions.create(ask(endless));
  for await (const _ of stream) break;
  const controller = new AbortController();
  const aborted = await client.chat.completions.create(ask(endless), { signal: controller.signal });
  controller.abort();
  await assert.rejects(told(aborted).then(() => Promise.reject(new Error("ended"))));
  const late = client.chat.completions.create(ask({ ...endless, stream: false }), { timeout: 50 });
  await assert.rejects(late, OpenAI.APIConnectionTimeoutError);
  for (let at = 0; (await server.metric("qwire_running")) > 0; at++) {
    assert(at < 100, "answers go on that nobody hears");
    await sleep(20);
  }
});

test("a key is asked for, a full queue is told and tried again", async () => {
  const narrow = await serve("--api-key", "right", "--parallel", "1", "--queue", "1");
  try {
    const create = (options, more) => narrow.client(options).chat.completions.create(ask(more));
    await assert.rejects(create({ apiKey: "wrong" }), OpenAI.AuthenticationError);
    const streams = [];
    // The first one must have left the queue before the second one enters it.
    for (const waiting of [0, 1]) {
      streams.push(await create({ apiKey: "right" }, endless));
      while ((await narrow.metric("qwire_waiting")) > waiting) await sleep(5);
    }
    await assert.rejects(create({ apiKey: "right" }), (fault) => {
      assert(fault instanceof OpenAI.RateLimitError);
      assert.match(fault.headers.get("retry-after"), /^[1-9]\d?$/);
      return true;
    });
    streams.forEach((stream) => stream.controller.abort());
    assert((await create({ apiKey: "right", maxRetries: 3 })).choices.length);
  } finally {
    narrow.end();
  }
});
