//! The desk: launches with their arguments, on a device and what was reserved on it.

use qwire_model::backend::BEST;
use qwire_model::{Batch, Experts, KvType, Layer, Phase, Poison, Ranked, Shape};

use crate::device::{Address, Args, Device, Stream};
use crate::kernel::{
    self, COLUMNS, DOWN_ROWS, EXPAND_ROWS, MATMUL_ROWS, REDUCE_ROWS, SORTED, WARPS, WIDE, WIDE_ROWS,
};
use crate::matrix::Matrix;
use crate::traffic;
use crate::workspace::{Acts, SPREAD, Workspace, tiles};
use crate::{Choice, Gpu, Reserved};

/// Columns from which on a wide tile is worth its room.
pub(crate) const LEAST_WIDE: usize = WIDE / 2;

/// A matrix, and where its products go.
pub(crate) struct Part<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) bias: Address,
    pub(crate) out: Address, // [columns, stride]
    pub(crate) stride: usize,
    pub(crate) add: bool,
}

/// A stream and what was reserved on its device.
pub(crate) struct Desk<'a, D> {
    pub(crate) stream: &'a mut Stream<D>,
    pub(crate) at: &'a Reserved,
}

impl<D: Device> Desk<'_, D> {
    pub(crate) fn shape(&self) -> &Shape {
        &self.at.shape
    }

    pub(crate) fn space(&self) -> &Workspace {
        &self.at.space
    }

    pub(crate) fn width(&self) -> usize {
        self.shape().q_dim() + 2 * self.shape().kv_dim()
    }

    /// Pages of one layer begin here.
    pub(crate) fn cache(&self, layer: usize) -> Address {
        self.at.cache[layer]
    }

    /// Bytes of a page of one layer.
    pub(crate) fn page_bytes(&self) -> usize {
        self.shape().page_bytes(self.at.kv) / self.shape().layers
    }

    /// y = norm(x) w, for so many rows; `pick` names them where they are not the first.
    pub(crate) fn norm(
        &mut self,
        weight: Address,
        y: Acts,
        rows: usize,
        pick: Address,
        code: usize,
    ) {
        let space = self.space();
        let args = Args::default().address(space.x).address(weight).address(pick);
        let args = y.put(args.address(space.faults)).number(self.shape().eps).count(code);
        let args = args.moves(traffic::norm(y, rows));
        self.stream.launch(&kernel::NORM, [rows, 1, 1], args);
    }

    /// Codes of rows whose floats are there.
    pub(crate) fn quantise(&mut self, x: Acts, rows: usize) {
        let blocks = (x.k / 32).div_ceil(WARPS);
        let args = x.put(Args::default()).moves(x.bytes(rows));
        self.stream.launch(&kernel::QUANTISE, [blocks, rows, 1], args);
    }

    /// Up to three matrices times some columns.
    pub(crate) fn matmul(&mut self, parts: &[Part<'_>], x: Acts, columns: usize) {
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
    pub(crate) fn rotate(&mut self, layer: &Layer<Gpu<D>>) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let args = self.heads(layer).address(space.slot).address(space.q);
        let args = args.address(self.cache(layer.index)).count(self.codes()).skip(4);
        let args = args.moves(traffic::rotate(shape, self.at.kv, rows));
        let blocks = (shape.heads + 2 * shape.kv_heads).div_ceil(WARPS);
        self.stream.launch(&kernel::ROTATE, [blocks, rows, 1], args);
    }

    /// a = softmax(q K) V. The splits of a few rows are spread over blocks, so that one row alone
    /// keeps the device busy; many rows do that by themselves. Where no row sees another's key,
    /// each turns its own heads, and nothing has to come before.
    pub(crate) fn attend(&mut self, layer: &Layer<Gpu<D>>) {
        let Reserved { space, shape, kv, rows, singles, visible, deepest, .. } = self.at;
        let (spread, splits) = (*rows <= SPREAD, space.splits);
        let lanes = (shape.head_dim / 8).next_power_of_two();
        let q = if *singles { Address::NONE } else { space.q };
        let args = self.heads(layer).address(q).address(self.cache(layer.index));
        let args = args.address(space.table).address(space.first).address(space.position);
        let args = args.address(space.a.floats).address(space.top).address(space.weight);
        let args = args.address(space.part).count(lanes).count(splits).count(spread.into());
        let args = args.count(self.codes()).moves(traffic::attend(shape, *kv, *rows, *visible));
        let args = args.moves(if *singles { traffic::rotate(shape, *kv, *rows) } else { 0 });
        let kernel = if *kv == KvType::I8 { &kernel::ATTEND_CODES } else { &kernel::ATTEND };
        let packs = (shape.heads / shape.kv_heads).div_ceil(WARPS);
        // A power of two, so that a growing sequence changes the grid rarely.
        let depth = if spread { deepest.next_power_of_two() } else { 1 };
        self.stream.launch(kernel, [*rows, shape.kv_heads * packs, depth], args);
        if !spread {
            return self.quantise(space.a, *rows);
        }
        let args = Args::default().address(space.position).address(space.top);
        let args = space.a.put(args.address(space.weight).address(space.part));
        let args = args.count(shape.head_dim).count(splits);
        let args = args.moves(traffic::gather(shape, space.a, *rows, *deepest));
        let blocks = (space.a.k / 32).div_ceil(WARPS);
        self.stream.launch(&kernel::GATHER, [blocks, *rows, 1], args);
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
    pub(crate) fn route(&mut self, layer: usize, choice: Choice) {
        let (space, shape, rows) = (self.space(), self.shape(), self.at.rows);
        let args = space.visits.put(self.router(Args::default(), layer, choice));
        let args = args.count(tiles(shape, rows, self.at.tile)).count(self.at.tile);
        let args = args.moves(traffic::route(shape, rows));
        self.stream.launch(&kernel::ROUTE, [1, 1, 1], args);
    }

    /// m = silu(gate h) * up h. A row alone chooses its experts here.
    pub(crate) fn expand(&mut self, experts: &Experts<Matrix>) {
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
    pub(crate) fn reduce(&mut self, experts: &Experts<Matrix>) {
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
    pub(crate) fn best(&mut self, rows: usize, vocab: usize) -> Vec<Ranked> {
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
    pub(crate) fn place(&mut self, batch: &Batch) {
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
}
