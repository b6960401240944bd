//! What the writer writes the reader reads: every kind, every dtype, splits, and the exact bytes.

use std::fs;
use std::path::{Path, PathBuf};

use qwire_gguf::{Dtype, File, Kind, OwnedArray, OwnedValue, Value, Writer};

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("qwire-gguf-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn error(found: Result<File, qwire_gguf::Error>) -> String {
    let line = found.expect_err("an error").to_string();
    assert!(!line.contains('\n'), "more than one line: {line:?}");
    line
}

/// One value of every kind, and one array of every kind.
fn values() -> Vec<(String, OwnedValue)> {
    let nested = {
        // The writer has no way to spell an array of arrays; it copies one that a file has.
        let array = [&[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 6][..], &[8, 0, 0, 0], &[0; 8]];
        let entry = [&1u64.to_le_bytes()[..], b"n", &[9, 0, 0, 0, 9, 0, 0, 0, 2], &[0; 7]];
        let head = [b"GGUF\x03\0\0\0".as_slice(), &[0; 8], &1u64.to_le_bytes()];
        let bytes = [head.concat(), entry.concat(), array.concat()].concat();
        let file = File::from_bytes(bytes).unwrap();
        OwnedValue::from(file.metadata().get("n").unwrap())
    };
    let values: Vec<OwnedValue> = vec![
        0xfeu8.into(),
        (-2i8).into(),
        0xfedcu16.into(),
        (-300i16).into(),
        0xfedc_ba98u32.into(),
        (-70_000i32).into(),
        1.5e-3f32.into(),
        true.into(),
        false.into(),
        "".into(),
        "Grüße, 世界".into(),
        u64::MAX.into(),
        i64::MIN.into(),
        1e-300f64.into(),
        vec![1u8, 255].into(),
        vec![-1i8].into(),
        vec![1u16, 2].into(),
        vec![-1i16].into(),
        vec![1u32; 100].into(),
        vec![-1i32, 7].into(),
        vec![f32::INFINITY, -0.0].into(),
        vec![true, false].into(),
        OwnedArray::strings(["a", "", "é"]).into(),
        vec![u64::MAX].into(),
        vec![i64::MIN].into(),
        vec![f64::MAX].into(),
        Vec::<u32>::new().into(),
        nested,
    ];
    values.into_iter().enumerate().map(|(i, value)| (format!("key.{i}"), value)).collect()
}

/// Bytes that differ from tensor to tensor.
fn data(seed: usize, len: u64) -> Vec<u8> {
    (0..len).map(|i| (i as usize * 7 + seed * 31) as u8).collect()
}

fn shapes() -> Vec<(String, Vec<u64>, Dtype)> {
    let mut shapes = vec![];
    for &dtype in Dtype::ALL {
        let row = 2 * dtype.block_values();
        for dims in [vec![row], vec![row, 3], vec![row, 2, 3], vec![row, 1, 2, 2]] {
            shapes.push((format!("{dtype}.{}", dims.len()), dims, dtype));
        }
    }
    shapes
}

fn model(alignment: u64) -> Vec<u8> {
    let mut writer = Writer::new(alignment);
    for (key, value) in values() {
        writer.metadata(&key, value).unwrap();
    }
    for (name, dims, dtype) in shapes() {
        writer.tensor(&name, &dims, dtype).unwrap();
    }
    let len = writer.len_bytes();
    let mut data_section = writer.begin(vec![]).unwrap();
    for (i, (_, dims, dtype)) in shapes().iter().enumerate() {
        let elements: u64 = dims.iter().product();
        let bytes = data(i, elements / dtype.block_values() * dtype.block_bytes());
        for chunk in bytes.chunks(i + 1) {
            data_section.write(chunk).unwrap();
        }
    }
    let bytes = data_section.finish().unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

fn check_model(file: &File, alignment: u64) {
    assert_eq!((file.version(), file.alignment(), file.shards()), (3, alignment, 1));
    let metadata = file.metadata();
    let extra = usize::from(alignment != 32);
    assert_eq!(metadata.len(), values().len() + extra);
    for ((key, expected), (found_key, found)) in values().iter().zip(metadata.iter().skip(extra)) {
        assert_eq!((found_key, found), (key.as_str(), expected.borrow()));
        assert_eq!(metadata.get(key), Some(expected.borrow()));
    }
    assert_eq!(file.tensors().len(), shapes().len());
    for (i, (name, dims, dtype)) in shapes().iter().enumerate() {
        let tensor = file.tensor(name).expect("the tensor is there");
        assert_eq!(tensor, &file.tensors()[i]);
        assert_eq!((&tensor.dims, tensor.dtype), (dims, *dtype));
        assert_eq!(file.data(tensor), data(i, tensor.len_bytes()));
    }
    assert!(file.tensor("none").is_none());
}

#[test]
fn every_kind_dtype_and_rank() {
    let kinds: Vec<Kind> = values().iter().map(|(_, value)| value.borrow().kind()).collect();
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)));
    for alignment in [1, 8, 32, 64, 4096] {
        let bytes = model(alignment);
        assert_eq!(bytes, model(alignment), "the same calls give the same bytes");
        check_model(&File::from_bytes(bytes).unwrap(), alignment);
    }
}

#[test]
fn a_mapped_file() {
    let folder = Folder::new("mapped");
    let bytes = model(32);
    let path = folder.write("model.gguf", &bytes);
    let file = File::open(&path).unwrap();
    check_model(&file, 32);
    assert_eq!(file.len_bytes(), bytes.len() as u64);
    assert_eq!(file.path(), Some(path.as_path()));

    let other = folder.write("other.gguf", b"something else");
    fs::rename(other, &path).unwrap();
    check_model(&file, 32);
}

#[test]
fn nested_arrays_are_read_and_copied() {
    let file = File::from_bytes(model(32)).unwrap();
    let (_, last) = file.metadata().iter().last().unwrap();
    let Value::Array(outer) = last else { panic!("an array, not {last}") };
    let inner: Vec<_> = outer
        .iter()
        .map(|value| match value {
            Value::Array(array) => (array.kind(), array.iter().collect::<Vec<_>>()),
            other => panic!("an array, not {other}"),
        })
        .collect();
    let expected = [(Kind::U8, vec![Value::U8(5), Value::U8(6)]), (Kind::String, vec![])];
    assert_eq!(inner, expected);
}

/// A file with one key and one tensor, spelt out by hand.
fn golden(version: u8) -> Vec<u8> {
    let parts: &[&[u8]] = &[
        b"GGUF",
        &[version, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0], // tensors
        &[2, 0, 0, 0, 0, 0, 0, 0], // keys
        &[20, 0, 0, 0, 0, 0, 0, 0],
        b"general.architecture",
        &[8, 0, 0, 0], // a string
        &[5, 0, 0, 0, 0, 0, 0, 0],
        b"qwen3",
        &[3, 0, 0, 0, 0, 0, 0, 0],
        b"ids",
        &[9, 0, 0, 0], // an array
        &[5, 0, 0, 0], // of i32
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 255, 255, 255, 255],
        &[4, 0, 0, 0, 0, 0, 0, 0],
        b"norm",
        &[2, 0, 0, 0],             // dimensions
        &[3, 0, 0, 0, 0, 0, 0, 0], // of a row
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0],             // F32
        &[0, 0, 0, 0, 0, 0, 0, 0], // offset
        &[0; 12],                  // 148 bytes so far, 160 is a multiple of 32
        &[0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64],
        &[0; 20],
    ];
    parts.concat()
}

#[test]
fn the_exact_bytes() {
    let mut writer = Writer::new(32);
    writer.metadata("general.architecture", "qwen3").unwrap();
    writer.metadata("ids", vec![1i32, -1]).unwrap();
    writer.tensor("norm", &[3, 1], Dtype::F32).unwrap();
    let mut data = writer.begin(vec![]).unwrap();
    data.tensor(&golden(3)[160..172]).unwrap();
    assert_eq!(data.finish().unwrap(), golden(3));
}

#[test]
fn version_2_and_trailing_bytes() {
    for (version, tail) in [(2, 0), (3, 0), (3, 4097)] {
        let mut bytes = golden(version);
        bytes.extend(vec![0xaa; tail]);
        let file = File::from_bytes(bytes).unwrap();
        assert_eq!(file.version(), u32::from(version));
        assert_eq!(file.metadata().require_str("general.architecture").unwrap(), "qwen3");
        assert_eq!(file.metadata().i32s("ids").unwrap().unwrap(), [1, -1]);
        let norm = &file.tensors()[0];
        assert_eq!((norm.elements(), norm.rows(), norm.len_bytes()), (3, 1, 12));
        assert_eq!(file.data(norm), &golden(3)[160..172]);
        let error = file.invalid(norm, "found [3, 1], accepted: [3]").to_string();
        assert_eq!(error, "tensor `norm`: found [3, 1], accepted: [3] [at byte 104]");
    }
}

#[test]
fn padding_after_the_last_tensor_is_not_needed() {
    let bytes = golden(3);
    assert!(File::from_bytes(bytes[..172].to_vec()).is_ok());
    assert!(error(File::from_bytes(bytes[..171].to_vec())).contains("truncated?"));
}

/// Bytes of one file of a split; `extra` is added to its metadata.
fn shard(no: u16, count: u16, tensors: &[&str], extra: &[(&str, OwnedValue)]) -> Vec<u8> {
    let mut writer = Writer::new(32);
    writer.metadata("split.no", no).unwrap().metadata("split.count", count).unwrap();
    for (key, value) in extra {
        writer.metadata(key, value.clone()).unwrap();
    }
    for name in tensors {
        writer.tensor(name, &[4], Dtype::I8).unwrap();
    }
    let mut data = writer.begin(vec![]).unwrap();
    for name in tensors {
        data.tensor(&[name.as_bytes()[0]; 4]).unwrap();
    }
    data.finish().unwrap()
}

#[test]
fn a_split_model_is_one_model() {
    let folder = Folder::new("split");
    let total = ("split.tensors.count", OwnedValue::I32(4));
    let name = ("general.name", OwnedValue::from("m"));
    let first =
        folder.write("m-00001-of-00003.gguf", &shard(0, 3, &["d", "a"], &[total.clone(), name]));
    let last = folder.write("m-00003-of-00003.gguf", &shard(2, 3, &["b"], &[total]));
    assert!(
        error(File::open(&first)).ends_with("m-00002-of-00003.gguf: file 2 of 3: no such file")
    );

    folder.write("m-00002-of-00003.gguf", &shard(1, 3, &["c"], &[]));
    let file = File::open(&first).unwrap();
    assert_eq!((file.shards(), file.metadata().len()), (3, 4));
    let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["d", "a", "c", "b"]);
    for name in names {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(file.data(tensor), [name.as_bytes()[0]; 4]);
    }
    let sizes =
        fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    assert_eq!(file.len_bytes(), sizes.sum::<u64>());

    let line = error(File::open(&last));
    let words = "key `split.no`: this is file 3 of 3 of a split model; open the first: `";
    assert!(line.contains(words) && line.contains("m-00001-of-00003.gguf`"), "{line}");
    let other = folder.write("renamed.gguf", &fs::read(&first).unwrap());
    assert!(error(File::open(&other)).contains("must be named NAME-00001-of-00003.gguf"));
    let line = error(File::from_bytes(fs::read(&first).unwrap()));
    assert!(line.contains("accepted in memory: a model in one piece"), "{line}");
}

#[test]
fn files_of_a_split_must_agree() {
    let folder = Folder::new("disagree");
    let check = |first: &[u8], second: &[u8], words: &str| {
        let path = folder.write("m-00001-of-00002.gguf", first);
        folder.write("m-00002-of-00002.gguf", second);
        let line = error(File::open(&path));
        assert!(line.contains(words), "{line:?} lacks {words:?}");
    };
    let first = |extra: &[(&str, OwnedValue)]| shard(0, 2, &["a"], extra);
    let second = |extra: &[(&str, OwnedValue)]| shard(1, 2, &["b"], extra);
    let file_2 = "m-00002-of-00002.gguf: key `";
    check(&first(&[]), &shard(0, 2, &["b"], &[]), "`split.no`: found 0, accepted: 1");
    check(&first(&[]), &shard(1, 3, &["b"], &[]), "`split.count`: found 3, accepted: 2");
    check(&first(&[]), &golden(3), "m-00002-of-00002.gguf: missing key `split.no`");
    check(&first(&[]), &second(&[("x", 1u8.into())]), &format!("{file_2}x`: found 1, but `"));
    check(&first(&[("x", 2u8.into())]), &second(&[("x", 1u8.into())]), "the first file, has 2");
    let total = |n: i32| [("split.tensors.count", OwnedValue::from(n))];
    check(&first(&total(3)), &second(&[]), "split.tensors.count`: found 3, but the files hold 2");
    check(&first(&total(-1)), &second(&[]), "split.tensors.count`: found -1, accepted: 0 to");
    let twice = "tensor `a`: appears twice; the first is at byte 71 of file 1 of the split";
    check(&first(&[]), &shard(1, 2, &["b", "a"], &[]), twice);
    check(&shard(0, 0, &[], &[]), &[0], "`split.count`: found 0, accepted: 1 to 99999");
    check(&shard(7, 2, &[], &[]), &[0], "`split.no`: found 7, accepted: 0 to 1");

    let lone = shard(0, 1, &["a"], &[]);
    assert_eq!(File::open(&folder.write("any.gguf", &lone)).unwrap().shards(), 1);
}

#[test]
fn what_cannot_be_opened_is_named_in_plain_words() {
    let folder = Folder::new("plain");
    let check = |path: &Path, words: &str| {
        let line = error(File::open(path));
        assert_eq!(line, format!("{}: {words}", path.display()));
    };
    check(&folder.0.join("missing.gguf"), "no such file");
    check(&folder.0, "is a directory, not a GGUF file");
    check(&folder.write("empty.gguf", b""), "is empty (0 bytes), not a GGUF file");
    #[cfg(unix)]
    check_unix(&folder, check);
}

#[cfg(unix)]
fn check_unix(folder: &Folder, check: impl Fn(&Path, &str)) {
    use std::os::unix::fs::PermissionsExt;
    check(Path::new("/dev/null"), "is a device, not a regular file");
    let fifo = folder.0.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is part of every Unix");
    check(&fifo, "is a FIFO, not a regular file");
    let closed = folder.write("closed.gguf", b"GGUF");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    match fs::File::open(&closed) {
        Ok(_) => eprintln!("skipped: this user may read files without permission"),
        Err(_) => check(&closed, "no permission to read it"),
    }
}

/// Two tensors of 20,000 bytes.
fn pair() -> Vec<u8> {
    let mut writer = Writer::new(32);
    writer.metadata("general.name", "pair").unwrap();
    for name in ["a", "b"] {
        writer.tensor(name, &[20_000], Dtype::I8).unwrap();
    }
    let mut section = writer.begin(vec![]).unwrap();
    section.tensor(&data(1, 20_000)).unwrap();
    section.tensor(&data(2, 20_000)).unwrap();
    section.finish().unwrap()
}

#[test]
fn a_model_is_told_by_its_head_its_length_and_the_edges_of_its_tensors() {
    let marks = |bytes: &[u8]| {
        let mut marks: Vec<u8> = Vec::new();
        File::from_bytes(bytes.to_vec()).unwrap().identify(|part| marks.extend(part));
        marks
    };
    let bytes = pair();
    let known = marks(&bytes);
    assert!(known.len() < 4 * 4096 + 300, "the rest is not read");
    let last = bytes.len() - 20_000;
    let name = bytes.windows(4).position(|part| part == b"pair").unwrap();
    for at in [name, last - 20_000, last - 1, last, last + 4095, bytes.len() - 4096] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(marks(&other) != known, "byte {at}");
    }
    assert!(marks(&[&bytes[..], b"x"].concat()) != known, "the length");
    let mut other = bytes.clone();
    other[last + 10_000] ^= 1;
    assert!(marks(&other) == known, "the middle of a tensor is not looked at");
}

#[test]
fn bytes_that_are_released_leave_memory_and_come_back() {
    let folder = Folder::new("release");
    let mut writer = Writer::new(32);
    writer.tensor("a", &[4 << 20], Dtype::I8).unwrap();
    let mut section = writer.begin(vec![]).unwrap();
    section.tensor(&data(3, 4 << 20)).unwrap();
    let path = folder.write("m.gguf", &section.finish().unwrap());
    let file = File::open(&path).unwrap();
    let tensor = file.tensor("a").unwrap();
    let resident_kb = || -> Option<usize> {
        let maps = fs::read_to_string("/proc/self/smaps").ok()?;
        let ours = maps.split_once(path.to_str().unwrap())?.1;
        let line = ours.lines().find(|line| line.starts_with("Rss:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    file.stream(tensor);
    assert_eq!(file.data(tensor), data(3, 4 << 20));
    let before = resident_kb();
    file.release(tensor, 0..4 << 20);
    if let (Some(before), Some(after)) = (before, resident_kb()) {
        assert!(before > 3000 && after < 300, "{before} kB, then {after} kB");
    }
    assert_eq!(file.data(tensor), data(3, 4 << 20));
}
