//! The index of published vectors, and the tensors it names.

use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use shadegrad::device::DType;
use shadegrad::graph::Array;
use std::path::PathBuf;
use std::sync::OnceLock;

/// PyTorch's own f32 result beside its f64 one.
#[derive(Clone, Copy)]
pub(crate) struct Anchor {
    /// Its largest error.
    pub(crate) max_abs: f64,
    /// The largest magnitude of the f64 result.
    pub(crate) ref_max: f64,
}

/// A tensor that a case must compute.
pub(crate) struct Expected {
    /// The output's name, or the input's whose gradient it is.
    pub(crate) name: String,
    /// The f64 result, rounded to f32; integers and truth values are exact.
    pub(crate) array: Array,
    /// Absent where there is nothing to compare: integers, no elements, or no finite ones.
    pub(crate) anchor: Option<Anchor>,
}

/// One application of an operation.
pub(crate) struct Case {
    /// Its name.
    pub(crate) id: String,
    /// The operation key.
    pub(crate) op: String,
    /// Its arguments, in PyTorch's terms.
    pub(crate) attrs: Value,
    /// What the case is about.
    pub(crate) tags: Vec<String>,
    /// Inputs by name.
    pub(crate) inputs: Vec<(String, Array)>,
    /// Outputs.
    pub(crate) outputs: Vec<Expected>,
    /// What outputs are multiplied by in the loss that is differentiated.
    pub(crate) cotangents: Vec<(String, Array)>,
    /// The loss's gradients with respect to inputs.
    pub(crate) gradients: Vec<Expected>,
}

impl Case {
    /// Whether the case carries a tag.
    pub(crate) fn tagged(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    /// Whether it shows a convention, at a kink or at NaN and infinity, and not a fact.
    pub(crate) fn is_informational(&self) -> bool {
        self.tagged("kink") || self.tagged("special")
    }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

/// The whole index.
pub(crate) fn index() -> &'static Value {
    static INDEX: OnceLock<Value> = OnceLock::new();
    INDEX.get_or_init(|| {
        let text = std::fs::read(folder().join("index.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    })
}

/// The cases of a group, with their tensors.
pub(crate) fn load(group: &str) -> Vec<Case> {
    let name = format!("{group}.safetensors");
    let bytes = std::fs::read(folder().join(&name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let tensors = |section: &Value| -> Vec<(String, Array)> {
        let entries = section.as_object().unwrap().iter();
        entries.map(|(name, entry)| (name.clone(), array(&file, entry))).collect()
    };
    let expected = |section: &Value| -> Vec<Expected> {
        let entries = section.as_object().unwrap().iter();
        let of = |(name, entry): (&String, &Value)| Expected {
            name: name.clone(),
            array: array(&file, entry),
            anchor: anchor(entry),
        };
        entries.map(of).collect()
    };
    let all = index()["cases"].as_array().unwrap().iter();
    all.filter(|case| case["file"] == name.as_str())
        .map(|case| Case {
            id: text(&case["id"]),
            op: text(&case["op"]),
            attrs: case["attrs"].clone(),
            tags: case["tags"].as_array().unwrap().iter().map(text).collect(),
            inputs: tensors(&case["in"]),
            outputs: expected(&case["out"]),
            cotangents: tensors(&case["cotangent"]),
            gradients: expected(&case["grad"]),
        })
        .collect()
}

fn anchor(entry: &Value) -> Option<Anchor> {
    let anchor = entry.get("anchor")?;
    Some(Anchor { max_abs: anchor["max_abs"].as_f64()?, ref_max: anchor["ref_max"].as_f64()? })
}

/// A stored tensor in this library's types: indices are `U32`, and a negative one wraps.
fn array(file: &SafeTensors<'_>, entry: &Value) -> Array {
    let key = entry["key"].as_str().unwrap();
    let view = file.tensor(key).unwrap();
    let shape = entry["shape"].as_array().unwrap();
    let shape: Vec<usize> = shape.iter().map(|extent| extent.as_u64().unwrap() as usize).collect();
    assert_eq!(view.shape(), shape, "{key} has another shape in its file");
    let bytes = view.data();
    let (dtype, data): (DType, Vec<f64>) = match view.dtype() {
        Dtype::F32 => {
            let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (DType::F32, floats.map(f64::from).collect())
        }
        Dtype::I64 => {
            let integers = bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
            (DType::U32, integers.map(|v| f64::from(v as u32)).collect())
        }
        Dtype::BOOL => (DType::Bool, bytes.iter().map(|&b| f64::from(b)).collect()),
        other => panic!("{key}: no element type here is {other:?}"),
    };
    Array::new(&shape, dtype, data)
}
