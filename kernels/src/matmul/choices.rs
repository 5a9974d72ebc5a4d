//! The ways of a product on a GPU, and choices between them that were measured (`bench/tune.rs`), asked before the rule in
//! `rule.rs`.

use super::gpu::by_method;
use super::methods::{METHODS, Method};
use super::rule::{by_rule, matrices, rounds, whole_eights};
use super::{Layout, Matmul, check};
use crate::buffer::{Buffer, Dtype};
use crate::device::{Choices, Gpu, Key};
use crate::error::Result;

/// A single product, its operand b stored as `stored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunable {
    /// Its sizes.
    pub spec: Matmul,
    /// f32; f16 or bf16 for [`Layout::Nt`].
    pub stored: Dtype,
}

/// A way to compute a product on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way(Method);

impl Way {
    /// Its name, the middle of that of its kernels.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The way the rule takes.
    pub fn by_rule(gpu: &Gpu, of: Tunable) -> Way {
        Way(by_rule(gpu, &of.spec, of.stored))
    }

    /// Those that can be the fastest.
    pub fn all(gpu: &Gpu, of: Tunable) -> Vec<Way> {
        METHODS.into_iter().filter(|method| is_possible(gpu, of, *method)).map(Way).collect()
    }

    /// [`super::matmul`] this way.
    ///
    /// Errors: as of it.
    pub fn run(self, gpu: &Gpu, a: &Buffer, b: &Buffer, spec: &Matmul) -> Result<Buffer> {
        check(a, b, spec)?;
        by_method(gpu, a, b, spec, self.0)
    }
}

/// Gives a GPU what was chosen for products, by the names of ways; those it does not know are left out. A choice holds for all
/// numbers of rows up to the product's and past half of it. The first call counts.
pub fn use_choices(gpu: &Gpu, choices: impl IntoIterator<Item = (Tunable, String)>) {
    let number = |name: &str| METHODS.iter().position(|method| method.name() == name);
    let choices = choices.into_iter().filter_map(|(of, way)| Some((key(&of.spec, of.stored), number(&way)?)));
    gpu.set_choices(Choices(choices.collect()));
}

/// What was chosen for such a product, if it can be done that way.
pub(super) fn chosen(gpu: &Gpu, spec: &Matmul, stored: Dtype) -> Option<Method> {
    let method = METHODS[gpu.choice(|| key(spec, stored))?];
    (spec.batch == 1 && is_possible(gpu, Tunable { spec: *spec, stored }, method)).then_some(method)
}

/// Whether a single product can be fastest that way.
fn is_possible(gpu: &Gpu, Tunable { spec, stored }: Tunable, method: Method) -> bool {
    let Matmul { m, layout, .. } = spec;
    match method {
        // made for the rows of b, and for so many rows of a
        Method::OneRow => layout == Layout::Nt && m == 1,
        Method::FewRows4 | Method::FewRows8 | Method::FewRows16 => layout == Layout::Nt && (2..=64).contains(&m),
        // made for one row of tiles
        Method::CooperativeLow if m > method.tile(gpu.matrix_side()).0 => false,
        Method::CooperativeRounded if !rounds(gpu, &spec, stored) => false,
        _ => !method.cooperates() || whole_eights(&spec) && matrices(gpu).is_some(),
    }
}

/// Rows, of which there may be any number, as the power of two that holds them.
fn key(spec: &Matmul, stored: Dtype) -> Key {
    let Matmul { m, n, k, layout, .. } = *spec;
    let (m, k) = match layout {
        Layout::Tn => (m, k.next_power_of_two()),
        Layout::Nn | Layout::Nt => (m.next_power_of_two(), k),
    };
    [layout as usize, stored as usize, m, n, k]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::gpu;
    use crate::matmul::matmul;

    #[test]
    fn what_was_chosen_is_used_for_its_rows_and_gives_the_same() {
        let Some((device, gpu)) = gpu("chosen products") else { return };
        let spec = |m| Matmul::one(Layout::Nt, m, 24, 40);
        let of = |m| Tunable { spec: spec(m), stored: Dtype::F32 };
        let product = |m: usize| {
            let values = |n: usize| (0..n).map(|i| (i * 5 % 17) as f32 - 8.0).collect::<Vec<f32>>();
            let [a, b] = [m, 24].map(|rows| Buffer::from_slice(&device, &values(rows * 40)).unwrap());
            matmul(&a, &b, &spec(m)).unwrap().to_vec::<f32>().unwrap()
        };
        let before = [17, 32, 33].map(product);
        let rule = Way::by_rule(&gpu, of(32));
        let other = Way::all(&gpu, of(32)).into_iter().find(|way| *way != rule).expect("several ways").name();
        use_choices(&gpu, [(of(32), other.to_string()), (of(4), "of another version".to_string())]);
        let method = |m| chosen(&gpu, &spec(m), Dtype::F32).map(Method::name);
        assert_eq!([16, 17, 32, 33, 4].map(method), [None, Some(other), Some(other), None, None]);
        assert_eq!(chosen(&gpu, &spec(32), Dtype::F16), None);
        // whole numbers, exact in any order
        assert_eq!([17, 32, 33].map(product), before);
    }
}
