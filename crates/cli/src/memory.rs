//! Memory: what this machine can still give, and how much context fits into it.
//!
//! ```text
//! available   MemAvailable, bounded by the memory limit of each control group we are in
//! weights     are mapped: they need not be free, but they must fit
//! margin      scratch and everything else
//! cache       pages of keys and values: what is left, or what was asked for
//! ```
//! On systems that do not say what is available nothing is refused.

use std::fs;
use std::path::Path;

pub use qwire_kernels::attention::PAGE;
use qwire_model::backend::LOGIT_ROWS;
use qwire_model::{KvType, Shape};

use crate::failure::Failure;
use crate::quantity::{self, grouped};

/// Memory for everything but weights and cache, at most.
pub const MARGIN_BYTES: u64 = 256 << 20;
/// Of which a program takes this for itself: tables, threads, connections, blocks of attention.
const PROGRAM_BYTES: u64 = 64 << 20;
/// And this what steps write, where nobody says how many rows they have.
const STEP_BYTES: u64 = 176 << 20;
/// Rows of a step that are enough wherever something else waits; what is written of them fits.
pub const ROWS_BESIDE: usize = 512;
/// More rows than this make no prompt quicker.
const ROWS_MOST: usize = 2048;
/// The longest context where nobody asked for one and what fits is unknown, or unchecked.
pub const BLIND_CONTEXT: usize = 32_768;

/// What a run asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The context, where the user names one.
    pub context: Option<usize>,
    /// The size of the cache, where the user names one.
    pub cache_bytes: Option<u64>,
    /// Its storage.
    pub kv: KvType,
    /// What the rest takes, where it is known better than by [`room`].
    pub scratch_bytes: Option<u64>,
    /// Positions that can ever be used; no more are reserved.
    pub positions: usize,
    /// Whether to refuse what does not fit.
    pub checked: bool,
    /// What the user may try where all else fails.
    pub last_resort: &'static str,
}

/// What a run gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The longest sequence.
    pub context: usize,
    /// Pages to reserve.
    pub pages: usize,
    /// Their size.
    pub cache_bytes: u64,
}

/// The largest context and the pages of a run beside weights of this size.
pub fn plan(
    shape: &Shape,
    weights: u64,
    available: Option<u64>,
    wish: Wish,
) -> Result<Plan, Failure> {
    let page = shape.page_bytes(wish.kv) as u64;
    let available = available.filter(|_| wish.checked);
    let room = available.map(|available| match wish.scratch_bytes {
        Some(scratch) => available.saturating_sub(weights).saturating_sub(scratch),
        None => room(available, weights),
    });
    if let (Some(room), Some(available)) = (room, available)
        && room < page
    {
        return Err(Failure::new(format!(
            "the weights take {}, but only {} of memory are available",
            quantity::bytes(weights),
            quantity::bytes(available)
        ))
        .hint(format!("free memory, take a smaller quantisation, or {}", wish.last_resort)));
    }
    if let (Some(room), Some(budget)) = (room, wish.cache_bytes)
        && budget > room
    {
        return Err(too_large("--kv-memory asks for", budget, room, wish));
    }
    let budget = wish.cache_bytes.map(|bytes| bytes / page);
    if budget == Some(0) {
        let page = quantity::bytes(page);
        return Err(Failure::new(format!("--kv-memory holds no page of {PAGE} tokens ({page})")));
    }
    let context = match wish.context {
        None => {
            let blind = available.is_none() && budget.is_none();
            let most = if blind { BLIND_CONTEXT } else { shape.context };
            let pages = budget.or(room.map(|room| room / page)).unwrap_or(u64::MAX);
            let fits = usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(PAGE);
            shape.context.min(fits).min(most)
        }
        Some(asked) => asked.min(shape.context),
    };
    let bytes_of = |positions| cache_bytes(shape, positions, wish.kv);
    let (whole, needed) = (bytes_of(context), bytes_of(context.min(wish.positions)));
    if budget.is_some_and(|budget| whole > budget * page) {
        let fault = format!("a context of {} tokens takes", grouped(context as u64));
        let bytes = quantity::bytes(whole);
        return Err(Failure::new(format!("{fault} {bytes}, more than --kv-memory")));
    }
    if let Some(room) = room.filter(|room| needed > *room) {
        return Err(too_large("the context takes", needed, room, wish));
    }
    let positions = context.min(wish.positions.max(1));
    let pages = Shape::pages_for(positions);
    Ok(Plan { context, pages, cache_bytes: bytes_of(positions) })
}

/// What these positions take. The numbers may be a hostile file's, and their product anything.
pub fn cache_bytes(shape: &Shape, positions: usize, kv: KvType) -> u64 {
    (Shape::pages_for(positions) as u64).saturating_mul(shape.page_bytes(kv) as u64)
}

/// Rows of a step that reads a prompt with nothing beside it, where nobody says how many. A weight
/// is read once for all of them.
pub fn quickest_rows(shape: &Shape) -> usize {
    let fits = |rows: &usize| rows.saturating_mul(row_bytes(shape)) as u64 <= STEP_BYTES;
    (ROWS_BESIDE..=ROWS_MOST).rev().step_by(PAGE).find(fits).unwrap_or(ROWS_BESIDE)
}

/// What steps of so many rows write between the phases, about, and the program itself.
pub fn scratch_bytes(shape: &Shape, vocab: usize, rows: usize) -> u64 {
    let logits = 4 * vocab.saturating_mul(LOGIT_ROWS);
    PROGRAM_BYTES + (rows.saturating_mul(row_bytes(shape)).saturating_add(logits)) as u64
}

/// What a step writes of one row, in floats, quantised, and packed in tiles.
fn row_bytes(shape: &Shape) -> usize {
    let visits = shape.routing.used;
    let (hidden, routed) = (shape.hidden, visits * shape.ffn);
    let floats = 3 * hidden + 2 * (shape.q_dim() + shape.kv_dim()) + shape.experts + 4 * visits;
    let narrow = hidden * (1 + visits) * 3 / 2;
    let wide = (shape.q_dim() + routed) * 11 / 2;
    4 * (floats + routed + shape.rotation.dims) + narrow + wide
}

/// What is left for the cache.
pub fn room(available: u64, weights: u64) -> u64 {
    available.saturating_sub(weights).saturating_sub(MARGIN_BYTES.min(available / 8))
}

fn too_large(what: &str, wanted: u64, room: u64, wish: Wish) -> Failure {
    let (wanted, room) = (quantity::bytes(wanted), quantity::bytes(room));
    Failure::new(format!("{what} {wanted} of cache; {room} of memory are left beside the weights"))
        .hint(format!("ask for a smaller --ctx{}, or {}", narrower(wish.kv), wish.last_resort))
}

/// What may be said of caches smaller than this, behind other advice.
pub fn narrower(kv: KvType) -> &'static str {
    match kv {
        KvType::F32 => ", use --kv-type f16 or i8",
        KvType::F16 => ", use --kv-type i8",
        KvType::I8 => "",
    }
}

/// Proves that the cache can be had before anybody allocates it in earnest.
pub fn probe(cache_bytes: u64) -> Result<(), Failure> {
    let len = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
    Vec::<u8>::new().try_reserve_exact(len).map_err(|_| {
        let size = quantity::bytes(cache_bytes);
        Failure::new(format!("the system does not give {size} of memory for the cache"))
            .hint("ask for a smaller --ctx, or for fewer tokens with -n")
    })
}

/// Bytes that can be used without swapping; none where the system does not say.
pub fn available() -> Option<u64> {
    let system = from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(from_groups(Path::new("/sys/fs/cgroup"), &membership).map_or(system, |b| b.min(system)))
}

fn from_meminfo(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The names that the two versions of control groups have for the same things.
struct Names {
    limit: &'static str,
    usage: &'static str,
    cache: &'static str,
    shared: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_cache ",
    shared: "total_shmem ",
};
const V2: Names =
    Names { limit: "memory.max", usage: "memory.current", cache: "file ", shared: "shmem " };

/// The least room in any of our control groups and those above them.
fn from_groups(root: &Path, membership: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (names, base) = match controllers {
            "" => (&V2, root.to_path_buf()),
            v1 if v1.split(',').any(|name| name == "memory") => (&V1, root.join("memory")),
            _ => continue,
        };
        // Inside of a container the path may be the host's; then only the root exists.
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            if let Some(room) = group_room(&base.join(group), names) {
                least = Some(least.map_or(room, |least| least.min(room)));
            }
        }
    }
    least
}

/// Limit − usage, where file pages do not count as used: they make way.
fn group_room(folder: &Path, names: &Names) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(names.limit)?;
    let stat = read("memory.stat").unwrap_or_default();
    let field = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let evictable = field(names.cache).saturating_sub(field(names.shared));
    let used = number(names.usage).unwrap_or(0).saturating_sub(evictable);
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use qwire_kernels::rope::Scaling;
    use qwire_kernels::route::Routing;
    use qwire_model::shape::Rotation;

    const MB: u64 = 1_000_000;

    /// One page of f16 takes 65,536 bytes.
    pub(crate) fn shape() -> Shape {
        Shape {
            architecture: "qwen3",
            layers: 2,
            context: 10_000,
            hidden: 64,
            heads: 2,
            kv_heads: 2,
            head_dim: 64,
            experts: 1,
            routing: Routing { used: 1, normalised: true, scale: 1.0 },
            routed: false,
            ffn: 64,
            eps: 1e-6,
            rotation: Rotation { dims: 64, base: 1e6, scaling: Scaling::None },
        }
    }

    const WISH: Wish = Wish {
        context: None,
        cache_bytes: None,
        kv: KvType::F16,
        scratch_bytes: None,
        positions: usize::MAX,
        checked: true,
        last_resort: "buy more",
    };

    #[track_caller]
    fn context(available: Option<u64>, wish: Wish) -> Result<(usize, usize), String> {
        let plan = plan(&shape(), 100 * MB, available, wish);
        plan.map(|plan| (plan.context, plan.pages)).map_err(|failure| failure.message())
    }

    #[test]
    fn the_context_is_what_fits() {
        assert_eq!(shape().page_bytes(KvType::F16), 65_536);
        let wish = |change: fn(&mut Wish)| {
            let mut wish = WISH;
            change(&mut wish);
            wish
        };
        assert_eq!(context(Some(1000 * MB), WISH), Ok((10_000, 157)));
        assert_eq!(context(None, WISH), Ok((10_000, 157)));
        let little = Some(115 * MB);
        assert_eq!(context(little, wish(|w| w.checked = false)), Ok((10_000, 157)));
        assert_eq!(context(Some(120 * MB), WISH), Ok((4864, 76)));
        assert_eq!(context(Some(120 * MB), wish(|w| w.positions = 65)), Ok((4864, 2)));
        assert_eq!(context(None, wish(|w| w.context = Some(100))), Ok((100, 2)));
        assert_eq!(context(None, wish(|w| w.context = Some(99_999))), Ok((10_000, 157)));
        assert_eq!(context(None, wish(|w| w.cache_bytes = Some(131_072))), Ok((128, 2)));
        let fault = context(Some(90 * MB), WISH).unwrap_err();
        assert!(fault.contains("take 100 MB") && fault.contains("only 90.0 MB"), "{fault}");
        let fault = context(Some(120 * MB), wish(|w| w.context = Some(9000))).unwrap_err();
        assert!(fault.contains("9.24 MB of cache; 5.00 MB of memory"), "{fault}");
        let both = wish(|w| (w.context, w.cache_bytes) = (Some(129), Some(131_072)));
        assert!(context(None, both).unwrap_err().contains("more than --kv-memory"));
        assert!(context(None, wish(|w| w.cache_bytes = Some(1))).is_err());
        assert!(context(Some(120 * MB), wish(|w| w.cache_bytes = Some(1 << 30))).is_err());
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        assert!(probe(1 << 20).is_ok());
        assert!(probe(u64::MAX).is_err());
    }

    #[test]
    fn the_system_is_read() {
        let text = "MemTotal:  100 kB\nMemAvailable:    64 kB\n";
        assert_eq!(from_meminfo(text), Some(65_536));
        assert_eq!(from_meminfo("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn limits_of_control_groups_bound_it() {
        let root = std::env::temp_dir().join(format!("qwire-groups-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "700\n");
        write("a/memory.stat", "anon 200\nfile 500\nshmem 100\n");
        write("memory/c/memory.limit_in_bytes", "50\n");
        write("memory/c/memory.usage_in_bytes", "20\n");
        assert_eq!(from_groups(&root, "0::/a/b\n"), Some(700));
        assert_eq!(from_groups(&root, "0::/elsewhere\n"), None);
        assert_eq!(from_groups(&root, "4:cpu,memory:/c\n0::/a\n"), Some(30));
        assert_eq!(from_groups(&root, "nonsense"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
