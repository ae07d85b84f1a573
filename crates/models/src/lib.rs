//! Layers, models, losses, optimizers, schedules and initialisers.
//!
//! Names, argument order, defaults and weight layouts are PyTorch's, so that knowledge and weights
//! carry over. A model never sees a kernel: everything here is made of tensor operations.

mod activation;
mod init;
mod layer;
mod loss;
mod metric;
mod module;
mod network;
mod optimizer;
mod parameter;
mod schedule;
mod setting;
mod update;

pub use activation::{
    Elu, Gelu, GeluTanh, Hardsigmoid, Hardswish, LeakyRelu, Mish, PRelu, Relu, Relu6, Selu,
    Sigmoid, Silu, Softplus, Softsign, Tanh,
};
pub use init::Initializer;
pub use layer::{
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool1d, AvgPool2d, BatchNorm1d, BatchNorm2d,
    BatchNorm3d, Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, Convolution, Dropout,
    Dropout2d, Embedding, Flatten, GroupNorm, Gru, GruCell, InstanceNorm1d, InstanceNorm2d,
    KeyValueCache, LayerNorm, LearnedPositions, Linear, Lstm, LstmCell, MaxPool1d, MaxPool2d,
    MultiheadAttention, Positions, RMSNorm, Recurrent, RecurrentCell, RecurrentResult, Rnn,
    RnnCell, RnnRelu, RnnReluCell, SinusoidalPositions, TransformerDecoder,
    TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer, Upsample,
};
pub use loss::{
    CrossEntropy, CrossEntropyOptions, Loss, Mse, Reduction, binary_cross_entropy,
    binary_cross_entropy_with_logits, cosine_embedding_loss, cross_entropy, cross_entropy_with,
    ctc_loss, gaussian_nll_loss, hinge_embedding_loss, huber_loss, kl_div, l1_loss,
    margin_ranking_loss, mse_loss, multi_margin_loss, nll_loss, poisson_nll_loss, sections,
    smooth_l1_loss, triplet_margin_loss,
};
pub use metric::{
    Accuracy, Auroc, Average, ConfusionMatrix, F1Score, MeanAbsoluteError, MeanSquaredError,
    Metric, Perplexity, Precision, R2Score, Recall, TopK,
};
pub use module::{Module, Named, Sequential, Visitor};
pub use network::{CausalLm, CausalLmOptions, Cnn, Mlp, Sampling, TextClassifier};
pub use optimizer::{
    Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Asgd, Base, Decay, Lamb, Lion, Muon, NAdam,
    Optimizer, RAdam, RMSprop, Rprop, Sgd, Slot, State, Update, Updated,
};
pub use parameter::{Buffer, Parameter, ParameterError, Parameters};
pub use schedule::{
    Constant, ConstantLR, Cosine, CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR,
    ExponentialLR, LinearLR, MultiStepLR, Noam, OneCycleLR, PolynomialLR, ReduceLROnPlateau,
    Schedule, SequentialLR, StepLR, WarmUp,
};
pub use setting::Setting;
pub use update::{GradScaler, Group, Memory, Updater, clip_grads_with_norm, get_total_norm};
