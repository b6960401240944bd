//! Matrices on a device: planes of weights, or the file's own rows where they stay on the host.

use qwire_model::{LoadError, Role, Weights};

use crate::device::{Address, Args, Device};
use crate::planes::{Layout, PLANES};

/// Planes begin at multiples of this.
const ALIGN: usize = 256;

/// One matrix, or one per expert.
pub struct Matrix {
    pub(crate) rows: usize,
    pub(crate) k: usize,
    format: usize,
    planes: [Address; PLANES],
    /// Of one expert's weights, or of all where there is none.
    pub(crate) bytes: usize,
    /// The file's rows, of what takes no memory of the device: an embedding, which is looked up,
    /// and what a host computes with.
    pub(crate) elsewhere: Option<Weights>,
}

impl Matrix {
    /// Packs a tensor and sends it.
    pub(crate) fn load<D: Device>(
        weights: Weights,
        role: Role,
        device: &mut D,
    ) -> Result<Self, LoadError> {
        let mut layout = Layout::of(&weights, D::KIND)?;
        let (rows, k) = (weights.rows, weights.k);
        if role == Role::Embedding {
            return Ok(Self::elsewhere(weights));
        }
        if role == Role::Router && weights.format.quantised {
            layout = Layout::floats();
        }
        let row_bytes = layout.row_bytes(k);
        let sizes = row_bytes.map(|bytes| (weights.count * rows * bytes).next_multiple_of(ALIGN));
        let mut planes = [Address::NONE; PLANES];
        let mut end = device
            .allocate(sizes.iter().sum())
            .map_err(|error| LoadError(format!("tensor `{}`: {error}", weights.name())))?;
        for (plane, size) in planes.iter_mut().zip(sizes) {
            *plane = end;
            end = end.plus(size);
        }
        layout.pack(&weights, |first, packed| {
            for ((plane, bytes), packed) in planes.iter().zip(row_bytes).zip(packed) {
                if !packed.is_empty() {
                    device.upload(plane.plus(first * bytes), packed);
                }
            }
        });
        let bytes = rows * row_bytes.iter().sum::<usize>();
        Ok(Self { rows, k, format: layout.number(), planes, bytes, elsewhere: None })
    }

    /// Whether its weights are codes with scales, which matrix units multiply.
    pub(crate) fn is_coded(&self) -> bool {
        Layout::is_coded(self.format)
    }

    /// One of which the device has nothing.
    pub(crate) fn elsewhere(weights: Weights) -> Self {
        let (rows, k, planes) = (weights.rows, weights.k, [Address::NONE; PLANES]);
        Self { rows, k, format: 0, planes, bytes: 0, elsewhere: Some(weights) }
    }

    /// `Matrix` as kernels are told of it.
    pub(crate) fn put(&self, args: Args) -> Args {
        assert!(self.elsewhere.is_none(), "only what lies on the device is multiplied there");
        let args = self.planes.iter().fold(args, |args, plane| args.address(*plane));
        args.count(self.format).count(self.rows).count(self.k).skip(4)
    }
}
