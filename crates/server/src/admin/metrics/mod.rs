//! Metrics: what the engine and the wire have counted, for Prometheus.

mod exposition;
mod sums;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use qwire_engine::pages::PAGE;
use qwire_engine::{Counters, Holding, Stats};

use crate::app::{App, Model, Tally, now};
use exposition::{CONTENT_TYPE, Page};

pub use sums::Sums;

/// `GET /metrics`: what there is, while the model is being loaded too.
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let mut page = Page::default();
    wire(&mut page, &app.tally);
    if let Ok(model) = app.model() {
        let stats = model.service.stats();
        build(&mut page, model);
        moment(&mut page, &stats);
        sums(&mut page, &stats.counters);
        times(&mut page, &stats.counters);
        if let Some(store) = model.service.store() {
            disk(&mut page, &store.holding());
        }
        if app.settings.vllm_metrics {
            vllm(&mut page, &model.name, &stats);
        }
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.0)
}

fn wire(page: &mut Page, tally: &Tally) {
    let load = |sum: &AtomicUsize| sum.load(Ordering::Relaxed) as f64;
    page.gauge("qwire_connections", "Connections that are open.", &[], load(&tally.connections));
    let help = "Requests whose answers are not over.";
    page.gauge("qwire_requests_open", help, &[], load(&tally.requests));
    let rows = tally.endpoints.rows();
    let rows = rows.into_iter().map(|((path, status), sum)| (path, status.to_string(), sum));
    let rows: Vec<_> = rows.collect();
    let rows = rows
        .iter()
        .map(|(path, status, sum)| (vec![("path", *path), ("status", status.as_str())], *sum));
    page.counters("qwire_requests_total", "Requests of endpoints by path and status.", rows);
    let classes = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];
    let rows = classes
        .into_iter()
        .zip(&tally.answers)
        .map(|(class, sum)| (vec![("class", class)], sum.load(Ordering::Relaxed)));
    page.counters("qwire_responses_total", "Everything that was answered.", rows.skip(1));
    let panics = tally.panics.load(Ordering::Relaxed);
    page.counter("qwire_request_panics_total", "Requests that ended in a panic.", panics);
    let repairs = tally.repairs.rows().into_iter().map(|(kind, sum)| (vec![("kind", kind)], sum));
    page.counters("qwire_tool_call_repairs_total", "Tool calls that were mended.", repairs);
    let spans = tally.spans.rows().into_iter().map(|(span, sum)| (vec![("span", span)], sum));
    page.counters("qwire_volatile_spans_total", "Spans that were taken out of prompts.", spans);
    let replayed = tally.replayed.load(Ordering::Relaxed);
    let help = "Turns that came back and got the tokens that were sampled.";
    page.counter("qwire_replayed_turns_total", help, replayed);
}

fn build(page: &mut Page, model: &Model) {
    let labels = [
        ("version", model.facts.version),
        ("model", &model.name),
        ("fingerprint", &model.facts.fingerprint),
        ("quantisation", &model.facts.quantisation),
        ("device", &model.facts.device),
    ];
    page.gauge("qwire_build_info", "What is running; always 1.", &labels, 1.0);
}

fn moment(page: &mut Page, stats: &Stats) {
    for (name, help, value) in [
        ("qwire_running", "Answers under way.", stats.running as f64),
        ("qwire_waiting", "Answers that wait.", stats.waiting as f64),
        ("qwire_kv_pages", "Pages of keys and values.", stats.pages as f64),
        ("qwire_kv_free_pages", "Pages that hold nothing.", stats.free_pages as f64),
        ("qwire_kv_cached_pages", "Pages of cached prefixes.", stats.cached_pages as f64),
        ("qwire_kv_use", "Share of pages that running answers use.", stats.kv_use()),
        (
            "qwire_prefix_hit_ratio",
            "Share of prompt tokens that were cached.",
            stats.counters.hit_ratio(),
        ),
    ] {
        page.gauge(name, help, &[], value);
    }
}

fn sums(page: &mut Page, sums: &Counters) {
    for (name, help, sum) in [
        ("qwire_refused_total", "Requests that the engine did not accept.", sums.refused),
        ("qwire_started_total", "Answers that left the queue.", sums.started),
        ("qwire_prompt_tokens_total", "Tokens of prompts.", sums.prompt_tokens),
        ("qwire_cached_tokens_total", "Tokens of prompts that were cached.", sums.cached_tokens),
        ("qwire_generated_tokens_total", "Tokens of answers.", sums.answered),
        ("qwire_computed_positions_total", "Positions computed, repeated ones too.", sums.computed),
        ("qwire_steps_total", "Steps of the model.", sums.steps),
        ("qwire_guessed_tokens_total", "Tokens guessed ahead.", sums.guessed),
        ("qwire_right_guesses_total", "Guessed tokens that were drawn.", sums.guessed_right),
        ("qwire_panics_total", "Answers that a panic ended.", sums.panics),
        ("qwire_crashes_total", "Panics of the model.", sums.crashes),
        ("qwire_halts_total", "Steps ended early, since nobody wanted them.", sums.halted),
        ("qwire_preemptions_total", "Times that an answer went back.", sums.preempted),
        ("qwire_handovers_total", "Prompts that went to another request.", sums.handed_over),
        ("qwire_evictions_total", "Cached pages that made room.", sums.evicted),
        ("qwire_restored_tokens_total", "Cached tokens that came from disk.", sums.restored_tokens),
        ("qwire_unkept_pages_total", "Pages gone before the disk had them.", sums.unkept),
    ] {
        page.counter(name, help, sum);
    }
    let endings = [
        ("stop", sums.stopped),
        ("length", sums.exhausted),
        ("repetition", sums.repeated),
        ("cancelled", sums.cancelled),
        ("failed", sums.failed),
    ];
    let rows = endings.map(|(ending, sum)| (vec![("ending", ending)], sum));
    page.counters("qwire_answers_total", "Answers by how they ended.", rows);
}

fn disk(page: &mut Page, holding: &Holding) {
    for (name, help, value) in [
        ("qwire_disk_limit_bytes", "Most bytes of prefixes on disk.", holding.limit_bytes),
        ("qwire_disk_used_bytes", "Bytes of prefixes on disk.", holding.used_bytes),
    ] {
        page.gauge(name, help, &[], value as f64);
    }
    for (name, help, sum) in [
        ("qwire_disk_read_pages_total", "Pages found on disk.", holding.read_pages),
        ("qwire_disk_read_bytes_total", "Bytes of pages found on disk.", holding.read_bytes),
        ("qwire_disk_written_pages_total", "Pages written to disk.", holding.written_pages),
        ("qwire_disk_written_bytes_total", "Bytes of pages written.", holding.written_bytes),
        ("qwire_disk_skipped_pages_total", "Pages left out of the disk.", holding.skipped_pages),
        ("qwire_disk_evicted_pages_total", "Pages on disk that made room.", holding.evicted_pages),
        ("qwire_disk_damaged_pages_total", "Pages found damaged.", holding.damaged_pages),
        ("qwire_disk_faults_total", "Reads and writes that failed.", holding.faults),
    ] {
        page.counter(name, help, sum);
    }
}

fn times(page: &mut Page, counters: &Counters) {
    for (name, help, times) in [
        ("qwire_queue_seconds", "From arrival to the start.", &counters.queue),
        ("qwire_first_token_seconds", "From arrival to the first token.", &counters.first_token),
        ("qwire_next_token_seconds", "From token to token.", &counters.next_token),
    ] {
        page.histogram(name, help, times);
    }
}

/// The names that inference gateways read.
fn vllm(page: &mut Page, model: &str, stats: &Stats) {
    let model = [("model_name", model)];
    for (name, help, value) in [
        ("vllm:num_requests_waiting", "Requests that wait.", stats.waiting as f64),
        ("vllm:num_requests_running", "Requests under way.", stats.running as f64),
        ("vllm:kv_cache_usage_perc", "Share of pages in use, 0 to 1.", stats.kv_use()),
    ] {
        page.gauge(name, help, &model, value);
    }
    let (size, pages) = (PAGE.to_string(), stats.pages.to_string());
    let labels = [model[0], ("block_size", &size), ("num_gpu_blocks", &pages)];
    page.gauge("vllm:cache_config_info", "Measures of the cache; always 1.", &labels, 1.0);
    let adapters =
        [("max_lora", "0"), ("running_lora_adapters", ""), ("waiting_lora_adapters", "")];
    let help = "Adapters in use, of which there are none; the time.";
    page.gauge("vllm:lora_requests_info", help, &adapters, now() as f64);
}
