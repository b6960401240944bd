//! Buffers between phases, as they are read and overwritten from outside.

use std::ops::Range;

use qwire_model::Tap;

use crate::desk::Desk;
use crate::device::Device;
use crate::{Choice, Reserved};

impl<D: Device> Desk<'_, D> {
    /// Columns of queries, keys or values in a row of all three.
    pub(crate) fn columns(&self, tap: Tap) -> Range<usize> {
        let (q, kv) = (self.shape().q_dim(), self.shape().kv_dim());
        match tap {
            Tap::Q => 0..q,
            Tap::K => q..q + kv,
            _ => q + kv..q + 2 * kv,
        }
    }

    pub(crate) fn read(&mut self, tap: Tap) -> Vec<f32> {
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

    pub(crate) fn write(&mut self, tap: Tap, values: &[f32]) {
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
