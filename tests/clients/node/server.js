// A server of our own: `qwire serve` on a synthetic model, for as long as a file of tests runs.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const binary = process.env.QWIRE_BIN || `${root}target/release/qwire`;
const model = `${root}target/clients/models/tiny-moe.gguf`;

const freePort = () =>
  new Promise((done) => {
    const free = createServer().listen(0, "127.0.0.1", () => {
      const { port } = free.address();
      free.close(() => done(port));
    });
  });

/** Starts a server and waits until it is ready. */
export async function serve(...flags) {
  if (!existsSync(model)) {
    mkdirSync(`${root}target/clients/models`, { recursive: true });
    execFileSync(binary, ["synth", "tiny-moe", "-o", model, "--quiet"]);
  }
  const port = await freePort();
  const place = ["--port", port, "--name", "tiny", "--pack", "never", "--disk-cache", "off"];
  const child = spawn(binary, ["serve", model, ...place, ...flags], { stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  const ready = () => fetch(`${url}/readyz`).then((answer) => answer.ok, () => false);
  while (!(await ready())) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    await sleep(20);
  }
  return {
    url,
    client: (options) =>
      new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, ...options }),
    metric: async (name) => {
      const headers = { authorization: "Bearer right" };
      const text = await (await fetch(`${url}/metrics`, { headers })).text();
      return Number(text.match(new RegExp(`^${name} (\\S+)$`, "m"))[1]);
    },
    end: () => child.kill("SIGKILL"),
  };
}
