//! The tape: values with their history, and the way back.

use super::param::{Param, ParamId};
use crate::console::check_interrupt;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use gr2_kernels::elementwise;
use std::cell::RefCell;
use std::collections::HashMap;

/// How one recorded op turns the gradient of its output into gradients of its inputs.
pub trait Backward {
    /// The op's name, for messages.
    fn name(&self) -> &'static str;

    /// Gradients of the inputs in the order they were recorded; `None` where an input needs none.
    fn backward(&self, dy: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// A value in a computation: a tensor, and its place on the tape if gradients flow to it.
#[derive(Debug, Clone)]
pub struct Var {
    tensor: Tensor,
    node: Option<usize>,
}

impl Var {
    /// The value.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The value, given up.
    pub fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// True if gradients flow to it.
    pub fn tracked(&self) -> bool {
        self.node.is_some()
    }
}

struct Node {
    inputs: Vec<Option<usize>>,
    /// `None` for a leaf.
    op: Option<Box<dyn Backward>>,
}

/// Records ops in the order they run. One tape per training step; an inference tape records nothing.
#[derive(Default)]
pub struct Tape {
    nodes: RefCell<Vec<Node>>,
    params: RefCell<HashMap<ParamId, Var>>,
    inference: bool,
}

impl Tape {
    /// A recording tape.
    pub fn new() -> Tape {
        Tape::default()
    }

    /// A tape that records nothing: parameters on it are constants.
    pub fn inference() -> Tape {
        Tape { inference: true, ..Tape::default() }
    }

    /// True unless it is an inference tape.
    pub fn records(&self) -> bool {
        !self.inference
    }

    /// A value no gradient flows to.
    pub fn constant(&self, tensor: Tensor) -> Var {
        Var { tensor, node: None }
    }

    /// A value whose gradient is wanted.
    pub fn leaf(&self, tensor: Tensor) -> Var {
        let node = (!self.inference).then(|| self.push(Node { inputs: vec![], op: None }));
        Var { tensor, node }
    }

    /// The parameter's value; every use of one parameter adds to one gradient.
    pub fn param(&self, param: &Param) -> Var {
        if self.inference {
            return self.constant(param.value.clone());
        }
        if let Some(var) = self.params.borrow().get(&param.id()) {
            return var.clone();
        }
        let var = self.leaf(param.value.clone());
        self.params.borrow_mut().insert(param.id(), var.clone());
        var
    }

    /// The result of an op: recorded if any input is tracked, a constant otherwise. `op` is built only when needed,
    /// so that inference keeps nothing alive.
    pub fn record<B: Backward + 'static>(&self, tensor: Tensor, inputs: &[&Var], op: impl FnOnce() -> B) -> Var {
        if !inputs.iter().any(|v| v.tracked()) {
            return self.constant(tensor);
        }
        let inputs = inputs.iter().map(|v| v.node).collect();
        let node = self.push(Node { inputs, op: Some(Box::new(op())) });
        Var { tensor, node: Some(node) }
    }

    /// Fails if gradients would have to flow through an op that has no backward.
    pub fn refuse_tracked(&self, op: &'static str, inputs: &[&Var]) -> Result<()> {
        match inputs.iter().any(|v| v.tracked()) {
            true => Err(Error::Shape { op, problem: "has no backward, and its input needs a gradient".to_string() }),
            false => Ok(()),
        }
    }

    /// Gradients of `Σ seed · y` over the given outputs with respect to every leaf and parameter. Consumes the tape
    /// and frees what each op kept as soon as it has been used.
    ///
    /// Errors: `Shape` if a seed's shape differs from its output's or the output is not tracked; `Interrupted`, which is asked at
    /// every op.
    pub fn backward(self, seeds: &[(&Var, Tensor)]) -> Result<Gradients> {
        self.backward_scaled(seeds, 1.0)
    }

    /// [`Tape::backward`] with every seed multiplied by `scale`, which the gradients then carry.
    pub fn backward_scaled(self, seeds: &[(&Var, Tensor)], scale: f64) -> Result<Gradients> {
        let mut nodes = self.nodes.into_inner();
        let mut gradients: Vec<Option<Tensor>> = nodes.iter().map(|_| None).collect();
        for (y, seed) in seeds {
            let Some(node) = y.node.filter(|_| y.tensor.shape() == seed.shape()) else {
                let problem =
                    format!("seed {} for an output {}, tracked: {}", seed.shape(), y.tensor.shape(), y.tracked());
                return Err(Error::Shape { op: "backward", problem });
            };
            let seed = match scale == 1.0 {
                true => seed.clone(),
                false => Tensor::new(elementwise::scale(seed.buffer(), scale)?, seed.shape().clone())?,
            };
            add(&mut gradients[node], seed)?;
        }
        while let Some(Node { inputs, op }) = nodes.pop() {
            let at = nodes.len();
            let Some(op) = op else { continue };
            let Some(dy) = gradients[at].take() else { continue };
            check_interrupt()?;
            let found = op.backward(&dy)?;
            assert_eq!(found.len(), inputs.len(), "invariant: {} returns one gradient per input", op.name());
            for (input, gradient) in inputs.into_iter().zip(found) {
                if let (Some(input), Some(gradient)) = (input, gradient) {
                    add(&mut gradients[input], gradient)?;
                }
            }
        }
        let params = self.params.into_inner().into_iter();
        let params = params.filter_map(|(id, var)| var.node.map(|node| (id, node))).collect();
        Ok(Gradients { by_node: gradients, params, scale })
    }

    fn push(&self, node: Node) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }
}

fn add(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<()> {
    match sum {
        None => *sum = Some(gradient),
        Some(sum) => elementwise::add_assign(sum.buffer_mut(), gradient.buffer())?,
    }
    Ok(())
}

/// What [`Tape::backward`] found.
pub struct Gradients {
    by_node: Vec<Option<Tensor>>,
    params: HashMap<ParamId, usize>,
    scale: f64,
}

impl Gradients {
    /// What they are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Gradient of a leaf, if any output depends on it.
    pub fn get(&self, leaf: &Var) -> Option<&Tensor> {
        self.by_node.get(leaf.node?)?.as_ref()
    }

    /// Takes the gradient of a parameter out, if any output depends on it.
    pub fn take(&mut self, param: &Param) -> Option<Tensor> {
        self.by_node[*self.params.get(&param.id())?].take()
    }

    /// Adds the parameters' gradients of another pass over the same parameters, with the same scale.
    pub fn merge(&mut self, mut other: Gradients) -> Result<()> {
        assert_eq!(self.scale, other.scale, "invariant: the passes of one update have one scale");
        for (id, node) in other.params {
            let Some(gradient) = other.by_node[node].take() else { continue };
            match self.params.get(&id) {
                Some(&own) => add(&mut self.by_node[own], gradient)?,
                None => {
                    self.params.insert(id, self.by_node.len());
                    self.by_node.push(Some(gradient));
                }
            }
        }
        Ok(())
    }
}
