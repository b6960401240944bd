// Whether llama.cpp and qwire say the same on the box model: `node agree.mjs QWIRE MODEL.gguf`.
// Both take the best token from the same prompts, with keys and values in 32 bits. Prints a line
// for each prompt; where they part, what qwire thinks of both tokens, and by how much.

import { execFileSync } from "node:child_process";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const MOST_TOKENS = 64;
const QUESTIONS = [
    "How do I start the server?",
    "Which option sets the temperature?",
    "Does the cache change the result?",
    "How do I see what is in a model's file?",
    "Which formats of weights run?",
    "How can I stop an answer?",
    "Where is the chat template?",
    "Hello!",
    "thanks",
    "Repeat: seven red lamps",
    "Say \"kestrel lagoon 4471\"",
    "Copy this exactly: src/harbor/lamp_77.rs",
    "JSON with name=kestrel, size=47",
    "Give me JSON: colour=green, limit=300, path=a/b.txt",
    "Make a list of herons, lamps and boats",
    "What is the first word of \"green lamps burn\"?",
    "Reverse the words: one two three",
    "What is 4 + 3?",
    "Who wrote the sea?",
    "My name is Ada. What is my name?",
];

const [qwire, path] = process.argv.slice(2);
if (!path) {
    console.error("usage: node agree.mjs QWIRE MODEL.gguf");
    process.exit(2);
}

// Ids of qwire's answer, and of each the likeliest two.
function ours(prompt) {
    const args = ["run", path, "--raw", prompt, "--json", "--logprobs", "2", "--temp", "0"];
    const more = ["--kv-type", "f32", "--threads", "1", "-n", String(MOST_TOKENS)];
    return JSON.parse(execFileSync(qwire, [...args, ...more], { stdio: ["ignore", "pipe", "ignore"] }));
}

const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: path });
const context = await model.createContext({
    contextSize: 1024,
    threads: 1,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
});
const sequence = context.getSequence();

// Ids of llama.cpp's answer.
async function theirs(prompt) {
    await sequence.clearHistory();
    const ids = [];
    const tokens = model.tokenize(prompt, true);
    for await (const id of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        if (model.isEogToken(id) || ids.length === MOST_TOKENS) break;
        ids.push(id);
    }
    return ids;
}

let same = 0;
for (const question of QUESTIONS) {
    const prompt = `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`;
    const [mine, other] = [ours(prompt), await theirs(prompt)];
    const at = mine.tokens.findIndex((id, i) => id !== other[i]);
    if (at < 0 && mine.tokens.length === other.length) {
        same += 1;
        console.log(`same    ${other.length} tokens  ${question}`);
    } else {
        const position = at < 0 ? mine.tokens.length : at;
        const top = mine.logprobs[position]?.top ?? [];
        const margin = top.length < 2 ? "unknown" : (top[0].logprob - top[1].logprob).toFixed(4);
        const word = model.detokenize(other.slice(position, position + 1));
        console.log(`differs at token ${position}, margin ${margin}  ${question}`);
        console.log(`        qwire ${JSON.stringify(top)}, llama.cpp ${JSON.stringify(word)}`);
    }
}
console.log(`${same} of ${QUESTIONS.length} answers are the same`);
process.exit(same === QUESTIONS.length ? 0 : 1);
