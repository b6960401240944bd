//! Grammars: 300 schemas of the real world with their instances, over the full vocabulary.
//!
//! Skipped, and said so, where the data is absent; the crate's unit tests need no data.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use qwire_gguf::File;
use qwire_text::tools::{Choice, Dialect, Tool};
use qwire_text::{Controls, Grammar, Grammars, Refused, Special, Vocabulary};
use serde_json::{Value, json};

/// Valid instances that are refused: their properties come neither in the schema's order nor with
/// the required ones first.
const OTHER_ORDERS: [&str; 2] =
    ["JsonSchemaStore---libman.json", "Kubernetes---kb_1150_Normalized.json"];

static QWEN: LazyLock<Option<(Arc<Vocabulary>, Grammars)>> = LazyLock::new(|| {
    let path = data("qwen2-vocab/ggml-vocab-qwen2.gguf")?;
    let file = File::open(&path).expect("a GGUF file");
    let vocabulary = Arc::new(Vocabulary::from_gguf(file.metadata()).expect("a vocabulary"));
    let start = Instant::now();
    let grammars = Grammars::new(&vocabulary).expect("an end token");
    eprintln!("prepared {} tokens in {:?}", vocabulary.len(), start.elapsed());
    Some((vocabulary, grammars))
});

fn data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not beside the repository");
    None
}

fn schemas() -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(data("json-schemas/schemas.json")?).expect("readable");
    Some(serde_json::from_str(&text).expect("a list"))
}

fn allows(words: &[u32], token: u32) -> bool {
    words[token as usize / 32] >> (token % 32) & 1 == 1
}

/// What came of asking grammars.
#[derive(Default)]
struct Asked {
    masks: Vec<Duration>,
    forced: Vec<Duration>,
    /// Tokens that were forced and came, and those that were forced.
    right: usize,
    guessed: usize,
}

/// Whether the text is accepted to its end, in which nothing else stood where something was forced.
fn accepts(
    vocabulary: &Vocabulary,
    mut grammar: Grammar,
    text: &str,
    asked: &mut Asked,
) -> Result<(), String> {
    let mut words = vec![0; vocabulary.len().div_ceil(32)];
    let ids = vocabulary.encode(text, Special::AsText);
    let bytes = |ids: &[u32]| -> Vec<u8> {
        ids.iter().flat_map(|id| vocabulary.token_bytes(*id, Controls::Show)).copied().collect()
    };
    let mut other = Ok(());
    for (at, id) in ids.iter().enumerate() {
        let start = Instant::now();
        let forced = grammar.forced();
        asked.forced.push(start.elapsed());
        asked.guessed += forced.len();
        asked.right += forced.iter().zip(&ids[at..]).take_while(|(a, b)| a == b).count();
        if !bytes(&ids[at..]).starts_with(&bytes(&forced)) {
            other = Err(format!("{:?} was forced", vocabulary.decode(&forced, Controls::Show)));
        }
        let start = Instant::now();
        grammar.mask(&mut words, usize::MAX)?;
        asked.masks.push(start.elapsed());
        if !allows(&words, *id) {
            let before = vocabulary.decode(&ids[at.saturating_sub(9)..at], Controls::Show);
            return Err(format!(
                "{:?} after {before:?}",
                vocabulary.decode(&[*id], Controls::Show)
            ));
        }
        grammar.accept(*id)?;
    }
    if grammar.may_end() { other } else { Err("unfinished".into()) }
}

fn percentile(took: &mut [Duration], share: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * share) as usize]
}

/// Tokens drawn under the mask until the answer ends or `budget` are drawn.
fn drawn(
    vocabulary: &Vocabulary,
    mut grammar: Grammar,
    budget: usize,
    mut draw: impl FnMut(&[u32]) -> u32,
) -> Result<Option<Vec<u32>>, String> {
    let mut words = vec![0; vocabulary.len().div_ceil(32)];
    let mut answer = Vec::new();
    for left in (1..=budget).rev() {
        grammar.mask(&mut words, left)?;
        let token = draw(&words);
        if vocabulary.is_end(token) {
            assert!(grammar.may_end());
            return Ok(Some(answer));
        }
        grammar.accept(token)?;
        answer.push(token);
    }
    Ok(None)
}

/// The `number`-th allowed token, going round.
fn nth(words: &[u32], number: u64) -> u32 {
    let count: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
    let mut skip = number % count;
    for (at, word) in words.iter().enumerate() {
        let ones = u64::from(word.count_ones());
        if skip < ones {
            let bit = (0..32).filter(|bit| word >> bit & 1 == 1).nth(skip as usize).unwrap();
            return at as u32 * 32 + bit;
        }
        skip -= ones;
    }
    unreachable!()
}

fn lot(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e3779b97f4a7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
    z ^ (z >> 31)
}

/// The schema, its instances, and the words in which both are written.
#[test]
fn instances_are_told_apart() {
    let (Some((vocabulary, grammars)), Some(schemas)) = (&*QWEN, schemas()) else { return };
    let (mut refused, mut asked, mut compiling) = (0, Asked::default(), Vec::new());
    for row in &schemas {
        let name = row["name"].as_str().unwrap();
        let start = Instant::now();
        let grammar = match grammars.json_schema(&row["schema"]) {
            Ok(grammar) => grammar,
            Err(why) => {
                refused += 1;
                let keyword = why.keyword.expect("a refusal names its keyword");
                eprintln!("refused for `{keyword}`: {name}: {}", why.message);
                assert!(row["schema"].to_string().contains(&format!("\"{keyword}\"")), "{name}");
                continue;
            }
        };
        compiling.push(start.elapsed());
        for test in row["tests"].as_array().unwrap() {
            let valid = test["valid"] == json!(true);
            for text in written(&test["data"]) {
                let found = accepts(vocabulary, grammar.clone(), &text, &mut asked);
                if valid && found.is_err() && OTHER_ORDERS.contains(&name) {
                    continue;
                }
                assert_eq!(found.is_ok(), valid, "{name}: {found:?} {text}");
            }
        }
    }
    assert!(refused * 10 <= schemas.len(), "{refused} of {} refused", schemas.len());
    let Asked { mut masks, mut forced, right, guessed } = asked;
    eprintln!("{right} of {guessed} forced tokens came as they were");
    assert!(right > masks.len() / 10 && right > guessed * 95 / 100, "{right} of {guessed}");
    for (what, took) in
        [("compiling", &mut compiling), ("a mask", &mut masks), ("what is forced", &mut forced)]
    {
        let (half, most) = (percentile(took, 0.5), percentile(took, 0.99));
        eprintln!("{what}: p50 {half:?}, p99 {most:?} of {}", took.len());
    }
    assert!(percentile(&mut masks, 0.5) < Duration::from_millis(1));
}

/// As programs write it, as Python does, and over lines with two spaces of indentation.
fn written(value: &Value) -> [String; 3] {
    let mut spaced = String::new();
    spell(value, &mut spaced);
    [value.to_string(), spaced, serde_json::to_string_pretty(value).unwrap()]
}

fn spell(value: &Value, text: &mut String) {
    let mut comma = "";
    match value {
        Value::Object(parts) => {
            text.push('{');
            for (name, part) in parts {
                write!(text, "{comma}{}: ", json!(name)).unwrap();
                spell(part, text);
                comma = ", ";
            }
            text.push('}');
        }
        Value::Array(parts) => {
            text.push('[');
            for part in parts {
                text.push_str(comma);
                spell(part, text);
                comma = ", ";
            }
            text.push(']');
        }
        _ => write!(text, "{value}").unwrap(),
    }
}

/// Under logits that are the same noise everywhere, and under the same logits at every step.
#[test]
fn answers_end_and_validate() {
    const BUDGET: usize = 512;
    let (Some((vocabulary, grammars)), Some(schemas)) = (&*QWEN, schemas()) else { return };
    let mut seed = 7;
    let mut ranks = Vec::new();
    ranks.resize_with(vocabulary.len(), || lot(&mut seed));
    let (mut all, mut ended, mut answers) = (0, 0, String::new());
    for (at, row) in schemas.iter().enumerate() {
        let Ok(grammar) = grammars.json_schema(&row["schema"]) else { continue };
        for constant in [false, true].into_iter().take(if at % 20 == 0 { 2 } else { 1 }) {
            let draw = |words: &[u32]| {
                if !constant {
                    return nth(words, lot(&mut seed));
                }
                let tokens = (0..vocabulary.len() as u32).filter(|token| allows(words, *token));
                tokens.max_by_key(|token| ranks[*token as usize]).expect("a token")
            };
            all += 1;
            let answer = drawn(vocabulary, grammar.clone(), BUDGET, draw);
            let Some(answer) = answer.unwrap_or_else(|why| panic!("{}: {why}", row["name"])) else {
                eprintln!("{} goes on", row["name"]);
                continue;
            };
            ended += 1;
            let text = vocabulary.decode(&answer, Controls::Show);
            writeln!(answers, "{}", json!([row["name"], row["schema"], text])).unwrap();
        }
    }
    eprintln!("{ended} of {all} answers end within {BUDGET} tokens");
    assert!(ended * 100 >= all * 95, "{ended} of {all}");
    validate(&answers);
}

/// Has Python judge the answers, where its validator is at hand.
fn validate(answers: &str) {
    const JUDGE: &str = "import json, sys\n\
        try: from jsonschema import validators, Draft202012Validator as default\n\
        except ImportError: sys.exit(print('skipped: no jsonschema in Python'))\n\
        getattr(sys, 'set_int_max_str_digits', id)(0)\n\
        for name, schema, text in map(json.loads, sys.stdin):\n\
        \x20judge = validators.validator_for(schema, default)(schema)\n\
        \x20for error in judge.iter_errors(json.loads(text)):\n\
        \x20 sys.exit(f'{name}: {error.message[:200]}')\n";
    let python = Command::new("python3").args(["-c", JUDGE]).stdin(Stdio::piped()).spawn();
    let Ok(mut python) = python else {
        eprintln!("skipped: no Python");
        return;
    };
    // One that goes at once, having nothing to judge with, leaves the rest unread.
    let _ = python.stdin.take().expect("piped").write_all(answers.as_bytes());
    assert!(python.wait().expect("an end").success());
}

#[track_caller]
fn check(found: Result<Grammar, Refused>, expected: &str) {
    match (found, expected) {
        (Ok(_), "") => {}
        (Ok(_), _) => panic!("accepted; expected: {expected}"),
        (Err(why), _) => {
            assert!(!expected.is_empty() && why.message.contains(expected), "{why}");
            assert!(!why.message.contains('\n') && why.message.len() < 600, "{why}");
        }
    }
}

#[test]
fn hostile_grammars_are_refused_in_time() {
    let Some((_, grammars)) = &*QWEN else { return };
    let start = Instant::now();
    let schemas = [
        (r##"{"$ref": "#"}"##, "nothing matches"),
        (r##"{"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}"##, "nothing matches"),
        (r#"{"$ref": "https://example.com/x.json"}"#, "`$ref`"),
        (r##"{"allOf": [{"$ref": "#"}, {"properties": {"a": {"$ref": "#"}}}]}"##, "`$ref`"),
        (r#"{"type": "string", "minLength": 1000000, "maxLength": 2000000}"#, ""),
        (r#"{"minItems": 1000000, "items": {"pattern": "^(a|b){1000}$"}}"#, ""),
        (r#"{"pattern": "^(?=a)b"}"#, "`pattern` at #/pattern"),
        (r#"{"items": {"uniqueItems": true}}"#, "`uniqueItems` at #/items/uniqueItems"),
        (r#"{"contains": {}}"#, "`contains`"),
        (r#"{"format": "json-pointer"}"#, "`format`"),
        (r#"{"format": "int32"}"#, ""),
        (r#"{"type": "any"}"#, "`type`"),
        (r#"{"type": "integer", "multipleOf": 0}"#, "`multipleOf`"),
        (r#"{"x-guidance": {"lenient": true}, "not": {"type": "integer"}}"#, "`not`"),
        ("false", "# is false"),
        ("3", "accepted: an object"),
    ];
    for (schema, expected) in schemas {
        check(grammars.json_schema(&serde_json::from_str(schema).unwrap()), expected);
    }
    let deep = (0..500).fold(json!({}), |inner, _| json!({ "items": inner }));
    check(grammars.json_schema(&deep), "nested deeper");
    check(grammars.regex(&("(".repeat(20000) + &")".repeat(20000))), "nest deeper than 100");
    check(grammars.regex("((a{1000}){1000}){1000}"), "");
    check(grammars.regex("("), "unclosed group");
    check(grammars.regex(&"a".repeat(100_000)), "100000 bytes");
    check(grammars.lark("start: start"), "nothing matches");
    check(grammars.lark("start: <|im_end|>"), "fails on it");
    check(grammars.lark(&format!("start: {}\"a\"{}", "(".repeat(95), ")".repeat(95))), "deeply");
    check(grammars.gbnf("root ::= item{100000,} \nitem ::= [a-c]\n"), "");
    check(grammars.gbnf("root ::= [z-a]"), "line 1");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn grammars_begin_where_they_are_told() {
    fn travels<T: Send + Sync>(_: &T) {}
    let Some((vocabulary, grammars)) = &*QWEN else { return };
    let follow = |grammar: &Grammar, text: &str| {
        accepts(vocabulary, grammar.clone(), text, &mut Asked::default())
    };
    travels(grammars);
    let thinking = grammars.json_object().unwrap().after("</think>");
    assert_eq!(follow(&thinking, "so { </thin k> </think>\n\n{\"a\": [1, 2]}"), Ok(()));
    travels(&thinking);
    assert_eq!(follow(&thinking, "</think>{}"), Ok(()));
    assert!(follow(&thinking, "</think>\n\nNo").is_err());
    assert!(follow(&thinking, "only thoughts").is_err());
    let call = r#"start: "<function=list>\n" /[a-z]+/ "</function>""#;
    let tools = grammars.lark(call).unwrap().triggered(&["<function="]);
    assert!(tools.is_free());
    let text = "Text <func\n<function=list>\nabc</function> and <function=list>\nx</function> done";
    assert_eq!(follow(&tools, text), Ok(()));
    assert!(follow(&tools, "<function=lost>").is_err());
    assert!(follow(&tools, "<function=list>\nabc").is_err());
    let mut words = vec![0; vocabulary.len().div_ceil(32)];
    let mut object = grammars.json_object().unwrap();
    object.mask(&mut words, 1).unwrap();
    assert!(words.iter().any(|word| *word != 0) && !object.may_end());
    for id in vocabulary.encode("{\"a\": \"}\"}", Special::AsText) {
        assert!(!object.is_over());
        object.accept(id).unwrap();
    }
    object.mask(&mut words, usize::MAX).unwrap();
    assert!(object.is_over() && object.may_end());
    let ends = (0..vocabulary.len() as u32).filter(|token| allows(&words, *token));
    assert_eq!(ends.collect::<Vec<_>>(), vocabulary.end_ids());
}

#[test]
fn what_could_go_on_for_ever_ends_in_time() {
    let Some((vocabulary, grammars)) = &*QWEN else { return };
    for text in [r#"start: "ab" ("ab")*"#, r#"start: ("<a>" /[a-z]+/ "</a>")+"#] {
        // Whoever draws avoids the end for as long as anything else is allowed.
        let on = |words: &[u32]| {
            let goes_on = |token: &u32| allows(words, *token) && !vocabulary.is_end(*token);
            let tokens = 0..vocabulary.len() as u32;
            tokens.clone().find(goes_on).or_else(|| tokens.clone().find(|t| allows(words, *t)))
        };
        let grammar = grammars.lark(text).unwrap();
        let answer = drawn(vocabulary, grammar, 60, |words| on(words).expect("a token"));
        assert!(answer.unwrap().is_some(), "{text}");
    }
}

/// Calls that are required and may be several end whole, wherever the tokens run out.
#[test]
fn required_calls_end_whole() {
    let Some((vocabulary, grammars)) = &*QWEN else { return };
    let tool = |name: &str, parameters| Tool { name: name.into(), parameters };
    let text = json!({"type": "string"});
    let tools = [
        tool("now", json!({"type": "object", "properties": {}})),
        tool("read", json!({"type": "object", "properties": {"path": text}, "required": ["path"]})),
        tool(
            "edit",
            json!({
                "type": "object",
                "properties": {
                    "path": text, "old": text, "new": text, "lines": {
                        "type": "array", "items": {"type": "integer"}, "minItems": 2,
                    },
                },
                "required": ["path", "old", "new", "lines"],
            }),
        ),
    ];
    let mut seed = 3;
    for (dialect, offered) in [("qwen-coder", 1..3), ("hermes", 1..3), ("qwen-coder", 0..2)] {
        let dialect = Dialect::named(dialect).expect("one of ours");
        let text = dialect.grammar(&tools[offered], Choice::Required, true).expect("tools");
        let grammar = grammars.calls(&text).unwrap();
        let mut cut = Vec::new();
        for budget in (120..520).step_by(10) {
            for rarely in [1, 8] {
                let draw = |words: &[u32]| {
                    let token = nth(words, lot(&mut seed));
                    // Most go on for as long as they may.
                    let again = vocabulary.is_end(token) && !lot(&mut seed).is_multiple_of(rarely);
                    if again { nth(words, lot(&mut seed)) } else { token }
                };
                let answer = drawn(vocabulary, grammar.clone(), budget, draw);
                if answer.unwrap().is_none() {
                    cut.push(budget);
                }
            }
        }
        assert!(cut.is_empty(), "{}: cut within {cut:?}", dialect.name());
    }
}

/// The texts of a tool are of its grammar where a dialect writes them as they are.
#[test]
fn texts_of_a_tool_are_of_its_grammar() {
    const PATCH: &str = r#"start: begin hunk+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?
hunk: "*** Add File: " name LF line+
name: /(.+)/
line: "+" /(.*)/ LF -> line
%import common.LF"#;
    let bytes: &'static [u8] = include_bytes!("../../../assets/qwire-box.gguf");
    let file = File::from_bytes(bytes).expect("the box model");
    let vocabulary = Arc::new(Vocabulary::from_gguf(file.metadata()).expect("its vocabulary"));
    let grammars = Grammars::new(&vocabulary).expect("an end token");
    let holds = |dialect: &str, syntax: &str, definition: &str, text: &str| {
        let input = json!({ "type": "string",
            "grammar": { "syntax": syntax, "definition": definition } });
        let parameters = json!({ "type": "object", "properties": { "input": input },
            "required": ["input"] });
        let tools = [Tool { name: "patch".into(), parameters }];
        let dialect = Dialect::named(dialect).expect("one of ours");
        let held = |choice| {
            let grammar = dialect.grammar(&tools, choice, false).expect("a tool");
            let grammar = grammars.calls(&grammar).unwrap_or_else(|why| panic!("{why}"));
            accepts(&vocabulary, grammar, text, &mut Asked::default()).is_ok()
        };
        let (begun, required) = (held(Choice::Begun), held(Choice::Required));
        assert_eq!(begun, required, "{text}");
        begun
    };
    let call = |text: &str| {
        format!(
            "<tool_call>\n<function=patch>\n<parameter=input>\n{text}\n</parameter>\n</function>\n\
             </tool_call>"
        )
    };
    let lark = |text: &str| holds("qwen-coder", "lark", PATCH, &call(text));
    assert!(lark("*** Begin Patch\n*** Add File: a/b.txt\n+hello\n+\n*** End Patch"));
    assert!(lark("*** Begin Patch\n*** Add File: a\n+</parameter>\n*** End Patch\n"));
    assert!(!lark("*** Begin Patch\n*** Add File: a\nhello\n*** End Patch"));
    assert!(!lark("*** Begin Patch\n*** End Patch"));
    let regex = |text: &str| holds("qwen-coder", "regex", "[a-z]+(/|\\n)\\d{2}", &call(text));
    assert!(regex("ab/12") && regex("ab\n12"));
    assert!(!regex("ab/1") && !regex("ab/123") && !regex("1"));
    let json = r#"{"name": "patch", "arguments": {"input": "free"}}"#;
    assert!(holds("hermes", "lark", PATCH, &format!("<tool_call>\n{json}\n</tool_call>")));
}

/// A schema with a keyword moved from elsewhere, in a place that the numbers choose.
fn mutated(schemas: &[Value], from: usize, into: usize, place: u64) -> Value {
    let mut schema = schemas[into % schemas.len()]["schema"].clone();
    let source = &schemas[from % schemas.len()]["schema"];
    let mut here = &mut schema;
    let mut place = place;
    while let Value::Object(parts) = here {
        let Some(count) = std::num::NonZeroU64::new(parts.len() as u64) else { break };
        let name = parts.keys().nth((place % count) as usize).unwrap().clone();
        place /= 3;
        if place.is_multiple_of(4) {
            parts.insert(name, source.clone());
            break;
        }
        here = parts.get_mut(&name).unwrap();
    }
    schema
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_panics(
        (from, into, place) in any::<(usize, usize, u64)>(),
        text in concat!(
            "(root ::= |start: |[a-c]: )?",
            r#"([a-c()|*+?.^$/"{}0-9,\[\]\\\n -]|<\||::=|%json){0,40}"#,
        ),
    ) {
        let Some((vocabulary, grammars)) = &*QWEN else { return Ok(()) };
        let Some(schemas) = schemas() else { return Ok(()) };
        let schema = mutated(&schemas, from, into, place);
        let all = [
            grammars.json_schema(&schema),
            grammars.regex(&text),
            grammars.lark(&text),
            grammars.gbnf(&text),
        ];
        let mut seed = place;
        for grammar in all.into_iter().flatten() {
            // A grammar may be too complex for a mask, which is an error and no more.
            let _ = drawn(vocabulary, grammar, 20, |words| nth(words, lot(&mut seed)));
        }
    }
}
