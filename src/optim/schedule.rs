//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to the floor.
    Linear,
    /// Falls along half a cosine to the floor.
    Cosine,
}

/// Linear warm-up to the peak, then a decay to `floor` times the peak at the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Peak learning rate.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the run.
    pub total: u64,
    /// Shape after warm-up.
    pub decay: Decay,
    /// Last learning rate as a share of the peak.
    pub floor: f64,
}

impl Schedule {
    /// Learning rate of step `step`, counted from 0.
    ///
    /// Source: transformers get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup, with a floor; warm-up
    /// reaches the peak at its last step, so that the first step learns too.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_to_the_peak_and_decays_to_the_floor() {
        let mut schedule = Schedule { peak: 2.0, warmup: 4, total: 14, decay: Decay::Cosine, floor: 0.1 };
        assert_eq!((schedule.at(0), schedule.at(3), schedule.at(4)), (0.5, 2.0, 2.0));
        assert!((schedule.at(9) - 1.1).abs() < 1e-12);
        assert!((schedule.at(14) - 0.2).abs() < 1e-12);
        schedule.decay = Decay::Linear;
        assert!((schedule.at(9) - 1.1).abs() < 1e-12);
        schedule.decay = Decay::Constant;
        assert_eq!(schedule.at(1000), 2.0);
    }
}
