//! Attention.

use super::Tensor;
use crate::case;
use crate::catalog::{Case, truth, wide};
use crate::ops::Attend;
use crate::types::broadcast;
use shadegrad_device::{Attention, DType};

/// Which keys a query sees, and how strongly.
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// `[.., queries, keys]`, broadcast: truth values say who takes part, floats are added to the scores.
    pub mask: Option<Tensor>,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
    /// What scores are multiplied with; `1 / sqrt(width)` if none is given.
    pub scale: Option<f64>,
}

impl Tensor {
    /// `softmax(q kᵀ scale + mask) v` of queries `[.., m, d]`, keys `[.., n, d]` and values `[.., n, e]`, whose leading
    /// axes broadcast (Vaswani et al., arXiv 1706.03762). A query that sees no key gives zeros.
    ///
    /// The scores are never stored: masks are computed or read where they are used.
    #[track_caller]
    pub fn scaled_dot_product_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Tensor {
        match self.attended(key, value, options) {
            Ok(result) => result,
            Err(reason) => self.refuse_with("scaled_dot_product_attention", &[key, value], reason),
        }
    }

    #[track_caller]
    fn attended(
        &self,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Result<Tensor, String> {
        let (q, k, v) = (self.shape(), key.shape(), value.shape());
        let (Some((b, &[m, d])), Some((kb, &[n, width])), Some((vb, &[values, e]))) =
            (q.split_last_chunk(), k.split_last_chunk(), v.split_last_chunk())
        else {
            return Err("takes queries, keys and values of rank 2 and more".to_string());
        };
        if d != width || n != values {
            return Err(format!(
                "queries of {d} for keys of {width}, {n} keys for {values} values"
            ));
        }
        let mut batch = broadcast(&broadcast(b, kb)?, vb)?;
        let mut bias = options.mask.as_ref().map(|mask| match mask.dtype() {
            DType::Bool => mask.not().select_fill(f64::NEG_INFINITY, 0.0),
            _ => mask.clone(),
        });
        if let Some(mask) = &bias {
            let shape = mask.shape();
            let leading = &shape[..shape.len().saturating_sub(2)];
            let fits = broadcast(&shape[leading.len()..], &[m, n]).is_ok_and(|s| s == [m, n]);
            match broadcast(&batch, leading) {
                Ok(joint) if fits => batch = joint,
                _ => return Err(format!("a mask {shape:?} for {m} queries and {n} keys")),
            }
        }
        if options.causal {
            let (row, column) = (self.iota(m).unsqueeze(1), self.iota(n));
            let hidden = row.less(&column).select_fill(f64::NEG_INFINITY, 0.0);
            bias = Some(bias.map_or_else(|| hidden.clone(), |bias| &bias + &hidden));
        }
        let scale = options.scale.unwrap_or(1.0 / (d as f64).sqrt()) as f32;
        let attention =
            Attention { batch, queries: m, keys: n, width: d, features: e, scale: scale.to_bits() };
        let whole = |t: &Tensor, rows, cols| t.expand(&attention.shape(rows, cols));
        let mut inputs = vec![whole(self, m, d), whole(key, n, d), whole(value, n, e)];
        inputs.extend(bias.map(|bias| whole(&bias, m, n)));
        Ok(self.record(Attend(attention), &inputs.iter().collect::<Vec<_>>()))
    }

    /// One number where this is true, another elsewhere; `F32`.
    #[track_caller]
    fn select_fill(&self, yes: f64, no: f64) -> Tensor {
        let of = |value| self.graph().full(&self.shape(), DType::F32, value);
        self.select(&of(yes), &of(no))
    }
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(
            "scaled_dot_product_attention",
            [wide(&[2, 3, 5, 4]), wide(&[2, 1, 7, 4]), wide(&[2, 3, 7, 3]), wide(&[5, 7])],
            |_, x| {
                let attend = |mask: Option<Tensor>, causal| {
                    let options = AttentionOptions { mask, causal, scale: None };
                    x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
                };
                vec![attend(None, false), attend(None, true), attend(Some(x[3].clone()), true)]
            }
        ),
        case!(
            "scaled_dot_product_attention",
            [wide(&[3, 5, 4]), wide(&[3, 6, 4]), wide(&[3, 6, 2]), truth(&[3, 1, 6])],
            |_, x| {
                let mask = Some(x[3].clone());
                let options = AttentionOptions { mask, causal: false, scale: Some(0.3) };
                x[0].scaled_dot_product_attention(&x[1], &x[2], &options)
            }
        ),
    ]
}
