//! How long something takes.

use crate::device::Device;
use crate::error::Result;
use std::time::Instant;

/// Seconds of device work between two looks at the clock at least, so that waiting for a GPU does not count.
const SPAN: f64 = 0.02;
/// Samples at least, where one run does not use up the budget by itself.
const FEWEST: usize = 5;
/// Samples at most.
const MOST: usize = 51;
/// Runs between two looks at the clock at most.
const LONGEST: f64 = 500.0;
/// Seconds without work after which a GPU may have lowered its clocks, and seconds of work that raise them again: an H200 goes
/// from 1,980 to 345 MHz after about five, and takes 0.7 to come back.
const PAUSE: f64 = 1.0;
const WARM_UP: f64 = 1.0;

/// The median of several samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Median seconds of one run.
    pub seconds: f64,
    /// Samples it is the median of.
    pub samples: usize,
}

/// Times `run` on `device` for about `budget` seconds, after some that are not counted: a third of that, and on a GPU a second
/// if it had nothing to do for the `idle` seconds before.
///
/// Errors: those of `run`, `DeviceLost`.
pub fn median_seconds(device: &Device, budget: f64, idle: f64, mut run: impl FnMut() -> Result<()>) -> Result<Timing> {
    let mut sample = |runs: usize| -> Result<f64> {
        let start = Instant::now();
        (0..runs).try_for_each(|_| run())?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    };
    let mut warm_up = |seconds: f64| -> Result<f64> {
        let start = Instant::now();
        loop {
            let last = sample(1)?;
            if start.elapsed().as_secs_f64() >= seconds {
                return Ok(last);
            }
        }
    };
    warm_up(if idle > PAUSE && matches!(device, Device::Gpu(_)) { WARM_UP } else { 0.0 })?;
    let once = warm_up(0.0)?;
    if once > budget / 2.0 {
        return Ok(Timing { seconds: once, samples: 1 });
    }
    warm_up(budget / 3.0)?;
    let once = sample(1)?;
    let runs = (SPAN / once).ceil().clamp(1.0, LONGEST) as usize;
    let samples = ((budget / (once * runs as f64)) as usize).clamp(FEWEST, MOST);
    let mut times: Vec<f64> = (0..samples).map(|_| sample(runs)).collect::<Result<_>>()?;
    times.sort_by(f64::total_cmp);
    Ok(Timing { seconds: times[samples / 2], samples })
}
