//! Builder methods that several rules have, each written once.

/// Builder methods that several rules have: `settings!(Rule: eps, maximize)`, or of a rule that
/// keeps them in a field, `settings!(Rule.field: eps)`.
macro_rules! settings {
    ($rule:ident $(.$inner:tt)?: $($setting:ident),*) => {
        settings!(@all [$rule $(.$inner)?] $($setting)*);
    };
    (@all $of:tt $($setting:ident)*) => {
        $(settings!(@$setting $of);)*
    };
    (@betas [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Decay of the two moments.
            pub fn betas(mut self, first: f64, second: f64) -> $rule {
                self$(.$inner)?.betas = (first, second);
                self
            }
        }
    };
    (@eps [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Keeps what is divided by away from zero.
            pub fn eps(mut self, eps: f64) -> $rule {
                self$(.$inner)?.eps = eps;
                self
            }
        }
    };
    (@momentum [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// How much of the last step is kept in this one.
            pub fn momentum(mut self, momentum: f64) -> $rule {
                self$(.$inner)?.momentum = momentum;
                self
            }
        }
    };
    (@amsgrad [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Divides by the root of the largest second moment so far (Reddi, Kale and Kumar, arXiv
            /// 1904.09237).
            pub fn amsgrad(mut self) -> $rule {
                self$(.$inner)?.amsgrad = true;
                self
            }
        }
    };
    (@weight_decay [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Adds `weight_decay parameters` to the gradient.
            pub fn weight_decay(mut self, weight_decay: f64) -> $rule {
                self$(.$inner)?.base.weight_decay = weight_decay;
                self
            }
        }
    };
    (@decoupled_weight_decay [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Weight decay shrinks parameters by `rate weight_decay` instead of going into the gradient.
            pub fn decoupled_weight_decay(mut self) -> $rule {
                self$(.$inner)?.base.decay = $crate::optimizer::Decay::Decoupled;
                self
            }
        }
    };
    (@shrinking [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Parameters shrink by `rate weight_decay` at every step.
            pub fn weight_decay(mut self, weight_decay: f64) -> $rule {
                self$(.$inner)?.base.weight_decay = weight_decay;
                self
            }
        }
    };
    (@maximize [$rule:ident $(.$inner:tt)?]) => {
        impl $rule {
            /// Makes the loss large instead of small.
            pub fn maximize(mut self) -> $rule {
                self$(.$inner)?.base.maximize = true;
                self
            }
        }
    };
}
pub(super) use settings;
