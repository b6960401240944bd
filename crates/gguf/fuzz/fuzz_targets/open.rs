//! Fuzz target: any bytes either open, and can then be read to the end, or give a one-line error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qwire_gguf::{File, Value};

fuzz_target!(|bytes: &[u8]| {
    let file = match File::from_bytes(bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().contains('\n')),
    };
    let metadata = file.metadata();
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some());
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
        let _ = (metadata.u64(key), metadata.f32(key), metadata.i32s(key), metadata.f32s(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert_eq!(strings.len(), strings.count());
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len() as u64, tensor.len_bytes());
        assert!(file.tensor(&tensor.name).is_some());
    }
});
