//! Split: the names and the agreement of the files of a model that was cut into several.
//!
//! ```text
//! NAME-00001-of-00003.gguf    split.no 0, split.count 3, and the metadata of the model
//! NAME-00002-of-00003.gguf    split.no 1, split.count 3
//! NAME-00003-of-00003.gguf    split.no 2, split.count 3
//! ```
//!
//! Every path is made from the path of the first file and a number: nothing inside a file can
//! lead to another folder.

use std::path::{Path, PathBuf};

use crate::ALIGNMENT_KEY;
use crate::error::{Error, quoted};
use crate::metadata::Metadata;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
const MAX_COUNT: u64 = 99_999;

/// A model in several files.
#[derive(Debug, PartialEq)]
pub(crate) struct Split {
    folder: PathBuf,
    stem: String,
    count: u32,
}

impl Split {
    /// The split that the file of `metadata` is the first of; `None` where it stands alone.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Split>, Error> {
        let count = metadata.u64(COUNT)?.unwrap_or(1);
        let no = metadata.u64(NO)?.unwrap_or(0);
        if count == 0 || count > MAX_COUNT {
            let problem = format!("found {count}, accepted: 1 to {MAX_COUNT}");
            return Err(metadata.invalid(COUNT, problem));
        }
        if no >= count {
            let problem = format!("found {no}, accepted: 0 to {} (of {COUNT})", count - 1);
            return Err(metadata.invalid(NO, problem));
        }
        if count == 1 {
            return Ok(None);
        }
        let Some(path) = metadata.path() else {
            let problem = format!("one file of {count}; accepted in memory: a model in one piece");
            return Err(metadata.invalid(COUNT, problem));
        };
        let expected = |stem: &str| format!("{stem}-{:05}-of-{count:05}.gguf", no + 1);
        let Some((stem, ..)) = parse_name(path).filter(|&(_, n, of)| n == no + 1 && of == count)
        else {
            let name = expected("NAME");
            let problem = format!("file {} of {count} must be named {name}", no + 1);
            return Err(metadata.invalid(COUNT, problem));
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let split = Split { folder, stem: stem.into(), count: count as u32 };
        if no > 0 {
            let first = split.path(0);
            let problem = format!(
                "this is file {} of {count} of a split model; open the first: {}",
                no + 1,
                quoted(&first.to_string_lossy())
            );
            return Err(metadata.invalid(NO, problem));
        }
        Ok(Some(split))
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The path of file number `no`, counted from 0.
    pub(crate) fn path(&self, no: u32) -> PathBuf {
        self.folder.join(format!("{}-{:05}-of-{:05}.gguf", self.stem, no + 1, self.count))
    }

    /// Proves that `other`, the metadata of file `no`, belongs to the model of `first`: it says
    /// so, and says nothing else that `first` does not. Alignment is a matter of each file.
    pub(crate) fn check(&self, no: u32, first: &Metadata, other: &Metadata) -> Result<(), Error> {
        for (key, accepted) in [(NO, no), (COUNT, self.count)] {
            let found = other.require_u64(key)?;
            if found != u64::from(accepted) {
                let problem = format!("found {found}, accepted: {accepted} (from the file's name)");
                return Err(other.invalid(key, problem));
            }
        }
        for (key, found) in other.iter().filter(|(key, _)| ![NO, ALIGNMENT_KEY].contains(key)) {
            let accepted = match first.get(key) {
                // Types may differ in files of different tools, numbers may not.
                Some(value) if value == found => continue,
                Some(value) if value.integer().is_some() && value.integer() == found.integer() => {
                    continue;
                }
                Some(value) => value.to_string(),
                None => "nothing".into(),
            };
            let first = quoted(&self.path(0).to_string_lossy());
            let problem = format!("found {found}, but {first}, the first file, has {accepted}");
            return Err(other.invalid(key, problem));
        }
        Ok(())
    }

    /// Proves that the files hold as many tensors together as the first announces.
    pub(crate) fn check_tensors(first: &Metadata, found: usize) -> Result<(), Error> {
        match first.u64(TENSORS)? {
            Some(n) if n != found as u64 => {
                Err(first.invalid(TENSORS, format!("found {n}, but the files hold {found}")))
            }
            _ => Ok(()),
        }
    }
}

/// Splits `STEM-00002-of-00005.gguf` into stem, number and count.
fn parse_name(path: &Path) -> Option<(&str, u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (name, count) = name.rsplit_once("-of-")?;
    let (stem, no) = name.rsplit_once('-')?;
    let number = |digits: &str| {
        let five = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        if five { digits.parse().ok() } else { None }
    };
    Some((stem, number(no)?, number(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |path: &str, expected: Option<(&str, u64, u64)>| {
            assert_eq!(parse_name(Path::new(path)), expected, "{path}");
        };
        check("a/m-00002-of-00005.gguf", Some(("m", 2, 5)));
        check("q-of-x-00001-of-00001.gguf", Some(("q-of-x", 1, 1)));
        check("-00001-of-00002.gguf", Some(("", 1, 2)));
        check("m.gguf", None);
        check("m-00001-of-00002", None);
        check("m-1-of-2.gguf", None);
        check("m-+0001-of-00002.gguf", None);
        check("m-00001-of-00002.gguf/..", None);
    }

    #[test]
    fn paths_stay_in_the_folder() {
        let split = Split { folder: "dir".into(), stem: "m".into(), count: 12 };
        assert_eq!(split.path(0), Path::new("dir/m-00001-of-00012.gguf"));
        assert_eq!(split.path(11), Path::new("dir/m-00012-of-00012.gguf"));
    }
}
