//! Differentiate: from a loss, in the same graph, the gradient of each parameter. Gradients are
//! values like others, so they can be differentiated again.

use crate::ops::{Backward, Gradient, Op};
use crate::{Graph, GraphError, Node, Tensor, Value};
use shadegrad_device::DType;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

impl Graph {
    /// The gradient of a scalar loss with respect to each of `parameters`, each in the
    /// parameter's shape.
    ///
    /// Mistakes are kept by the graph: a loss that isn't a float scalar, an operation without a
    /// gradient on the way, a parameter that the loss doesn't depend on (its gradient is zero).
    #[track_caller]
    pub fn gradients(&self, loss: &Tensor, parameters: &[&Tensor]) -> Vec<Tensor> {
        let zero = |p: &&Tensor| self.full(&p.shape(), DType::F32, 0.0);
        let zeros = || parameters.iter().map(zero).collect::<Vec<_>>();
        // After a mistake, types mean nothing; the mistake is what the user has to see.
        if self.error().is_some() {
            return zeros();
        }
        if parameters.iter().chain([&loss]).any(|t| !Rc::ptr_eq(&t.graph().inner, &self.inner)) {
            self.fail("gradients", &[], "a tensor belongs to another graph".to_string());
            return zeros();
        }
        let ty = loss.ty();
        if !ty.shape.is_empty() || ty.dtype != DType::F32 {
            self.fail("gradients", &[ty], "the loss must be a float scalar".to_string());
            return zeros();
        }
        let wanted: Vec<Value> = parameters.iter().map(|p| p.value()).collect();
        let depends = self.depends_on(loss.value(), &wanted);
        let mut gradients: HashMap<Value, Tensor> = HashMap::new();
        gradients.insert(loss.value(), loss.ones_like());
        for number in (0..=loss.value().0).rev().filter(|&n| depends[n as usize]) {
            let value = Value(number);
            let Some(upstream) = gradients.get(&value).cloned() else {
                continue;
            };
            self.backward(value, &upstream, &depends, &mut gradients);
        }
        let reached = self.reached_from(loss.value());
        let mut unused = Vec::new();
        let found = parameters
            .iter()
            .map(|parameter| {
                let gradient = gradients.get(&parameter.value()).cloned();
                gradient.unwrap_or_else(|| {
                    // A step function on the way has a gradient: zero.
                    if !reached.contains(&parameter.value()) {
                        unused.push(self.describe(parameter));
                    }
                    parameter.zeros_like()
                })
            })
            .collect();
        if !unused.is_empty() {
            self.fail_with(GraphError::Unused { names: unused.join(", ") });
        }
        found
    }

    /// Whether a value depends on a tensor, so that a gradient can flow.
    pub fn depends(&self, value: &Tensor, on: &Tensor) -> bool {
        let depends = self.depends_on(value.value(), &[on.value()]);
        depends.last().copied().unwrap_or(false)
    }

    /// Adds what flows from one value to the gradients of its inputs.
    fn backward(
        &self,
        value: Value,
        upstream: &Tensor,
        depends: &[bool],
        gradients: &mut HashMap<Value, Tensor>,
    ) {
        let node = self.node(value).clone();
        let mutation = self.inner.borrow().mutation.clone();
        let factor = mutation.filter(|(name, _)| *name == node.op.name()).map(|(_, factor)| factor);
        let inputs: Vec<Tensor> = node.inputs.iter().map(|&v| Tensor::new(self, v)).collect();
        let output = Tensor::new(self, value);
        let rule = Backward { inputs: &inputs, output: &output, upstream };
        // Gradients wait in memory in the precision of what they are of.
        let outside = std::mem::replace(&mut self.inner.borrow_mut().half, node.half);
        self.flow(&node, &rule, factor, depends, gradients);
        self.inner.borrow_mut().half = outside;
    }

    /// Records a rule and adds what it gives to the gradients of the inputs.
    fn flow(
        &self,
        node: &Node,
        rule: &Backward<'_>,
        factor: Option<f64>,
        depends: &[bool],
        gradients: &mut HashMap<Value, Tensor>,
    ) {
        let inputs = rule.inputs;
        match node.op.gradient(rule) {
            Gradient::Zero => {}
            Gradient::Undefined(reason) => self.fail_with(GraphError::NoGradient {
                operation: node.op.name(),
                reason: reason.to_string(),
                at: node.at,
            }),
            Gradient::Of(flows) | Gradient::Through(flows) => {
                debug_assert_eq!(flows.len(), inputs.len(), "one gradient for each input");
                for (input, flow) in inputs.iter().zip(flows) {
                    let Some(flow) = flow.filter(|_| depends[input.value().index()]) else {
                        continue;
                    };
                    debug_assert_eq!(flow.shape(), input.shape(), "of {}", node.op.name());
                    let flow = factor.map_or_else(|| flow.clone(), |factor| &flow * factor);
                    let total = match gradients.get(&input.value()) {
                        Some(before) => before + flow,
                        None => flow,
                    };
                    gradients.insert(input.value(), total);
                }
            }
        }
    }

    /// Which values up to `last` depend on one of `wanted`, through floats.
    fn depends_on(&self, last: Value, wanted: &[Value]) -> Vec<bool> {
        let inner = self.inner.borrow();
        let mut depends = vec![false; last.index() + 1];
        for (number, node) in inner.record.nodes.iter().take(last.index() + 1).enumerate() {
            let detached = matches!(node.op, Op::Detach(_));
            depends[number] = wanted.contains(&Value(number as u32))
                || !detached && node.inputs.iter().any(|v| depends[v.index()]);
        }
        depends
    }

    /// The values that a value depends on, through floats.
    fn reached_from(&self, value: Value) -> HashSet<Value> {
        let inner = self.inner.borrow();
        let (mut open, mut reached) = (vec![value], HashSet::from([value]));
        while let Some(value) = open.pop() {
            let node = &inner.record.nodes[value.index()];
            let stops = node.ty.dtype.loaded() != DType::F32 || matches!(node.op, Op::Detach(_));
            let next = node.inputs.iter().filter(|_| !stops);
            open.extend(next.copied().filter(|&v| reached.insert(v)));
        }
        reached
    }

    fn describe(&self, parameter: &Tensor) -> String {
        let inner = self.inner.borrow();
        match &inner.record.nodes[parameter.value().index()].op {
            Op::Leaf(leaf) => match inner.record.variables.get(&leaf.variable) {
                Some(variable) => format!("{} (elements from {})", variable.name(), leaf.offset),
                None => format!("{parameter:?}"),
            },
            _ => format!("{parameter:?}"),
        }
    }
}
