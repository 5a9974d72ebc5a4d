//! Dynamic loss scaling: gradients large enough for f16, small enough not to overflow in it.

use gr2_kernels::Device;
use serde::{Deserialize, Serialize};

/// Updates in a row without overflow before the scale is doubled.
const GROW_AFTER: u32 = 1000;
/// The first scale, and the largest.
const FIRST: f64 = 65_536.0;
const LARGEST: f64 = 16_777_216.0;

/// The power of two by which a loss is multiplied, so that its gradients do not vanish where they are rounded to f16.
/// Halved when a gradient overflows, doubled after many updates without.
///
/// Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; torch.amp.GradScaler.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    scale: f64,
    /// Updates since it changed; none where gradients are not rounded and the scale stays one.
    since: Option<u32>,
}

impl LossScale {
    /// The one to begin with on a device: one, for good, where products are not rounded.
    pub fn of(device: &Device) -> LossScale {
        match device.rounds_products() {
            true => LossScale { scale: FIRST, since: Some(0) },
            false => LossScale { scale: 1.0, since: None },
        }
    }

    /// By what to multiply the loss.
    pub fn factor(&self) -> f64 {
        self.scale
    }

    /// Goes on from a checkpoint's, if both change.
    pub(super) fn resume(&mut self, saved: Option<LossScale>) {
        match saved {
            Some(saved) if saved.since.is_some() && self.since.is_some() => *self = saved,
            _ => {}
        }
    }

    /// Takes note of one update's gradients. True if they overflowed for want of a smaller scale, which is then taken.
    pub(super) fn observe(&mut self, finite: bool) -> bool {
        let Some(since) = &mut self.since else { return false };
        if !finite {
            let smaller = self.scale > 1.0;
            (self.scale, *since) = ((self.scale / 2.0).max(1.0), 0);
            return smaller;
        }
        *since += 1;
        if *since == GROW_AFTER {
            (self.scale, *since) = ((self.scale * 2.0).min(LARGEST), 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_on_overflow_and_doubles_after_a_while() {
        let mut scale = LossScale { scale: 4.0, since: Some(0) };
        assert!(scale.observe(false) && scale.factor() == 2.0);
        assert!((1..GROW_AFTER).all(|_| !scale.observe(true) && scale.factor() == 2.0));
        assert!(!scale.observe(true) && scale.factor() == 4.0);
        assert!(scale.observe(false) && scale.observe(false) && scale.factor() == 1.0);
        // at one an infinite gradient is the model's own
        assert!(!scale.observe(false) && scale.factor() == 1.0);
    }

    #[test]
    fn stays_one_where_products_are_exact() {
        let mut scale = LossScale::of(&Device::Cpu);
        assert!((0..2 * GROW_AFTER).all(|i| !scale.observe(i % 7 > 0) && scale.factor() == 1.0));
    }
}
