//! Stand-in.
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::sync::Arc;
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub parameters: serde_json::Value,
}
#[derive(PartialEq, Debug)]
pub struct Dialect;
static D: Dialect = Dialect;
impl Dialect {
    pub fn named(_: &str) -> Option<&'static Self> {
        Some(&D)
    }
    pub fn of_template(_: &str) -> Option<&'static Self> {
        Some(&D)
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Thinking {
    #[default]
    Never,
    Maybe,
    Inside,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Natural,
    Cut,
}
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Text(String),
    Reasoning(String),
    CallStart { index: usize, name: String },
    CallArguments { index: usize, fragment: String },
    CallEnd { index: usize },
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    A,
}
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub thinking: Thinking,
    pub parallel: bool,
}
pub struct Reader {
    repairs: BTreeMap<Repair, u32>,
}
impl Reader {
    pub fn new(_: &'static Dialect, _: Arc<[Tool]>, _: Rules) -> Self {
        Self { repairs: BTreeMap::new() }
    }
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        if text.is_empty() { vec![] } else { vec![Part::Text(text.into())] }
    }
    pub fn finish(&mut self, _: Ending) -> Vec<Part> {
        vec![]
    }
    pub fn repairs(&self) -> &BTreeMap<Repair, u32> {
        &self.repairs
    }
}
