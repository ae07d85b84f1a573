//! Models from what a file says of them.

use super::config::{Layer, Model, Optimizer, Schedule};
use crate::models::{
    AdaptiveAvgPool2d, Initializer, Optimizer as Rule, Schedule as Factor, Sigmoid, Tanh,
};
use crate::prelude::*;
use anyhow::{Result, bail, ensure};

/// The model for inputs of a shape, `[channels, h, w]` or `[features]`, with so many outputs.
///
/// # Errors
/// With the number of the layer that doesn't fit, and the shape that it would get.
pub fn model(model: &Model, input: &[usize], outputs: usize) -> Result<Sequential> {
    let layers = match (model, input) {
        (Model::Auto, [_]) => mlp(&[128, 64], 0.0),
        (Model::Auto, _) => cnn(&[32, 64, 128], 0.0),
        (Model::Mlp { hidden, dropout }, _) => mlp(hidden, *dropout),
        (Model::Cnn { .. }, [features]) => {
            bail!(
                "a model of kind `cnn` takes images, and the data has {features} features: use `mlp` or `layers`"
            )
        }
        (Model::Cnn { channels, dropout }, _) => cnn(channels, *dropout),
        (Model::Lstm { .. }, _) => bail!(
            "a model of kind `lstm` takes texts, and the data has inputs of {input:?}: use `mlp`, `cnn` or `layers`"
        ),
        (Model::Layers { layers }, _) => layers.clone(),
    };
    let mut shape = input.to_vec();
    let mut model = Sequential::new();
    for (number, layer) in layers.iter().enumerate() {
        model = match add(model, layer, &mut shape) {
            Some(model) => model,
            None => bail!(
                "layer {} of the model, {layer:?}, can't follow outputs of {shape:?}",
                number + 1
            ),
        };
    }
    if shape.len() > 1 {
        model = model.add(Flatten);
    }
    Ok(model.add(Linear::new(shape.iter().product(), outputs)))
}

/// The model for texts of a vocabulary of so many words, with so many outputs.
///
/// # Errors
/// For a model that takes no texts, and sizes of zero.
pub fn text_model(asked: &Model, vocabulary: usize, outputs: usize) -> Result<Sequential> {
    let (width, hidden, dropout, words) = match asked {
        Model::Auto => return text_model(&Model::lstm(), vocabulary, outputs),
        Model::Lstm { width, hidden, dropout, word_dropout } => {
            (*width, *hidden, *dropout, *word_dropout)
        }
        other => bail!("a model of texts is of kind `lstm`, and can't be {other:?}"),
    };
    for (name, value) in [("width", width), ("hidden", hidden)] {
        ensure!(value > 0, "{name} of the model is 0: it must be at least 1");
    }
    // As small as vectors of words that were trained.
    let small = Initializer::Normal { std: 0.1 };
    let classifier = TextClassifier::new(vocabulary, width, hidden, outputs)
        .embedding(Embedding::new(vocabulary, width).initializer(small))
        .dropout(dropout)
        .word_dropout(words);
    Ok(Sequential::new().add(classifier))
}

fn mlp(hidden: &[usize], dropout: f64) -> Vec<Layer> {
    let block = |&out: &usize| [Layer::Linear { out }, Layer::Relu, Layer::Dropout { p: dropout }];
    std::iter::once(Layer::Flatten).chain(hidden.iter().flat_map(block)).collect()
}

fn cnn(channels: &[usize], dropout: f64) -> Vec<Layer> {
    let conv = |out| {
        [Layer::Conv2d { out, kernel: 3, stride: 1, padding: 1 }, Layer::BatchNorm, Layer::Relu]
    };
    let block = |(number, &out): (usize, &usize)| {
        let pool = (number > 0).then_some(Layer::MaxPool { size: 2 });
        pool.into_iter().chain(conv(out)).chain(conv(out)).collect::<Vec<_>>()
    };
    let blocks = channels.iter().enumerate().flat_map(block);
    blocks.chain([Layer::GlobalAvgPool, Layer::Dropout { p: dropout }]).collect()
}

/// One more layer, and the shape after it; nothing if it doesn't fit.
fn add(model: Sequential, layer: &Layer, shape: &mut Vec<usize>) -> Option<Sequential> {
    let windows = |n: usize, size: usize, stride: usize, padding: usize| {
        let room = (n + 2 * padding).checked_sub(size)?;
        (size > 0 && stride > 0).then(|| room / stride + 1)
    };
    let pooled = |shape: &mut Vec<usize>, size: usize| {
        let &[channels, h, w] = shape.as_slice() else { return None };
        *shape = vec![channels, windows(h, size, size, 0)?, windows(w, size, size, 0)?];
        Some(())
    };
    Some(match *layer {
        Layer::Conv2d { out, kernel, stride, padding } => {
            let &[channels, h, w] = shape.as_slice() else { return None };
            let sides = [h, w].map(|n| windows(n, kernel, stride, padding));
            *shape = vec![Some(out).filter(|&out| out > 0)?, sides[0]?, sides[1]?];
            model.add(Conv2d::new(channels, out, kernel).stride(stride).padding(padding))
        }
        Layer::Linear { out } => {
            let &[features] = shape.as_slice() else { return None };
            *shape = vec![Some(out).filter(|&out| out > 0)?];
            model.add(Linear::new(features, out))
        }
        Layer::MaxPool { size } => {
            pooled(shape, size)?;
            model.add(MaxPool2d::new(size))
        }
        Layer::AvgPool { size } => {
            pooled(shape, size)?;
            model.add(AvgPool2d::new(size))
        }
        Layer::GlobalAvgPool => {
            let &[channels, ..] = shape.as_slice() else { return None };
            (shape.len() == 3).then_some(())?;
            *shape = vec![channels];
            model.add(AdaptiveAvgPool2d::new([1, 1])).add(Flatten)
        }
        Layer::BatchNorm if shape.len() == 3 => model.add(BatchNorm2d::new(shape[0])),
        Layer::BatchNorm => model.add(BatchNorm1d::new(shape[0])),
        Layer::Flatten => {
            *shape = vec![shape.iter().product()];
            model.add(Flatten)
        }
        Layer::Dropout { p: 0.0 } => model,
        Layer::Dropout { p } => model.add(Dropout::new(p)),
        Layer::Relu => model.add(Relu),
        Layer::Gelu => model.add(Gelu),
        Layer::Silu => model.add(Silu),
        Layer::Tanh => model.add(Tanh),
        Layer::Sigmoid => model.add(Sigmoid),
    })
}

/// The optimizer that a file asks for.
///
/// # Errors
/// For a name that isn't one, and a setting that the optimizer doesn't have.
pub fn optimizer(asked: &Optimizer) -> Result<Box<dyn Rule>> {
    let Optimizer { name, lr, weight_decay, momentum } = asked;
    let lacks = |what: &str| anyhow::anyhow!("the optimizer `{name}` has no `{what}`");
    macro_rules! decayed {
        ($rule:expr) => {{
            if momentum.is_some() {
                return Err(lacks("momentum"));
            }
            let rule = $rule;
            Box::new(weight_decay.map_or(rule.clone(), |decay| rule.weight_decay(decay)))
        }};
    }
    Ok(match name.as_str() {
        "sgd" => {
            let rule = Sgd::new(*lr).momentum(momentum.unwrap_or(0.0));
            Box::new(rule.weight_decay(weight_decay.unwrap_or(0.0)))
        }
        "rmsprop" => {
            let rule = RMSprop::new(*lr).momentum(momentum.unwrap_or(0.0));
            Box::new(rule.weight_decay(weight_decay.unwrap_or(0.0)))
        }
        "rprop" if weight_decay.is_some() => return Err(lacks("weight_decay")),
        "rprop" if momentum.is_some() => return Err(lacks("momentum")),
        "rprop" => Box::new(Rprop::new(*lr)),
        "adadelta" => decayed!(Adadelta::new(*lr)),
        "adafactor" => decayed!(Adafactor::new(*lr)),
        "adagrad" => decayed!(Adagrad::new(*lr)),
        "adam" => decayed!(Adam::new(*lr)),
        "adamax" => decayed!(Adamax::new(*lr)),
        "adamw" => decayed!(AdamW::new(*lr)),
        "asgd" => decayed!(Asgd::new(*lr)),
        "lamb" => decayed!(Lamb::new(*lr)),
        "lion" => decayed!(Lion::new(*lr)),
        "muon" => decayed!(Muon::new(*lr)),
        "nadam" => decayed!(NAdam::new(*lr)),
        "radam" => decayed!(RAdam::new(*lr)),
        _ => bail!(
            "no optimizer `{name}`: it can be adadelta, adafactor, adagrad, adam, adamax, adamw, asgd, lamb, lion, muon, nadam, \
             radam, rmsprop, rprop or sgd"
        ),
    })
}

/// The schedule that a file asks for, of so many updates in all and in an epoch.
///
/// # Errors
/// For a name that isn't one, and a setting that the schedule doesn't have or needs.
pub fn schedule(asked: &Schedule, updates: usize, epoch: usize) -> Result<Box<dyn Factor>> {
    let Schedule { name, warmup, step_size, gamma, floor } = asked;
    let known: &[&str] = match name.as_str() {
        "constant" | "one-cycle" => &[],
        "cosine" | "linear" => &["floor"],
        "exponential" => &["gamma"],
        "step" => &["step_size", "gamma"],
        _ => bail!(
            "no schedule `{name}`: it can be constant, cosine, exponential, linear, one-cycle or step"
        ),
    };
    let given = [
        ("step_size", step_size.is_some()),
        ("gamma", gamma.is_some()),
        ("floor", floor.is_some()),
        ("warmup", name == "one-cycle" && *warmup > 0),
    ];
    for (what, given) in given {
        if given && !known.contains(&what) {
            let has = if known.is_empty() { "none of its own".into() } else { known.join(", ") };
            if what != "warmup" || name == "one-cycle" {
                bail!("the schedule `{name}` has no `{what}`: its settings are {has}");
            }
        }
    }
    let (rest, floor) = (updates.saturating_sub(*warmup).max(1), floor.unwrap_or(0.01));
    let then: Box<dyn Factor> = match name.as_str() {
        "constant" => Box::new(Constant),
        "cosine" => Box::new(Cosine { steps: rest, floor }),
        "exponential" => {
            // Once an epoch, spread over its steps.
            let gamma = gamma.unwrap_or(0.9).powf(1.0 / epoch.max(1) as f64);
            Box::new(ExponentialLR::new(gamma))
        }
        "linear" => Box::new(LinearLR::new(rest).start_factor(1.0).end_factor(floor)),
        "one-cycle" => Box::new(OneCycleLR::new(updates.max(1))),
        _ => {
            let size = step_size.unwrap_or(10) * epoch.max(1);
            Box::new(StepLR::new(size).gamma(gamma.unwrap_or(0.1)))
        }
    };
    Ok(if *warmup > 0 { Box::new(WarmUp { steps: *warmup, then }) } else { then })
}
