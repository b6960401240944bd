//! Models for the tests: the golden ones, changed copies of them, and synthetic ones.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs, process};

use qwire_gguf::{Dtype, File, OwnedValue, Writer};

use crate::binary::qwire;

/// A golden file.
pub fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name);
    path.to_str().expect("the path is text").to_string()
}

/// A folder that is gone after the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("qwire-cli-{name}-{}", process::id()));
        // Left by a killed run, or absent.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is text").to_string()
    }

    /// A file of these bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("a temporary file");
        self.path(name)
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tensor of a changed copy: its bytes are cut or filled up with zeros to what the shape takes.
pub struct Entry {
    pub name: String,
    pub dims: Vec<u64>,
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

/// A copy of a golden file with other metadata and tensors.
pub struct Copy {
    pub metadata: Vec<(String, OwnedValue)>,
    pub tensors: Vec<Entry>,
}

impl Copy {
    pub fn of(name: &str) -> Self {
        let file = File::open(Path::new(&golden(name))).expect("a golden file");
        let metadata = file.metadata().iter().map(|(key, value)| (key.to_string(), value.into()));
        let entry = |tensor: &qwire_gguf::Tensor| Entry {
            name: tensor.name.clone(),
            dims: tensor.dims.clone(),
            dtype: tensor.dtype,
            bytes: file.data(tensor).to_vec(),
        };
        Self { metadata: metadata.collect(), tensors: file.tensors().iter().map(entry).collect() }
    }

    pub fn set(&mut self, key: &str, value: impl Into<OwnedValue>) -> &mut Self {
        self.metadata.retain(|(old, _)| old != key);
        self.metadata.push((key.into(), value.into()));
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut Entry {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the tensor is there")
    }

    /// The header and directory, and the size of the whole.
    pub fn head(&self) -> (Vec<u8>, u64) {
        let writer = self.writer();
        let len = writer.len_bytes();
        let mut bytes = Vec::new();
        // Data that is never finished leaves what was written.
        writer.begin(&mut bytes).expect("memory takes everything");
        (bytes, len)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut data = self.writer().begin(Vec::new()).expect("memory takes everything");
        for tensor in &self.tensors {
            let values: u64 = tensor.dims.iter().product();
            let len = values / tensor.dtype.block_values() * tensor.dtype.block_bytes();
            let mut bytes = tensor.bytes.clone();
            bytes.resize(len as usize, 0);
            data.tensor(&bytes).expect("the declared size");
        }
        data.finish().expect("every tensor is there")
    }

    fn writer(&self) -> Writer {
        let mut writer = Writer::default();
        for (key, value) in &self.metadata {
            writer.metadata(key, value.clone()).expect("a key of its own");
        }
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, &tensor.dims, tensor.dtype).expect("a shape of its own");
        }
        writer
    }
}

/// A synthetic model that takes its time: `tiny-moe`, written once for all tests.
pub fn tiny_moe() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let name = format!("qwire-tiny-moe-{}.gguf", env!("CARGO_PKG_VERSION"));
        let path = env::temp_dir().join(name).to_str().expect("the path is text").to_string();
        let outcome = qwire(&["synth", "tiny-moe", "-o", &path, "--force"]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        path
    });
    &PATH
}
