//! Where time goes: spans of the host, and of the GPU where its adapter has timestamps, collected while profiling is on.
//!
//! On the CPU device the span of a launcher is the kernel. On a GPU it is the time to record the kernel, and the kernel
//! itself is a span of the GPU.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Spans that the trace keeps; later ones are in the table only.
const TRACED: usize = 1_000_000;

static ON: AtomicBool = AtomicBool::new(false);
static COLLECTED: Mutex<Collected> = Mutex::new(Collected { spans: vec![], totals: BTreeMap::new(), left_out: 0 });
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where a span was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A thread of this process.
    Host,
    /// A GPU's own clock, set to the host's at the first submission.
    Gpu,
}

/// One stretch of time.
#[derive(Debug, Clone, Copy)]
struct Traced {
    name: &'static str,
    place: Place,
    /// Nanoseconds since profiling was first on.
    start: u64,
    nanos: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: u64,
    /// Nanoseconds, those of spans inside left out.
    nanos: u64,
}

struct Collected {
    spans: Vec<Traced>,
    totals: BTreeMap<(Place, &'static str), Total>,
    left_out: u64,
}

impl Collected {
    fn add(&mut self, span: Traced, inside: u64) {
        let total = self.totals.entry((span.place, span.name)).or_default();
        total.count += 1;
        total.nanos += span.nanos.saturating_sub(inside);
        match self.spans.len() < TRACED {
            true => self.spans.push(span),
            false => self.left_out += 1,
        }
    }
}

fn collected() -> MutexGuard<'static, Collected> {
    COLLECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds since profiling was first on.
pub(crate) fn now() -> u64 {
    ORIGIN.elapsed().as_nanos() as u64
}

/// Starts to collect spans.
pub fn start() {
    LazyLock::force(&ORIGIN);
    ON.store(true, Ordering::Relaxed);
}

/// True while spans are collected.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

thread_local! {
    /// Nanoseconds of the spans that ended inside the one that is open.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
}

/// A span of this thread from now until it is dropped. Costs a load while profiling is off.
#[must_use]
pub fn span(name: &'static str) -> Span {
    Span { open: is_on().then(|| Open { name, start: now(), inside_before: INSIDE.replace(0) }) }
}

/// An open span.
pub struct Span {
    open: Option<Open>,
}

struct Open {
    name: &'static str,
    start: u64,
    inside_before: u64,
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(Open { name, start, inside_before }) = self.open.take() else { return };
        let nanos = now() - start;
        let inside = INSIDE.replace(inside_before + nanos);
        collected().add(Traced { name, place: Place::Host, start, nanos }, inside);
    }
}

/// Adds a span of a GPU, in the host's nanoseconds.
pub(crate) fn add_gpu(name: &'static str, start: u64, nanos: u64) {
    collected().add(Traced { name, place: Place::Gpu, start, nanos }, 0);
}

/// What was collected.
#[derive(Debug)]
pub struct Profile {
    spans: Vec<Traced>,
    totals: BTreeMap<(Place, &'static str), Total>,
    left_out: u64,
}

/// Ends collecting and takes what was collected. GPU spans come in when the GPU is waited for.
pub fn finish() -> Profile {
    ON.store(false, Ordering::Relaxed);
    let mut all = collected();
    let Collected { spans, totals, left_out } =
        std::mem::replace(&mut *all, Collected { spans: vec![], totals: BTreeMap::new(), left_out: 0 });
    Profile { spans, totals, left_out }
}

impl Profile {
    /// Time per kernel, the longest first: place, name, count, total, mean, share of the place's time.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for place in [Place::Gpu, Place::Host] {
            let mut rows: Vec<_> = self.totals.iter().filter(|((of, _), _)| *of == place).collect();
            let all: u64 = rows.iter().map(|(_, total)| total.nanos).sum();
            if all == 0 {
                continue;
            }
            rows.sort_by_key(|(_, total)| std::cmp::Reverse(total.nanos));
            let title = if place == Place::Gpu { "gpu" } else { "host" };
            text += &format!("{title:<32} {:>9} {:>12} {:>11} {:>7}\n", "count", "ms", "us each", "%");
            for ((_, name), Total { count, nanos }) in rows {
                let (ms, each) = (*nanos as f64 / 1e6, *nanos as f64 / 1e3 / *count as f64);
                let share = 100.0 * *nanos as f64 / all as f64;
                text += &format!("{name:<32} {count:>9} {ms:>12.3} {each:>11.2} {share:>7.2}\n");
            }
        }
        text
    }

    /// Spans that the trace leaves out.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Writes the spans for `chrome://tracing` or Perfetto: complete events, microseconds.
    ///
    /// Source: Trace Event Format, "Complete Events".
    pub fn chrome_trace(&self, out: &mut dyn Write) -> std::io::Result<()> {
        write!(out, r#"{{"displayTimeUnit":"ms","traceEvents":["#)?;
        for (id, name, end) in [(1, "host", ","), (2, "gpu", "")] {
            write!(
                out,
                "\n{{\"ph\":\"M\",\"pid\":{id},\"name\":\"process_name\",\"args\":{{\"name\":\"{name}\"}}}}{end}"
            )?;
        }
        for Traced { name, place, start, nanos } in &self.spans {
            let pid = if *place == Place::Host { 1 } else { 2 };
            let (ts, dur) = (*start as f64 / 1e3, *nanos as f64 / 1e3);
            // names are the crate's own: nothing in them needs escaping
            let span = format!("\"pid\":{pid},\"tid\":1,\"name\":\"{name}\",\"ts\":{ts:.3},\"dur\":{dur:.3}");
            write!(out, ",\n{{\"ph\":\"X\",{span}}}")?;
        }
        out.write_all(b"\n]}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_inside_do_not_count_twice_and_the_trace_is_json() {
        start();
        {
            let _outer = span("outer");
            std::thread::sleep(std::time::Duration::from_millis(2));
            let _inner = span("inner");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        add_gpu("kernel", now(), 5_000);
        let profile = finish();
        drop(span("after the end"));
        let of = |place, name| profile.totals[&(place, name)];
        let (outer, inner) = (of(Place::Host, "outer"), of(Place::Host, "inner"));
        assert!((outer.count, inner.count) == (1, 1) && inner.nanos >= 20_000_000 && outer.nanos >= 2_000_000);
        assert!(outer.nanos < inner.nanos, "{outer:?} {inner:?}");
        assert!(profile.table().starts_with("gpu"), "{}", profile.table());
        assert!(finish().totals.keys().all(|(_, name)| *name != "after the end"));
        let mut trace = vec![];
        profile.chrome_trace(&mut trace).unwrap();
        let text = String::from_utf8(trace).unwrap();
        // other tests of this process may be in it as well
        for name in ["outer", "inner", "kernel"] {
            assert_eq!(text.matches(&format!("\"name\":\"{name}\"")).count(), 1, "{name}");
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert!(!text.contains(",\n]") && text.ends_with("}\n]}\n"), "{text}");
    }
}
