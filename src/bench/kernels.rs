//! The kernels' table on one device.

use crate::console::check_interrupt;
use crate::error::{Error, Result};
use gr2_kernels::bench::{Ceilings, Work, cases, ceilings, median_seconds};
use gr2_kernels::{Buffer, Device};
use serde_json::{Value, json};
use std::time::Instant;

/// What to measure.
#[derive(Debug, Clone)]
pub struct KernelBench {
    /// Cases whose names contain this.
    pub filter: String,
    /// Seconds for each case; one that would take longer at the device's ceiling is left out.
    pub budget: f64,
    /// Bytes of operands up to which a case is run.
    pub memory: u64,
}

/// Figures of the cases that were run.
#[derive(Clone)]
pub struct KernelReport {
    device: Device,
    ceilings: Ceilings,
    cases: Vec<Value>,
}

/// Checks and times the cases of the table, each told to `line` as it is done.
///
/// Errors: `Usage` if no case has such a name; `Run` if a kernel's result is wrong; `Interrupted`, `Kernel`, and those
/// of `line`.
pub fn bench_kernels(
    device: &Device,
    bench: &KernelBench,
    mut line: impl FnMut(&str) -> Result<()>,
) -> Result<KernelReport> {
    let chosen: Vec<_> = cases().into_iter().filter(|case| case.name.contains(&bench.filter)).collect();
    if chosen.is_empty() {
        let hint = format!(
            "some of them: {}",
            cases().iter().step_by(9).map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        return Err(Error::Usage { problem: format!("--filter {}: no such case", bench.filter), hint: Some(hint) });
    }
    let ceilings = ceilings(device)?;
    line(&format!("{device}: {:.1} GFLOP/s, {:.1} GB/s", ceilings.flops / 1e9, ceilings.bytes / 1e9))?;
    line(&format!("{:<52} {:>11} {:>12} {:>14}", "", "ms", "", "of ceiling"))?;
    let mut report = KernelReport { device: device.clone(), ceilings, cases: vec![] };
    for case in chosen {
        check_interrupt()?;
        let floor = case.work.floor(&ceilings);
        if floor > bench.budget || case.memory > bench.memory {
            let reason = match floor > bench.budget {
                true => format!("{floor:.1} s at the ceiling, --seconds is {}", bench.budget),
                false => format!("{} MiB, --memory is {} MiB", case.memory >> 20, bench.memory >> 20),
            };
            line(&format!("{:<52} left out: {reason}", case.name))?;
            continue;
        }
        let prepared = Instant::now();
        let mut opened = (case.open)(device)?;
        let results: Vec<Buffer> = (opened.run)()?;
        let agreement = (opened.check)(&results)?;
        drop(results);
        if !agreement.holds() {
            let problem = format!(
                "{} on {device}: off by {:.2e} of the largest value, {:.2e} is allowed",
                case.name, agreement.error, agreement.tolerance
            );
            let hint = Some("a defect of the kernel or the driver: try --checked-shaders".to_string());
            return Err(Error::Run { stage: "bench".into(), problem, hint });
        }
        let idle = prepared.elapsed().as_secs_f64();
        let timing = median_seconds(device, bench.budget, idle, || (opened.run)().map(drop))?;
        let percent = 100.0 * floor / timing.seconds;
        let (key, rate, unit) = match case.work {
            Work::Flops(flops) => ("gflops", flops / timing.seconds / 1e9, "GFLOP/s"),
            Work::Bytes(bytes) => ("gbps", bytes / timing.seconds / 1e9, "GB/s"),
        };
        let ms = timing.seconds * 1e3;
        line(&format!("{:<52} {ms:>11.3} {rate:>9.1} {unit:<7} {percent:>6.1} %", case.name))?;
        report.cases.push(json!({ "name": case.name, "ms": ms, key: rate, "percent": percent }));
    }
    Ok(report)
}

impl KernelReport {
    /// `{"device", "driver", "ceilings": {"gflops", "gbps"}, "cases": [{"name", "ms", "gflops" | "gbps", "percent"}]}`.
    pub fn json(&self) -> Value {
        let ceilings = json!({ "gflops": self.ceilings.flops / 1e9, "gbps": self.ceilings.bytes / 1e9 });
        let driver = driver(&self.device);
        json!({ "device": self.device.to_string(), "driver": driver, "ceilings": ceilings, "cases": self.cases })
    }
}

/// The driver of a GPU, or the number of threads.
pub(super) fn driver(device: &Device) -> String {
    match device {
        Device::Cpu => format!("{} threads", rayon::current_num_threads()),
        Device::Gpu(gpu) => format!("{} {}", gpu.summary().backend, gpu.summary().driver),
    }
}
