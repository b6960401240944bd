//! The six phases on a device: each is a launch or two, queued until somebody asks for an outcome.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use qwire_model::backend::{BEST, LOGIT_ROWS};
use qwire_model::batch::PAGE;
use qwire_model::{
    Backend, Batch, Experts, Halt, KvType, Layer, Limits, LoadError, PageForm, PageId, Phase,
    Poison, Ranked, Role, Shape, Tap, Weights,
};

use crate::device::{Address, Args, Device, Stream};
use crate::host::Sharing;
use crate::kernel::{
    self, COLUMNS, DOWN_ROWS, EXPAND_ROWS, EXPERTS, MATMUL_ROWS, REDUCE_ROWS, SORTED, WARPS, WIDE,
    WIDE_ROWS,
};
use crate::matrix::Matrix;
use crate::traffic;
use crate::workspace::{Acts, Pieces, SPREAD, Workspace, deepest, tiles};
use crate::{Choice, Gpu, Reserved};

/// Channels of a head that kernels have room for.
const MAX_HEAD_DIM: usize = 256;
/// Columns from which on a wide tile is worth its room, and visits of an expert, on average.
const LEAST_WIDE: usize = WIDE / 2;
const LEAST_VISITS: usize = WIDE / 8;
/// Experts of a row, each chosen by a lane.
const MAX_USED: usize = 32;

/// A matrix, and where its products go.
struct Part<'a> {
    matrix: &'a Matrix,
    bias: Address,
    out: Address, // [columns, stride]
    stride: usize,
    add: bool,
}

/// A stream and what was reserved on its device.
pub(crate) struct Desk<'a, D> {
    stream: &'a mut Stream<D>,
    at: &'a Reserved,
}

impl<D: Device> Desk<'_, D> {
    fn shape(&self) -> &Shape {
        &self.at.shape
    }

    fn space(&self) -> &Workspace {
        &self.at.space
    }

    fn width(&self) -> usize {
        self.shape().q_dim() + 2 * self.shape().kv_dim()
    }

    /// Pages of one layer begin here.
    fn cache(&self, layer: usize) -> Address {
        self.at.cache[layer]
    }

    /// Bytes of a page of one layer.
    fn page_bytes(&self) -> usize {
        self.shape().page_bytes(self.at.kv) / self.shape().layers
    }

    /// y = norm(x) w, for so many rows; `pick` names them where they are not the first.
    fn norm(&mut self, weight: Address, y: Acts, rows: usize, pick: Address, code: usize) {
        let space = self.space();
        let args = Args::default().address(space.x).address(weight).address(pick);
        let args = y.put(args.address(space.faults)).number(self.shape().eps).count(code);
        let args = args.moves(traffic::norm(y, rows));
        self.stream.launch(&kernel::NORM, [rows, 1, 1], args);
    }

    /// Codes of rows whose floats are there.
    fn quantise(&mut self, x: Acts, rows: usize) {
        let blocks = (x.k / 32).div_ceil(WARPS);
        let args = x.put(Args::default()).moves(x.bytes(rows));
        self.stream.launch(&kernel::QUANTISE, [blocks, rows, 1], args);
    }

    /// Up to three matrices times some columns.
    fn matmul(&mut self, parts: &[Part<'_>], x: Acts, columns: usize) {
        let coded = parts.iter().all(|part| part.matrix.is_coded());
        let (kernel, width, rows) = match columns {
            1 => (&kernel::MATMUL_1, 1, MATMUL_ROWS),
            LEAST_WIDE.. if D::WIDE && coded => (&kernel::MATMUL_32, WIDE, WIDE_ROWS),
            _ => (&kernel::MATMUL_8, COLUMNS, WARPS),
        };
        let (mut args, mut blocks) = (Args::default(), 0);
        for part in parts {
            args = part.matrix.put(args).address(part.bias).address(part.out);
            args = args.count(part.stride).count(part.add.into()).count(blocks).skip(4);
            blocks += part.matrix.rows.div_ceil(rows);
            args = args.moves(traffic::product(part.matrix, columns, part.add));
        }
        let args = x.put(args.skip((3 - parts.len()) * 80)).count(parts.len()).count(columns);
        let args = args.moves(x.code_bytes(columns));
        self.stream.launch(kernel, [blocks, columns.div_ceil(width), 1], args);
    }

    /// Whether keys and values are codes, as kernels are told.
    fn codes(&self) -> usize {
        (self.at.kv == KvType::I8).into()
    }

    /// `Heads` as kernels are told of them.
    fn heads(&self, layer: &Layer<Gpu<D>>) -> Args {
        let (space, shape) = (self.space(), self.shape());
        let none = (Address::NONE, Address::NONE);
        let (q_norm, k_norm) = layer.head_norms.as_ref().map_or(none, |(q, k)| (*q, *k));
        let args = Args::default().address(space.qkv).address(q_norm).address(k_norm);
        let args = args.address(space.turn).count(shape.heads).count(shape.kv_heads);
        let args = args.count(shape.head_dim).count(shape.rotation.dims / 2).number(shape.eps);
        args.number(1.0 / (shape.head_dim as f32).sqrt())
    }

    /// Heads of queries and keys are normed and turned, keys and values stored.
    fn rotate(&mut self, layer: &Layer<Gpu<D>>) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let args = self.heads(layer).address(space.slot).address(space.q);
        let args = args.address(self.cache(layer.index)).count(self.codes()).skip(4);
        let args = args.moves(traffic::rotate(shape, self.at.kv, rows));
        let blocks = (shape.heads + 2 * shape.kv_heads).div_ceil(WARPS);
        self.stream.launch(&kernel::ROTATE, [blocks, rows, 1], args);
    }

    /// a = softmax(q K) V. The splits of a few rows are spread over blocks, so that one row alone
    /// keeps the device busy; many rows do that by themselves. Where no row sees another's key, each
    /// turns its own heads, and nothing has to come before.
    fn attend(&mut self, layer: &Layer<Gpu<D>>) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let spread = rows <= SPREAD;
        let lanes = (shape.head_dim / 8).next_power_of_two();
        let (a, splits) = (space.a, space.splits);
        let (q, turned) = if self.at.singles {
            (Address::NONE, traffic::rotate(shape, self.at.kv, rows))
        } else {
            (space.q, 0)
        };
        let args = self.heads(layer).address(q).address(self.cache(layer.index));
        let args = args.address(space.table).address(space.first).address(space.position);
        let args = args.address(a.floats).address(space.top).address(space.weight);
        let args = args.address(space.part).count(lanes).count(splits).count(spread.into());
        let packs = (shape.heads / shape.kv_heads).div_ceil(WARPS);
        // A power of two, so that a growing sequence changes the grid rarely.
        let depth = if spread { self.at.deepest.next_power_of_two() } else { 1 };
        let grid = [rows, shape.kv_heads * packs, depth];
        let read = traffic::attend(shape, self.at.kv, rows, self.at.visible);
        let args = args.count(self.codes()).moves(read + turned);
        let codes = self.at.kv == KvType::I8;
        let kernel = if codes { &kernel::ATTEND_CODES } else { &kernel::ATTEND };
        let args = if spread {
            let gather = Args::default().address(space.position).address(space.top);
            let gather = a.put(gather.address(space.weight).address(space.part));
            let gather = gather.count(shape.head_dim).count(splits);
            let gather = gather.moves(traffic::gather(shape, a, rows, self.at.deepest));
            self.stream.launch(kernel, grid, args);
            gather
        } else {
            self.stream.launch(kernel, grid, args);
            return self.quantise(a, rows);
        };
        self.stream.launch(&kernel::GATHER, [(a.k / 32).div_ceil(WARPS), rows, 1], args);
    }

    /// `Router` as kernels are told of it.
    fn router(&self, args: Args, layer: usize, choice: Choice) -> Args {
        let (space, shape) = (self.space(), self.shape());
        let args = args.address(space.router).address(space.ids).address(space.weights);
        let args = args.address(space.faults).number(shape.routing.scale).count(self.at.rows);
        let args = args.count(shape.experts).count(shape.routing.used);
        let args = args.count(shape.routing.normalised.into());
        args.count(Poison::code(layer, Phase::Route) as usize).count(choice as usize).skip(4)
    }

    /// Experts, by this choice, and their visits.
    fn route(&mut self, layer: usize, choice: Choice) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let args = space.visits.put(self.router(Args::default(), layer, choice));
        let args = args.count(tiles(shape, rows, self.at.tile)).count(self.at.tile);
        let args = args.moves(traffic::route(shape, rows));
        self.stream.launch(&kernel::ROUTE, [1, 1, 1], args);
    }

    /// m = silu(gate h) * up h. A row alone chooses its experts here.
    fn expand(&mut self, experts: &Experts<Matrix>) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let args = experts.up.put(experts.gate.put(Args::default()));
        let args = space.m.put(space.h.put(args));
        let args = args.moves(traffic::expand(experts, space, shape, rows));
        let blocks = shape.ffn / EXPAND_ROWS;
        if rows == 1 {
            let args = self.router(args, experts.layer, self.at.choice);
            let args = args.moves(traffic::route(shape, rows));
            return self.stream.launch(&kernel::EXPAND_1, [blocks, shape.routing.used, 1], args);
        }
        let kernel = if self.at.tile == WIDE { &kernel::EXPAND_32 } else { &kernel::EXPAND_8 };
        let args = space.visits.put(args).count(shape.routing.used).skip(4);
        self.stream.launch(kernel, [blocks, tiles(shape, rows, self.at.tile), 1], args);
    }

    /// x += sum p down m
    fn reduce(&mut self, experts: &Experts<Matrix>) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let (weights, used, hidden) = (space.weights, shape.routing.used, shape.hidden);
        let args = space.m.put(experts.down.put(Args::default()));
        let args = args.moves(traffic::down(experts, space, shape, rows));
        if rows == 1 {
            let args = args.address(space.ids).address(weights).address(space.x);
            let args = args.count(used).skip(4).moves(traffic::sums(hidden, rows));
            return self.stream.launch(&kernel::REDUCE_1, [hidden / REDUCE_ROWS, 1, 1], args);
        }
        let (kernel, blocks) = match self.at.tile {
            WIDE => (&kernel::DOWN_32, hidden.div_ceil(WIDE_ROWS)),
            _ => (&kernel::DOWN_8, hidden / DOWN_ROWS),
        };
        let grid = [blocks, tiles(shape, rows, self.at.tile), 1];
        let args = space.visits.put(args.address(space.y));
        self.stream.launch(kernel, grid, args.moves(traffic::products(hidden, rows * used)));
        self.blend(weights, used);
    }

    /// x += sum of so many rows of y, each with its weight
    fn blend(&mut self, weights: Address, used: usize) {
        let (space, shape) = (self.space(), self.shape());
        let args = Args::default().address(space.y).address(weights).address(space.x);
        let args = args.count(used).count(shape.hidden);
        let rows = self.at.rows;
        let args = args.moves(traffic::products(shape.hidden, rows * used));
        let args = args.moves(traffic::sums(shape.hidden, rows));
        let blocks = [shape.hidden.div_ceil(256), rows, 1];
        self.stream.launch(&kernel::BLEND, blocks, args);
    }

    /// What a host is told of rows: h [rows, hidden], and routes [rows, used].
    pub(crate) fn visits(&mut self) -> (Vec<f32>, Vec<(u32, f32)>) {
        let Reserved { space, shape, rows, .. } = self.at;
        let pairs = rows * shape.routing.used;
        let h = self.stream.download_floats(space.h.floats, rows * shape.hidden);
        let weights = self.stream.download_floats(space.weights, pairs);
        (h, self.stream.download(space.ids, pairs).zip(weights).collect())
    }

    /// x += what a host has summed, [rows, hidden]
    pub(crate) fn add(&mut self, sums: &[f32]) {
        let space = self.space();
        let (y, ones) = (space.y, space.ones);
        self.stream.upload_floats(y, sums);
        self.blend(ones, 1);
    }

    /// The best of so many rows of logits: of each share of a row, then of those of all shares.
    fn best(&mut self, rows: usize, vocab: usize) -> Vec<Ranked> {
        let Reserved { space, .. } = self.at;
        let (mut from, mut count) = ((space.logits, Address::NONE), vocab);
        for to in space.best.into_iter().cycle() {
            let shares = count.div_ceil(SORTED);
            let args = Args::default().address(from.0).address(from.1).address(to);
            let args = args.count(count).count(shares).moves(traffic::best(rows * count));
            self.stream.launch(&kernel::BEST, [shares, rows, 1], args);
            (from, count) = ((Address::NONE, to), shares * BEST);
            if shares == 1 {
                break;
            }
        }
        let words: Vec<u32> = self.stream.download(from.1, rows * BEST * 2).collect();
        let ranked = |word: &[u32; 2]| {
            let sign = if word[1] >> 31 == 1 { 1 << 31 } else { u32::MAX };
            Ranked { token: !word[0], logit: f32::from_bits(word[1] ^ sign) }
        };
        let rows = words.as_chunks::<2>().0.chunks_exact(BEST);
        rows.flat_map(|row| row[..BEST.min(vocab)].iter().map(ranked)).collect()
    }

    /// What kernels are told of a batch's rows.
    fn place(&mut self, batch: &Batch) {
        let Reserved { space, shape, .. } = self.at;
        let rope = shape.rotation.rope();
        let mut turns = vec![0.0; batch.rows() * shape.rotation.dims];
        for (position, turn) in batch.positions().zip(turns.chunks_exact_mut(2 * rope.pairs())) {
            let (cos, sin) = turn.split_at_mut(rope.pairs());
            rope.fill(position, cos, sin);
        }
        let (mut first, mut table) = (Vec::with_capacity(batch.rows()), Vec::new());
        for span in &batch.spans {
            first.extend(std::iter::repeat_n(table.len() as u32, span.len));
            table.extend(span.pages.iter().map(|page| page.0));
        }
        self.stream.upload(space.position, batch.positions().map(|at| at as u32));
        self.stream.upload(space.slot, batch.slots().map(|slot| slot as u32));
        self.stream.upload(space.first, first.into_iter());
        self.stream.upload(space.table, table.into_iter());
        self.stream.upload(space.pick, batch.outputs.iter().map(|row| *row as u32));
        self.stream.upload(space.faults, std::iter::repeat_n(Poison::NO_CODE, batch.rows()));
        self.stream.upload_floats(space.turn, &turns);
    }

    /// Columns of queries, keys or values in a row of all three.
    fn columns(&self, tap: Tap) -> Range<usize> {
        let (q, kv) = (self.shape().q_dim(), self.shape().kv_dim());
        match tap {
            Tap::Q => 0..q,
            Tap::K => q..q + kv,
            _ => q + kv..q + 2 * kv,
        }
    }

    fn read(&mut self, tap: Tap) -> Vec<f32> {
        let Reserved { space, shape, rows, .. } = self.at;
        let used = shape.routing.used;
        match tap {
            Tap::X => self.stream.download_floats(space.x, rows * shape.hidden),
            Tap::H => self.stream.download_floats(space.h.floats, rows * shape.hidden),
            Tap::A => self.stream.download_floats(space.a.floats, rows * shape.q_dim()),
            Tap::M => self.stream.download_floats(space.m.floats, rows * used * shape.ffn),
            Tap::Q | Tap::K | Tap::V => {
                let (columns, width) = (self.columns(tap), self.width());
                let all = self.stream.download_floats(space.qkv, rows * width);
                all.chunks_exact(width).flat_map(|row| &row[columns.clone()]).copied().collect()
            }
            Tap::Route => {
                if self.at.waits() {
                    self.route(self.at.layer, self.at.choice);
                }
                let ids: Vec<u32> = self.stream.download(space.ids, rows * used).collect();
                let weights = self.stream.download_floats(space.weights, rows * used);
                let mut dense = vec![0.0; rows * shape.experts];
                for (pair, (id, weight)) in ids.iter().zip(weights).enumerate() {
                    dense[pair / used * shape.experts + *id as usize] = weight;
                }
                dense
            }
        }
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        let Reserved { space, shape, rows, .. } = self.at;
        let used = shape.routing.used;
        let acts = match tap {
            Tap::X => return self.stream.upload_floats(space.x, values),
            Tap::H => space.h,
            Tap::A => space.a,
            Tap::M => space.m,
            Tap::Q | Tap::K | Tap::V => {
                let (columns, width) = (self.columns(tap), self.width());
                let mut all = self.stream.download_floats(space.qkv, rows * width);
                let from = values.chunks_exact(columns.len());
                for (row, values) in all.chunks_exact_mut(width).zip(from) {
                    row[columns.clone()].copy_from_slice(values);
                }
                return self.stream.upload_floats(space.qkv, &all);
            }
            Tap::Route => {
                let mut routes = vec![(0, 0); rows * used];
                let from = values.chunks_exact(shape.experts);
                for (routes, dense) in routes.chunks_exact_mut(used).zip(from) {
                    let chosen = dense.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
                    for (route, (id, weight)) in routes.iter_mut().zip(chosen) {
                        *route = (id as u32, weight.to_bits());
                    }
                }
                self.stream.upload(space.ids, routes.iter().map(|route| route.0));
                self.stream.upload(space.weights, routes.iter().map(|route| route.1));
                return self.route(0, Choice::Given);
            }
        };
        self.stream.upload_floats(acts.floats, values);
        self.quantise(acts, values.len() / acts.k);
    }
}

impl<D: Device> Gpu<D> {
    pub(crate) fn desk(&mut self) -> Desk<'_, D> {
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        Desk { stream, at: self.reserved.as_ref().expect("reserved") }
    }

    /// Logits of some outputs, unless they are there already.
    fn head(&mut self, head: &Matrix, outputs: Range<usize>) {
        assert!(outputs.len() <= LOGIT_ROWS);
        let at = self.reserved.as_mut().expect("reserved");
        if at.headed == outputs {
            return;
        }
        at.headed = outputs.clone();
        let mut desk = self.desk();
        let (last, out) = (desk.space().last.starting_at(outputs.start), desk.space().logits);
        let part = Part { matrix: head, bias: Address::NONE, out, stride: head.rows, add: false };
        desk.matmul(&[part], last, outputs.len());
    }

    /// How many visits a tile of a layer has.
    fn cut(&mut self, experts: &Experts<Matrix>) {
        let at = self.reserved.as_mut().expect("reserved");
        let Experts { gate, up, down, .. } = experts;
        let coded = gate.is_coded() && up.is_coded() && down.is_coded();
        let many = at.rows >= LEAST_WIDE
            && at.rows * at.shape.routing.used >= LEAST_VISITS * at.shape.experts;
        at.tile = if D::WIDE && coded && many { WIDE } else { COLUMNS };
    }

    fn shared(&self) -> (MutexGuard<'_, Stream<D>>, &Reserved) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        (stream, self.reserved.as_ref().expect("reserved"))
    }

    fn device(&mut self) -> &mut D {
        &mut self.stream.get_mut().unwrap_or_else(PoisonError::into_inner).device
    }
}

/// What kernels have no room for, in words.
fn refusal(kind: &str, shape: &Shape, limits: Limits) -> Option<String> {
    let (d, used) = (shape.head_dim, shape.routing.used);
    let problem = if limits.kv == KvType::F32 {
        format!("a cache of {} cannot be kept on {kind}; accepted: f16, i8", limits.kv.name())
    } else if let Some(problem) = limits.kv.refusal(d) {
        problem
    } else if !d.is_multiple_of(8) || d > MAX_HEAD_DIM {
        format!("heads of {d} channels cannot run on {kind}; accepted: 8, 16, .. 256")
    } else if shape.experts > EXPERTS || used > MAX_USED {
        let found = format!("{used} of {} experts a row", shape.experts);
        format!("{found} cannot run on {kind}; accepted: up to {MAX_USED} of {EXPERTS}")
    } else {
        return None;
    };
    Some(problem)
}

impl<D: Device> Backend for Gpu<D> {
    type Matrix = Matrix;
    type Vector = Address;

    fn matrix(&mut self, weights: Weights, role: Role) -> Result<Matrix, LoadError> {
        if role == Role::Head {
            self.vocab = weights.rows;
        }
        Matrix::load(weights, role, self.device())
    }

    fn experts(
        &mut self,
        weights: Experts<Weights>,
        into: Role,
    ) -> Result<Experts<Matrix>, LoadError> {
        match &self.sharing {
            Some(sharing) if weights.layer >= sharing.first => self.give(weights, into),
            _ => weights.place(into, |weights, role| self.matrix(weights, role)),
        }
    }

    fn vector(&mut self, values: Vec<f32>) -> Result<Address, LoadError> {
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        let at = stream.device.allocate(values.len() * 4)?;
        stream.upload_floats(at, &values);
        Ok(at)
    }

    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError> {
        if let Some(problem) = refusal(D::KIND, shape, limits) {
            return Err(LoadError(problem));
        }
        let positions = (limits.pages * PAGE).min(shape.context.next_multiple_of(PAGE));
        let vocab = self.vocab;
        let lay = |starts| Workspace::at(starts, shape, limits, positions, vocab);
        let bytes = shape.page_bytes(limits.kv) / shape.layers * limits.pages;
        let (_, lens) = lay(Pieces::default());
        let problem = |what: &str, error: &LoadError| LoadError(format!("{what}: {error}"));
        let device = self.device();
        let cache: Result<Vec<_>, _> = (0..shape.layers).map(|_| device.allocate(bytes)).collect();
        let cache = cache.map_err(|error| problem("keys and values", &error))?;
        let mut piece = |bytes| {
            let start = device.allocate(bytes);
            start.map_err(|error| problem("the memory of a step", &error))
        };
        let (inputs, middle, rest) = (piece(lens.inputs)?, piece(lens.middle)?, piece(lens.rest)?);
        let (space, _) = lay(Pieces { inputs, middle, rest });
        let reserved = Reserved {
            shape: shape.clone(),
            space,
            kv: limits.kv,
            cache,
            rows: 0,
            outputs: 0,
            deepest: 1,
            visible: 0,
            headed: 0..0,
            singles: false,
            tile: COLUMNS,
            layer: 0,
            choice: Choice::Scores,
        };
        self.reserved = Some(reserved);
        if let Some(sharing) = &mut self.sharing {
            sharing.host.reserve(shape, limits.rows)?;
            let desk = self.desk();
            desk.stream.upload_floats(desk.at.space.ones, &vec![1.0; limits.rows]);
        }
        Ok(())
    }

    fn halt(&self) -> Halt {
        self.sharing.as_ref().map_or_else(Halt::default, |sharing| sharing.host.halt())
    }

    fn begin(&mut self, batch: &Batch) {
        self.desk().stream.flush();
        let reserved = self.reserved.as_mut().expect("reserved");
        reserved.rows = batch.rows();
        reserved.outputs = batch.outputs.len();
        reserved.deepest = deepest(batch);
        reserved.visible = batch.spans.iter().map(|span| span.start + span.len).sum();
        reserved.headed = 0..0;
        reserved.singles = batch.spans.iter().all(|span| span.len == 1);
        reserved.tile = COLUMNS;
        self.desk().place(batch);
    }

    fn embed(&mut self, table: &Matrix, batch: &Batch) {
        let weights = table.elsewhere.as_ref().expect("an embedding");
        let mut x = vec![0.0; batch.rows() * table.k];
        for (x, token) in x.chunks_exact_mut(table.k).zip(&batch.tokens) {
            weights.row(token.0 as usize, x);
        }
        let desk = self.desk();
        desk.stream.upload_floats(desk.at.space.x, &x);
    }

    fn qkv(&mut self, layer: &Layer<Self>) {
        let mut desk = self.desk();
        let (rows, h, out) = (desk.at.rows, desk.space().h, desk.space().qkv);
        let code = Poison::code(layer.index, Phase::Qkv) as usize;
        desk.norm(layer.attn_norm, h, rows, Address::NONE, code);
        let stride = desk.width();
        let sides = [(&layer.attn_q, Tap::Q), (&layer.attn_k, Tap::K), (&layer.attn_v, Tap::V)];
        let parts = sides.map(|(side, tap)| Part {
            matrix: &side.matrix,
            bias: side.bias.unwrap_or_default(),
            out: out.plus(desk.columns(tap).start * 4),
            stride,
            add: false,
        });
        desk.matmul(&parts, h, rows);
    }

    fn attend(&mut self, layer: &Layer<Self>, _: &Batch) {
        let mut desk = self.desk();
        if !desk.at.singles {
            desk.rotate(layer);
        }
        desk.attend(layer);
    }

    fn project(&mut self, layer: &Layer<Self>) {
        let mut desk = self.desk();
        let (matrix, a, rows) = (&layer.attn_output, desk.space().a, desk.at.rows);
        let (out, stride) = (desk.space().x, desk.shape().hidden);
        let part = Part { matrix, bias: Address::NONE, out, stride, add: true };
        desk.matmul(&[part], a, rows);
    }

    fn route(&mut self, layer: &Layer<Self>) {
        self.cut(&layer.experts);
        let mut desk = self.desk();
        let (h, rows, out) = (desk.space().h, desk.at.rows, desk.space().router);
        let code = Poison::code(layer.index, Phase::Route) as usize;
        desk.norm(layer.ffn_norm, h, rows, Address::NONE, code);
        if let Some(matrix) = &layer.router {
            let stride = desk.shape().experts;
            let part = Part { matrix, bias: Address::NONE, out, stride, add: false };
            desk.matmul(&[part], h, rows);
        }
        let at = self.reserved.as_mut().expect("reserved");
        at.layer = layer.index;
        at.choice = if layer.router.is_some() { Choice::Scores } else { Choice::Only };
        if !at.waits() || layer.experts.up.elsewhere.is_some() {
            let (layer, choice) = (at.layer, at.choice);
            self.desk().route(layer, choice);
        }
    }

    fn expand(&mut self, experts: &Experts<Matrix>) {
        let hosted = experts.up.elsewhere.is_some();
        self.hold(hosted);
        if hosted { self.ask(experts.layer) } else { self.desk().expand(experts) }
    }

    fn reduce(&mut self, experts: &Experts<Matrix>) {
        let hosted = experts.down.elsewhere.is_some();
        if hosted { self.answer(experts.layer) } else { self.desk().reduce(experts) }
    }

    fn close(&mut self, norm: &Address, _: &Batch) {
        let mut desk = self.desk();
        let code = Poison::code(desk.shape().layers, Phase::Norm) as usize;
        let (last, pick, outputs) = (desk.space().last, desk.space().pick, desk.at.outputs);
        if outputs > 0 {
            desk.norm(*norm, last, outputs, pick, code);
        }
    }

    fn finish(&mut self) -> Vec<Poison> {
        let desk = self.desk();
        let codes = desk.stream.download(desk.at.space.faults, desk.at.rows);
        codes.enumerate().filter_map(|(row, code)| Poison::of_code(row, code)).collect()
    }

    fn logits(&mut self, head: &Matrix, outputs: Range<usize>) -> &[f32] {
        let count = outputs.len() * head.rows;
        self.head(head, outputs);
        let desk = self.desk();
        self.logits = desk.stream.download_floats(desk.at.space.logits, count);
        &self.logits
    }

    fn best(&mut self, head: &Matrix, outputs: Range<usize>) -> Option<Vec<Ranked>> {
        let rows = outputs.len();
        self.head(head, outputs);
        Some(self.desk().best(rows, head.rows))
    }

    fn hidden(&self, outputs: Range<usize>) -> Vec<f32> {
        let (mut stream, at) = self.shared();
        let hidden = at.shape.hidden;
        let from = at.space.last.floats.plus(outputs.start * hidden * 4);
        stream.download_floats(from, outputs.len() * hidden)
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        let desk = self.desk();
        let bytes = desk.page_bytes();
        desk.stream.flush();
        for layer in 0..desk.shape().layers {
            let [from, to] = [from, to].map(|page| desk.cache(layer).plus(page.0 as usize * bytes));
            desk.stream.device.copy(from, to, bytes);
        }
    }

    fn page_form(&self) -> PageForm {
        let Reserved { shape, kv, .. } = self.reserved.as_ref().expect("reserved");
        let layout = match kv {
            KvType::I8 => {
                "layer, head: keys [d / 16, slot, 16], [slot, scales], values [slot, d], \
                 [slot, scales]"
            }
            _ => "layer, head: keys [d / 8, slot, 8], values [slot, d]",
        };
        let (bytes, numbers) = (shape.page_bytes(*kv), D::NUMBERS);
        let first = self.sharing.as_ref().map_or(shape.layers, |sharing| sharing.first);
        PageForm { bytes, layout, numbers, host_layers: shape.layers.saturating_sub(first) }
    }

    fn read_page(&mut self, page: PageId, bytes: &mut [u8]) {
        let desk = self.desk();
        let len = desk.page_bytes();
        desk.stream.flush();
        for (layer, bytes) in bytes.chunks_exact_mut(len).enumerate() {
            let from = desk.cache(layer).plus(page.0 as usize * len);
            desk.stream.device.download(from, bytes);
        }
    }

    fn write_page(&mut self, page: PageId, bytes: &[u8]) {
        let desk = self.desk();
        let len = desk.page_bytes();
        desk.stream.flush();
        for (layer, bytes) in bytes.chunks_exact(len).enumerate() {
            let to = desk.cache(layer).plus(page.0 as usize * len);
            desk.stream.device.upload(to, bytes);
        }
    }

    fn exchange(&mut self) {
        let space = &mut self.reserved.as_mut().expect("reserved").space;
        std::mem::swap(&mut space.x, &mut space.aside);
    }

    fn read(&self, tap: Tap) -> Vec<f32> {
        if let (Tap::M, Some(Sharing { host, holds_m: true, .. })) = (tap, &self.sharing) {
            return host.read();
        }
        let (mut stream, at) = self.shared();
        Desk { stream: &mut stream, at }.read(tap)
    }

    fn write(&mut self, tap: Tap, values: &[f32]) {
        if let (Tap::M, Some(Sharing { host, holds_m: true, .. })) = (tap, &mut self.sharing) {
            return host.write(values);
        }
        if tap == Tap::Route {
            self.reserved.as_mut().expect("reserved").choice = Choice::Given;
        }
        self.desk().write(tap, values);
    }
}
