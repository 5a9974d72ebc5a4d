//! Sizes of a tensor's dimensions.

use crate::error::{Error, Result};
use smallvec::SmallVec;

/// Sizes of the dimensions, outermost first. Up to four are kept without an allocation: every op of a step makes shapes.
#[derive(Clone, PartialEq, Eq)]
pub struct Shape(SmallVec<[usize; 4]>);

impl Shape {
    /// Number of elements: 1 for a scalar.
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// True if some dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The two sizes of a matrix.
    ///
    /// Errors: `Shape` naming `op` for any other rank.
    pub fn dims2(&self, op: &'static str) -> Result<(usize, usize)> {
        match self.0[..] {
            [a, b] => Ok((a, b)),
            _ => Err(Error::Shape { op, problem: format!("expected two dimensions, got {self}") }),
        }
    }

    /// The three sizes of a rank-3 tensor.
    ///
    /// Errors: `Shape` naming `op` for any other rank.
    pub fn dims3(&self, op: &'static str) -> Result<(usize, usize, usize)> {
        match self.0[..] {
            [a, b, c] => Ok((a, b, c)),
            _ => Err(Error::Shape { op, problem: format!("expected three dimensions, got {self}") }),
        }
    }

    /// The same with `size` for the last dimension; a scalar stays one.
    pub fn with_last(&self, size: usize) -> Shape {
        let mut shape = self.clone();
        shape.0.last_mut().into_iter().for_each(|last| *last = size);
        shape
    }

    /// Flattened to rows of the last dimension: (R, C). A scalar is (1, 1).
    pub fn rows(&self) -> (usize, usize) {
        let cols = self.0.last().copied().unwrap_or(1);
        (self.0[..self.0.len().saturating_sub(1)].iter().product(), cols)
    }
}

impl std::ops::Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Shape {
        Shape(SmallVec::from_slice(&sizes))
    }
}
impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Shape {
        Shape(sizes.into())
    }
}
impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(sizes))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
