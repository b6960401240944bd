//! Models to test with: the golden ones, the one in the box, and rewritten golden ones.

use std::path::Path;
use std::sync::Arc;

use qwire_gguf::{Dtype, File, OwnedValue, Tensor, Writer};
use qwire_kernels::quant::format;

/// A file below the root of the repository.
pub fn open(path: &str) -> Arc<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Arc::new(File::open(&root.join(path)).expect("a model"))
}

/// A golden model.
pub fn golden(name: &str) -> Arc<File> {
    open(&format!("golden/{name}.gguf"))
}

/// The same model with its tensors as `edit` leaves their values, in the format that it names.
pub fn rewritten(file: &File, edit: impl Fn(&Tensor, &mut [f32]) -> Dtype) -> Arc<File> {
    let mut writer = Writer::new(file.alignment());
    for (key, value) in file.metadata().iter() {
        writer.metadata(key, OwnedValue::from(value)).expect("a key of a file");
    }
    let mut bytes = Vec::new();
    for tensor in file.tensors() {
        let mut values = vec![0.0; tensor.elements() as usize];
        let from = format(tensor.dtype.id()).expect("a format that runs");
        from.dequantise(file.data(tensor), &mut values);
        let dtype = edit(tensor, &mut values);
        let to = format(dtype.id()).expect("a format that runs");
        let mut out = vec![0; to.row_bytes(values.len())];
        to.quantise(&values, &mut out);
        writer.tensor(&tensor.name, &tensor.dims, dtype).expect("a tensor of a file");
        bytes.push(out);
    }
    let mut data = writer.begin(Vec::new()).expect("memory");
    bytes.iter().for_each(|bytes| data.tensor(bytes).expect("its length"));
    Arc::new(File::from_bytes(data.finish().expect("all tensors")).expect("a file"))
}
