//! What holds for every text, however it is cut, and for every value, however it is written.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{CODER, Case, HERMES};
use proptest::prelude::*;
use qwire_text::ChatTemplate;
use qwire_text::tools::{Dialect, Ending, Part, Reader, Rules, Thinking, Tool};
use serde_json::{Map, Value, json};

/// What answers are made of, and what may be taken for it.
const SNIPPETS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<function=read>",
    "<function=read_all>",
    "<function=free>",
    "<function=write>",
    "<function=run>",
    "<function=other>",
    "<function=read",
    "</function>",
    "<parameter=path>",
    "<parameter=content>",
    "<parameter=limit>",
    "<parameter=note>",
    "<parameter=env>",
    "<parameter=x y>",
    "<parameter=",
    "</parameter>",
    "</param",
    "<think>",
    "</think>",
    "\n",
    "\n",
    "\n",
    "\n\n",
    " ",
    "  \n",
    "a",
    "é😀",
    "{",
    "}",
    "\"",
    ": ",
    ", ",
    "[",
    "]",
    "\\",
    "name",
    "\"name\": \"read\"",
    "\"name\": \"other\"",
    "\"arguments\": ",
    "{\"name\": \"read\", \"arguments\": {\"path\": ",
    "{\"arguments\": {\"a\": [1, \"b\"]}, ",
    "\"a\\n\"",
    "\"{\\\"a\\\": 1}\"",
    "null",
    "True",
    "72.0",
    "-1e5",
    "'",
    "<",
    ">",
    "</",
    "=",
    "<b>if (a < b && c > d) { x <<= 1; }</b>",
    "<tool_call>\n<function=write>\n<parameter=content>\n",
    "<tool_call>\n<function=run>\n<parameter=env>\n{",
    "\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>",
];

fn cases() -> impl Strategy<Value = Case> {
    (
        prop::sample::select(vec!["qwen-coder", "hermes"]),
        prop::sample::select(vec![Thinking::Never, Thinking::Maybe, Thinking::Inside]),
        prop::sample::select(vec![Ending::Natural, Ending::Cut]),
        any::<bool>(),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(dialect, thinking, ending, parallel, offered)| Case {
            dialect,
            offered,
            thinking,
            parallel,
            ending,
        })
}

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(SNIPPETS), 0..24).prop_map(|parts| parts.concat())
}

/// Cuts a text at characters near these fractions of it.
fn cut<'a>(text: &'a str, at: &[f64]) -> Vec<&'a str> {
    let mut cuts: Vec<usize> = at.iter().map(|part| (part * text.len() as f64) as usize).collect();
    cuts.iter_mut().for_each(|at| *at = text.floor_char_boundary(*at));
    cuts.sort_unstable();
    let mut rest = (0, Vec::new());
    for at in cuts {
        rest.1.push(&text[rest.0..at]);
        rest.0 = at;
    }
    rest.1.push(&text[rest.0..]);
    rest.1
}

fn words(parts: &[Part]) -> String {
    let word = |part: &Part| match part {
        Part::Text(text) | Part::Reasoning(text) => text.clone(),
        _ => String::new(),
    };
    parts.iter().map(word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn streamed_is_whole(
        case in cases(),
        text in texts(),
        cuts in prop::collection::vec(0.0..1.0, 0..12),
    ) {
        let whole = case.read([text.as_str()]);
        prop_assert_eq!(&case.read(cut(&text, &cuts)), &whole);
        prop_assert_eq!(&case.read(text.split_inclusive(|_| true)), &whole);
        if case.thinking == Thinking::Never && (!case.offered || !calls(&whole.parts)) {
            prop_assert_eq!(words(&whole.parts), text);
        } else if !calls(&whole.parts) {
            let solid = |text: &str| {
                text.replace("<think>", "").replace("</think>", "").replace([' ', '\n'], "")
            };
            prop_assert_eq!(solid(&words(&whole.parts)), solid(&text));
        }
    }

    #[test]
    fn any_text_is_read(case in cases(), text in "[<>/=a-f_|{}\\[\\]\":,\\\\ \nénu0-9]{0,60}") {
        let whole = case.read([text.as_str()]);
        prop_assert_eq!(case.read(text.split_inclusive(|_| true)), whole);
    }

    #[test]
    fn what_was_shown_is_not_taken_back(case in cases(), text in texts(), at in 0.0..1.0) {
        let [first, second] = cut(&text, &[at])[..] else { unreachable!() };
        let mut reader = case.reader();
        let shown = words(&reader.push(first));
        prop_assert!(words(&case.read([first, second]).parts).starts_with(&shown));
    }
}

fn calls(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::CallStart { .. }))
}

/// Arguments of the tool `run`, each of which its type can express.
fn arguments() -> impl Strategy<Value = Value> {
    let text = "[a-zé😀<>/=\"'\\\\{}\\[\\] \t\n:,#-]{0,24}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000..1000i32).prop_map(|quarter| json!(f64::from(quarter) + 0.25)),
        text.prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\"é]{0,4}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    });
    let field = prop_oneof![
        text.prop_map(|text| ("command", json!(text))),
        text.prop_map(|text| ("note", json!(text))),
        Just(("note", Value::Null)),
        (-9999..9999i32).prop_map(|number| ("timeout", json!(f64::from(number) / 8.0 + 0.0625))),
        any::<i32>().prop_map(|number| ("timeout", json!(number))),
        any::<bool>().prop_map(|bool| ("quiet", json!(bool))),
        prop::collection::vec(("[a-z]{1,4}", tree.clone()), 0..4)
            .prop_map(|pairs| ("env", Value::Object(pairs.into_iter().collect()))),
        prop::collection::vec(tree, 0..4).prop_map(|items| ("words", json!(items))),
    ];
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

/// The answer that a template renders for these calls.
fn rendered(template: &ChatTemplate, calls: &[Value]) -> String {
    let call = |arguments: &Value| json!({"function": {"name": "run", "arguments": arguments}});
    let calls: Vec<Value> = calls.iter().map(call).collect();
    let user = json!({"role": "user", "content": "u"});
    let turn = json!({"role": "assistant", "content": "Now:", "tool_calls": calls});
    let render = |messages: Value| template.render(&messages, None, false, &Map::new()).unwrap();
    let whole = render(json!([user, turn]));
    let start = whole.find("assistant\n").unwrap() + "assistant\n".len();
    whole[start..].strip_suffix("<|im_end|>\n").unwrap().to_owned()
}

#[test]
fn what_templates_render_is_read_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/templates");
    for (file, case) in [
        ("Qwen3-Coder.jinja", CODER),
        ("Qwen-Qwen3-0.6B.jinja", Case { thinking: Thinking::Maybe, ..HERMES }),
        ("Qwen-Qwen2.5-7B-Instruct.jinja", HERMES),
    ] {
        let Ok(source) = std::fs::read_to_string(folder.join(file)) else {
            eprintln!("skipped: {file} is not beside the repository");
            continue;
        };
        assert_eq!(Dialect::of_template(&source).unwrap().name(), case.dialect);
        let template = ChatTemplate::new(&source).unwrap();
        let check = |calls: Vec<Value>| {
            let text = rendered(&template, &calls);
            let outcome = case.read(text.split_inclusive(|_| true));
            let arguments = |part: &Part| match part {
                Part::CallArguments { fragment, .. } => {
                    serde_json::from_str::<Value>(fragment).ok()
                }
                _ => None,
            };
            let found: Vec<Value> = outcome.parts.iter().filter_map(arguments).collect();
            prop_assert_eq!(found, calls, "{}", text);
            prop_assert_eq!(&outcome.parts[0], &Part::Text("Now:".into()));
            Ok(())
        };
        let config = ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        runner.run(&prop::collection::vec(arguments(), 1..4), check).unwrap();
    }
}

/// A parameter's schema, and a value that it allows and that its type can express.
fn parameter() -> impl Strategy<Value = (Value, Value)> {
    let text = || "[a-zé😀<>/=\"'\\\\{}\\[\\] \t\n:,#-]{0,24}";
    let tree = || prop::collection::vec(any::<i16>(), 0..4).prop_map(|items| json!(items));
    let word = prop::sample::select(vec!["fast", "slow", "a b", "5", "true"]);
    prop_oneof![
        text().prop_map(|text| (json!({ "type": "string" }), json!(text))),
        any::<i64>().prop_map(|n| (json!({ "type": "integer" }), json!(n))),
        any::<i32>()
            .prop_map(|n| { (json!({ "type": "number" }), json!(f64::from(n) / 8.0 + 0.0625)) }),
        any::<bool>().prop_map(|bool| (json!({ "type": "boolean" }), json!(bool))),
        tree().prop_map(|items| (json!({ "type": "array" }), items)),
        (("[a-z]{1,5}"), tree()).prop_map(|(key, value)| {
            (json!({ "type": "object", "additionalProperties": true }), json!({ key: value }))
        }),
        word.prop_map(|word| {
            (json!({ "enum": ["fast", "slow", "a b", "5", "true"] }), json!(word))
        }),
        prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from)]
            .prop_map(|value| (json!({ "type": ["integer", "null"] }), value)),
        prop_oneof![Just(Value::Null), "[a-m]{1,9}".prop_map(Value::from)].prop_map(|value| {
            (json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), value)
        }),
        prop_oneof![any::<bool>().prop_map(Value::from), tree()].prop_map(|value| {
            (json!({ "oneOf": [{ "type": "boolean" }, { "type": "array" }] }), value)
        }),
    ]
}

/// Tools of any schema, and arguments for each.
fn tool() -> impl Strategy<Value = (Tool, Value)> {
    let parameters = prop::collection::btree_map("[a-z_][a-z0-9_]{0,9}", parameter(), 0..6);
    ("[a-zA-Z_][a-zA-Z0-9_.-]{0,15}", parameters).prop_map(|(name, parameters)| {
        let mut schema = json!({ "type": "object", "properties": {} });
        let mut arguments = Map::new();
        for (key, (kind, value)) in parameters {
            schema["properties"][&key] = kind;
            arguments.insert(key, value);
        }
        (Tool { name, parameters: schema }, arguments.into())
    })
}

#[test]
fn calls_of_any_schema_are_read_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/templates");
    for file in ["Qwen3-Coder.jinja", "Qwen-Qwen3-0.6B.jinja", "Qwen-Qwen2.5-7B-Instruct.jinja"] {
        let Ok(source) = std::fs::read_to_string(folder.join(file)) else {
            eprintln!("skipped: {file} is not beside the repository");
            continue;
        };
        let dialect = Dialect::of_template(&source).unwrap();
        let template = ChatTemplate::new(&source).unwrap();
        let check = |(tool, arguments): (Tool, Value)| {
            let function = json!({ "name": tool.name, "arguments": arguments });
            let call = json!({ "type": "function", "function": function });
            let turn = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
            let messages = json!([{ "role": "user", "content": "u" }, turn]);
            let whole = template.render(&messages, None, false, &Map::new()).unwrap();
            let start = whole.find("assistant\n").unwrap() + "assistant\n".len();
            let text = whole[start..].strip_suffix("<|im_end|>\n").unwrap();
            let rules = Rules { thinking: Thinking::Maybe, parallel: true };
            let name = tool.name.clone();
            let mut reader = Reader::new(dialect, vec![tool].into(), rules);
            let mut parts: Vec<Part> = Vec::new();
            text.split_inclusive(|_| true).for_each(|piece| parts.extend(reader.push(piece)));
            parts.extend(reader.finish(Ending::Natural));
            let mut json = String::new();
            for part in &parts {
                match part {
                    Part::CallStart { name: found, .. } => prop_assert_eq!(found, &name),
                    Part::CallArguments { fragment, .. } => json += fragment,
                    Part::CallEnd { .. } => {}
                    Part::Text(_) | Part::Reasoning(_) => prop_assert!(false, "{:?}", parts),
                }
            }
            let found: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(found, arguments, "{}", text);
            Ok(())
        };
        let config = ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() };
        proptest::test_runner::TestRunner::new(config).run(&tool(), check).unwrap();
    }
}

/// Work that grows with the square of the text would take hours.
#[test]
fn a_long_answer_takes_linear_time() {
    let value = "<tool_call>\n<function=write>\n<parameter=content>\n";
    let json = "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"content\": \"";
    let kept = "<tool_call>\n{\"arguments\": {\"content\": \"";
    let block = "<tool_call>\n<function=read_all>\n</function>\n</tool_call>\n";
    for (case, start, unit) in [
        (CODER, "", "let a = b;\n"),
        (CODER, "", "<"),
        (CODER, "", "<tool_call>"),
        (CODER, "", block),
        (CODER, "a<tool_call>", "\n"),
        (CODER, value, "let a = b;\n"),
        (CODER, value, "\n</parameter>\n"),
        (CODER, value, "\n</function>\n"),
        (CODER, &format!("{value}a\n</parameter>"), " "),
        (CODER, "<tool_call>\n<function=run>\n<parameter=words>\n", "[<"),
        (HERMES, json, "let a = b;\\n"),
        (HERMES, kept, "let a = b;\\n"),
        (HERMES, "", "<tool_call>\n{\""),
    ] {
        let text = start.to_owned() + &unit.repeat((1 << 20) / unit.len());
        let begun = Instant::now();
        let mut reader = case.reader();
        let mut bytes = 0;
        for piece in text.split_inclusive(|_| true) {
            bytes += reader.push(piece).len();
        }
        bytes += reader.finish(Ending::Natural).len();
        let took = begun.elapsed();
        println!("{took:?}, {bytes} parts: {start:?} and then {unit:?}");
        assert!(took < Duration::from_secs(20), "{took:?}: {start:?} and then {unit:?}");
    }
}
