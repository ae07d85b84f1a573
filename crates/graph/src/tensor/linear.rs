//! Linear algebra: products of matrices and vectors, and sums over named indices.

use super::Tensor;
use crate::catalog::{Case, wide};
use crate::ops::MatMul;
use crate::types::broadcast;
use crate::{Graph, case};
use shadegrad_device::numel;

impl Tensor {
    /// Matrix product with PyTorch's rules: `[.., m, k] x [.., k, n]`; vectors are rows or columns, leading
    /// axes broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.shape(), other.shape());
        if a.is_empty() || b.is_empty() {
            return self.refuse_with("matmul", &[other], "takes no scalars");
        }
        if !self.is_float("matmul") || !other.is_float("matmul") {
            return self.clone();
        }
        let left = if a.len() == 1 { self.unsqueeze(0) } else { self.clone() };
        let right = if b.len() == 1 { other.unsqueeze(1) } else { other.clone() };
        let (ls, rs) = (left.shape(), right.shape());
        let (l, r) = (ls.len() - 2, rs.len() - 2);
        if ls[l + 1] != rs[r] {
            let reason = format!("{} columns don't meet {} rows", ls[l + 1], rs[r]);
            return self.refuse_with("matmul", &[other], reason);
        }
        if l > 0 && r == 0 {
            // Rows of all batches are rows of one product: no batched kernel is needed.
            let rows = left.reshape(&[numel(&ls[..=l]), ls[l + 1]]);
            let product = rows.record(MatMul, &[&rows, &right]);
            let shape = [&ls[..=l], &[rs[1]]].concat();
            let product = product.reshape(&shape);
            return product.without_vectors(a.len() == 1, b.len() == 1);
        }
        let batch = match broadcast(&ls[..l], &rs[..r]) {
            Ok(batch) => batch,
            Err(reason) => return self.refuse_with("matmul", &[other], reason),
        };
        let left = left.expand(&[batch.as_slice(), &ls[l..]].concat());
        let right = right.expand(&[batch.as_slice(), &rs[r..]].concat());
        let product = left.record(MatMul, &[&left, &right]);
        product.without_vectors(a.len() == 1, b.len() == 1)
    }

    /// A matrix product without the axes that stood in for vectors.
    #[track_caller]
    fn without_vectors(&self, left: bool, right: bool) -> Tensor {
        let mut shape = self.shape();
        if right {
            shape.pop();
        }
        if left {
            let at = shape.len() - if right { 1 } else { 2 };
            shape.remove(at);
        }
        self.reshape(&shape)
    }

    /// The sum of products of two vectors.
    #[track_caller]
    pub fn dot(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.shape(), other.shape());
        if a.len() != 1 || a != b {
            return self.refuse_with("dot", &[other], "takes two vectors of one length");
        }
        (self * other).sum(&[0])
    }

    /// All products of two vectors: `[m], [n] -> [m, n]`.
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        if self.shape().len() != 1 || other.shape().len() != 1 {
            return self.refuse_with("outer", &[other], "takes two vectors");
        }
        self.unsqueeze(1) * other.unsqueeze(0)
    }

    /// `beta self + alpha a b`, for matrices; with `beta` zero what this tensor holds doesn't matter.
    #[track_caller]
    pub fn addmm(&self, a: &Tensor, b: &Tensor, beta: f64, alpha: f64) -> Tensor {
        let product = a.matmul(b) * alpha;
        match beta == 0.0 {
            true => product + self.zeros_like(),
            false => product + self * beta,
        }
    }

    /// `x wᵀ + b`: `[.., in]` with a weight `[out, in]` and perhaps a bias `[out]` to `[.., out]`.
    #[track_caller]
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let (x, w) = (self.shape(), weight.shape());
        let &[out, inputs] = w.as_slice() else {
            return self.refuse_with("linear", &[weight], "takes a weight [out, in]");
        };
        if x.last() != Some(&inputs) || bias.is_some_and(|b| b.shape() != [out]) {
            let mut given = vec![weight];
            given.extend(bias);
            let reason = format!("takes [.., {inputs}] and a bias [{out}]");
            return self.refuse_with("linear", &given, reason);
        }
        let y = self.matmul(&weight.transpose(0, 1));
        match bias {
            Some(bias) => y + bias,
            None => y,
        }
    }

    /// Sums an axis away, or names it: helpers of [`Graph::einsum`] work on tensors whose axes have letters.
    #[track_caller]
    fn lettered(&self, letters: &[char]) -> (Tensor, Vec<char>) {
        let (mut tensor, mut left) = (self.clone(), letters.to_vec());
        // A letter that comes twice in one term walks both axes at once.
        while let Some((a, b)) = repeated(&left) {
            let rank = left.len();
            let mut order: Vec<usize> = (0..rank).filter(|&x| x != a && x != b).collect();
            order.extend([a, b]);
            tensor = tensor.permute(&order).diagonal(0);
            let letter = left[a];
            left = order[..rank - 2].iter().map(|&x| left[x]).collect();
            left.push(letter);
        }
        (tensor, left)
    }
}

fn repeated(letters: &[char]) -> Option<(usize, usize)> {
    (0..letters.len())
        .find_map(|a| (a + 1..letters.len()).find(|&b| letters[a] == letters[b]).map(|b| (a, b)))
}

/// A tensor's axes in the order of `wanted`, where axes that it doesn't have get extent one.
#[track_caller]
fn arranged(tensor: &Tensor, letters: &[char], wanted: &[char]) -> Tensor {
    let order: Vec<usize> =
        wanted.iter().filter_map(|w| letters.iter().position(|l| l == w)).collect();
    let mut moved = if order.is_sorted() { tensor.clone() } else { tensor.permute(&order) };
    for (at, letter) in wanted.iter().enumerate() {
        if !letters.contains(letter) {
            moved = moved.unsqueeze(at);
        }
    }
    moved
}

impl Graph {
    /// The sum of products over named indices, in Einstein's notation: `"bij,bjk->bik"`. A letter names an axis;
    /// those that the result doesn't name are summed. Without `->` the result has the letters that come once,
    /// in alphabetical order. There are no ellipses.
    #[track_caller]
    pub fn einsum(&self, equation: &str, tensors: &[&Tensor]) -> Tensor {
        for tensor in tensors {
            if !tensor.is_float("einsum") {
                return (*tensor).clone();
            }
        }
        match self.sum_of_products(equation, tensors) {
            Ok(result) => result,
            Err(reason) => self.refuse(&format!("einsum {equation}"), tensors, &reason),
        }
    }

    #[track_caller]
    fn sum_of_products(&self, equation: &str, tensors: &[&Tensor]) -> Result<Tensor, String> {
        let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (inputs, output) = match text.split_once("->") {
            Some((inputs, output)) => (inputs.to_string(), Some(output.to_string())),
            None => (text.clone(), None),
        };
        let terms: Vec<Vec<char>> = inputs.split(',').map(|t| t.chars().collect()).collect();
        let all: Vec<char> = terms.iter().flatten().copied().collect();
        let output: Vec<char> = output.map_or_else(
            || {
                let mut once: Vec<char> = all
                    .iter()
                    .copied()
                    .filter(|c| all.iter().filter(|d| *d == c).count() == 1)
                    .collect();
                once.sort_unstable();
                once
            },
            |output| output.chars().collect(),
        );
        if terms.len() != tensors.len() {
            return Err(format!("{} terms for {} tensors", terms.len(), tensors.len()));
        }
        if !all.iter().chain(&output).all(char::is_ascii_alphabetic) || repeated(&output).is_some()
        {
            return Err("takes letters, each once in the result".to_string());
        }
        if let Some(letter) = output.iter().find(|letter| !all.contains(letter)) {
            return Err(format!("`{letter}` is in no term"));
        }
        let mut extents: std::collections::BTreeMap<char, usize> =
            std::collections::BTreeMap::new();
        for (letters, tensor) in terms.iter().zip(tensors) {
            let shape = tensor.shape();
            if shape.len() != letters.len() {
                return Err(format!("{letters:?} for rank {}", shape.len()));
            }
            for (&letter, &n) in letters.iter().zip(&shape) {
                let known = *extents.entry(letter).or_insert(n);
                if known != n {
                    return Err(format!("`{letter}` is {known} and {n}"));
                }
            }
        }
        let mut current: Option<(Tensor, Vec<char>)> = None;
        for (number, (letters, tensor)) in terms.iter().zip(tensors).enumerate() {
            let later = |letter: &char| {
                output.contains(letter) || terms[number + 1..].iter().flatten().any(|l| l == letter)
            };
            let next = tensor.lettered(letters);
            current = Some(match current {
                None => summed(next, later),
                Some(left) => contracted(left, next, later),
            });
        }
        let (tensor, letters) = current.ok_or("takes at least one tensor")?;
        Ok(arranged(&tensor, &letters, &output))
    }
}

/// Sums the axes whose letters nothing later wants.
#[track_caller]
fn summed(
    (tensor, letters): (Tensor, Vec<char>),
    later: impl Fn(&char) -> bool,
) -> (Tensor, Vec<char>) {
    let axes: Vec<usize> = (0..letters.len()).filter(|&axis| !later(&letters[axis])).collect();
    let left = letters.into_iter().filter(&later).collect();
    (tensor.sum(&axes), left)
}

/// The product of two lettered tensors, summed over what both have and nothing later wants: a matrix
/// product for each combination of the letters that both have and something later wants.
#[track_caller]
fn contracted(
    (a, a_letters): (Tensor, Vec<char>),
    (b, b_letters): (Tensor, Vec<char>),
    later: impl Fn(&char) -> bool,
) -> (Tensor, Vec<char>) {
    let (a, a_letters) = summed((a, a_letters), |l| later(l) || b_letters.contains(l));
    let (b, b_letters) = summed((b, b_letters), |l| later(l) || a_letters.contains(l));
    let both = |l: &&char| a_letters.contains(l) && b_letters.contains(l);
    let batch: Vec<char> = a_letters.iter().filter(both).filter(|l| later(l)).copied().collect();
    let inner: Vec<char> = a_letters.iter().filter(both).filter(|l| !later(l)).copied().collect();
    let rows: Vec<char> = a_letters.iter().filter(|l| !both(l)).copied().collect();
    let cols: Vec<char> = b_letters.iter().filter(|l| !both(l)).copied().collect();
    let extent = |tensor: &Tensor, letters: &[char], of: &[char]| -> Vec<usize> {
        let shape = tensor.shape();
        of.iter().filter_map(|l| letters.iter().position(|m| m == l)).map(|at| shape[at]).collect()
    };
    let (g, k) = (extent(&a, &a_letters, &batch), extent(&a, &a_letters, &inner));
    let (m, n) = (extent(&a, &a_letters, &rows), extent(&b, &b_letters, &cols));
    let left = arranged(&a, &a_letters, &[batch.as_slice(), &rows, &inner].concat());
    let right = arranged(&b, &b_letters, &[batch.as_slice(), &inner, &cols].concat());
    let left = left.reshape(&[numel(&g), numel(&m), numel(&k)]);
    let right = right.reshape(&[numel(&g), numel(&k), numel(&n)]);
    let product = match inner.is_empty() {
        // Nothing is summed: plain products.
        true => left * right,
        false => left.matmul(&right),
    };
    (product.reshape(&[g, m, n].concat()), [batch, rows, cols].concat())
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("matmul", [wide(&[2, 1, 5, 6]), wide(&[3, 6, 4])], |_, x| x[0].matmul(&x[1])),
        case!("matmul", [wide(&[3, 6]), wide(&[6])], |_, x| {
            vec![x[0].matmul(&x[1]), x[1].matmul(&x[0].transpose(0, 1)), x[1].matmul(&x[1])]
        }),
        case!("dot", [wide(&[65]), wide(&[65])], |_, x| x[0].dot(&x[1])),
        case!("outer", [wide(&[5]), wide(&[7])], |_, x| x[0].outer(&x[1])),
        case!("addmm", [wide(&[3, 5]), wide(&[3, 4]), wide(&[4, 5])], |_, x| {
            x[0].addmm(&x[1], &x[2], -2.0, 0.5)
        }),
        case!("linear", [wide(&[2, 5, 7]), wide(&[3, 7]), wide(&[3])], |_, x| {
            x[0].linear(&x[1], Some(&x[2]))
        }),
        case!("einsum", [wide(&[2, 3, 4]), wide(&[2, 4, 5]), wide(&[5, 5])], |g, x| vec![
            g.einsum("bij,bjk->bik", &[&x[0], &x[1]]),
            g.einsum("bij,bjk,kl->il", &[&x[0], &x[1], &x[2]]),
            g.einsum("ii", &[&x[2]]),
            g.einsum("ii->i", &[&x[2]]),
            g.einsum("bij->jb", &[&x[0]]),
            g.einsum("bij,bjk->kibj", &[&x[0], &x[1]]),
        ]),
    ]
}
