//! Meter: how long launches take on a card, each by events before and after it.
//!
//! ```text
//! copies │ event, launch, event, launch, .. event      a chunk
//! ```
//! Copies come first, so that the card is busy until all of the chunk is queued: otherwise short
//! kernels would be as slow as the host is at launching them.
#![allow(unsafe_code)] // calls the driver

use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream};
use qwire_backend_gpu::device::Address;

/// Bytes of each of the two pieces of memory between which is copied.
pub const SCRATCH: usize = 256 << 20;
/// Launches of a chunk.
const CHUNK: usize = 128;
/// How long copies keep the card busy before a chunk: a call of the driver takes some 3 µs, and a
/// chunk is 257 of them.
const LEAD_SECONDS: f64 = 2e-3;
/// Copies of which the quickest counts.
const COPIES: usize = 8;

/// Events, and what is known of copies.
pub struct Meter {
    stream: Arc<CudaStream>,
    scratch: [Address; 2],
    events: Vec<CudaEvent>, // [CHUNK + 2]
    copies: usize,
    /// 10⁹ bytes that a copy reads and writes in a second.
    pub copy_gb_s: f64,
    /// Seconds between two events with nothing between them.
    pub idle: f64,
}

impl Meter {
    /// Measures copies between two pieces of [`SCRATCH`] bytes.
    pub fn start(
        context: &Arc<CudaContext>,
        stream: &Arc<CudaStream>,
        scratch: [Address; 2],
    ) -> Result<Self, DriverError> {
        let event = |_| context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let events: Result<Vec<_>, _> = (0..CHUNK + 2).map(event).collect();
        let stream = stream.clone();
        let (copy_gb_s, idle) = (0.0, 0.0);
        let mut meter = Self { stream, scratch, events: events?, copies: 1, copy_gb_s, idle };
        let mut quickest = f64::INFINITY;
        for _ in 0..COPIES {
            meter.event(0)?;
            meter.copy()?;
            meter.event(1)?;
            quickest = quickest.min(meter.between(0)?);
        }
        meter.copy_gb_s = 2.0 * SCRATCH as f64 / quickest / 1e9;
        meter.copies = (LEAD_SECONDS / quickest).ceil().clamp(1.0, 1000.0) as usize;
        Ok(meter)
    }

    fn event(&self, at: usize) -> Result<(), DriverError> {
        self.events[at].record(&self.stream)
    }

    /// Seconds from one event to the next.
    fn between(&self, at: usize) -> Result<f64, DriverError> {
        Ok(f64::from(self.events[at].elapsed_ms(&self.events[at + 1])?) / 1e3)
    }

    fn copy(&self) -> Result<(), DriverError> {
        let [from, to] = self.scratch;
        // SAFETY: both pieces have this size, and live as long as the card is open.
        unsafe { result::memcpy_dtod_async(to.0, from.0, SCRATCH, self.stream.cu_stream()) }
    }

    /// Seconds of each of so many launches.
    pub fn time(
        &mut self,
        launches: usize,
        launch: impl Fn(usize) -> Result<(), DriverError>,
    ) -> Result<Vec<f64>, DriverError> {
        let mut seconds = Vec::with_capacity(launches);
        for first in (0..launches).step_by(CHUNK) {
            let count = CHUNK.min(launches - first);
            for _ in 0..self.copies {
                self.copy()?;
            }
            self.event(0)?;
            self.event(1)?;
            for at in 0..count {
                launch(first + at)?;
                self.event(at + 2)?;
            }
            self.idle = self.between(0)?;
            for at in 0..count {
                seconds.push(self.between(at + 1)?);
            }
        }
        Ok(seconds)
    }
}
