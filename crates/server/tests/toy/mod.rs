//! A toy server: an app whose model is a toy, for every test over HTTP.
//!
//! Its vocabulary is 256 bytes and Qwen's markers; its answers are hashes of their history, so what
//! it says is noise, and the same noise for the same prompt.

#![allow(dead_code, unused_imports, reason = "each test file takes what it needs")]

mod server;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use qwire_engine::toy::Toy;
use qwire_engine::{Engine, Sampling, Service};
use qwire_model::{Batch, Limits, PageForm, PageId, Poison, Runner, TokenId};
use qwire_server::{App, Facts, Model, Settings};
use qwire_text::{ChatTemplate, Grammars, Parts, SpecialIds, Vocabulary};
pub use server::{Reply, Server};

/// What clients call the model.
pub const NAME: &str = "toy";

/// Marks of structure, after the bytes.
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Texts that are one token each.
const WORDS: [&str; 4] = ["<tool_call>", "</tool_call>", "<think>", "</think>"];

/// ChatML with tools, as Qwen3 has it.
const TEMPLATE: &str = r#"
{%- if tools %}<|im_start|>system
{% if messages[0].role == "system" %}{{ messages[0].content }}

{% endif %}# Tools
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}
</tools><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if not (tools and loop.first and message.role == "system") %}<|im_start|>
{{- "user" if message.role == "tool" else message.role }}
{% if message.role == "tool" %}<tool_response>
{{ message.content }}
</tool_response>
{%- else %}{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{%- endif %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}
{%- endif %}"#;

/// An app with a model that answers at once.
pub fn app(settings: Settings) -> Arc<App> {
    paced(settings, Duration::ZERO)
}

/// An app whose model takes so long for each step.
pub fn paced(settings: Settings, pause: Duration) -> Arc<App> {
    let app = App::new(settings);
    app.install(model(Slow { toy: toy(), pause, fatal: None }));
    app
}

/// An app whose model writes with tokens that no text is encoded to.
pub fn spelling(settings: Settings, more: &[&str]) -> Arc<App> {
    let app = App::new(settings);
    let toy = Toy::new(256 + CONTROLS.len() + WORDS.len() + more.len(), 6, (512, 64, 1024));
    // As Qwen3-Coder has it: nothing in a turn depends on what follows.
    let (template, _) = TEMPLATE.split_once("{% if enable_thinking").expect("a switch");
    app.install(model_of(toy, vocabulary_with(more), &format!("{template}{{% endif %}}")));
    app
}

/// A model around a runner.
pub fn model(runner: impl Runner + 'static) -> Model {
    model_of(runner, vocabulary(), TEMPLATE)
}

fn model_of(runner: impl Runner + 'static, vocabulary: Vocabulary, source: &str) -> Model {
    let vocabulary = Arc::new(vocabulary);
    let template = ChatTemplate::new(source).expect("a template");
    let service = Service::start(Engine::new(Box::new(runner), qwire_engine::Settings::default()));
    let facts = Facts {
        architecture: "toy".into(),
        parameters: 1,
        file_bytes: 1,
        quantisation: "none".into(),
        trained_context: 32768,
        hidden: 1,
        device: "a toy".into(),
        fingerprint: "toy-1".into(),
        created: 1,
        version: "0",
        ..Facts::default()
    };
    Model {
        grammars: Grammars::new(&vocabulary).expect("a trie"),
        name: NAME.into(),
        aliases: vec!["claude-toy".into()],
        vocabulary,
        template: Some(template),
        template_source: Some(source.into()),
        dialect: Default::default(),
        sampling: Sampling::default(),
        facts,
        service: service.expect("a thread"),
    }
}

/// The runner.
pub fn toy() -> Toy {
    Toy::new(256 + CONTROLS.len() + WORDS.len(), 6, (512, 64, 512))
}

/// A token for each byte, then the markers.
pub fn vocabulary() -> Vocabulary {
    vocabulary_with(&[])
}

/// The same and more tokens of text, which no merge makes.
fn vocabulary_with(more: &[&str]) -> Vocabulary {
    let more: Vec<String> = more.iter().map(|text| spelt(text)).collect();
    let printed = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}');
    let bytes: Vec<String> = printed.chain('\u{100}'..='\u{143}').map(String::from).collect();
    let tokens = bytes.iter().map(String::as_str).chain(CONTROLS).chain(WORDS);
    let tokens = tokens.chain(more.iter().map(String::as_str)).collect();
    let types = [(1, 256), (3, CONTROLS.len()), (4, WORDS.len()), (1, more.len())];
    let types = types.map(|(kind, count)| vec![kind; count]).concat();
    let ids = SpecialIds { eos: Some(258), eot: Some(258), pad: Some(256), ..Default::default() };
    let parts = Parts {
        model: "gpt2",
        pre: Some("qwen2"),
        tokens,
        types: Some(types),
        merges: Some(Vec::new()),
        ids,
        add_bos: false,
    };
    Vocabulary::new(&parts).expect("a vocabulary")
}

/// A text as byte-level vocabularies write it.
fn spelt(text: &str) -> String {
    let shown = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let letter = |byte: u8| {
        let hidden = (0..byte).filter(|byte| !shown(byte)).count() as u32;
        char::from_u32(if shown(&byte) { byte.into() } else { 0x100 + hidden }).expect("a letter")
    };
    text.bytes().map(letter).collect()
}

/// A toy whose steps take real time, and that panics at a token of a prompt.
pub struct Slow {
    pub toy: Toy,
    pub pause: Duration,
    pub fatal: Option<TokenId>,
}

impl Slow {
    fn check(&self, batch: &Batch) {
        std::thread::sleep(self.pause);
        assert!(!batch.tokens.iter().any(|token| Some(*token) == self.fatal), "provoked");
    }
}

impl Runner for Slow {
    fn vocab(&self) -> usize {
        self.toy.vocab()
    }

    fn layers(&self) -> usize {
        self.toy.layers()
    }

    fn limits(&self) -> Limits {
        self.toy.limits()
    }

    fn step(&mut self, batch: &Batch) -> Vec<Poison> {
        self.check(batch);
        self.toy.step(batch)
    }

    fn park(&mut self, batch: Batch) {
        self.check(&batch);
        self.toy.park(batch);
    }

    fn advance(&mut self, layers: usize) -> Option<Vec<Poison>> {
        self.toy.advance(layers)
    }

    fn logits(&mut self, outputs: Range<usize>) -> &[f32] {
        self.toy.logits(outputs)
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        self.toy.hidden(outputs)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.toy.copy_page(from, to);
    }

    fn page_form(&self) -> PageForm {
        self.toy.page_form()
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        self.toy.read_page(page, bytes);
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        self.toy.write_page(page, bytes);
    }
}
