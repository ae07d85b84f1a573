//! Augmentation: images changed at random as part of the training step, by the device, differently in each step.
//!
//! Names, arguments and defaults are torchvision's. Images are `[batch, channels, h, w]` with pixels from 0 to 1, before
//! they are normalised; every image is changed on its own. What is drawn depends on the seed and the step alone, so it is the same on
//! every device and after resuming. Evaluation sees images as they are.

use shadegrad_device::DType;
use shadegrad_graph::{Interpolation, Tensor};
use std::f64::consts::PI;
use std::ops::RangeInclusive;
use std::rc::Rc;

/// What becomes of images in training.
pub trait Transform {
    /// Images `[batch, channels, h, w]`, pixels from 0 to 1, changed at random.
    fn apply(&self, images: &Tensor) -> Tensor;
}

/// Transforms, one after the other.
#[derive(Clone, Default)]
pub struct Transforms(Vec<Rc<dyn Transform>>);

impl Transforms {
    /// None.
    pub fn new() -> Transforms {
        Transforms::default()
    }

    /// One more, after the others.
    #[allow(clippy::should_implement_trait, reason = "as Sequential::add, which isn't a sum")]
    pub fn add(mut self, transform: impl Transform + 'static) -> Transforms {
        self.0.push(Rc::new(transform));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[track_caller]
    pub(crate) fn apply(&self, images: Tensor) -> Tensor {
        self.0.iter().fold(images, |images, transform| transform.apply(&images))
    }
}

/// A number for each image, uniform between two, `[batch, 1, 1, 1]`.
#[track_caller]
fn drawn(images: &Tensor, low: f64, high: f64) -> Tensor {
    let batch = images.shape()[0];
    images.graph().random_key().uniform(&[batch, 1, 1, 1]) * (high - low) + low
}

/// Refuses what isn't `[batch, channels, h, w]`.
#[track_caller]
fn are_images(transform: &str, images: &Tensor) -> bool {
    let fine = images.shape().len() == 4;
    if !fine {
        images.graph().refuse(transform, &[images], "takes images [batch, channels, h, w]");
    }
    fine
}

/// Refuses a setting that isn't within what is possible.
#[track_caller]
fn is_sound(
    transform: &str,
    images: &Tensor,
    what: &str,
    value: f64,
    possible: RangeInclusive<f64>,
) -> bool {
    let fine = possible.contains(&value);
    if !fine {
        let (low, high) = possible.into_inner();
        let reason = format!("{what} is {value}: it must be {low} to {high}");
        images.graph().refuse(transform, &[images], &reason);
    }
    fine
}

/// The second with probability `p` for each image, else the first.
#[track_caller]
fn sometimes(images: &Tensor, p: f64, changed: &Tensor) -> Tensor {
    let drawn = drawn(images, 0.0, 1.0);
    drawn.less(&drawn.full_like(p)).expand(&images.shape()).select(changed, images)
}

/// Mirrors left and right with probability `p`.
#[derive(Clone, Copy, Debug)]
pub struct RandomHorizontalFlip(pub f64);

/// Mirrors top and bottom with probability `p`.
#[derive(Clone, Copy, Debug)]
pub struct RandomVerticalFlip(pub f64);

macro_rules! flip {
    ($transform:ident, $name:literal, $axis:expr) => {
        impl Default for $transform {
            fn default() -> Self {
                $transform(0.5)
            }
        }

        impl Transform for $transform {
            #[track_caller]
            fn apply(&self, images: &Tensor) -> Tensor {
                let fine = are_images($name, images)
                    && is_sound($name, images, "the probability", self.0, 0.0..=1.0);
                match fine {
                    true => sometimes(images, self.0, &images.flip($axis)),
                    false => images.clone(),
                }
            }
        }
    };
}

flip!(RandomHorizontalFlip, "random_horizontal_flip", 3);
flip!(RandomVerticalFlip, "random_vertical_flip", 2);

/// Cuts the image, at its own size, out of the image with so many black pixels around it: moves it by at most that many, in whole pixels.
#[derive(Clone, Copy, Debug)]
pub struct RandomCrop {
    /// Pixels on each side.
    pub padding: usize,
}

impl Transform for RandomCrop {
    #[track_caller]
    fn apply(&self, images: &Tensor) -> Tensor {
        if !are_images("random_crop", images) {
            return images.clone();
        }
        let &[batch, _, h, w] = images.shape().as_slice() else { return images.clone() };
        let padding = self.padding as f64;
        // Whole numbers from -padding to padding, one as likely as another.
        let moved = |size: usize| {
            let draw = drawn(images, 0.0, 2.0 * padding + 1.0).floor();
            let pixels = (draw.clamp_max(2.0 * padding) - padding).reshape(&[batch, 1, 1]);
            pixels * (2.0 / size.max(1) as f64)
        };
        let graph = images.graph();
        let (down, across) = (moved(h), moved(w));
        let (one, zero) = (across.ones_like(), across.zeros_like());
        let rows =
            [graph.concat(&[&one, &zero, &across], 2), graph.concat(&[&zero, &one, &down], 2)];
        let grid = graph.affine_grid(&graph.concat(&[&rows[0], &rows[1]], 1), [h, w], false);
        images.grid_sample(&grid, Interpolation::Nearest)
    }
}

/// Shears, rotates, scales and moves, in this order and about the middle, bilinearly (torchvision's default is the nearest pixel, and moves
/// of whole pixels); outside is black.
#[derive(Clone, Copy, Debug)]
pub struct RandomAffine {
    degrees: f64,
    translate: [f64; 2],
    scale: [f64; 2],
    shear: f64,
}

impl RandomAffine {
    /// Rotates by at most so many degrees either way.
    pub fn new(degrees: f64) -> RandomAffine {
        RandomAffine { degrees, translate: [0.0; 2], scale: [1.0; 2], shear: 0.0 }
    }

    /// Moves by at most these parts of width and height.
    pub fn translate(mut self, across: f64, down: f64) -> RandomAffine {
        self.translate = [across, down];
        self
    }

    /// Scales by a factor between these.
    pub fn scale(mut self, low: f64, high: f64) -> RandomAffine {
        self.scale = [low, high];
        self
    }

    /// Shears along rows by at most so many degrees either way.
    pub fn shear(mut self, degrees: f64) -> RandomAffine {
        self.shear = degrees;
        self
    }
}

/// Rotates by at most so many degrees either way.
#[derive(Clone, Copy, Debug)]
pub struct RandomRotation(pub f64);

impl Transform for RandomRotation {
    #[track_caller]
    fn apply(&self, images: &Tensor) -> Tensor {
        RandomAffine::new(self.0).apply(images)
    }
}

impl Transform for RandomAffine {
    #[track_caller]
    fn apply(&self, images: &Tensor) -> Tensor {
        if !are_images("random_affine", images) {
            return images.clone();
        }
        let RandomAffine { degrees, translate, scale: [low, high], shear } = *self;
        let sound = [
            is_sound("random_affine", images, "degrees", degrees, 0.0..=360.0),
            is_sound("random_affine", images, "shear", shear, 0.0..=89.0),
            is_sound("random_affine", images, "translate across", translate[0], 0.0..=1.0),
            is_sound("random_affine", images, "translate down", translate[1], 0.0..=1.0),
            is_sound("random_affine", images, "the least scale", low, f64::MIN_POSITIVE..=high),
            is_sound("random_affine", images, "the largest scale", high, low..=f64::MAX),
        ];
        if sound.contains(&false) {
            return images.clone();
        }
        let &[batch, _, h, w] = images.shape().as_slice() else { return images.clone() };
        let either = |most: f64| drawn(images, -most, most).reshape(&[batch, 1, 1]);
        let (angle, shear) = (either(self.degrees * PI / 180.0), either(self.shear * PI / 180.0));
        let scale = drawn(images, low, high).reshape(&[batch, 1, 1]);
        let [across, down] = self.translate.map(|part| either(2.0 * part));
        let graph = images.graph();
        // An image is sheared, rotated, scaled and then moved; this is the way back, from pixels of the result.
        let (cos, sin, slant) = (angle.cos() / &scale, angle.sin() / &scale, shear.tan());
        let aspect = w as f64 / h.max(1) as f64;
        let (a, b) = (&cos - &sin * &slant, (&cos * &slant + &sin) * (1.0 / aspect));
        let (c, d) = (-&sin * aspect, cos);
        let row = |x: Tensor, y: Tensor| {
            let start = -(&x * &across + &y * &down);
            graph.concat(&[&x, &y, &start], 2)
        };
        let rows = [row(a, b), row(c, d)];
        let theta = graph.concat(&[&rows[0], &rows[1]], 1);
        let grid = graph.affine_grid(&theta, [h, w], false);
        images.grid_sample(&grid, Interpolation::Bilinear { align_corners: false })
    }
}

/// Changes brightness, contrast and saturation, each by a factor of one plus or minus at most this, and then hue, in the
/// order of torchvision's arguments (torchvision draws the order for each image).
#[derive(Clone, Copy, Debug, Default)]
pub struct ColorJitter {
    /// A factor of all pixels.
    pub brightness: f64,
    /// Of the distance from the mean of the image in grey.
    pub contrast: f64,
    /// Of the distance from the image in grey.
    pub saturation: f64,
    /// The hue is moved by at most this part of the circle of colours either way, 0.5 at most; of red, green and blue alone.
    pub hue: f64,
}

/// The grey of red, green and blue, as ITU-R BT.601 weighs them; of other images the mean of the channels.
#[track_caller]
fn grey(images: &Tensor) -> Tensor {
    let channels = images.shape()[1];
    if channels != 3 {
        return images.mean(&[1]).keepdim(&[1]);
    }
    let weighted = |channel: usize, weight: f64| images.narrow(1, channel, 1) * weight;
    weighted(0, 0.2989) + weighted(1, 0.587) + weighted(2, 0.114)
}

/// Red, green and blue with their hue moved by a part of the circle of colours: by way of hue, saturation and value (Smith,
/// SIGGRAPH 1978), of which the last two stay. Grey has no hue, and stays to the bit.
#[track_caller]
fn turned(images: &Tensor, part: &Tensor) -> Tensor {
    let [red, green, blue] = [0, 1, 2].map(|channel| images.narrow(1, channel, 1));
    let most = red.maximum(&green).maximum(&blue);
    let range = &most - red.minimum(&green).minimum(&blue);
    let divisor = range.equal(&range.zeros_like()).select(&range.ones_like(), &range);
    // Sixths of the circle: red is at 0, green at 2, blue at 4.
    let from = |a: &Tensor, b: &Tensor, sixths: f64| (a - b) / &divisor + sixths;
    let sixths = most.equal(&green).select(&from(&blue, &red, 2.0), &from(&red, &green, 4.0));
    let sixths = most.equal(&red).select(&from(&green, &blue, 0.0), &sixths) + part * 6.0;
    let channel = |start: f64| {
        let place = &sixths + start;
        let place = &place - (&place * (1.0 / 6.0)).floor() * 6.0;
        let lacks = place.minimum(&(-&place + 4.0)).clamp(0.0, 1.0);
        &most - &range * lacks
    };
    let channels = [5.0, 3.0, 1.0].map(channel);
    images.graph().concat(&channels.each_ref(), 1)
}

impl Transform for ColorJitter {
    #[track_caller]
    fn apply(&self, images: &Tensor) -> Tensor {
        let settings = [
            ("brightness", self.brightness, f64::MAX),
            ("contrast", self.contrast, f64::MAX),
            ("saturation", self.saturation, f64::MAX),
            ("hue", self.hue, 0.5),
        ];
        let sound = |(what, value, most): (&str, f64, f64)| {
            is_sound("color_jitter", images, what, value, 0.0..=most)
        };
        if !(are_images("color_jitter", images) && settings.into_iter().all(sound)) {
            return images.clone();
        }
        if self.hue > 0.0 && images.shape()[1] != 3 {
            let reason = "takes images of red, green and blue to change their hue";
            images.graph().refuse("color_jitter", &[images], reason);
            return images.clone();
        }
        let factor = |most: f64| drawn(images, (1.0 - most).max(0.0), 1.0 + most);
        let blend = |images: &Tensor, other: &Tensor, factor: &Tensor| {
            (images * factor + other * (-factor + 1.0)).clamp(0.0, 1.0)
        };
        let mut images = images.clone();
        if self.brightness > 0.0 {
            images = (&images * factor(self.brightness)).clamp(0.0, 1.0);
        }
        if self.contrast > 0.0 {
            let mean = grey(&images).mean(&[1, 2, 3]).keepdim(&[1, 2, 3]);
            images = blend(&images, &mean, &factor(self.contrast));
        }
        if self.saturation > 0.0 {
            images = blend(&images, &grey(&images), &factor(self.saturation));
        }
        if self.hue > 0.0 {
            images = turned(&images, &drawn(&images, -self.hue, self.hue));
        }
        images
    }
}

/// Blackens a square of so many pixels whose middle is anywhere in the image, so that part of it may lie outside (DeVries and Taylor, arXiv
/// 1708.04552).
#[derive(Clone, Copy, Debug)]
pub struct Cutout(pub usize);

impl Transform for Cutout {
    #[track_caller]
    fn apply(&self, images: &Tensor) -> Tensor {
        if !are_images("cutout", images) {
            return images.clone();
        }
        let &[_, _, h, w] = images.shape().as_slice() else { return images.clone() };
        let hit = |axis: usize, size: usize| {
            let middle = drawn(images, 0.0, size as f64).floor().clamp_max(size as f64 - 1.0);
            let first = middle - (self.0 / 2) as f64;
            let mut shape = [1; 4];
            shape[axis] = size;
            let place = images.graph().iota(size).to(DType::F32).reshape(&shape);
            place.greater_equal(&first).and(&place.less(&(first + self.0 as f64)))
        };
        let hidden = hit(2, h).and(&hit(3, w)).expand(&images.shape());
        hidden.select(&images.zeros_like(), images)
    }
}

/// Inputs mixed in pairs (Zhang et al., arXiv 1710.09412): `share` of each and the rest of another, the one that `partner` names.
pub struct Mixed {
    /// The mixed inputs.
    pub inputs: Tensor,
    /// How much of each is itself, one number for the batch, a scalar.
    pub share: Tensor,
    /// The other sample of each, `[batch]`, `U32`.
    pub partner: Tensor,
}

/// Tries of drawing from the Beta distribution: at `alpha` 1 half of them fail.
const TRIES: usize = 32;

/// Mixes a batch, with a share from the distribution Beta(alpha, alpha), `alpha` above 0 and at most 1; drawn by Jöhnk's method
/// (Metrika 8, 1964).
#[track_caller]
pub fn mixup(inputs: &Tensor, alpha: f64) -> Mixed {
    let graph = inputs.graph();
    let batch = inputs.shape().first().copied().unwrap_or(1);
    if !(alpha > 0.0 && alpha <= 1.0) {
        let reason = format!("alpha is {alpha}: it must be above 0 and at most 1");
        graph.refuse("mixup", &[inputs], &reason);
    }
    let power = |key: &Tensor| {
        // Never zero, so that its logarithm is finite.
        let uniform = key.uniform(&[TRIES]) + 1.0 / 33_554_432.0;
        (uniform.log() * (1.0 / alpha)).exp()
    };
    let (x, y) = (power(&graph.random_key()), power(&graph.random_key()));
    let sum = &x + &y;
    // The first that is within, or the first of all.
    let within = sum.less_equal(&sum.full_like(1.0)).and(&sum.greater(&sum.zeros_like()));
    let first = within.to(DType::F32).argmax(0).reshape(&[1]);
    let share = (x / sum.clamp_min(f64::from(f32::MIN_POSITIVE))).index_select(0, &first);
    let share = share.reshape(&[]);
    let partner = graph.random_key().permutation(batch);
    let other = inputs.index_select(0, &partner);
    let mixed = inputs * &share + other * (-&share + 1.0);
    Mixed { inputs: mixed, share, partner }
}
