//! Simplify: the same meaning with fewer values. Runs after differentiation, because gradients are
//! written for clarity and leave multiplications by one and sums of zeros behind; and before
//! fusion, because every value that is gone can't split a kernel.
//!
//! Rules are local: a node with simplified inputs becomes another node or one of its inputs.

use crate::ops::{Expand, Full, MatMul, Op, Permute, Pointwise, Reduce, Reshape, Scalar};
use crate::{Node, Nodes, Type, Value};
use shadegrad_device::{Combine, DType, Literal};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The simplified nodes and how often each rule fired.
pub struct Simplified {
    /// The nodes that are left, all of them needed.
    pub nodes: Nodes,
    /// Rule and count.
    pub fired: BTreeMap<&'static str, usize>,
}

/// What a rule makes of a node.
enum Becomes {
    /// One of the values before it.
    Value(Value),
    /// Another operation.
    Node(Op, Vec<Value>),
}

/// Simplifies until nothing changes in one pass over the values, inputs first.
pub fn simplify(nodes: &Nodes) -> Simplified {
    let needed = nodes.reachable();
    let mut builder = Builder {
        out: Nodes { variables: nodes.variables.clone(), ..Nodes::default() },
        lookup: HashMap::new(),
        fired: BTreeMap::new(),
        shared: shared(nodes, &needed),
        shared_now: BTreeSet::new(),
    };
    let mut moved: Vec<Option<Value>> = Vec::with_capacity(nodes.nodes.len());
    for (number, node) in nodes.nodes.iter().enumerate() {
        moved.push(needed[number].then(|| {
            let inputs = node.inputs.iter().filter_map(|v| moved[v.index()]).collect();
            let value = builder.add(node.op.clone(), inputs, node);
            if builder.shared.contains(&Value(number as u32)) {
                builder.shared_now.insert(value);
            }
            value
        }));
    }
    let to = |value: &Value| moved[value.index()];
    builder.out.outputs = nodes.outputs.iter().filter_map(to).collect();
    builder.out.assigns =
        nodes.assigns.iter().filter_map(|(id, value)| Some((*id, to(value)?))).collect();
    Simplified { nodes: compact(&builder.out), fired: builder.fired }
}

/// The values that more than one other uses.
fn shared(nodes: &Nodes, needed: &[bool]) -> BTreeSet<Value> {
    let mut users: BTreeMap<Value, usize> = BTreeMap::new();
    for (node, _) in nodes.nodes.iter().zip(needed).filter(|(_, needed)| **needed) {
        node.inputs.iter().for_each(|&v| *users.entry(v).or_default() += 1);
    }
    let roots = nodes.outputs.iter().chain(nodes.assigns.iter().map(|(_, v)| v));
    roots.for_each(|&v| *users.entry(v).or_default() += 1);
    users.into_iter().filter(|(_, count)| *count > 1).map(|(value, _)| value).collect()
}

/// Drops the values that rules have made superfluous, and variables that nothing refers to.
fn compact(nodes: &Nodes) -> Nodes {
    let needed = nodes.reachable();
    let mut moved = vec![Value(0); nodes.nodes.len()];
    let mut out = Nodes { variables: nodes.variables.clone(), ..Nodes::default() };
    for (number, node) in nodes.nodes.iter().enumerate().filter(|(n, _)| needed[*n]) {
        moved[number] = Value(out.nodes.len() as u32);
        let inputs = node.inputs.iter().map(|v| moved[v.index()]).collect();
        out.nodes.push(Node { inputs, ..node.clone() });
    }
    out.outputs = nodes.outputs.iter().map(|v| moved[v.index()]).collect();
    out.assigns = nodes.assigns.iter().map(|(id, v)| (*id, moved[v.index()])).collect();
    let used = |id: &u64| {
        out.assigns.iter().any(|(to, _)| to == id)
            || out.nodes.iter().any(|n| matches!(&n.op, Op::Leaf(leaf) if leaf.variable == *id))
    };
    let variables = nodes.variables.iter().filter(|(id, _)| used(id));
    out.variables = variables.map(|(id, v)| (*id, v.clone())).collect();
    out
}

struct Builder {
    out: Nodes,
    lookup: HashMap<(Op, Vec<Value>), Value>,
    fired: BTreeMap<&'static str, usize>,
    /// Values of the input with several users, and what they have become.
    shared: BTreeSet<Value>,
    shared_now: BTreeSet<Value>,
}

impl Builder {
    fn node(&self, value: Value) -> &Node {
        &self.out.nodes[value.index()]
    }

    /// The constant that a value is everywhere.
    fn constant(&self, value: Value) -> Option<Literal> {
        match &self.node(value).op {
            Op::Full(full) => Some(full.literal),
            _ => None,
        }
    }

    /// Adds a node, after as many rules as apply to it.
    fn add(&mut self, mut op: Op, mut inputs: Vec<Value>, like: &Node) -> Value {
        loop {
            if let Some(operands) = self.transposed_product(&op, &inputs, like) {
                *self.fired.entry("transpose of a product").or_default() += 1;
                (op, inputs) = (MatMul.into(), operands);
            }
            if let Some(operands) = self.moved_choice(&op, &inputs, like) {
                *self.fired.entry("a choice between constants moved").or_default() += 1;
                (op, inputs) = (Pointwise(Scalar::Select).into(), operands);
            }
            let ty = self.infer(&op, &inputs).unwrap_or_else(|| like.ty.clone());
            match self.rule(&op, &inputs, &ty).filter(|(_, next)| self.keeps_type(next, &ty)) {
                Some((name, becomes)) => {
                    *self.fired.entry(name).or_default() += 1;
                    match becomes {
                        Becomes::Value(value) => return value,
                        Becomes::Node(next, of) => (op, inputs) = (next, of),
                    }
                }
                None => {
                    let key = (op, inputs);
                    if let Some(&value) = self.lookup.get(&key) {
                        self.out.nodes[value.index()].half &= like.half;
                        return value;
                    }
                    let value = Value(self.out.nodes.len() as u32);
                    let (op, inputs) = key.clone();
                    self.out.nodes.push(Node { op, inputs, ty, at: like.at, half: like.half });
                    self.lookup.insert(key, value);
                    return value;
                }
            }
        }
    }

    /// `(a b)ᵀ = bᵀ aᵀ`: the gradient of a weight that is used transposed then comes out of the
    /// product in the weight's own layout, without a copy. Only if nobody else wants `a b`.
    fn transposed_product(&mut self, op: &Op, inputs: &[Value], like: &Node) -> Option<Vec<Value>> {
        let Op::Permute(Permute(order)) = op else {
            return None;
        };
        let rank = order.len();
        let mut swapped: Vec<usize> = (0..rank).collect();
        if rank < 2 || self.shared_now.contains(&inputs[0]) {
            return None;
        }
        swapped.swap(rank - 2, rank - 1);
        let product = self.node(inputs[0]);
        if *order != swapped || !matches!(product.op, Op::MatMul(_)) {
            return None;
        }
        let operands = product.inputs.clone();
        let transpose = Op::from(Permute(swapped));
        Some(operands.iter().rev().map(|&v| self.add(transpose.clone(), vec![v], like)).collect())
    }

    /// The condition and the constants that a value is a choice between.
    fn choice(&self, value: Value) -> Option<(Value, [Literal; 2])> {
        let node = self.node(value);
        match (&node.op, node.inputs.as_slice()) {
            (Op::Pointwise(Pointwise(Scalar::Select)), &[condition, yes, no]) => {
                Some((condition, [self.constant(yes)?, self.constant(no)?]))
            }
            _ => None,
        }
    }

    /// A choice between constants elsewhere is a choice elsewhere between them: so masks meet what they were made of.
    fn moved_choice(&mut self, op: &Op, inputs: &[Value], like: &Node) -> Option<Vec<Value>> {
        if !matches!(op, Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice(_)) {
            return None;
        }
        let (condition, constants) = self.choice(inputs[0])?;
        let shape = self.infer(op, inputs)?.shape;
        let condition = self.add(op.clone(), vec![condition], like);
        let constants = constants.map(|literal| {
            let full = Full { shape: shape.clone(), literal };
            self.add(full.into(), vec![], like)
        });
        Some([&[condition], constants.as_slice()].concat())
    }

    /// Whether elements keep their type: halves and bytes become words by any operation, even one that
    /// changes no value.
    fn keeps_type(&self, becomes: &Becomes, ty: &Type) -> bool {
        let dtype = match becomes {
            Becomes::Value(value) => Some(self.node(*value).ty.dtype),
            Becomes::Node(op, inputs) => self.infer(op, inputs).map(|ty| ty.dtype),
        };
        dtype == Some(ty.dtype)
    }

    fn infer(&self, op: &Op, inputs: &[Value]) -> Option<Type> {
        let types: Vec<&Type> = inputs.iter().map(|&v| &self.node(v).ty).collect();
        op.infer(&types).ok()
    }

    /// The first rule that applies to an operation of simplified inputs.
    fn rule(&self, op: &Op, inputs: &[Value], ty: &Type) -> Option<(&'static str, Becomes)> {
        use Becomes::{Node, Value};
        let full =
            |literal: Literal| Node(Full { shape: ty.shape.clone(), literal }.into(), vec![]);
        let first = inputs.first().map(|&v| self.node(v));
        match op {
            Op::Detach(_) => Some(("detach has done its work", Value(inputs[0]))),
            Op::Reshape(_) | Op::Permute(_) | Op::Expand(_) | Op::Slice(_)
                if self.constant(inputs[0]).is_some() =>
            {
                Some(("a constant moved is a constant", full(self.constant(inputs[0])?)))
            }
            Op::Pad(_) if self.constant(inputs[0])?.value() == 0.0 => {
                Some(("zeros padded are zeros", full(self.constant(inputs[0])?)))
            }
            Op::Reshape(_) | Op::Expand(_) if first?.ty == *ty => {
                Some(("moved to the same shape", Value(inputs[0])))
            }
            Op::Reshape(shape) if matches!(first?.op, Op::Reshape(_)) => Some((
                "reshape of reshape",
                Node(Reshape(shape.0.clone()).into(), first?.inputs.clone()),
            )),
            Op::Permute(Permute(order)) if order.is_sorted() => {
                Some(("permute to the same order", Value(inputs[0])))
            }
            Op::Permute(Permute(order)) => match &first?.op {
                Op::Permute(Permute(inner)) => {
                    let order = order.iter().map(|&axis| inner[axis]).collect();
                    Some(("permute of permute", Node(Permute(order).into(), first?.inputs.clone())))
                }
                _ => None,
            },
            Op::Expand(Expand(shape)) if matches!(first?.op, Op::Expand(_)) => Some((
                "expand of expand",
                Node(Expand(shape.clone()).into(), first?.inputs.clone()),
            )),
            Op::Reduce(reduce) => self.reduce(reduce, inputs[0], full),
            Op::Pointwise(Pointwise(scalar)) => self.pointwise(*scalar, inputs, ty, full),
            _ => None,
        }
    }

    fn reduce(
        &self,
        reduce: &Reduce,
        input: Value,
        full: impl Fn(Literal) -> Becomes,
    ) -> Option<(&'static str, Becomes)> {
        let node = self.node(input);
        let count: usize = reduce.axes.iter().map(|&axis| node.ty.shape[axis]).product();
        if reduce.axes.is_empty() {
            return Some(("reduce over no axes", Becomes::Value(input)));
        }
        if count == 1 {
            let mut shape = node.ty.shape.clone();
            for &axis in reduce.axes.iter().rev() {
                shape.remove(axis);
            }
            return Some((
                "reduce over single elements",
                Becomes::Node(Reshape(shape).into(), vec![input]),
            ));
        }
        // Sums and products of integers wrap on devices; only floats fold.
        let literal = self.constant(input).filter(|l| {
            l.dtype == DType::F32 || matches!(reduce.combine, Combine::Max | Combine::Min)
        })?;
        let value = literal.value();
        let total = match reduce.combine {
            Combine::Sum => value * count as f64,
            Combine::Prod => value.powf(count as f64),
            Combine::Max | Combine::Min => value,
        };
        let total = Literal::of(literal.dtype, total);
        Some(("reduce of a constant", full(total)))
    }

    fn pointwise(
        &self,
        scalar: Scalar,
        inputs: &[Value],
        ty: &Type,
        full: impl Fn(Literal) -> Becomes,
    ) -> Option<(&'static str, Becomes)> {
        use Becomes::{Node, Value};
        let constants: Vec<Option<Literal>> = inputs.iter().map(|&v| self.constant(v)).collect();
        if let Some(constants) = constants.iter().copied().collect::<Option<Vec<_>>>() {
            return Some(("constants fold", full(folded(scalar, &constants, ty.dtype))));
        }
        if ty.dtype == DType::Bool
            && let Some(found) = self.known_choice(scalar, inputs, &constants)
        {
            return Some((
                "what follows from a choice between constants",
                match found {
                    (condition, [true, false]) => Value(condition),
                    (condition, [false, true]) => {
                        Node(Pointwise(Scalar::Not).into(), vec![condition])
                    }
                    (_, [same, _]) => full(Literal::of(DType::Bool, f64::from(u8::from(same)))),
                },
            ));
        }
        let is = |at: usize, value: f64| constants[at].is_some_and(|l| l.value() == value);
        if scalar == Scalar::Less && is(1, 0.0) && self.node(inputs[0]).ty.dtype == DType::U32 {
            return Some(("unsigned below zero", full(Literal::of(DType::Bool, 0.0))));
        }
        let keep = |at: usize| Value(inputs[at]);
        let float = ty.dtype == DType::F32;
        let simpler = match scalar {
            Scalar::Add if is(1, 0.0) => keep(0),
            Scalar::Add if is(0, 0.0) => keep(1),
            Scalar::Sub if is(1, 0.0) => keep(0),
            Scalar::Mul | Scalar::Div if is(1, 1.0) => keep(0),
            Scalar::Mul if is(0, 1.0) => keep(1),
            // Constants go to the right, so that the next rule finds them.
            Scalar::Mul if constants[0].is_some() => {
                Node(Pointwise(Scalar::Mul).into(), vec![inputs[1], inputs[0]])
            }
            Scalar::Neg => match &self.node(inputs[0]).op {
                Op::Pointwise(Pointwise(Scalar::Neg)) => Value(self.node(inputs[0]).inputs[0]),
                _ => return None,
            },
            Scalar::Select => match constants[0] {
                Some(condition) => keep(if condition.bits != 0 { 1 } else { 2 }),
                None if inputs[1] == inputs[2] => keep(1),
                None => self.same_choice(inputs)?,
            },
            Scalar::Add if float => match &self.node(inputs[1]).op {
                Op::Pointwise(Pointwise(Scalar::Neg)) => {
                    let negated = self.node(inputs[1]).inputs[0];
                    Node(Pointwise(Scalar::Sub).into(), vec![inputs[0], negated])
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(("neutral element, double sign or choice", simpler))
    }

    /// A truth value of a choice between constants and of constants: the condition, and what it is either way.
    fn known_choice(
        &self,
        scalar: Scalar,
        inputs: &[Value],
        constants: &[Option<Literal>],
    ) -> Option<(Value, [bool; 2])> {
        let at = constants.iter().position(Option::is_none)?;
        let (condition, choices) = self.choice(inputs[at])?;
        let either = choices.map(|choice| {
            let literals: Option<Vec<Literal>> = constants
                .iter()
                .enumerate()
                .map(|(n, c)| if n == at { Some(choice) } else { *c })
                .collect();
            literals.map(|literals| folded(scalar, &literals, DType::Bool).bits != 0)
        });
        Some((condition, [either[0]?, either[1]?]))
    }

    /// A choice of what the same condition has chosen already, without choosing twice.
    fn same_choice(&self, inputs: &[Value]) -> Option<Becomes> {
        let mut chosen = inputs.to_vec();
        for at in [1, 2] {
            let node = self.node(inputs[at]);
            if node.op == Op::from(Pointwise(Scalar::Select)) && node.inputs[0] == inputs[0] {
                chosen[at] = node.inputs[at];
            }
        }
        (chosen != inputs).then(|| Becomes::Node(Pointwise(Scalar::Select).into(), chosen))
    }
}

/// A function of constants.
fn folded(scalar: Scalar, constants: &[Literal], dtype: DType) -> Literal {
    let arrays: Vec<crate::Array> =
        constants.iter().map(|l| crate::Array::new(&[], l.dtype, vec![l.value()])).collect();
    let op = Op::from(Pointwise(scalar));
    let value = op.reference(&arrays.iter().collect::<Vec<_>>(), &Type::new(&[], dtype));
    Literal::of(dtype, value.data[0])
}
