"""Facts: what the model knows about qwire, and in how many words one can ask for it.

A pattern is text with alternatives in brackets, `[start|launch] the server`; it stands for every
text that comes of choosing one. `HELD_OUT` frames and `questions.py` are never trained.
"""

import re
from dataclasses import dataclass, field


@dataclass
class Fact:
    """One answer, the things it is about, and the wishes and questions that lead to it."""

    answer: str
    wishes: list[str]  # infinitives: how do I ...?
    things: list[str] = field(default_factory=list)  # what does ... do?
    questions: list[str] = field(default_factory=list)  # whole


FACTS = {
    "run": Fact(
        '`qwire run MODEL "PROMPT"` answers one prompt.',
        [
            "[run|send|try|give it|answer|process] [a|one|a single|just one] [prompt|question|request]",
            "ask [a|the] model [a question|something|one thing] [|once|from the shell|on the command line]",
            "get [an answer|a reply|one answer|a completion] [|from a model|to a prompt|for one prompt]",
            "generate [text|an answer|a completion|some text]",
            "[prompt|query] [a|the|my] model [|once]",
            "[put|pose] a question to [a|the] model",
            "run [a|the|my] model [|on a prompt|once]",
        ],
        ["qwire run", "the run command", "run"],
    ),
    "chat": Fact(
        "`qwire chat MODEL` starts a conversation; /help lists its commands.",
        [
            "[chat|talk|speak|converse] [with|to] [a|the|my] model [|interactively]",
            "[have|start|begin|open|hold] [a|an interactive] [chat|conversation|dialogue|talk] [|with a model]",
            "[use|open|start|enter] the [interactive mode|chat mode|chat|REPL|prompt mode]",
            "ask [several|many|follow-up] questions [|in a row|one after the other]",
            "go back and forth with [a|the] model",
            "discuss [something|things] with [a|the] model",
        ],
        ["qwire chat", "the chat command", "chat"],
    ),
    "serve": Fact(
        "`qwire serve MODEL` starts a server with OpenAI's API on 127.0.0.1:8080.",
        [
            "[start|launch|run|bring up|fire up|spin up|host|open] [the|a|an|my] [server|API server|API|HTTP server|web server|OpenAI server|local server|endpoint|OpenAI endpoint]",
            "serve [a|the|my] model [|over HTTP|to clients|as an API|on the network]",
            "[offer|expose|provide] [a|the|my] model [as an API|over HTTP|to other programs|to clients]",
            "[use|connect|attach|hook up] [an OpenAI client|my editor|a coding agent|my agent|other programs|curl] [|to qwire]",
            "make [a|the|my] model [available|reachable] [over HTTP|to other programs|as a service|to clients]",
        ],
        ["qwire serve", "the serve command", "serve"],
    ),
    "address": Fact(
        "The server listens on 127.0.0.1:8080; clients take http://127.0.0.1:8080/v1 as base URL.",
        [
            "[find|know|get|see] the [address|URL|base URL|port] of the [server|API|endpoint]",
            "[set|configure|enter] the [base URL|API URL] [in|of] [my client|my agent|an OpenAI client|the client]",
        ],
        ["the base URL", "the server's address", "the server's port", "the default port"],
        [
            "[which|what] [port|address|URL|host] does [the server|qwire serve|it|the API] [listen on|use|have|bind to]",
            "on [which|what] [port|address] [is the server|does it listen|can I reach the server|is the API|does qwire serve listen]",
            "what [is|'s] the [port|address|URL|base URL|default port] [of the server|of the API|for my client|for clients|by default|]",
            "where [is|can I reach|do I find] the [server|API|endpoint] [|reachable|once it runs]",
        ],
    ),
    "bench": Fact(
        "`qwire bench MODEL` measures how quickly a model reads prompts and answers.",
        [
            "[measure|test|check|find out|see|benchmark|time] [the speed|how fast it is|the performance|tokens per second|the throughput] [|of a model|of my machine|here|on this machine]",
            "[benchmark|time|speed test|clock] [a|the|my] [model|machine|computer|CPU]",
            "[run|do|make|start] [a|the] [benchmark|speed test|performance test|benchmarks|measurement of speed]",
            "[know|learn|see] how [fast|quick|slow] [a model|my machine|it|qwire] is",
        ],
        ["qwire bench", "the bench command", "bench"],
    ),
    "plot": Fact(
        "`qwire bench MODEL --plot FILE.svg` draws speed against depth.",
        [
            "[plot|draw|chart|graph|visualise] the [speed|benchmark|results of a benchmark|speed against depth|performance]",
            "[get|make|create] a [plot|graph|chart|picture|diagram|drawing] of the [speed|benchmark|performance|bench results]",
        ],
        ["--plot", "the option --plot", "bench --plot"],
    ),
    "inspect": Fact(
        "`qwire inspect MODEL` shows what is in a file, what it takes and whether it runs here.",
        [
            "[inspect|look into|examine|look at|look inside|analyse|open up] [a|the|my] [model|file|GGUF|GGUF file|model file]",
            "[see|show|view|list|print|find out|learn] [what is in a file|what is in a GGUF|the metadata|the metadata of a model|the shapes of a model|details of a model|information about a model|the architecture of a model|model info]",
            "[check|know|see|find out|tell] [if|whether] [a|the|my] model [fits|runs here|fits in memory|fits my machine|will run|fits in RAM]",
            "[see|know|estimate|find out] how much [memory|RAM] [a|the|my] model [takes|needs|uses|wants]",
        ],
        ["qwire inspect", "the inspect command", "inspect"],
    ),
    "tensors": Fact(
        "`qwire inspect MODEL --tensors` lists every tensor.",
        [
            "[list|see|show|print|view|get] [all|the|every|all the] [tensor|tensors|tensor names|tensors of a model|tensors in a file|weights by name]",
            "[get|see|print] [a|the] list of [tensors|all tensors|the tensors]",
        ],
        ["--tensors", "the option --tensors", "inspect --tensors"],
    ),
    "check": Fact(
        "`qwire inspect MODEL --check` reads every weight and prints the SHA-256.",
        [
            "[check|see|find out|test|make sure] [if|whether|that] [a|the|my] [file|model|download|model file] is [whole|intact|complete|broken|damaged|corrupt|not corrupt]",
            "[get|see|compute|print|calculate] the [SHA-256|checksum|hash] of [a|the|my] [model|file|GGUF|download]",
            "[check|validate|test] [a|the|my] [download|file|GGUF file|weights] for [errors|damage|NaN|faults]",
        ],
        ["inspect --check", "the option --check of inspect"],
    ),
    "pack": Fact(
        "`qwire pack MODEL` keeps the packed weights on disk, so that the model starts at once.",
        [
            "[make|get] [a|the|my] model [start|load|open] [faster|quicker|at once|sooner|instantly]",
            "[speed up|shorten|reduce|cut|skip|spare|save] [the|] [loading|load time|start-up|startup|loading time|start]",
            "[pack|prepack] [a|the|my] [model|weights]",
            "[keep|store|save|cache] [the|] packed weights [|on disk]",
            "[make|write|create] [a|the] sidecar [|file|for a model]",
            "[avoid|not wait for] [the|] [slow start|reordering|loading|packing] [each time|every time|at each start|]",
        ],
        ["qwire pack", "the pack command", "pack", "a sidecar"],
    ),
    "synth": Fact(
        "`qwire synth SHAPE -o FILE` writes a model of a true shape with random weights.",
        [
            "[make|create|write|generate|build|produce] [a|some] [random|synthetic|fake|dummy|test] [model|weights]",
            "[get|have|make] [a|some] model [without downloading one|without a download|with random weights|of random weights|for tests|to test with]",
            "[synthesise|synthesize] [a|some] model",
            "[test|try] [the speed of|] a [big|large|huge] [shape|model] without [its weights|downloading it]",
        ],
        ["qwire synth", "the synth command", "synth"],
    ),
    "shapes": Fact(
        "`qwire synth --list` names the shapes and formats.",
        [
            "[list|see|show|know|find out] [the|all|which] [shapes|shapes of synth|synthetic shapes|available shapes|shapes there are]",
            "[see|know|list|find] what [shapes|synthetic models] [there are|exist|synth knows|can be made|I can use]",
        ],
        ["synth --list", "the option --list"],
    ),
    "tokenize": Fact(
        "`qwire tokenize MODEL` turns text on stdin into token ids.",
        [
            "[tokenize|tokenise|encode|split] [a|some|my|the] [text|string|sentence|words] [|into tokens|to ids]",
            "[turn|convert|change|translate|transform] [text|a text|a string|words|some text] [into|to] [tokens|token ids|ids|numbers]",
            "[count|know|get|see|find] [the|how many] tokens [of a text|in a text|a text has|of a prompt|of a string|in a string|]",
            "[see|show|get] [the|] [token ids|ids] of [a|some|my] [text|prompt|sentence]",
        ],
        ["qwire tokenize", "the tokenize command", "tokenize"],
    ),
    "decode": Fact(
        "`qwire tokenize MODEL --decode` turns token ids into text.",
        [
            "[decode|detokenize|detokenise] [tokens|token ids|ids|a list of ids|some ids]",
            "[turn|convert|change|translate|transform] [tokens|token ids|ids|numbers] [back into|into|to|back to] [text|words|a string|readable text]",
            "[get|see|read|print] the text of [some|a few|these|my] [tokens|ids|token ids]",
        ],
        ["--decode", "the option --decode", "tokenize --decode"],
    ),
    "logits": Fact(
        "`qwire logits MODEL --tokens IDS --npy OUT` writes the logits at every position.",
        [
            "[get|write|see|compute|dump|save|export|print|extract] [the|all|raw] [logits|logits of a model|logits at each position|logits at every position|scores of all tokens|logits of a prompt]",
            "[have|store|save] [the|] logits [as|in] [npy|NumPy|a file|an array|JSON]",
        ],
        ["qwire logits", "the logits command", "logits"],
    ),
    "against": Fact(
        "`qwire logits MODEL --against FILE.npy` compares with the logits of another engine.",
        [
            "[compare|check] [the|my|] logits [with|against|to] [another engine|those of another engine|a file|an array|Transformers|other logits|a reference|llama.cpp]",
            "[measure|get|see|compute] the [KL divergence|KL|divergence|difference] [|to another engine|from another engine|against another engine|between two engines]",
        ],
        ["--against", "the option --against", "logits --against"],
    ),
    "quantize": Fact(
        "`qwire quantize IN.gguf -o OUT.gguf --quant q4_k_m` makes a model smaller.",
        [
            "[quantize|quantise] [a|the|my] [model|file|GGUF|GGUF file]",
            "[make|get] [a|the|my] [model|file|GGUF] [smaller|lighter|take less memory|take less space|fit]",
            "[convert|turn|change|bring] [a|the|my] [model|file|weights|F16 model|F32 file] [to|into] [Q4_K_M|q4_k_m|4 bits|four bits|Q8_0|Q6_K|8 bits|fewer bits|less precision]",
            "[reduce|shrink|compress|lower] [the size of a|the size of my|a|my] [model|file]",
        ],
        ["qwire quantize", "the quantize command", "quantize"],
    ),
    "verify": Fact(
        "`qwire verify MODEL` checks on this machine what qwire promises.",
        [
            "[verify|prove|check|test] [that qwire works|the promises|the claims|qwire's claims|what qwire promises|that it computes correctly|that the numbers are right|that everything works] [|here|on my machine|on this machine]",
            "[run|start|do] the [self-test|self test|contracts|verification|self check]",
            "make sure [qwire|it] [works|computes correctly|is correct|keeps its promises] [|here|on my machine]",
        ],
        ["qwire verify", "the verify command", "verify"],
    ),
    "temp": Fact(
        "Pass `--temp T`; 0 always takes the best token.",
        [
            "[set|change|choose|adjust|pick|lower|raise] the [temperature|randomness|temp]",
            "[make|get] [the answers|answers|the output|it] [more|less] [random|creative|wild|varied|predictable]",
            "[always|] [take|choose|get|pick] the best token",
            "[decode|sample|generate] greedily",
            "[use|get|switch to] greedy [decoding|sampling|answers]",
            "[turn off|switch off|disable] [sampling|randomness]",
        ],
        ["--temp", "the option --temp", "--temperature"],
    ),
    "seed": Fact(
        "Pass `--seed N`; the same seed gives the same tokens.",
        [
            "[fix|set|choose|give|pass|pick] [the|a] [seed|random seed]",
            "[get|have|obtain] the same [answer|output|tokens|text|result|sample] [again|twice|every time|each time]",
            "[reproduce|repeat] [an answer|a sample|a result|the output|a run]",
            "make [sampling|a sample|the answer] reproducible",
        ],
        ["--seed", "the option --seed"],
    ),
    "length": Fact(
        "Pass `-n N` for at most N tokens.",
        [
            "[limit|cap|restrict|shorten|bound|set] the [length of the answer|answer's length|length of an answer|number of tokens|tokens generated|output length|answer]",
            "[get|have|make] [shorter|longer|short|long|brief] answers",
            "[generate|produce|print] [only|at most|no more than] [100|a few|some|fifty|20|N] tokens",
            "[stop|end] after [some|100|N|a number of|50|a few] tokens",
            "[set|change] [max tokens|the maximum of tokens|max_tokens|the maximum length]",
        ],
        ["-n", "the option -n", "--max-tokens"],
    ),
    "ctx": Fact(
        "Pass `--ctx N`: tokens of prompt and answer together.",
        [
            "[set|change|limit|enlarge|increase|reduce|extend] the [context|context length|context size|context window|window]",
            "[use|have|get|allow] [a|more|less|a longer|a larger|a smaller|a bigger] context [|window|length]",
            "make [room|space] for [longer prompts|a long prompt|longer conversations|more tokens of prompt]",
        ],
        ["--ctx", "the option --ctx"],
    ),
    "threads": Fact(
        "Pass `--threads N`; by default all CPUs that the process may use.",
        [
            "[set|change|choose|limit|give|pick] the [number of threads|threads|thread count|number of CPUs|number of cores|worker threads]",
            "[use|take|run with|run on] [more|fewer|all|two|four|8|N|only one|some] [threads|cores|CPUs]",
            "leave [some|a few] [cores|CPUs] [free|idle|alone]",
        ],
        ["--threads", "the option --threads", "QWIRE_THREADS"],
    ),
    "system": Fact(
        "Pass `--system TEXT`: what the model is told before the prompt.",
        [
            "[set|give|pass|add|write|use|provide] [a|the|my own] system [prompt|message|text|instruction] [|with run|for run|on the command line]",
            "[tell|instruct] the model [something|how to behave|what it is|who it is] [before the prompt|first|beforehand|]",
        ],
        ["--system", "the option --system"],
    ),
    "file": Fact(
        "Pass `-f FILE`; - is stdin.",
        [
            "[read|take|load|get] the prompt from [a file|a text file|disk|stdin]",
            "[ask|put a question] about [a|my|some] file",
            "[use|pass|give|send|include|add] [a|my] [file|text file|source file] [as the prompt|as prompt|in the prompt|to the model|with the prompt]",
            "[pipe|feed] [a|my] file [into|to] [the model|it|qwire run]",
        ],
        ["-f", "the option -f", "--file"],
    ),
    "json": Fact(
        "Pass `--json`; it prints one JSON object at the end.",
        [
            "[get|have|print|see|obtain] [the|an|] [answer|output|result|results|JSON output] [as|in] JSON",
            "[use|call|run] qwire [in|from] [a script|scripts|another program]",
            "[get|make|produce] [machine-readable|machine readable|JSON|parsable] output",
        ],
        ["--json", "the option --json"],
    ),
    "raw": Fact(
        "Pass `--raw`; the prompt is continued as it is, without the chat template.",
        [
            "[skip|avoid|drop|leave out|disable|switch off|not use|turn off] the [chat template|template]",
            "[continue|complete] [a text|the prompt|some text|a text as it is|raw text]",
            "[use|send|pass] [a raw prompt|raw text|a plain prompt]",
        ],
        ["--raw", "the option --raw"],
    ),
    "stop": Fact(
        "Pass `--stop TEXT`; the answer ends before that text.",
        [
            "[stop|end|cut] [the answer|an answer|generation|the output] [at|before|when it writes] [a word|a text|a string|some text|a certain word|a given text]",
            "[set|use|give|add|define] [a|the] stop [string|word|sequence|text]",
        ],
        ["--stop", "the option --stop", "a stop string"],
    ),
    "logprobs": Fact(
        "Pass `--logprobs N`: each token with its log-probability and N alternatives.",
        [
            "[see|get|print|show|have] [the|] [log-probabilities|logprobs|log probabilities|probabilities|probability] [|of each token|of the tokens|of tokens]",
            "[see|get|show|know] [the|] alternatives [of each token|to each token|the model considered|for every token]",
        ],
        ["--logprobs", "the option --logprobs"],
    ),
    "reset": Fact(
        "Type `/reset` in the chat.",
        [
            "[reset|clear|forget|restart|wipe|empty] the [conversation|chat|history|dialogue]",
            "[start|begin] [over|a new conversation|afresh|from scratch|again] [|in the chat]",
            "make [it|the model|the chat] forget [everything|what I said|the conversation|all]",
        ],
        ["/reset"],
    ),
    "save": Fact(
        "Type `/save FILE` in the chat.",
        [
            "[save|store|keep|export|write down] the [conversation|chat|dialogue|history|transcript] [|to a file|on disk|as a file]"
        ],
        ["/save"],
        [
            "can [I|the chat] [save|store|keep|export] [|the|a|our] [conversation|chat|dialogue|history|transcript]"
        ],
    ),
    "persona": Fact(
        "Type `/system TEXT` in the chat.",
        [
            "[set|change|replace|see] the system [prompt|message|text] [in the chat|during a chat|while chatting|inside the chat|of the chat|in a chat|in a conversation]"
        ],
        ["/system"],
    ),
    "stats": Fact(
        "Type `/stats` in the chat; it shows tokens per second.",
        [
            "[see|show|get|print|know] [the|] [speed|statistics|stats|tokens per second|numbers] [in the chat|of the chat|while chatting|during a chat|in a conversation|of the conversation]"
        ],
        ["/stats"],
    ),
    "tools": Fact(
        "Type `/tools` in the chat.",
        [
            "[see|list|show|switch|use|give it|know] [the|] tools [in the chat|of the chat|while chatting|during a chat|in a conversation]"
        ],
        ["/tools"],
    ),
    "interrupt": Fact(
        "Press Ctrl-C: it ends the answer; what there is stays.",
        [
            "[stop|interrupt|cancel|abort|end|halt|break off] [an answer|the answer|the model|a long answer|the generation|a running answer|it while it answers|it]",
            "make it [stop|be quiet|shut up|stop talking]",
        ],
        ["Ctrl-C", "Ctrl C", "Control-C"],
    ),
    "version": Fact(
        "`qwire --version` prints it.",
        [
            "[see|know|get|print|check|find out|show|tell] [the|which|my|what] version [|of qwire|I have|is installed]"
        ],
        ["qwire --version", "--version"],
        [
            "[which|what] version [of qwire is this|do I have|is this|is installed|am I running|of qwire do I have]"
        ],
    ),
    "help": Fact(
        "`qwire --help` lists the commands, `qwire COMMAND --help` says more.",
        [
            "[get|see|show|find|read|print] [help|the help|the manual|the usage|all options|more help|the documentation]",
            "[list|see|show|know|learn|find] [all|the|all the|which] [commands|options|switches|flags|subcommands] [|there are|of qwire|of a command]",
        ],
        ["qwire --help", "--help"],
        [
            "[which|what] [commands|options|subcommands|flags] [are there|does qwire have|exist|can I use|do you know|has qwire]",
            "[help|help me|I need help|usage]",
        ],
    ),
    "what": Fact(
        "qwire runs Qwen3 mixture-of-experts models from a GGUF file on your own machine.",
        [],
        ["qwire", "this program", "this tool", "qwire good"],
        [
            "what [is|'s] [qwire|this program|this tool|this qwire thing]",
            "[explain|describe|introduce] [qwire|this program] [|to me|briefly|in one sentence]",
            "what [can|does] [qwire|this program|this tool] do",
            "tell me [about qwire|what qwire is|what qwire does|something about qwire]",
        ],
    ),
    "models": Fact(
        "It runs GGUF files of the architectures qwen3moe, qwen3 and qwen2.",
        ["[know|see|find out] which models [run|work|are supported|qwire supports]"],
        [],
        [
            "[which|what] [models|architectures|model files|kinds of models] [does qwire run|does qwire support|are supported|work|can I run|can it run|can I use|run with qwire]",
            "[does|can] [qwire|it] [run|support|load|handle] [Qwen|Qwen3|Qwen2|Qwen3-Coder|mixtures of experts|dense models]",
        ],
    ),
    "formats": Fact(
        "F32, F16, BF16, Q8_0, Q4_0 to Q5_1, Q2_K to Q6_K, IQ4_NL, IQ4_XS and MXFP4, mixed as a file likes.",
        [],
        [],
        [
            "[which|what] [formats|weight formats|quantisations|quants|quant types|types of weights|quantizations] [does qwire run|does qwire support|are supported|work|can I use|can it read|run]",
            "[does|can] [qwire|it] [run|support|read|load] [Q4_K|Q4_K_M|Q8_0|MXFP4|IQ4_XS|BF16|quantised weights|K-quants]",
        ],
    ),
    "same": Fact(
        "Yes. The same model, prompt and seed give the same bits every time.",
        [],
        [],
        [
            "[is|are] [qwire|it|the output|the results|answers] [deterministic|reproducible|always the same|the same every time]",
            "[do|will] I get the same [bits|answer|result|output] [|every time|each time|on another machine|with other threads]",
            "does [the number of threads|the batch|the cache|the instruction set|the machine] change [the answer|the bits|the result|the output]",
        ],
    ),
    "licence": Fact(
        "MIT or Apache 2.0, as you like.",
        [],
        ["qwire's licence", "the licence", "the license of qwire"],
        [
            "[which|what|under which|under what] [licence|license] [is it|is qwire under|does qwire have|has it|is qwire|does it have]",
            "[is qwire|is it] [free|open source|free software|free to use]",
            "how is [qwire|it] [licensed|licenced]",
        ],
    ),
    "private": Fact(
        "Everything runs on your machine; nothing is sent anywhere.",
        [],
        [],
        [
            "[is|does|do] [my data|my prompt|anything|what I write] [sent|go|leave] [anywhere|to the cloud|to a server|my machine|out|over the internet]",
            "[does it|does qwire|do I] need [the internet|a network|internet|to be online|an account|a connection]",
            "[is qwire|is it|does it run|does qwire work] [private|offline|local|locally]",
        ],
    ),
    "who": Fact(
        "I am the box model of qwire: very small, made for tests and first steps.",
        [],
        [],
        [
            "who are you",
            "what are you",
            "[introduce|present] yourself",
            "[are you|is this] [ChatGPT|Qwen|a human|a robot|an AI|a real model|a person|GPT|Claude|a big model]",
            "what [is|'s] your name",
            "how [big|large|smart|old] are you",
            "tell me [about yourself|who you are|something about you]",
            "which model [are you|is this]",
            "who [made|trained|built] you",
        ],
    ),
    "able": Fact(
        "I answer questions about qwire, copy, list, reverse, add, write JSON and call tools.",
        [],
        [],
        [
            "what can you do",
            "what are you [good|useful|there] for",
            "[what|which] [tasks|things|questions] can [you do|I ask|you answer|I give you|I ask you]",
            "what are your [skills|abilities|limits|strengths]",
            "how can you help [|me]",
            "what do you [know|understand]",
            "what should I ask [|you]",
        ],
    ),
}

# {w} is a wish, {g} the same with -ing.
FRAMES = """how do I {w}?|how can I {w}?|how to {w}|how to {w}?|how does one {w}?|how do you {w}?|how can you {w}?
how would I {w}?|how should I {w}?|how could I {w}?|how might I {w}?|how do we {w}?|how can one {w}?|how is it possible to {w}?
what is the way to {w}?|what's the way to {w}?|what is the best way to {w}?|what is the command to {w}?|what's the command to {w}?
which command do I need to {w}?|which command lets me {w}?|which command should I use to {w}?|what command do I use to {w}?
which command can {w}?|what do I type to {w}?|what should I type to {w}?|what must I enter to {w}?|what do I have to do to {w}?
what do I need to {w}?|what should I do if I want to {w}?|what do I do when I want to {w}?|which option do I need to {w}?
I want to {w}|I want to {w}.|I'd like to {w}|I would like to {w}.|I wish to {w}.|I have to {w}.|I must {w}|I am trying to {w}.|I'm trying to {w}
I don't know how to {w}.|I do not know how to {w}|I forgot how to {w}.|I can't find out how to {w}.|I have no idea how to {w}
tell me how to {w}|tell me how I can {w}.|show me how to {w}|explain how to {w}.|explain to me how I {w}|say how to {w}|teach me to {w}
help me to {w}|help me {w}|let me {w}|please {w}|{w}|{w}?|{w} with qwire|{w}, how?|to {w}?|can I {w}?|can you {w}?|can qwire {w}?|is it possible to {w}?
am I able to {w}?|does qwire {w}?|do you know how to {w}?|is there a way to {w}?|is there some way to {w}|any way to {w}?|my goal is to {w}
what about {g}?|how about {g}|command for {g}|what is the command for {g}?|which command is for {g}?|how does {g} work?|what helps with {g}?
I have a question about {g}.|I need help with {g}.|{g}|{g}?|is {g} possible?|what do I use for {g}?|tell me about {g}|explain {g}""".replace(
    "\n", "|"
).split(
    "|"
)
HELD_OUT = """could you tell me how I {w}?|what would be the right command to {w}?|I need to {w}, how is that done?|is there a command to {w}?
what must I do to {w}?|would you show me how one can {w}?|quick question: how do I {w}?|I was wondering how to {w}
give me the command for {g}|how is {g} done?|what are the steps to {w}?|suppose I want to {w}, what then?""".replace(
    "\n", "|"
).split(
    "|"
)
ABOUT = """what does {t} do?|what is {t}?|what is {t} for?|what's {t}?|explain {t}|what does {t} mean?|tell me about {t}|describe {t}
how does {t} work?|when do I use {t}?|what do I use {t} for?|why would I use {t}?|{t}|{t}?|can you explain {t}?|what about {t}?
how do I use {t}?|what happens with {t}?|I saw {t}, what is it?|please explain {t}""".replace(
    "\n", "|"
).split(
    "|"
)

GERUNDS = {
    "run": "running",
    "get": "getting",
    "set": "setting",
    "put": "putting",
    "stop": "stopping",
    "cut": "cutting",
    "chat": "chatting",
    "plot": "plotting",
    "cap": "capping",
    "begin": "beginning",
    "skip": "skipping",
    "drop": "dropping",
    "dump": "dumping",
    "see": "seeing",
    "spin": "spinning",
    "split": "splitting",
    "not": "not",
    "always": "always",
    "speed": "speeding",
    "wrap": "wrapping",
    "bind": "binding",
    "wipe": "wiping",
}


def expand(values, pattern):
    """One of the texts that a pattern stands for."""
    while "[" in pattern:
        pattern = re.sub(r"\[([^\[\]]*)\]", lambda m: values.choice(m[1].split("|")), pattern)
    return re.sub(r"\s+", " ", pattern).replace(" 's", "'s").strip()


def gerund(wish):
    """`start the server` becomes `starting the server`."""
    first, _, rest = wish.partition(" ")
    if first not in GERUNDS:
        stem = first[:-1] if first.endswith("e") and not first.endswith("ee") else first
        first = stem + "ing"
    else:
        first = GERUNDS[first]
    return f"{first} {rest}".strip()


def question(values, fact, frames=None):
    """One question with this answer; `frames` are for wishes."""
    ways = [
        ("wish", len(fact.wishes) * 2),
        ("thing", len(fact.things) * (frames is None)),
        ("whole", len(fact.questions) * 3),
    ]
    ways = [way for way, weight in ways for _ in range(weight)]
    if frames is not None and fact.wishes:
        ways = ["wish"]
    way = values.choice(ways)
    if way == "wish":
        wish = expand(values, values.choice(fact.wishes))
        return values.choice(frames or FRAMES).format(w=wish, g=gerund(wish))
    if way == "thing":
        thing = values.choice(fact.things)
        return values.choice(ABOUT).format(t=f"`{thing}`" if values.chance(0.2) else thing)
    return expand(values, values.choice(fact.questions)) + values.choice(["?", "?", "", "."])


OPENERS = """hey,|hi,|hello,|ok,|okay,|so,|well,|sorry,|please,|a question:|question:|one more thing:|another question:|and
hi there,|good morning,|next:|also,|now|just wondering,|btw,|excuse me,|listen,|thanks,|good,|qwire:""".replace(
    "\n", "|"
).split(
    "|"
)
CLOSERS = """please|thanks|thank you|with qwire|in qwire|using qwire|exactly|here|on Linux|now|on my machine|from the shell|again|quickly|then""".split(
    "|"
)


def vary(values, text):
    """The same question as somebody else types it."""
    if values.chance(0.15):
        text = f"{values.choice(OPENERS)} {text}"
    if values.chance(0.15):
        body, end = (text[:-1], text[-1]) if text[-1] in "?." else (text, "")
        text = f"{body} {values.choice(CLOSERS)}{end}"
    if values.chance(0.5):
        text = text[0].upper() + text[1:]
    elif values.chance(0.2):
        text = text.lower()
    if values.chance(0.15):
        text = text.rstrip("?.")
    if values.chance(0.08):  # a slip of the keyboard
        at = values.between(0, len(text) - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if values.chance(0.06):  # a word left out
        words = text.split(" ")
        if len(words) > 4:
            del words[values.between(0, len(words) - 1)]
            text = " ".join(words)
    return text
