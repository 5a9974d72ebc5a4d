//! A progress bar with rate and time left on a terminal, a plain line now and then elsewhere.

use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(15);

/// Progress of one loop. Lines go to standard error.
pub struct Progress {
    bar: ProgressBar,
    label: String,
    plain: Option<Mutex<Plain>>,
}

struct Plain {
    started: Instant,
    last: Instant,
    first_position: u64,
}

impl Progress {
    /// A loop of `total` steps of which `done` are done already.
    pub fn new(label: &str, total: u64, done: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        bar.set_length(total);
        let template = "{prefix:>10} {bar:28} {pos}/{len} {per_sec} eta {eta} {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(label.to_string());
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        let plain = (!terminal).then(|| Mutex::new(Plain { started: now, last: now, first_position: done }));
        Progress { bar, label: label.to_string(), plain }
    }

    /// Moves `steps` on and shows `message`.
    pub fn advance(&self, steps: u64, message: impl std::fmt::Display) {
        self.bar.inc(steps);
        match &self.plain {
            None => self.bar.set_message(message.to_string()),
            Some(plain) => {
                let Ok(mut plain) = plain.lock() else { return };
                if plain.last.elapsed() >= PLAIN_EVERY {
                    plain.last = Instant::now();
                    let (at, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
                    let rate = (at - plain.first_position) as f64 / plain.started.elapsed().as_secs_f64();
                    let left = total.saturating_sub(at) as f64 / rate.max(1e-9);
                    say!("{}: {at}/{total}, {rate:.2}/s, {left:.0} s left, {message}", self.label);
                }
            }
        }
    }

    /// Steps done.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Ends the loop with a last line.
    pub fn finish(&self, message: impl std::fmt::Display) {
        self.bar.finish_and_clear();
        say!("{}: {message}", self.label);
    }
}
