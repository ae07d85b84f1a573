//! Linear layers and tables of vectors.

use crate::{Initializer, Module, Named, Parameter, ParameterError, Visitor};
use shadegrad_graph::{Graph, Tensor};

/// `y = x Wᵀ + b`, `[.., in] -> [.., out]`; the weight is `[out, in]`.
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    /// A layer from `in_features` to `out_features`, with bias, initialised as in PyTorch.
    pub fn new(in_features: usize, out_features: usize) -> Linear {
        let init = Initializer::default_for(in_features);
        Linear {
            weight: Parameter::new(&[out_features, in_features], init),
            bias: Some(Parameter::new(&[out_features], init)),
        }
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Linear {
        self.bias = None;
        self
    }

    /// With weights initialised another way; the bias begins at zero.
    pub fn initializer(self, initializer: Initializer) -> Linear {
        Linear {
            weight: Parameter::new(self.weight.shape(), initializer),
            bias: self.bias.map(|bias| Parameter::new(bias.shape(), Initializer::Zeros)),
        }
    }
}

impl Named for Linear {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

impl Module for Linear {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let bias = self.bias.as_ref().map(|bias| bias.tensor(x.graph()));
        x.linear(&self.weight.tensor(x.graph()), bias.as_ref())
    }
}

/// A table of vectors, of which indices `[..]`, `U32`, name some: `[..] -> [.., dim]`; the weight is
/// `[count, dim]`.
pub struct Embedding {
    weight: Parameter,
    padding: Option<usize>,
}

impl Embedding {
    /// A table of `num_embeddings` vectors of `embedding_dim` numbers, normal with variance 1.
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Embedding {
        let normal = Initializer::Normal { std: 1.0 };
        Embedding {
            weight: Parameter::new(&[num_embeddings, embedding_dim], normal),
            padding: None,
        }
    }

    /// A table of vectors that were trained elsewhere, row-major `[num_embeddings, embedding_dim]`; training goes on with
    /// them.
    ///
    /// # Errors
    /// [`ParameterError::Values`] for another number of values.
    pub fn from_pretrained(
        num_embeddings: usize,
        embedding_dim: usize,
        vectors: &[f32],
    ) -> Result<Embedding, ParameterError> {
        let weight = Parameter::from_values(&[num_embeddings, embedding_dim], vectors)?;
        Ok(Embedding { weight, padding: None })
    }

    /// The vector of this index gets no gradient. It begins like the others, where PyTorch's begins at zero.
    pub fn padding_idx(mut self, index: usize) -> Embedding {
        self.padding = Some(index);
        self
    }

    /// The table in a recording.
    #[track_caller]
    pub fn weight(&self, graph: &Graph) -> Tensor {
        self.weight.tensor(graph)
    }

    /// With vectors initialised another way.
    pub fn initializer(mut self, initializer: Initializer) -> Embedding {
        self.weight = Parameter::new(self.weight.shape(), initializer);
        self
    }
}

impl Named for Embedding {
    fn visit(&self, visitor: &mut Visitor) {
        visitor.parameter("weight", &self.weight);
    }
}

impl Module for Embedding {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.weight.tensor(x.graph()).embedding(x, self.padding)
    }
}
