//! Groups of parameters that learn in a way of their own.

use crate::setting::not_negative;
use crate::{Setting, Slot};

/// Parameters that learn at another rate, with another weight decay, or not at all. Of a parameter
/// in several groups, each setting is that of the last group that says it.
pub struct Group {
    names: Box<dyn Fn(&str) -> bool>,
    described: String,
    lr_multiplier: Option<f64>,
    weight_decay: Option<f64>,
    frozen: Option<bool>,
}

impl Group {
    /// The parameters of a part of the model, or one parameter: `layers.1` has `layers.1.weight` but
    /// not `layers.10.weight`.
    pub fn prefix(prefix: &str) -> Group {
        let own = prefix.to_string();
        let inside = move |name: &str| {
            let rest = name.strip_prefix(own.as_str());
            rest.is_some_and(|rest| own.is_empty() || rest.is_empty() || rest.starts_with('.'))
        };
        Group { described: format!("Group::prefix({prefix:?})"), ..Group::matching(inside) }
    }

    /// The parameters whose names fulfil a condition, such as `|name| name.ends_with(".bias")`.
    pub fn matching(names: impl Fn(&str) -> bool + 'static) -> Group {
        Group {
            names: Box::new(names),
            described: "Group::matching".to_string(),
            lr_multiplier: None,
            weight_decay: None,
            frozen: None,
        }
    }

    /// Multiplies the learning rate, one unless said.
    pub fn lr_multiplier(mut self, lr_multiplier: f64) -> Group {
        self.lr_multiplier = Some(lr_multiplier);
        self
    }

    /// The weight decay in place of the optimizer's.
    pub fn weight_decay(mut self, weight_decay: f64) -> Group {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// The parameters keep their values, and no gradients are computed for them.
    pub fn frozen(mut self) -> Group {
        self.frozen = Some(true);
        self
    }

    /// Whether a parameter belongs to the group.
    pub(crate) fn has(&self, name: &str) -> bool {
        (self.names)(name)
    }

    /// Takes the group's settings into a parameter's.
    pub(crate) fn apply(&self, slot: &mut Slot) {
        slot.lr_multiplier = self.lr_multiplier.unwrap_or(slot.lr_multiplier);
        slot.weight_decay = self.weight_decay.unwrap_or(slot.weight_decay);
        slot.frozen = self.frozen.unwrap_or(slot.frozen);
    }

    /// Whether the settings make sense for a model with these parameters.
    pub(crate) fn check(&self, names: &[&str]) -> Result<(), Setting> {
        not_negative("lr_multiplier", self.lr_multiplier.unwrap_or(1.0))?;
        not_negative("weight_decay", self.weight_decay.unwrap_or(0.0))?;
        if names.iter().any(|name| self.has(name)) {
            return Ok(());
        }
        let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let expected = format!("a group of any of {all}");
        Err(Setting::new(&self.described, "a group without parameters", expected))
    }
}
