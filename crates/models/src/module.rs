//! Modules: things with named parameters, and layers that map a tensor to a tensor.

use crate::{Buffer, Parameter};
use shadegrad_graph::Tensor;

/// Collects parameters under the names of the structure they are in.
#[derive(Default)]
pub struct Visitor {
    path: Vec<String>,
    pub(crate) parameters: Vec<(String, Parameter)>,
    pub(crate) buffers: Vec<(String, Buffer)>,
}

impl Visitor {
    /// A parameter of this module.
    pub fn parameter(&mut self, name: &str, parameter: &Parameter) {
        let name = self.full(name);
        self.parameters.push((name, parameter.clone()));
    }

    /// State of this module that steps change without gradients.
    pub fn buffer(&mut self, name: &str, buffer: &Buffer) {
        let name = self.full(name);
        self.buffers.push((name, buffer.clone()));
    }

    fn full(&self, name: &str) -> String {
        let mut full = self.path.join(".");
        if !full.is_empty() {
            full.push('.');
        }
        full + name
    }

    /// A module inside this module.
    pub fn child(&mut self, name: &str, module: &(impl Named + ?Sized)) {
        self.path.push(name.to_string());
        module.visit(self);
        self.path.pop();
    }
}

/// Something with named parameters: a layer, or a model of any number of inputs and outputs.
pub trait Named {
    /// Shows the visitor every parameter and every module inside.
    fn visit(&self, visitor: &mut Visitor);
}

/// A map from one tensor to one tensor.
pub trait Module: Named {
    /// Records the computation.
    fn forward(&self, x: &Tensor) -> Tensor;
}

/// Names the fields of a hand-written model: `named!(Net { conv1, conv2, fc })` gives parameters
/// such as `conv1.weight`. Every field named must be [`Named`] itself.
#[macro_export]
macro_rules! named {
    ($model:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Named for $model {
            fn visit(&self, visitor: &mut $crate::Visitor) {
                $(visitor.child(stringify!($field), &self.$field);)*
            }
        }
    };
}

impl Named for Parameter {
    fn visit(&self, visitor: &mut Visitor) {
        // The field's name is the parameter's: it is the last of the path.
        let name = visitor.path.pop().unwrap_or_default();
        visitor.parameter(&name, self);
        visitor.path.push(name);
    }
}

impl<T: Named> Named for Vec<T> {
    fn visit(&self, visitor: &mut Visitor) {
        for (number, module) in self.iter().enumerate() {
            visitor.child(&number.to_string(), module);
        }
    }
}

impl<T: Named + ?Sized> Named for Box<T> {
    fn visit(&self, visitor: &mut Visitor) {
        (**self).visit(visitor);
    }
}

impl<T: Module + ?Sized> Module for Box<T> {
    fn forward(&self, x: &Tensor) -> Tensor {
        (**self).forward(x)
    }
}

/// Layers one after the other, named `0`, `1`, ... or as you say.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<(String, Box<dyn Module>)>,
}

impl Sequential {
    /// No layers: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Adds a layer, named by its number.
    #[expect(
        clippy::should_implement_trait,
        reason = "the word for building a model layer by layer"
    )]
    pub fn add(self, layer: impl Module + 'static) -> Sequential {
        let name = self.layers.len().to_string();
        self.add_named(&name, layer)
    }

    /// Adds a layer with a name.
    pub fn add_named(mut self, name: &str, layer: impl Module + 'static) -> Sequential {
        self.layers.push((name.to_string(), Box::new(layer)));
        self
    }
}

impl Named for Sequential {
    fn visit(&self, visitor: &mut Visitor) {
        for (name, layer) in &self.layers {
            visitor.child(name, layer);
        }
    }
}

impl Module for Sequential {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layers.iter().fold(x.clone(), |x, (_, layer)| layer.forward(&x))
    }
}
