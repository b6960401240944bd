//! What every driver is put to: models, phases against the reference, whole models, and bits that
//! depend on nothing but the tokens. The tests of `backend-cuda` and `backend-wgpu` have it in.

pub mod attention;
pub mod best;
pub mod codes;
pub mod models;
pub mod phases;
pub mod products;
pub mod shared;
pub mod whole;
