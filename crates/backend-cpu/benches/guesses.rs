//! Measures what guesses bring where a text is written out again, with and without changes.
//!
//! ```text
//! cargo bench --workspace --bench guesses -- MODEL.gguf
//! ```
//! The text is random tokens, and the answer is held to that text, one token in so many another:
//! so the model's time is real, and no model has to be good at it. Turns without guesses and with.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use qwire_backend_cpu::Cpu;
use qwire_engine::{
    Allowed, Choice, Constraint, Engine, Event, MOST_GUESSES, Mask, Request, RequestId, Sampling,
    Settings,
};
use qwire_gguf::File;
use qwire_kernels::Isa;
use qwire_model::{KvType, Limits, Loaded, TokenId};

const TEXT: usize = 256; // tokens
const PAIRS: usize = 5;
/// One token in so many is another; 0 for none.
const CHANGED: [usize; 3] = [0, 64, 16];

/// An answer that is known from the beginning.
struct Written(VecDeque<TokenId>);

impl Constraint for Written {
    fn allowed(&mut self, mask: &mut Mask) -> Result<Allowed, String> {
        self.0.front().into_iter().for_each(|token| mask.allow(*token));
        Ok(Allowed::Mask)
    }
    fn advance(&mut self, _: TokenId) -> Result<(), String> {
        self.0.pop_front().map(|_| ()).ok_or_else(|| "it is over".into())
    }
}

fn main() {
    let Some(path) = std::env::args().skip(1).find(|word| word != "--bench") else {
        println!("no MODEL: nothing is measured");
        return;
    };
    let file = Arc::new(File::open(Path::new(&path)).expect("a model"));
    let start = Instant::now();
    let mut engines = [0, MOST_GUESSES].map(|guesses| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let backend = Cpu::new(threads, Isa::detect()).expect("threads start");
        let limits = |_: &_| Limits { rows: 512, outputs: 16, pages: 256, kv: KvType::F16 };
        let runner = Loaded::load(&file, backend, limits, &mut |_, _| {}).expect("it loads");
        Engine::new(Box::new(runner), Settings { guesses, ..Settings::default() })
    });
    for (round, every) in CHANGED.into_iter().enumerate() {
        let pair = |pair: usize| {
            let text = round * PAIRS + pair;
            engines.each_mut().map(|engine| rewritten(engine, start, text, every))
        };
        let pairs: Vec<[f64; 2]> = (0..PAIRS).map(pair).collect();
        pairs.iter().for_each(|[without, with]| println!("{without:.2} and {with:.2} tok/s"));
        let side = |at: usize| pairs.iter().map(move |pair| pair[at]);
        let ratios = sorted(side(1).zip(side(0)).map(|(with, without)| with / without));
        let counters = engines[1].scheduler().stats().counters;
        println!(
            "{}: {:.1} and, with guesses, {:.1} tok/s: {:.2} times ({:.2} to {:.2}); so far {} \
             guesses, {} right",
            if every == 0 { "all the same".into() } else { format!("one in {every} another") },
            sorted(side(0))[PAIRS / 2],
            sorted(side(1))[PAIRS / 2],
            ratios[PAIRS / 2],
            ratios[0],
            ratios[PAIRS - 1],
            counters.guessed,
            counters.guessed_right,
        );
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Tokens a second of an answer after its first.
fn rewritten(engine: &mut Engine, start: Instant, text: usize, every: usize) -> f64 {
    let token = |at: usize| TokenId(((at * 7919 + text * 104_729 + 1) * 31 % 1009) as u32);
    let prompt: Vec<TokenId> = (0..TEXT).map(token).collect();
    let other = |at: usize| every > 0 && at % every == every - 1;
    let word = |(at, token): (usize, &TokenId)| TokenId(token.0 + u32::from(other(at)));
    let answer = Written(prompt.iter().enumerate().map(word).collect());
    let constraint: Option<Box<dyn Constraint>> = Some(Box::new(answer));
    let choices = vec![Choice { sampling: Sampling::default(), constraint }];
    let request = Request { prompt, choices, max_tokens: TEXT, ..Request::default() };
    engine.submit(RequestId(text as u64), request, start.elapsed()).expect("accepted");
    let (mut first, mut tokens, mut over) = (None, 0, false);
    while !over {
        engine.turn(&|| start.elapsed(), &mut |delivery| match delivery.event {
            Event::Token(_) => {
                first.get_or_insert_with(Instant::now);
                tokens += 1;
            }
            Event::Finished { .. } => over = true,
            Event::Failed(fault) => panic!("{fault}"),
            _ => {}
        });
    }
    assert_eq!(tokens, TEXT, "all of it is written");
    (tokens - 1) as f64 / first.expect("there are tokens").elapsed().as_secs_f64()
}
