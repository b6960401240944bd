//! Whole models on a device: near the reference, and the same bits in any chunk, batch and run.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use qwire_backend_gpu::Gpu;
use qwire_backend_gpu::device::Device;
use qwire_gguf::{Dtype, File};
use qwire_model::reference::Reference;
use qwire_model::{
    Backend, Batch, KvType, Limits, Loaded, PageId, Phase, Runner, Span, Tap, Taps, TokenId,
    Witness, Witnessed,
};

use super::best::sorted;
use super::models::{golden, open, rewritten};

const SEQUENCES: usize = 12;

pub fn load<B: Backend>(file: &Arc<File>, backend: B, positions: usize) -> Loaded<B> {
    load_with(file, backend, positions, KvType::F16)
}

pub fn load_with<B: Backend>(
    file: &Arc<File>,
    backend: B,
    positions: usize,
    kv: KvType,
) -> Loaded<B> {
    let pages = SEQUENCES * positions.div_ceil(64);
    let limits = |_: &_| Limits { rows: 96, outputs: 96, pages, kv };
    Loaded::load(file, backend, limits, &mut |_, _| {}).expect("the model loads")
}

pub fn tokens(file: &File, seed: usize, count: usize) -> Vec<TokenId> {
    let vocab = file.tensor("token_embd.weight").expect("an embedding").dims[1];
    let token = |i: usize| {
        let mixed = ((i + 977 * seed) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        TokenId(((mixed >> 33) % vocab) as u32)
    };
    (0..count).map(token).collect()
}

/// Pages of one sequence, out of order.
pub fn pages(sequence: usize, positions: usize) -> Vec<PageId> {
    let count = positions.div_ceil(64) as u32;
    (0..count).rev().map(|page| PageId(sequence as u32 * count + page)).collect()
}

fn logits<R: Runner>(runner: &mut R, batch: &Batch) -> Vec<f32> {
    assert_eq!(runner.step(batch), []);
    let ranges = (0..batch.outputs.len()).step_by(64);
    let ranges = ranges.map(|start| start..batch.outputs.len().min(start + 64));
    ranges.flat_map(|range| runner.logits(range).to_vec()).collect()
}

/// Logits of every position, in chunks.
fn prefill<R: Runner>(runner: &mut R, tokens: &[TokenId], chunk: usize, room: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for (i, chunk_tokens) in tokens.chunks(chunk).enumerate() {
        let batch = Batch::single(chunk_tokens, i * chunk, pages(0, room), true);
        all.extend(logits(runner, &batch));
    }
    all
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn best(logits: &[f32]) -> usize {
    (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("a vocabulary")
}

/// Where rows went, of every step and layer in turn, and how many choices were others.
#[derive(Default)]
struct Routes {
    taken: VecDeque<Vec<f32>>,
    choices: usize,
    others: usize,
}

/// Notes where rows go.
struct Notes(Arc<Mutex<Routes>>);

impl Witness for Notes {
    fn after(&mut self, _: usize, phase: Phase, _: &Batch, taps: &mut dyn Taps) {
        if phase == Phase::Route {
            self.0.lock().unwrap().taken.push_back(taps.read(Tap::Route));
        }
    }
}

/// Sends rows where others went.
struct Guide(Arc<Mutex<Routes>>);

impl Witness for Guide {
    fn after(&mut self, _: usize, phase: Phase, _: &Batch, taps: &mut dyn Taps) {
        if phase == Phase::Route {
            let mut routes = self.0.lock().unwrap();
            let theirs = routes.taken.pop_front().expect("they went through as many layers");
            let own = taps.read(Tap::Route);
            let pairs = own.iter().zip(&theirs);
            routes.choices += pairs.clone().filter(|(own, _)| **own != 0.0).count();
            routes.others += pairs.filter(|(own, theirs)| **own != 0.0 && **theirs == 0.0).count();
            taps.write(Tap::Route, &theirs);
        }
    }
}

/// Looks where rows go, and may send them there.
struct Echo {
    says: bool,
}

impl Witness for Echo {
    fn after(&mut self, _: usize, phase: Phase, _: &Batch, taps: &mut dyn Taps) {
        if phase == Phase::Route {
            let routes = taps.read(Tap::Route);
            if self.says {
                taps.write(Tap::Route, &routes);
            }
        }
    }
}

/// Logits of every position, with somebody between the phases.
fn watched<B: Backend>(
    file: &Arc<File>,
    backend: B,
    witness: impl Witness + 'static,
    tokens: &[TokenId],
) -> Vec<f32> {
    let backend = Witnessed::load(file, backend, Box::new(witness), &mut |_, _| {});
    let mut runner = load(file, backend.expect("the model loads"), tokens.len());
    prefill(&mut runner, tokens, 48, tokens.len())
}

/// How near logits must be to the reference.
#[derive(Clone, Copy)]
pub struct Nearness {
    /// The least cosine of all of them.
    pub cosine: f64,
    /// By their own choice at most one in so many rows would have visited other experts, or none.
    pub ties: Option<usize>,
    /// How much the reference may prefer its best token to ours.
    pub lead: f32,
}

/// Near the reference, whose rows visit the same experts: the cosine of all logits, and every row's
/// best token.
pub fn check<D: Device>(gpu: Gpu<D>, name: &str, file: &Arc<File>, nearness: Nearness) {
    let Nearness { cosine: least, ties, lead } = nearness;
    let tokens = tokens(file, 0, 70);
    let vocab = file.tensor("token_embd.weight").expect("an embedding").dims[1] as usize;
    let routes = Arc::<Mutex<Routes>>::default();
    let ours = watched(file, gpu, Notes(routes.clone()), &tokens);
    let truth = watched(file, Reference::default(), Guide(routes.clone()), &tokens);
    let cosine = cosine(&ours, &truth);
    let rows = ours.chunks_exact(vocab).zip(truth.chunks_exact(vocab));
    let leads = rows.map(|(ours, truth)| truth[best(truth)] - truth[best(ours)]);
    let (differ, farthest) = leads.fold((0, 0.0_f32), |(differ, farthest), lead| {
        (differ + usize::from(lead > 0.0), farthest.max(lead))
    });
    let Routes { choices, others, .. } = *routes.lock().unwrap();
    println!(
        "{name}: cosine {cosine:.7}, {differ} of {} rows differ in top-1, by {farthest} at most; \
         {others} of {choices} choices of experts do",
        tokens.len()
    );
    assert!(cosine >= least, "{name}: cosine {cosine}");
    assert!(farthest <= lead, "{name}: {differ} rows have another best token, by {farthest}");
    assert!(others <= ties.map_or(0, |ties| choices / ties), "{name}: {others} of {choices}");
}

/// A golden model of each architecture in several types, and the one in the box, whose trained
/// router is at a tie now and then.
pub fn models_are_near_the_reference<D: Device>(device: impl Fn() -> Option<D>) {
    let nearness = |ties| Nearness { cosine: 0.999_99, ties, lead: 0.0 };
    for name in ["moe-q8_0", "moe-q4_k_m", "dense3-q4_k_m", "dense2-q6_k", "dense2-f32"] {
        let Some(device) = device() else { return };
        check(Gpu::new(device), name, &golden(name), nearness(None));
    }
    let Some(device) = device() else { return };
    check(Gpu::new(device), "box", &open("assets/qwire-box.gguf"), nearness(Some(100)));
}

/// How [`POSITIONS`] are computed: in chunks, the last `steps` one at a time beside others.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub chunk: usize,
    pub beside: usize,
    pub steps: usize,
}

/// All bits of a run.
fn run<D: Device>(runner: &mut Loaded<Gpu<D>>, file: &File, plan: Plan) -> Vec<u32> {
    let Plan { chunk, beside, steps } = plan;
    let ours = tokens(file, 0, POSITIONS);
    let mut all = prefill(runner, &ours[..POSITIONS - steps], chunk, POSITIONS);
    for at in POSITIONS - steps..POSITIONS {
        // Ours is in the middle; the others have the same position or are at their beginning.
        let mut batch = Batch::default();
        for sequence in 0..=beside {
            let mine = sequence == beside / 2;
            let number = if mine { 0 } else { sequence + usize::from(sequence < beside / 2) };
            let start = if mine { at } else { at - (POSITIONS - steps) };
            if mine {
                batch.outputs = vec![batch.rows()];
            }
            batch.tokens.push(tokens(file, number, POSITIONS)[start]);
            batch.spans.push(Span { start, len: 1, pages: pages(number, POSITIONS) });
        }
        all.extend(logits(runner, &batch));
    }
    all.iter().map(|logit| logit.to_bits()).collect()
}

/// Past one split of attention.
const POSITIONS: usize = 262;

/// Every plan, on a device of its own, gives the same bits; over f16 the first does so three times.
pub fn plans_agree<D, F>(kv: KvType, plans: impl IntoIterator<Item = (Plan, F)>)
where
    D: Device,
    F: FnOnce() -> Option<Gpu<D>>,
{
    let small = rewritten(&golden("moes-f32"), |tensor, _| {
        let weights = tensor.dims.len() > 1 && !tensor.name.contains("gate_inp");
        if weights { Dtype::Q8_0 } else { tensor.dtype }
    });
    let mut expected: Option<Vec<u32>> = None;
    for (plan, gpu) in plans {
        let Some(gpu) = gpu() else { return };
        let mut runner = load_with(&small, gpu, POSITIONS, kv);
        for again in 0..if expected.is_none() && kv == KvType::F16 { 3 } else { 1 } {
            let bits = run(&mut runner, &small, plan);
            let expected = expected.get_or_insert_with(|| bits.clone());
            assert_eq!(bits.len(), expected.len());
            let place = bits.iter().zip(&*expected).position(|(a, b)| a != b);
            let vocab = runner.vocab();
            assert_eq!(place.map(|at| at / vocab), None, "{plan:?}, run {again}");
        }
    }
}

/// Three steps of one sequence, beside more or fewer others: its logits must be the same.
pub struct Company {
    name: &'static str,
    file: Arc<File>,
    expected: Option<Vec<f32>>,
}

impl Company {
    /// Of a golden model.
    pub fn new(name: &'static str) -> Self {
        Self { name, file: golden(name), expected: None }
    }

    /// Once more, on a device of its own.
    pub fn add<D: Device>(&mut self, gpu: Option<Gpu<D>>, beside: usize) {
        let Some(gpu) = gpu else { return };
        let mut runner = load(&self.file, gpu, 64);
        self.compare(&mut runner, beside);
    }

    /// Once more, alone, while somebody looks where the row goes, or says it.
    pub fn add_watched<D: Device>(&mut self, gpu: Option<Gpu<D>>, says: bool) {
        let Some(gpu) = gpu else { return };
        let witness = Box::new(Echo { says });
        let gpu = Witnessed::load(&self.file, gpu, witness, &mut |_, _| {});
        let mut runner = load(&self.file, gpu.expect("the model loads"), 64);
        self.compare(&mut runner, 0);
    }

    fn compare<R: Runner>(&mut self, runner: &mut R, beside: usize) {
        let mut all = Vec::new();
        for at in 0..3 {
            let mut batch = Batch { outputs: vec![beside / 2], ..Batch::default() };
            for sequence in 0..=beside {
                let number = (sequence + SEQUENCES - beside / 2) % SEQUENCES;
                batch.tokens.push(tokens(&self.file, number, 3)[at]);
                batch.spans.push(Span { start: at, len: 1, pages: pages(number, 64) });
            }
            all.extend(logits(runner, &batch));
            let expected = sorted(runner.logits(0..1));
            if beside == 0 {
                assert_eq!(runner.step(&batch), []); // nobody has asked for logits
            }
            let best = runner.best(0..1);
            assert!(best.is_none_or(|best| best == expected), "{}, step {at}", self.name);
        }
        let expected = self.expected.get_or_insert_with(|| all.clone());
        assert!(all == *expected, "{}, {beside} beside", self.name);
    }
}
