//! Gradients against central differences of the f64 reference.

use super::{draw, record, variable};
use crate::ops::{Backward, Gradient, Sample, SampleInput};
use crate::{Array, Graph, GraphError, Tensor, Type, Variable};
use shadegrad_device::DType;

/// The gradient rule of a sample's operation, as it answers for these inputs.
pub fn rule(sample: &Sample) -> Gradient {
    let graph = Graph::new();
    let (y, _) = record(&graph, sample, 0);
    let inputs: Vec<Tensor> =
        graph.node(y.value()).inputs.clone().iter().map(|&v| Tensor::new(&graph, v)).collect();
    let upstream = y.to(DType::F32).ones_like();
    sample.op.gradient(&Backward { inputs: &inputs, output: &y, upstream: &upstream })
}

/// Whether an operation of these inputs has a gradient that differences can confirm.
pub fn is_differentiable(sample: &Sample) -> bool {
    let floats = sample.inputs.iter().any(|i| i.ty.dtype == DType::F32);
    let types: Vec<&Type> = sample.inputs.iter().map(|i| &i.ty).collect();
    let result = sample.op.infer(&types).is_ok_and(|ty| ty.dtype == DType::F32);
    floats && result && matches!(rule(sample), Gradient::Of(_))
}

/// Whether the gradient of a sample's operation has none itself.
pub fn is_differentiated_once(sample: &Sample) -> bool {
    let graph = Graph::new();
    let (y, _) = record(&graph, sample, 0);
    let inputs: Vec<Tensor> =
        graph.node(y.value()).inputs.clone().iter().map(|&v| Tensor::new(&graph, v)).collect();
    let squares = |outputs: &[Tensor]| {
        let sums = outputs.iter().map(|t| t.to(DType::F32).square().sum_all());
        sums.fold(graph.zeros(&[]), |a, b| a + b)
    };
    let by = |loss: &Tensor| -> Vec<Tensor> {
        let floats = inputs.iter().filter(|x| x.dtype() == DType::F32 && graph.depends(loss, x));
        let floats: Vec<&Tensor> = floats.collect();
        if floats.is_empty() { vec![] } else { graph.gradients(loss, &floats) }
    };
    let first = by(&squares(&[y]));
    let fine = graph.error().is_none();
    by(&squares(&first));
    fine && graph.error().is_some()
}

/// Checks a sample's gradient. The gradient rule of the operation is multiplied by `mutation`; anything but 1
/// must fail. `order` 2 checks the gradient's gradient.
///
/// # Errors
/// Both numbers, if they disagree.
pub fn gradient(sample: &Sample, seed: u32, order: usize, mutation: f64) -> Result<(), String> {
    let graph = Graph::new();
    graph.scale_gradients(&sample.op.name(), mutation);
    let arrays: Vec<Array> =
        sample.inputs.iter().zip(seed..).map(|(input, number)| draw(input, number)).collect();
    let build = |graph: &Graph, inputs: &[Tensor]| {
        let values: Vec<_> = inputs.iter().map(Tensor::value).collect();
        vec![graph.push(sample.op.clone(), &values)]
    };
    directional(&graph, &arrays, seed, order, build)
}

/// Checks the gradients of a function of your own, at some inputs: in f64, in three random directions, against
/// central differences. Only float inputs are moved; keep them away from kinks.
///
/// ```
/// use shadegrad_graph::{Array, check};
/// use shadegrad_device::DType;
///
/// let x = Array::new(&[3], DType::F32, vec![0.1, -0.7, 2.0]);
/// check::gradcheck(&[x], |_, x| vec![x[0].tanh() * &x[0]]).expect("the gradient is right");
/// ```
///
/// # Errors
/// The first mistake that was recorded, or slope and difference, if they disagree.
pub fn gradcheck(
    inputs: &[Array],
    function: impl Fn(&Graph, &[Tensor]) -> Vec<Tensor>,
) -> Result<(), String> {
    for seed in [1, 2, 3] {
        directional(&Graph::new(), inputs, seed, 1, &function)?;
    }
    Ok(())
}

/// Compares slope and difference of `loss = sum(c f(x)) + sum(d x)` for random `c` and `d`, so that neither an
/// upstream factor nor another path can be forgotten, with `x` in the middle of the graph.
pub(super) fn directional(
    graph: &Graph,
    arrays: &[Array],
    seed: u32,
    order: usize,
    build: impl Fn(&Graph, &[Tensor]) -> Vec<Tensor>,
) -> Result<(), String> {
    let mut variables: Vec<(Variable, Tensor)> = Vec::new();
    let mut direction = Vec::new();
    let mut inputs = Vec::new();
    for (array, number) in arrays.iter().zip(seed..) {
        let variable = variable(&format!("x{number}"), array);
        let x = graph.variable(&variable);
        if array.ty.dtype == DType::F32 {
            let sign = SampleInput::float(&array.ty.shape, 0.5, 1.5);
            direction.push(draw(&sign, number ^ 0xD1EC));
            variables.push((variable, x.clone()));
            // Mid-graph, and by a power of two, so that distinct elements stay where they are.
            inputs.push(&(&x * 2.0) * 0.5);
        } else {
            inputs.push(x);
        }
    }
    let constant = |ty: &Type, seed: u32| {
        let array = draw(&SampleInput::float(&ty.shape, 0.5, 1.5), seed);
        graph.variable(&variable("c", &array))
    };
    let parameters: Vec<&Tensor> = variables.iter().map(|(_, x)| x).collect();
    let mut loss = graph.zeros(&[]);
    for (y, number) in build(graph, &inputs).iter().zip(0..) {
        if y.dtype().loaded() == DType::F32 {
            loss = loss + (y * constant(&y.ty(), seed ^ 0xC0 ^ (number << 8))).sum_all();
        }
    }
    for (number, x) in parameters.iter().enumerate() {
        loss = loss + (*x * constant(&x.ty(), seed ^ (0xD0 + number as u32))).sum_all() * 0.25;
    }
    for _ in 1..order {
        let flows = graph.gradients(&loss, &parameters);
        let mut next = loss.zeros_like();
        for (number, flow) in flows.iter().enumerate() {
            let weight = constant(&flow.ty(), seed ^ (0xE0 + number as u32));
            next = next + (flow * weight).sum_all();
        }
        // Keeps a path where the second derivative is zero.
        for x in &parameters {
            next = next + (*x * *x).sum_all() * 0.125;
        }
        loss = next;
    }
    let flows = graph.gradients(&loss, &parameters);
    let mut outputs: Vec<&Tensor> = vec![&loss];
    outputs.extend(&flows);
    let text = |error: GraphError| error.to_string();
    let nodes = graph.nodes(&outputs).map_err(text)?;
    let start = nodes.initial();
    let values = nodes.interpret(&mut start.clone());
    let slope: f64 = values[1..]
        .iter()
        .zip(&direction)
        .map(|(g, d)| g.data.iter().zip(&d.data).map(|(g, d)| g * d).sum::<f64>())
        .sum();
    let only_loss = graph.nodes(&[&loss]).map_err(text)?;
    let at = |step: f64| {
        let mut contents = start.clone();
        for ((variable, _), d) in variables.iter().zip(&direction) {
            if let Some(array) = contents.get_mut(&variable.id()) {
                for (x, d) in array.data.iter_mut().zip(&d.data) {
                    *x += step * d;
                }
            }
        }
        only_loss.interpret(&mut contents)[0].data[0]
    };
    // The difference's own error: h^2 / 6 of the third derivative, and 2^-52 of the loss over h.
    let h = 1e-5;
    let difference = (at(h) - at(-h)) / (2.0 * h);
    let allowed = 1e-6 * (slope.abs() + difference.abs()) + 1e-9 * values[0].data[0].abs() + 1e-9;
    match (slope - difference).abs() <= allowed {
        true => Ok(()),
        false => Err(format!("gradient {slope:e}, difference {difference:e}, {allowed:e} allowed")),
    }
}
