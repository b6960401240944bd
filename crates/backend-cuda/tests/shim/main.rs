//! The kernels on the CPU, wherever a C++ compiler is: each must give the same bits in any order
//! of threads, and all together must be what the reference says.

mod bits;
mod compiler;
mod conformance;
mod loader;
mod ops;
mod shared;
#[path = "../../../backend-gpu/tests/trial/mod.rs"]
mod trial;
mod wide;
