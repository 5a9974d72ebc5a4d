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

/// The median of several samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Median seconds of one run.
    pub seconds: f64,
    /// Samples it is the median of.
    pub samples: usize,
}

/// Times `run` on `device` for about `budget` seconds, after a third of that which is not counted: a GPU that was idle takes
/// its time to raise its clocks.
///
/// Errors: those of `run`, `DeviceLost`.
pub fn median_seconds(device: &Device, budget: f64, mut run: impl FnMut() -> Result<()>) -> Result<Timing> {
    let mut sample = |runs: usize| -> Result<f64> {
        let start = Instant::now();
        (0..runs).try_for_each(|_| run())?;
        device.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    };
    sample(1)?;
    let once = sample(1)?;
    if once > budget / 2.0 {
        return Ok(Timing { seconds: once, samples: 1 });
    }
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < budget / 3.0 {
        sample(1)?;
    }
    let once = sample(1)?;
    let runs = (SPAN / once).ceil().clamp(1.0, LONGEST) as usize;
    let samples = ((budget / (once * runs as f64)) as usize).clamp(FEWEST, MOST);
    let mut times: Vec<f64> = (0..samples).map(|_| sample(runs)).collect::<Result<_>>()?;
    times.sort_by(f64::total_cmp);
    Ok(Timing { seconds: times[samples / 2], samples })
}
