//! File: one model as the rest of the system sees it, whether it lies in one file or in several.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::error::Error;
use crate::mapping::Source;
use crate::metadata::Metadata;
use crate::shard::Shard;
use crate::split::Split;
use crate::tensor::{Tensor, tensor_error};

/// So many bytes at either end of a tensor tell it from another.
const EDGE_BYTES: usize = 4096;

/// An open model: its metadata, its tensor directory and the bytes of its tensors.
pub struct File {
    shards: Vec<Shard>,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    /// Indexes of `tensors`, by ascending name.
    by_name: Vec<u32>,
}

impl File {
    /// Maps the file at `path`, and the other files of its split where it is the first of one.
    pub fn open(path: &Path) -> Result<File, Error> {
        File::read(Source::open(path)?)
    }

    /// A model in memory, or one that is part of the program.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<File, Error> {
        File::read(Source::from_bytes(bytes.into())?)
    }

    fn read(source: Source) -> Result<File, Error> {
        let mut tensors = Vec::new();
        let (shard, metadata) = Shard::read(source, 0, &mut tensors)?;
        let mut shards = vec![shard];
        if let Some(split) = Split::of(&metadata)? {
            for no in 1..split.count() {
                let ordinal = || format!("file {} of {}", no + 1, split.count());
                let source = Source::open(&split.path(no)).map_err(|error| error.about(ordinal))?;
                let (shard, other) = Shard::read(source, no, &mut tensors)?;
                split.check(no, &metadata, &other)?;
                shards.push(shard);
            }
            Split::check_tensors(&metadata, tensors.len())?;
        }
        let mut file = File { shards, metadata, tensors, by_name: Vec::new() };
        file.index()?;
        Ok(file)
    }

    /// Sorts the tensors by name, and finds names that appear twice.
    fn index(&mut self) -> Result<(), Error> {
        let tensor = |i: u32| &self.tensors[i as usize];
        let mut by_name: Vec<u32> = (0..self.tensors.len() as u32).collect();
        by_name.sort_unstable_by(|&a, &b| tensor(a).name.cmp(&tensor(b).name).then(a.cmp(&b)));
        for pair in by_name.array_windows() {
            let [first, second] = pair.map(tensor);
            if first.name == second.name {
                let place = match first.shard {
                    shard if shard == second.shard => String::new(),
                    shard => format!(" of file {} of the split", shard + 1),
                };
                let at = first.entry_at;
                let problem = format!("appears twice; the first is at byte {at}{place}");
                let path = self.shard(second).source.path();
                return Err(tensor_error(second, problem).in_file(path));
            }
        }
        self.by_name = by_name;
        Ok(())
    }

    /// The keys and values; of a split, those of the first file, which the others repeat at most.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the directory.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let order = |&i: &u32| self.tensors[i as usize].name.as_str().cmp(name);
        let found = self.by_name.binary_search_by(order).ok()?;
        Some(&self.tensors[self.by_name[found] as usize])
    }

    /// The bytes of a tensor of this file, exactly [`Tensor::len_bytes`] of them.
    pub fn data(&self, tensor: &Tensor) -> &[u8] {
        &self.shard(tensor).source.bytes()[tensor.start as usize..][..tensor.len_bytes() as usize]
    }

    /// Says that all of a tensor's bytes will be read, in order.
    pub fn stream(&self, tensor: &Tensor) {
        self.shard(tensor).source.stream(within(tensor, 0..tensor.len_bytes() as usize));
    }

    /// Says that some of a tensor's bytes will not be read soon: their memory is free for others,
    /// that of this process and that of the system's cache of the file.
    pub fn release(&self, tensor: &Tensor, bytes: Range<usize>) {
        self.shard(tensor).source.release(within(tensor, bytes));
    }

    /// Hands out what tells this model from any other without reading all of it: of each file its
    /// length and everything before the data, of each tensor the first and last 4 KB.
    pub fn identify(&self, mut take: impl FnMut(&[u8])) {
        for shard in &self.shards {
            take(&shard.source.len_bytes().to_le_bytes());
            take(&shard.source.bytes()[..shard.head_bytes]);
        }
        let edges = self.tensors.iter().flat_map(|tensor| {
            let len = tensor.len_bytes() as usize;
            let (head, tail) = (EDGE_BYTES.min(len), len.saturating_sub(EDGE_BYTES));
            [(tensor, 0..head), (tensor, tail..len)]
        });
        for (tensor, edge) in edges.clone() {
            self.shard(tensor).source.prefetch(within(tensor, edge));
        }
        edges.for_each(|(tensor, edge)| take(&self.data(tensor)[edge]));
    }

    /// An error about a tensor, for checks that only its user can make:
    /// "model.gguf: tensor `x`: `problem` [at byte N]".
    pub fn invalid(&self, tensor: &Tensor, problem: impl fmt::Display) -> Error {
        tensor_error(tensor, problem.to_string()).in_file(self.shard(tensor).source.path())
    }

    /// The path it was opened with; `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.metadata.path()
    }

    /// The paths of all its files, in order; none in memory.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().filter_map(|shard| shard.source.path())
    }

    /// The size of all its files.
    pub fn len_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.source.len_bytes()).sum()
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.shards[0].version
    }

    /// The alignment of tensor data, in bytes.
    pub fn alignment(&self) -> u64 {
        self.shards[0].alignment
    }

    /// How many files it lies in.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    fn shard(&self, tensor: &Tensor) -> &Shard {
        &self.shards[tensor.shard as usize]
    }
}

/// Where in its file some bytes of a tensor lie.
fn within(tensor: &Tensor, bytes: Range<usize>) -> Range<usize> {
    assert!(bytes.end as u64 <= tensor.len_bytes(), "bytes of the tensor");
    let start = tensor.start as usize;
    start + bytes.start..start + bytes.end
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path())
            .field("keys", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
