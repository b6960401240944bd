//! Page: the facts of a file for people.

use std::fmt::{self, Formatter};
use std::path::Path;

use super::check::CheckFacts;
use super::facts::{Facts, MemoryFacts, ModelFacts, SamplingFacts, TemplateFacts, TokenizerFacts};
use super::sidecar::SidecarFacts;
use super::weights::WeightFacts;
use crate::failure::one_line;
use crate::quantity::{bytes, count, grouped};

/// Facts on their way to a terminal.
pub struct Page<'a> {
    pub path: &'a Path,
    pub facts: &'a Facts,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let facts = self.facts;
        let file = &facts.file;
        writeln!(f, "{}", one_line(&self.path.to_string_lossy()))?;
        if let Some(name) = &file.name {
            row(f, "name", one_line(name))?;
        }
        let shards =
            if file.shards == 1 { "1 file".into() } else { format!("{} files", file.shards) };
        let (version, tensors) = (file.version, grouped(file.tensors as u64));
        let size = bytes(file.bytes);
        let alignment = file.alignment;
        let inside = format!("{tensors} tensors, {} keys, alignment {alignment}", file.keys);
        row(f, "file", format!("GGUF {version}, {size} in {shards}, {inside}"))?;
        let architecture = file.architecture.as_deref().map_or("none".into(), one_line);
        row(f, "architecture", architecture)?;
        if let Some(model) = &facts.model {
            self::model(f, model)?;
        }
        weights(f, &facts.weights, facts.model.is_some())?;
        tokenizer(f, &facts.tokenizer)?;
        template(f, &facts.template)?;
        sampling(f, &facts.sampling)?;
        if let Some(memory) = &facts.memory {
            self::memory(f, memory)?;
        }
        if let Some(facts) = &facts.sidecar {
            sidecar(f, facts)?;
        }
        self.tensors(f)?;
        if let Some(check) = &facts.check {
            self::check(f, check)?;
        }
        writeln!(f)?;
        match &facts.runs.why_not {
            None => row(f, "runs here", "yes"),
            Some(why_not) => row(f, "runs here", format!("no: {}", one_line(why_not))),
        }
    }
}

impl Page<'_> {
    fn tensors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for name in &self.facts.unused_tensors {
            row(f, "not used", format!("tensor {}", one_line(name)))?;
        }
        let Some(tensors) = &self.facts.tensors else { return Ok(()) };
        writeln!(f, "\nTensors")?;
        let width = tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0);
        let width = width.min(48);
        for tensor in tensors {
            let dims: Vec<_> = tensor.shape.iter().map(u64::to_string).collect();
            let (name, dims) = (one_line(&tensor.name), dims.join(" × "));
            let (format, size) = (tensor.format, bytes(tensor.bytes));
            writeln!(f, "  {name:<width$}  {format:<8} {size:>9}  {dims}")?;
        }
        Ok(())
    }
}

fn row(f: &mut Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {name:<14} {value}")
}

fn model(f: &mut Formatter<'_>, model: &ModelFacts) -> fmt::Result {
    let (heads, kv, d) = (model.heads, model.kv_heads, model.head_dim);
    row(f, "layers", format!("{} of width {}", model.layers, grouped(model.hidden as u64)))?;
    row(f, "heads", format!("{heads} for queries, {kv} for keys and values, {d} channels each"))?;
    let ffn = grouped(model.ffn as u64);
    if model.routed {
        let (experts, used) = (model.experts, model.experts_used);
        row(f, "experts", format!("{experts} of width {ffn}, {used} for each token"))?;
    } else {
        row(f, "feed forward", format!("dense, width {ffn}"))?;
    }
    row(f, "context", format!("{} tokens", grouped(model.context as u64)))?;
    let (base, dims) = (grouped(model.rope_base as u64), model.rope_dims);
    row(f, "rope", format!("base {base}, {dims} channels, scaling {}", model.rope_scaling))?;
    row(f, "norm epsilon", format!("{:e}", model.norm_epsilon))?;
    if model.vocabulary == 0 {
        return Ok(());
    }
    let head = if model.tied_head { "the embedding" } else { "of its own" };
    row(f, "vocabulary", format!("{} rows, head {head}", grouped(model.vocabulary as u64)))
}

fn weights(f: &mut Formatter<'_>, weights: &WeightFacts, is_model: bool) -> fmt::Result {
    if weights.formats.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nWeights")?;
    let (all, active) = (count(weights.parameters), count(weights.active_parameters));
    if is_model {
        row(f, "parameters", format!("{all}, {active} of them active for each token"))?;
        let share = weights.active_bytes_per_token as f64 / weights.bytes.max(1) as f64 * 100.0;
        let read = bytes(weights.active_bytes_per_token);
        row(f, "each token", format!("reads {read} of {} ({share:.1} %)", bytes(weights.bytes)))?;
    } else {
        row(f, "parameters", all)?;
    }
    for format in &weights.formats {
        let (size, share) = (bytes(format.bytes), format.share * 100.0);
        let (n, values) = (format.tensors, count(format.parameters));
        let line = format!("{size:>9}  {share:5.1} %  {n:>4} tensors, {values} values");
        row(f, format.format, line)?;
    }
    Ok(())
}

fn tokenizer(f: &mut Formatter<'_>, tokenizer: &TokenizerFacts) -> fmt::Result {
    writeln!(f, "\nText")?;
    if let Some(problem) = &tokenizer.problem {
        return row(f, "tokenizer", format!("unusable: {}", one_line(problem)));
    }
    let (tokens, merges) = (grouped(tokenizer.tokens as u64), grouped(tokenizer.merges as u64));
    let splitter = tokenizer.splitter.as_deref().map_or_else(String::new, one_line);
    let ignored = match tokenizer.ignored_merges {
        0 => String::new(),
        n => format!(" ({n} more are of no use)"),
    };
    row(f, "tokenizer", format!("{tokens} tokens, {merges} merges{ignored}, splitter {splitter}"))?;
    let id = |id: Option<u32>| id.map_or("none".into(), |id| id.to_string());
    let (bos, eos, pad) = (id(tokenizer.bos), id(tokenizer.eos), id(tokenizer.pad));
    let starts = if tokenizer.add_bos { " (starts every prompt)" } else { "" };
    row(f, "special ids", format!("bos {bos}{starts}, eos {eos}, padding {pad}"))?;
    let end = |end: &super::facts::End| format!("{} {}", end.id, one_line(&end.text));
    let ends: Vec<_> = tokenizer.ends.iter().map(end).collect();
    row(f, "ends", if ends.is_empty() { "none".into() } else { ends.join(", ") })
}

fn template(f: &mut Formatter<'_>, template: &TemplateFacts) -> fmt::Result {
    if let Some(problem) = &template.problem {
        return row(f, "template", format!("unusable: {}", one_line(problem)));
    }
    if !template.present {
        return row(f, "template", "none: run it with --raw");
    }
    let first = template.first_line.as_deref().map_or_else(String::new, one_line);
    row(f, "template", format!("{} bytes, begins {first}", grouped(template.bytes as u64)))?;
    let thinking = if template.thinking { ", thinking can be switched off" } else { "" };
    row(f, "tools", format!("{}{thinking}", template.tools.unwrap_or("none")))
}

fn sampling(f: &mut Formatter<'_>, sampling: &SamplingFacts) -> fmt::Result {
    if !sampling.in_file {
        return row(f, "sampling", "no advice in the file: the best token is taken");
    }
    let SamplingFacts { temperature, top_k, top_p, min_p, repeat_penalty, .. } = sampling;
    let draw = format!("temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}");
    row(f, "sampling", format!("{draw}, repeat penalty {repeat_penalty}"))
}

fn memory(f: &mut Formatter<'_>, memory: &MemoryFacts) -> fmt::Result {
    writeln!(f, "\nMemory")?;
    row(f, "weights", bytes(memory.weights_bytes))?;
    let sizes = |f16, f32, i8: Option<u64>| {
        let i8 = i8.map_or(String::new(), |i8| format!("{:>9} i8  ", bytes(i8)));
        format!("{:>9} f16  {:>9} f32  {i8}", bytes(f16), bytes(f32))
    };
    let per_1k = |per_token: u64| per_token * 1024;
    let (f16, f32) = (memory.kv_bytes_per_token_f16, memory.kv_bytes_per_token_f32);
    let cache = sizes(per_1k(f16), per_1k(f32), memory.kv_bytes_per_token_i8.map(per_1k));
    row(f, "cache", format!("{cache}for 1,024 tokens"))?;
    for context in &memory.contexts {
        let cache = sizes(context.f16_bytes, context.f32_bytes, context.i8_bytes);
        let fits = if context.fits_f16 == Some(false) { "  does not fit here" } else { "" };
        let tokens = grouped(context.tokens as u64);
        row(f, "", format!("{cache}for {tokens}{fits}"))?;
    }
    let (Some(available), Some(longest)) = (memory.available_bytes, memory.longest_context_f16)
    else {
        return row(f, "available", "unknown on this system");
    };
    let longest = grouped(longest as u64);
    row(f, "available", format!("{}, room for a context of {longest}", bytes(available)))
}

fn sidecar(f: &mut Formatter<'_>, sidecar: &SidecarFacts) -> fmt::Result {
    let (path, size) = (sidecar.path.as_deref().map(one_line), bytes(sidecar.bytes));
    let line = match (path, &sidecar.problem) {
        (None, _) => format!("none; `qwire pack` writes one of {size}"),
        (Some(path), None) => format!("{path}, {size}"),
        (Some(path), Some(why)) => format!("{path} is not used: {}", one_line(why)),
    };
    row(f, "sidecar", line)
}

fn check(f: &mut Formatter<'_>, check: &CheckFacts) -> fmt::Result {
    writeln!(f, "\nCheck")?;
    for hash in &check.sha256 {
        row(f, "sha256", format!("{}  {}", hash.sha256, one_line(&hash.file)))?;
    }
    if check.poisoned.is_empty() {
        row(f, "numbers", "all finite")?;
    }
    for poison in &check.poisoned {
        let (tensor, n) = (one_line(&poison.tensor), grouped(poison.values));
        let first = poison.first;
        row(f, "numbers", format!("{tensor}: {n} are not finite, the first at index {first}"))?;
    }
    for tensor in &check.unread {
        row(f, "not read", one_line(tensor))?;
    }
    Ok(())
}
