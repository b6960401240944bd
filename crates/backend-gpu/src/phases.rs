//! The six phases on a device: each is a launch or two at a desk, queued until somebody asks for an
//! outcome.

use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use qwire_model::backend::LOGIT_ROWS;
use qwire_model::batch::PAGE;
use qwire_model::{
    Backend, Batch, Experts, Halt, KvType, Layer, Limits, LoadError, PageForm, PageId, Phase,
    Poison, Ranked, Role, Shape, Tap, Weights,
};

use crate::desk::{Desk, LEAST_WIDE, Part};
use crate::device::{Address, Device, Stream};
use crate::host::Sharing;
use crate::kernel::{COLUMNS, EXPERTS, WIDE};
use crate::matrix::Matrix;
use crate::workspace::{Pieces, Workspace, deepest, tiles};
use crate::{Choice, Gpu, Reserved};

/// Channels of a head that kernels have room for.
const MAX_HEAD_DIM: usize = 256;
/// Visits of an expert, on average, from which on a wide tile is worth its room.
const LEAST_VISITS: usize = WIDE / 8;
/// Experts of a row, each chosen by a lane.
const MAX_USED: usize = 32;
/// Blocks of a grid along y or z.
const MAX_BLOCKS: usize = 65_535;

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
    } else if limits.rows.max(tiles(shape, limits.rows, COLUMNS)) > MAX_BLOCKS {
        let rows = limits.rows;
        format!("steps of {rows} rows cannot run on {kind}: take a smaller --chunk")
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
        assert!(reserved.deepest <= reserved.space.splits, "no deeper than was reserved");
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
