//! What templates may rely on, and what they may not do.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;

fn render(source: &str, extra: &Json) -> Result<String, Error> {
    let extra = extra.as_object().cloned().unwrap_or_default();
    let template = ChatTemplate::with_clock(source, || 1_753_488_000)?;
    let messages = json!([
        {"role": "system", "content": "S"},
        {"role": "user", "content": "a</think>\n\nb"},
        {"role": "assistant", "content": null, "items": 1},
    ]);
    template.with_tokens(Some("<s>"), None).render(&messages, None, true, &extra)
}

#[track_caller]
fn check(source: &str, expected: &str) {
    let extra = json!({"x": {"b": [1, "t", null], "items": 2.5}, "n": null, "l": ["a", "b", "c"]});
    assert_eq!(render(source, &extra).as_deref(), Ok(expected), "{source}");
}

#[track_caller]
fn refused(source: &str, expected: &str) {
    let start = std::time::Instant::now();
    let why = render(source, &Json::Null).expect_err(source).to_string();
    assert!(why.contains(expected), "{why}");
    assert!(!why.contains('\n') && why.len() < 700, "{why}");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn values_print_as_in_python() {
    check("{{ true }} {{ none }} {{ 1.0 }} {{ 2 / 2 }} {{ nothing }}", "True None 1.0 1.0 ");
    check("{{ true | string }}{{ n | string }}{{ 'a' ~ true ~ n }}", "TrueNoneaTrueNone");
    check(
        "{{ x }}|{{ x.b | string }}|{{ '' ~ x.b }}",
        "{'b': [1, 't', None], 'items': 2.5}|\
        [1, 't', None]|[1, 't', None]",
    );
    check("{{ ['a', 1] }} {{ ('a',) }} {{ {'k': 'v'} }}", "['a', 1] ('a',) {'k': 'v'}");
    check("{{ x | tojson }}", "{\"b\": [1, \"t\", null], \"items\": 2.5}");
    check("{{ x.b | tojson(indent=1) }}", "[\n 1,\n \"t\",\n null\n]");
    check(
        "{{ '<é>' | tojson(ensure_ascii=True) }}{{ '<é>' | tojson(false) }}",
        "\"<\\u00e9>\"\"<é>\"",
    );
}

#[test]
fn what_templates_use() {
    check(
        "{{ messages[::-1][0].role }} {{ messages[1:] | length }} {{ messages[-1].role }}",
        "assistant 2 assistant",
    );
    check(
        "{{ l[:-1] }}{{ l[-2:] }}{{ l[::2] }}{{ 'abc'[:-1] }}{{ 'abc'[::-1] }}",
        "['a', 'b']['b', 'c']['a', 'c']abcba",
    );
    check("{{ messages[1].content.split('</think>')[-1].lstrip('\\n') }}", "b");
    check(
        "{% set ns = namespace(i=0) %}{% for m in messages %}{% set ns.i = ns.i + loop.index0 %}\
        {% endfor %}{{ ns.i }}",
        "3",
    );
    check(
        "{% for m in messages %}{{ loop.previtem.role if loop.previtem }}>{{ loop.nextitem.role \
        if not loop.last }};{% endfor %}",
        ">user;system>assistant;user>;",
    );
    check(
        "{% for k, v in x.items() %}{{ k }}{% endfor %}{% for k, v in x | items %}{{ k }}\
        {% endfor %}{{ x.get('q', 7) }}{{ x.keys() | list }}",
        "bitemsbitems7['b', 'items']",
    );
    check(
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first \
        | length }} {{ l | reject('equalto', 'a') | list | join('+') }}",
        "12 b+c",
    );
    check(
        "{{ 'a' is string }}{{ x is mapping }}{{ l is sequence }}{{ 'a' is sequence }}\
        {{ n is iterable }}{{ n is none }}{{ q is defined }}{{ 1 is number }}",
        "TrueTrueTrueTrueFalseTrueFalseTrue",
    );
    check(
        "{% macro f(a, b='d') %}{{ a }}{{ b }}{% endmacro %}{{ f('x') }}{{ f('y', b=1) }}",
        "xdy1",
    );
    check(
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 2 %}\
        {%- break %}{% endif %}{{ i }}{% endfor %}",
        "02",
    );
    check("{% generation %}a{% endgeneration %}{{ bos_token }}{{ eos_token }}", "a<s>");
    check(
        "{{ strftime_now('%d %b %Y') }} {{ add_generation_prompt }} {{ tools is none }}",
        "26 Jul 2025 True True",
    );
    check(
        "{{ 'prefix-a'.removeprefix('prefix-') }}{{ 'a.b.c'.rsplit('.', 1) }}\
        {{ 'a=b=c'.partition('=') }}",
        "a['a.b', 'c']('a', '=', 'b=c')",
    );
    check(
        "{{ '' | default('d', boolean=true) }}{{ q | default('e') }}{{ n | d }}{{ q | length }}",
        "deNone0",
    );
    check("{% set c %}x{{ 1 }}{% endset %}{{ c | trim ~ c | upper }}", "x1X1");
}

#[test]
fn blocks_take_their_lines() {
    check("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc");
    check("a\r\n{% if true %}\r\nb\r\n{% endif %}", "a\nb\n");
    check("a \n{%- if true -%}\n b\n{%- endif %} c\n\n", "ab c\n");
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let why = render("{{ raise_exception('No ' ~ messages[0].role) }}", &Json::Null);
    assert_eq!(why, Err(Error::Raised("No system".into())));
    let inside = "{% macro f() %}{{ raise_exception('in') }}{% endmacro %}{{ f() }}";
    assert_eq!(render(inside, &Json::Null), Err(Error::Raised("in".into())));
}

#[test]
fn hostile_templates_end_in_one_line() {
    refused("{% for m in messages %}", "line 1: syntax error");
    refused("{{ ''.__class__.__mro__[1].__subclasses__() }}", "line 1: undefined value");
    refused("{% for i in range(1000000000) %}{{ i }}{% endfor %}", "range has too many elements");
    refused("{{ 'a' * 100000000000 }}", "repeated string is too large");
    refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion limit");
    refused(&format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000)), "brackets nest");
    refused("{% include '/etc/passwd' %}", "template not found");
    refused(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "more than 1000000 steps",
    );
    refused(&"{% if true %}".repeat(50_000), "recursion limits");
    refused(&"{{ [".repeat(1_000), "nest deeper");
    let line = "x".repeat(1000);
    refused(&format!("{{% for a in range(99999) %}}{line}{{% endfor %}}"), "more than 16777216");
    refused(
        "{% set ns = namespace(s='ab') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}\
        {% if a == 23 %}{{ ns.s }}{% endif %}{% endfor %}",
        "more than 16777216 bytes",
    );
    refused("{{ messages.nothing.more }}", "undefined value");
}

#[test]
fn the_deepest_accepted_templates_fit_a_small_stack() {
    let chains = ["1+", "1~", "not ", "-", "1 if 1 else ", "1 and ", "x.y.z|", "1 in ", "[1]+"];
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let run = move || {
        for chain in chains {
            for count in [60, 140, 400, 660, 990, 1990] {
                let _ = render(&format!("{{{{ {}1 }}}}", chain.repeat(count)), &Json::Null);
            }
        }
        let dots = format!("{{{{ x{} }}}}", ".a".repeat(990));
        let _ = render(&dots, &Json::Null);
        let filters = format!("{{{{ x{} }}}}", "|a".repeat(990));
        let _ = render(&filters, &Json::Null);
        let calls = format!("{{{{ x{} }}}}", "()".repeat(900));
        let _ = render(&calls, &Json::Null);
        let elifs = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(200));
        assert_eq!(render(&elifs, &Json::Null).as_deref(), Ok(""));
        let nested = "{% for a in [1] %}".repeat(140) + &"{% endfor %}".repeat(140);
        let _ = render(&nested, &Json::Null);
        refused("{% macro f(x) %}{{ [f(x)] }}{% endmacro %}{{ f(1) }}", "recursion limit");
        refused("{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}", "recursion limit");
    };
    small.spawn(run).expect("a thread").join().expect("no overflow");
}

proptest! {
    #[test]
    fn no_source_panics(pieces in prop::collection::vec(
        prop::sample::select(vec![
            "{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-}}", " ", "\n", "'", "\"", "\\", "é",
            "x", "1", "if", "elif", "else", "endif", "for", "in", "endfor", "set", "macro",
            "endmacro", "raw", "endraw", "(", ")", "[", "]", "{", "}", "|", "tojson", "string",
            ".", ",", ":", "=", "~", "+", "-", "*", "messages", "loop", "is", "not", "generation",
            "endgeneration", "{{ x }}", "{% if x %}", "{% endif %}", "{% for m in messages %}",
            "{% endfor %}", "| tojson",
        ]),
        0..30,
    )) {
        let _ = render(&pieces.concat(), &Json::Null);
        let _ = render(&pieces.join(" "), &Json::Null);
    }
}

#[test]
fn messages_may_be_anything() {
    let template = ChatTemplate::new("{% for m in messages %}{{ m.role }}{% endfor %}").unwrap();
    for messages in [json!(null), json!([]), json!([1]), json!("ab"), json!({"a": 1})] {
        let _ = template.render(&messages, None, false, &Map::new());
    }
}
