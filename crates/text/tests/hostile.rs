//! Hostile: templates that ask for more time, memory or stack than a rendering may have. They
//! stand apart from other tests, since a rendering's memory is measured by its process.

use std::time::Instant;

use qwire_text::ChatTemplate;
use serde_json::{Map, Value};

const SET: &str = "{% set ns = namespace(x=[], s='a' * 1000000) %}";

#[test]
fn what_takes_too_much_ends_in_one_line() {
    let deep = |nest: &str, then: &str| {
        let (open, close) = ("[".repeat(55), "]".repeat(55));
        let value = nest.replace('<', &open).replace('>', &close);
        format!(
            "{SET}{{% for i in range(100000) %}}{{% set ns.x = {value} %}}\
            {{% if loop.index == 14000 %}}{{% break %}}{{% endif %}}{{% endfor %}}{{{{ {then} }}}}",
        )
    };
    let each = |step: &str| format!("{SET}{{% for i in range(9999) %}}{step}{{% endfor %}}");
    // Deep values may be refused for their memory or be done in time; the process must live on.
    for then in [
        "ns.x == ns.x",
        "[ns.x, ns.x] | sort",
        "[ns.x, ns.x] | unique | list",
        "('' ~ ns.x) | length",
        "{ns.x: 1}[ns.x]",
    ] {
        let why = rendered(&deep("<ns.x>", then)).err().unwrap_or_default();
        assert!(!why.contains('\n'), "{then}: {why}");
    }
    let rows = [
        (each("{% set ns.s = ns.s ~ ns.s %}"), " "),
        (each("{% set ns.s = ns.s + ns.s %}"), " "),
        (each("{% set ns.s = ns.s.replace('a', 'aaaaaaaa') %}"), " "),
        (each("{% set x = (ns.s * 16).count('a') %}"), " "),
        (each("{% set x = (ns.s * 16) | upper %}"), ""),
        ("{{ ('a\n' * 100000) | indent(99999) }}".into(), "indent: 99999"),
        ("{{ ('a\n' * 100000) | indent(width=99999) }}".into(), "indent: 99999"),
        ("{{ [1] | batch(999999999, 'x') }}".into(), "batch: 999999999"),
        ("{{ range(10) | slice(99999999) }}".into(), "slice: 99999999"),
        ("{{ '{:>999999999}'.format(3) }}".into(), "the width of a format"),
        ("{{ '{:>{}}'.format(3, 999999999) }}".into(), "may not be an argument"),
        ("{{ '%099999999d' | format(3) }}".into(), "the width of a format"),
        ("{{ '%*d' | format(999999999, 3) }}".into(), "may not be an argument"),
        ("{{ 'a' * 100000000000 }}".into(), "repeated string is too large"),
        ("{{ ('a' * 99999999) | length }}{{ 'a' * 99999999 }}".into(), ""),
    ];
    for (source, expected) in &rows {
        let why = rendered(source).expect_err(source);
        assert!(why.contains(expected) && !why.contains('\n'), "{source}: {why}");
    }
}

/// The length of the text, or why there is none; either within five seconds.
fn rendered(source: &str) -> Result<usize, String> {
    let start = Instant::now();
    let template = ChatTemplate::new(source).expect("a template");
    let text = template.render(&Value::Null, None, true, &Map::new());
    assert!(start.elapsed().as_secs() < 5, "{source}: {:?}", start.elapsed());
    text.map(|text| text.len()).map_err(|error| error.to_string())
}
