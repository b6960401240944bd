"""Questions that are never trained: one person's words for each fact, written apart from facts.py."""

QUESTIONS = {
    "run": [
        "Which subcommand answers a single question and exits?",
        "I'd like a model to answer one prompt from my terminal.",
    ],
    "chat": [
        "Is there an interactive mode where I can talk with the model?",
        "Where can I have a longer conversation with my model?",
    ],
    "serve": [
        "I need an OpenAI compatible API on this computer.",
        "Can other programs reach the model through HTTP?",
    ],
    "address": [
        "My client wants a base URL, what should I enter?",
        "Could you tell me the port that the server uses?",
    ],
    "bench": ["How many tokens per second will my machine reach?", "Does qwire have a benchmark?"],
    "plot": [
        "I'd love a chart of the benchmark, is that possible?",
        "Which option draws the speed?",
    ],
    "inspect": [
        "Will this model fit into the memory that I have?",
        "What's the command that prints the metadata of a GGUF?",
    ],
    "tensors": [
        "Where do I see the names of all the tensors?",
        "I need the full list of tensors in my file.",
    ],
    "check": [
        "My download may be damaged, how do I test the file?",
        "What is the SHA-256 of my model?",
    ],
    "pack": [
        "Loading takes half a minute, can that be made faster?",
        "What writes the sidecar next to my model?",
    ],
    "synth": [
        "I have no weights here, can I create a random model?",
        "Give me a fake model to play with.",
    ],
    "shapes": ["Which shapes can synth make?", "What are the available shapes?"],
    "tokenize": ["How many tokens does my text have?", "I want the ids for a sentence."],
    "decode": ["I have token ids and need the text.", "What turns ids back to words?"],
    "logits": [
        "I need the raw logits for a list of tokens.",
        "Where do I get logits as a NumPy array?",
    ],
    "against": [
        "Can I compare these logits to the ones of llama.cpp?",
        "How large is the KL divergence to another engine?",
    ],
    "quantize": [
        "My model is too big, can you shrink it to 4 bits?",
        "What converts an F16 file to Q4_K_M?",
    ],
    "verify": [
        "How can I be sure that the claims hold on my machine?",
        "Does qwire have a self-test?",
    ],
    "temp": ["The answers are too random, what should I change?", "What sets the temperature?"],
    "seed": [
        "I need the very same sample again tomorrow.",
        "How can a run be made reproducible with a seed?",
    ],
    "length": ["The answers are too long, how do I make them shorter?", "I only want 50 tokens."],
    "ctx": [
        "My prompt is long and I need a larger context window.",
        "Where is the context length set?",
    ],
    "threads": [
        "It uses all my cores, can I give it fewer?",
        "How many threads does it use and how do I change that?",
    ],
    "system": [
        "Where does the system prompt go when I use run?",
        "How can I instruct the model before my prompt?",
    ],
    "file": [
        "My prompt is in a text file, how do I pass it?",
        "Can the prompt be read from a file?",
    ],
    "json": ["My script needs JSON from qwire run.", "Is JSON output available?"],
    "raw": [
        "Please continue my text without any template.",
        "How is the chat template switched off?",
    ],
    "stop": [
        "Can generation end as soon as a certain word comes?",
        "Which option takes a stop sequence?",
    ],
    "logprobs": ["What option prints the probability of every token?", "I'd like to see logprobs."],
    "reset": [
        "I'd like to begin a new conversation without leaving the chat.",
        "What clears the history?",
    ],
    "save": ["Can I keep a transcript of our conversation?", "How is a chat written to a file?"],
    "persona": [
        "Can the system prompt be changed in the middle of a chat?",
        "While chatting I want another system message.",
    ],
    "stats": ["What shows the speed in a chat?", "While chatting, where are the statistics?"],
    "tools": ["In the chat, what lists the tools?", "Which tools does the chat have?"],
    "interrupt": [
        "It talks and talks, how do I make it stop?",
        "Can a running answer be cancelled?",
    ],
    "version": ["How old is my qwire, which version is it?", "Tell me the version please."],
    "help": ["Where can I read about all the options?", "What commands do you have?"],
    "what": ["So what exactly does qwire do?", "Please describe qwire in a sentence."],
    "models": ["Will Qwen3-Coder run on it?", "What architectures are supported by qwire?"],
    "formats": ["Is Q5_K supported?", "What quantisation formats are supported by qwire?"],
    "same": ["Does the answer depend on the number of threads?", "Is the result always the same?"],
    "licence": [
        "May I use it at work, what's the license?",
        "Under what terms can I use the source?",
    ],
    "private": ["Does any of my data leave this computer?", "Can I use it without internet?"],
    "who": ["Hi! Who am I talking to?", "And what's your name?"],
    "able": ["What kind of tasks are you able to do?", "So what could you help me with?"],
}
