//! Augmentation: what may be drawn is drawn, nothing else is, and evaluation sees nothing of it.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

mod harness;

use shadegrad::device::{DType, Device};
use shadegrad::graph::{Array, Graph, Interpolation, Session, Variable, check};
use shadegrad::prelude::*;
use shadegrad::train::augment::{
    ColorJitter, Cutout, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomRotation,
    RandomVerticalFlip, mixup,
};
use shadegrad::train::data::drawn;
use shadegrad::train::{History, Streaming, Transform, Transforms};

/// Steps of a transform: what it makes of the same images in each.
fn steps(device: &Device, images: &Array, transform: &dyn Transform, count: usize) -> Vec<Array> {
    let (seed, step) = (Variable::word("seed", 7), Variable::word("step", 0));
    let graph = Graph::training(&seed, &step);
    let output = transform.apply(&graph.variable(&check::variable("x", images)));
    graph.assign(&step, &(graph.step() + 1.0));
    let mut session = Session::new(device);
    let mut program = session.compile(&graph, &[&output]).unwrap();
    let step = |_| {
        program.run(1).unwrap();
        program.read_array(0).unwrap()
    };
    (0..count).map(step).collect()
}

/// Images of which every pixel is another number from 0 to 1.
fn images(shape: [usize; 4]) -> Array {
    let count: usize = shape.iter().product();
    let data = (0..count).map(|i| ((i * 37) % count + 1) as f64 / count as f64);
    Array::new(&shape, DType::F32, data.map(|v| f64::from(v as f32)).collect())
}

fn image(array: &Array, number: usize) -> &[f64] {
    let size: usize = array.ty.shape[1..].iter().product();
    &array.data[number * size..][..size]
}

#[test]
fn flips_mirror_half_of_the_images() {
    const SHAPE: [usize; 4] = [33, 2, 3, 5];
    let x = images(SHAPE);
    let mirrored = |number: usize, axis: usize| -> Vec<f64> {
        let place = |c: usize, i: usize, j: usize| {
            let (i, j) = if axis == 2 { (2 - i, j) } else { (i, 4 - j) };
            image(&x, number)[(c * 3 + i) * 5 + j]
        };
        (0..30).map(|at| place(at / 15, at / 5 % 3, at % 5)).collect()
    };
    let flips: [(Box<dyn Transform>, usize); 2] = [
        (Box::new(RandomHorizontalFlip::default()), 3),
        (Box::new(RandomVerticalFlip::default()), 2),
    ];
    let mut first = vec![];
    for (device, _) in harness::devices() {
        for (flip, axis) in &flips {
            let found = steps(&device, &x, &**flip, 20);
            let mut count = 0;
            for step in &found {
                for number in 0..SHAPE[0] {
                    let own = image(step, number);
                    let flipped = own == mirrored(number, *axis);
                    assert!(flipped || own == image(&x, number), "image {number}");
                    count += usize::from(flipped);
                }
            }
            // Of 660, within five standard deviations.
            assert!((330 - 65..330 + 65).contains(&count), "{count}");
            assert_ne!(found[0], found[1], "each step draws anew");
            first.push(found);
        }
    }
    // The same on every device.
    assert!(first.len() < 4 || first[..2] == first[2..]);
    let device = Device::cpu(Some(1));
    assert_eq!(steps(&device, &x, &RandomHorizontalFlip(0.0), 1)[0].data, x.data);
}

#[test]
fn crops_are_moved_by_whole_pixels_over_black() {
    const SHAPE: [usize; 4] = [17, 2, 4, 5];
    let x = images(SHAPE);
    let moved = |number: usize, down: isize, across: isize| -> Vec<f64> {
        let pixel = |at: usize| {
            let (c, i, j) = (at / 20, (at / 5 % 4) as isize + down, (at % 5) as isize + across);
            let inside = (0..4).contains(&i) && (0..5).contains(&j);
            if inside { image(&x, number)[(c * 4 + i as usize) * 5 + j as usize] } else { 0.0 }
        };
        (0..40).map(pixel).collect()
    };
    for (device, _) in harness::devices() {
        let mut seen = std::collections::BTreeMap::new();
        for step in steps(&device, &x, &RandomCrop { padding: 2 }, 30) {
            for number in 0..SHAPE[0] {
                let own = image(&step, number);
                let all = (-2..=2).flat_map(|down| (-2..=2).map(move |across| (down, across)));
                let found =
                    all.into_iter().find(|&(down, across)| own == moved(number, down, across));
                *seen.entry(found.expect("some move of the image")).or_insert(0) += 1;
            }
        }
        // 510 draws of 25 moves.
        assert_eq!(seen.len(), 25);
        assert!(seen.values().all(|&count| (3..50).contains(&count)), "{seen:?}");
    }
}

/// What maps places of the result to places of the image, recovered from images whose pixels are their own coordinates: `[[xx, xy, x0], [yx, yy, y0]]`
/// in pixels from the middle.
fn maps(device: &Device, transform: &dyn Transform, count: usize) -> Vec<[[f64; 3]; 2]> {
    // The middle of the image, where no black comes in. Coordinates are whole numbers, divided by 64 to be pixels.
    const SIDE: usize = 41;
    let half = (SIDE / 2) as f64;
    let pixel = |at: usize| {
        let (i, j) = (at / SIDE % SIDE, at % SIDE);
        (if (at / (SIDE * SIDE)).is_multiple_of(2) { j as f64 } else { i as f64 }) / 64.0
    };
    let x =
        Array::new(&[9, 2, SIDE, SIDE], DType::F32, (0..9 * 2 * SIDE * SIDE).map(pixel).collect());
    let mut found = vec![];
    for step in steps(device, &x, transform, count) {
        for number in 0..9 {
            let at = |channel: usize, down: f64, across: f64| {
                let place = |v: f64| (v + half) as usize;
                image(&step, number)[(channel * SIDE + place(down)) * SIDE + place(across)] * 64.0
                    - half
            };
            let row = |channel: usize| {
                let middle = at(channel, 0.0, 0.0);
                let right = (at(channel, 0.0, 5.0) - middle) / 5.0;
                let below = (at(channel, 5.0, 0.0) - middle) / 5.0;
                // Bilinear sampling of a slope is exact, so the map is the same everywhere.
                let expected = middle + right * -4.0 + below * 3.0;
                let own = at(channel, 3.0, -4.0);
                assert!((own - expected).abs() < 1e-3, "{own} not {expected}");
                [right, below, middle]
            };
            found.push([row(0), row(1)]);
        }
    }
    found
}

#[test]
fn affine_maps_are_those_that_were_asked_for() {
    for (device, _) in harness::devices() {
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for [[xx, xy, x0], [yx, yy, y0]] in maps(&device, &RandomRotation(30.0), 8) {
            let angle = (-yx).atan2(xx).to_degrees();
            (least, most) = (least.min(angle), most.max(angle));
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a} not {b}");
            close(xx * xx + xy * xy, 1.0);
            close(xx, yy);
            close(xy, -yx);
            close(x0, 0.0);
            close(y0, 0.0);
        }
        assert!((-30.0..-20.0).contains(&least) && (20.0..30.0).contains(&most), "{least} {most}");
        let affine = RandomAffine::new(0.0).translate(0.1, 0.05).scale(0.8, 1.25).shear(20.0);
        let found = maps(&device, &affine, 8);
        let slant = |map: &[[f64; 3]; 2]| (map[0][1] / map[0][0]).atan().to_degrees();
        // How far the image's middle has moved, whatever it was scaled by.
        let moved = |map: &[[f64; 3]; 2]| {
            let down = -map[1][2] / map[1][1];
            (-(map[0][2] + map[0][1] * down) / map[0][0], down)
        };
        for map in &found {
            let [[xx, ..], [yx, yy, _]] = map;
            assert!((0.8 - 1e-3..1.25 + 1e-3).contains(&(1.0 / xx)) && (xx - yy).abs() < 1e-3);
            assert!(slant(map).abs() < 20.01 && yx.abs() < 1e-3);
            let (across, down) = moved(map);
            assert!(across.abs() < 4.11 && down.abs() < 2.06, "{across} {down}");
        }
        let far = |of: &dyn Fn(&[[f64; 3]; 2]) -> f64, most: f64| {
            assert!(found.iter().any(|map| of(map).abs() > 0.7 * most), "{most} isn't reached");
        };
        far(&|map| moved(map).0, 4.1);
        far(&|map| moved(map).1, 2.05);
        far(&slant, 20.0);
        // The scale itself is uniform, not its inverse: 144 draws of mean 1.25 and deviation 0.43.
        let scales = maps(&device, &RandomAffine::new(0.0).scale(0.5, 2.0), 16);
        let mean = scales.iter().map(|map| 1.0 / map[0][0]).sum::<f64>() / scales.len() as f64;
        assert!((mean - 1.25).abs() < 0.15, "{mean}");
    }
    settings_are_refused();
    // What isn't square keeps its angles.
    let device = Device::cpu(Some(1));
    let mut pixels = vec![0.0; 21 * 41];
    // A line of pixels across the middle.
    pixels[10 * 41 + 12..10 * 41 + 29].fill(1.0);
    let x = Array::new(&[1, 1, 21, 41], DType::F32, pixels);
    for step in steps(&device, &x, &RandomRotation(40.0), 5) {
        let end = |range: std::ops::Range<usize>| {
            let weighted = range.flat_map(|j| (0..21).map(move |i| (i, j)));
            let (mut total, mut row, mut column) = (0.0, 0.0, 0.0);
            for (i, j) in weighted {
                let v = step.data[i * 41 + j];
                (total, row, column) = (total + v, row + v * i as f64, column + v * j as f64);
            }
            (row / total - 10.0, column / total - 20.0)
        };
        let (left, right) = (end(0..20), end(21..41));
        // The middles of both halves are as far from the middle as before: 4.5 pixels.
        for (i, j) in [left, right] {
            assert!((i.hypot(j) - 4.5).abs() < 0.2, "{i} {j}");
        }
    }
}

fn settings_are_refused() {
    let none = ColorJitter::default();
    let wrong: [(Box<dyn Transform>, &str); 7] = [
        (Box::new(RandomHorizontalFlip(7.0)), "probability is 7"),
        (Box::new(RandomVerticalFlip(f64::NAN)), "probability is NaN"),
        (Box::new(ColorJitter { contrast: -1.0, ..none }), "contrast is -1"),
        (Box::new(ColorJitter { hue: 0.6, ..none }), "hue is 0.6: it must be 0 to 0.5"),
        (Box::new(RandomAffine::new(0.0).shear(90.0)), "shear is 90"),
        (Box::new(RandomAffine::new(0.0).translate(9.0, 0.0)), "translate across is 9"),
        (Box::new(RandomAffine::new(0.0).scale(0.0, 1.0)), "scale is 0"),
    ];
    for (transform, words) in wrong {
        let graph = Graph::training(&Variable::word("seed", 7), &Variable::word("step", 0));
        transform.apply(&graph.full(&[2, 3, 4, 4], DType::F32, 1.0));
        let error = graph.error().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn colours_change_by_one_factor_for_each_image() {
    const SHAPE: [usize; 4] = [19, 3, 4, 4];
    let x = images(SHAPE);
    let grey = |pixels: &[f64], at: usize| {
        0.2989 * pixels[at] + 0.587 * pixels[16 + at] + 0.114 * pixels[32 + at]
    };
    let check = |jitter: ColorJitter, base: &dyn Fn(&[f64], usize) -> f64, device: &Device| {
        let mut factors = vec![];
        for step in steps(device, &x, &jitter, 6) {
            for number in 0..SHAPE[0] {
                let (own, before) = (image(&step, number), image(&x, number));
                // From the pixel that is farthest from what it is blended with.
                let far = |&at: &usize| (before[at] - base(before, at)).abs();
                let open = (0..48).filter(|&at| own[at] > 0.0 && own[at] < 1.0);
                let at = open.max_by(|a, b| far(a).total_cmp(&far(b))).unwrap();
                let factor = (own[at] - base(before, at)) / (before[at] - base(before, at));
                for at in 0..48 {
                    let blended = before[at] * factor + base(before, at) * (1.0 - factor);
                    assert!((own[at] - blended.clamp(0.0, 1.0)).abs() < 1e-5, "{jitter:?}");
                }
                factors.push(factor);
            }
        }
        let (least, most) =
            factors.iter().fold((f64::MAX, 0.0f64), |(l, m), &f| (l.min(f), m.max(f)));
        assert!(
            (0.6 - 1e-4..0.7).contains(&least) && (1.3..1.4 + 1e-4).contains(&most),
            "{least} {most}"
        );
    };
    for (device, _) in harness::devices() {
        let none = ColorJitter::default();
        assert_eq!(steps(&device, &x, &none, 1)[0].data, x.data);
        check(ColorJitter { brightness: 0.4, ..none }, &|_, _| 0.0, &device);
        let mean =
            |pixels: &[f64], _: usize| (0..16).map(|at| grey(pixels, at)).sum::<f64>() / 16.0;
        check(ColorJitter { contrast: 0.4, ..none }, &mean, &device);
        check(
            ColorJitter { saturation: 0.4, ..none },
            &|pixels, at| grey(pixels, at % 16),
            &device,
        );
    }
}

/// Hue (a part of the circle), saturation and value of red, green and blue, as Python's `colorsys.rgb_to_hsv` has it.
fn hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let range = most - least;
    if range == 0.0 {
        return [0.0, 0.0, most];
    }
    let [rc, gc, bc] = [r, g, b].map(|c| (most - c) / range);
    let sixths = match most {
        _ if r == most => bc - gc,
        _ if g == most => 2.0 + rc - bc,
        _ => 4.0 + gc - rc,
    };
    [(sixths / 6.0).rem_euclid(1.0), range / most, most]
}

/// Red, green and blue, as Python's `colorsys.hsv_to_rgb` has it.
fn rgb([h, s, v]: [f64; 3]) -> [f64; 3] {
    let (sixth, part) = ((h * 6.0).floor(), h * 6.0 - (h * 6.0).floor());
    let (p, q, t) = (v * (1.0 - s), v * (1.0 - s * part), v * (1.0 - s * (1.0 - part)));
    match sixth as usize % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[test]
fn hues_move_by_one_angle_for_each_image() {
    const COUNT: usize = 19;
    const PIXELS: usize = 15;
    // A red pixel, from which the angle is told, a grey, a black and a white one, those with two channels alike, and others.
    let fixed = [[1.0, 0.0, 0.0], [0.4, 0.4, 0.4], [0.0; 3], [1.0; 3], [0.5, 0.5, 0.2]];
    let more = [[0.2, 0.7, 0.7], [0.9, 0.1, 0.9], [0.25, 0.5, 0.75], [0.0, 1.0, 0.0]];
    let fixed = [&fixed[..], &more[..]].concat();
    let mut x = images([COUNT, 3, 3, 5]);
    for number in 0..COUNT {
        for (at, pixel) in fixed.iter().enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                x.data[(number * 3 + channel) * PIXELS + at] = f64::from(value as f32);
            }
        }
    }
    let pixel = |image: &[f64], at: usize| [0, 1, 2].map(|channel| image[channel * PIXELS + at]);
    let mut all = vec![];
    for (device, _) in harness::devices() {
        for most in [0.5, 0.1] {
            let jitter = ColorJitter { hue: most, ..ColorJitter::default() };
            let found = steps(&device, &x, &jitter, 12);
            let mut turns = vec![];
            for step in &found {
                for number in 0..COUNT {
                    let (own, before) = (image(step, number), image(&x, number));
                    let turn = hsv(pixel(own, 0))[0];
                    for at in 0..PIXELS {
                        let [h, s, v] = hsv(pixel(before, at));
                        let expected = rgb([(h + turn).rem_euclid(1.0), s, v]);
                        // Angles are sums below 16 sixths in f32: half a millionth each, and a few of them.
                        for (got, expected) in pixel(own, at).into_iter().zip(expected) {
                            assert!((got - expected).abs() < 2e-6, "{at}: {got} not {expected}");
                        }
                        // What is grey has no hue.
                        assert!(s > 0.0 || pixel(own, at) == pixel(before, at));
                    }
                    turns.push(if turn > 0.5 { turn - 1.0 } else { turn });
                }
            }
            // Of 228 draws over the range, the ends and the mean (five deviations).
            let (least, greatest) =
                turns.iter().fold((1.0f64, -1.0f64), |(l, g), &t| (l.min(t), g.max(t)));
            let mean = turns.iter().sum::<f64>() / turns.len() as f64;
            assert!((-most - 1e-6..-0.9 * most).contains(&least), "{least}");
            assert!((0.9 * most..most + 1e-6).contains(&greatest), "{greatest}");
            assert!(mean.abs() < 5.0 * most / (3.0f64 * 228.0).sqrt(), "{mean}");
            assert_ne!(found[0], found[1], "each step draws anew");
            all.push(turns);
        }
        // No turn at all, and one by nothing to speak of.
        let still = |hue| steps(&device, &x, &ColorJitter { hue, ..ColorJitter::default() }, 1);
        assert_eq!(still(0.0)[0].data, x.data);
        for (got, expected) in still(1e-9)[0].data.iter().zip(&x.data) {
            assert!((got - expected).abs() < 2e-6, "{got} not {expected}");
        }
        // The other changes come first: what they make is what is turned.
        let both = ColorJitter { brightness: 0.4, hue: 0.2, ..ColorJitter::default() };
        for step in steps(&device, &x, &both, 4) {
            for number in 0..COUNT {
                let (own, before) = (image(&step, number), image(&x, number));
                let factor = pixel(own, 1)[0] / pixel(before, 1)[0];
                let turn = hsv(pixel(own, 0))[0];
                for at in 0..PIXELS {
                    let [h, s, v] = hsv(pixel(before, at).map(|c| (c * factor).min(1.0)));
                    let expected = rgb([(h + turn).rem_euclid(1.0), s, v]);
                    for (got, expected) in pixel(own, at).into_iter().zip(expected) {
                        assert!((got - expected).abs() < 3e-6, "{at}: {got} not {expected}");
                    }
                }
            }
        }
    }
    // The same on every device, to the rounding of the pixel that it is told from.
    let (first, others) = all.split_at(2);
    for (a, b) in others.iter().zip(first).flat_map(|(a, b)| a.iter().zip(b)) {
        assert!((a - b).abs() < 1e-6, "{a} not {b}");
    }
    // Grey images have none.
    let graph = Graph::training(&Variable::word("seed", 7), &Variable::word("step", 0));
    let jitter = ColorJitter { hue: 0.1, ..ColorJitter::default() };
    jitter.apply(&graph.full(&[2, 1, 4, 4], DType::F32, 1.0));
    let error = graph.error().unwrap().to_string();
    assert!(error.contains("color_jitter") && error.contains("hue"), "{error}");
    assert!(error.contains("red, green and blue") && error.contains("[2, 1, 4, 4]"), "{error}");
}

#[test]
fn cutout_blackens_one_square() {
    const SHAPE: [usize; 4] = [23, 2, 7, 6];
    let x = images(SHAPE);
    for (device, _) in harness::devices() {
        let mut areas = std::collections::BTreeSet::new();
        for step in steps(&device, &x, &Cutout(3), 8) {
            for number in 0..SHAPE[0] {
                let (own, before) = (image(&step, number), image(&x, number));
                let black: Vec<usize> = (0..42).filter(|&at| own[at] == 0.0).collect();
                let both =
                    |at: usize| own[at] == before[at] || own[at] == 0.0 && own[at % 42] == 0.0;
                assert!((0..84).all(both), "other pixels stay, channels share the square");
                let side = |of: fn(usize) -> usize| {
                    let places: Vec<usize> = black.iter().map(|&at| of(at)).collect();
                    places.iter().max().unwrap() - places.iter().min().unwrap() + 1
                };
                let sides = (side(|at| at / 6), side(|at| at % 6));
                assert_eq!(sides.0 * sides.1, black.len(), "a rectangle");
                areas.insert(sides);
            }
        }
        // Whole squares, and such as are partly outside.
        let all = [(2, 2), (2, 3), (3, 2), (3, 3)];
        assert_eq!(areas.into_iter().collect::<Vec<_>>(), all);
    }
}

#[test]
fn samples_are_mixed_in_pairs_by_a_share_of_the_beta_distribution() {
    const BATCH: usize = 7;
    let x = images([BATCH, 1, 2, 3]);
    for (device, exact) in harness::devices() {
        for alpha in [0.2, 1.0] {
            let (seed, step) = (Variable::word("seed", 7), Variable::word("step", 0));
            let graph = Graph::training(&seed, &step);
            let mixed = mixup(&graph.variable(&check::variable("x", &x)), alpha);
            graph.assign(&step, &(graph.step() + 1.0));
            let mut session = Session::new(&device);
            let outputs = [&mixed.inputs, &mixed.share, &mixed.partner];
            let mut program = session.compile(&graph, &outputs).unwrap();
            let count = if exact { 2000 } else { 200 };
            let mut shares = vec![];
            for _ in 0..count {
                program.run(1).unwrap();
                let [inputs, share, partner] = [0, 1, 2].map(|at| program.read_array(at).unwrap());
                let share = share.data[0];
                assert!((0.0..=1.0).contains(&share), "{share}");
                for number in 0..BATCH {
                    let other = image(&x, partner.data[number] as usize);
                    let pairs = image(&x, number).iter().zip(other);
                    for (own, (a, b)) in image(&inputs, number).iter().zip(pairs) {
                        assert!((own - (share * a + (1.0 - share) * b)).abs() < 1e-6);
                    }
                }
                let mut sorted = partner.data.clone();
                sorted.sort_by(f64::total_cmp);
                assert_eq!(sorted, (0..BATCH).map(|n| n as f64).collect::<Vec<_>>());
                shares.push(share);
            }
            let n = f64::from(count);
            let mean = shares.iter().sum::<f64>() / n;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
            // The mean of Beta(a, a) is 1/2, its variance 1 / (4 (2 a + 1)).
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n).sqrt(), "{mean}");
            assert!(
                (variance / expected - 1.0).abs() < 5.0 / n.sqrt(),
                "{variance} not {expected}"
            );
        }
    }
    let graph = Graph::training(&Variable::word("seed", 7), &Variable::word("step", 0));
    let _ = mixup(&graph.full(&[2, 3], DType::F32, 1.0), 2.0);
    assert!(graph.error().unwrap().to_string().contains("alpha is 2"));
}

#[test]
fn training_sees_changed_images_and_evaluation_does_not() {
    let data = drawn::digits(60, 1);
    let transforms = || {
        Transforms::new()
            .add(RandomCrop { padding: 3 })
            .add(RandomRotation(10.0))
            .add(ColorJitter { brightness: 0.2, ..ColorJitter::default() })
            .add(Cutout(5))
    };
    for (device, _) in harness::devices() {
        let new = || {
            let model = Sequential::new().add(Flatten).add(Linear::new(784, 10));
            Trainer::with_seed(&device, model, CrossEntropy, Sgd::new(0.0), 1).unwrap()
        };
        let fit = || Fit::epochs(1).batch(20).quiet();
        let plain = new().fit(&data, fit()).unwrap();
        let mut other = new();
        let augmented = data.clone().augmented(transforms());
        let changed = other.fit(&augmented, fit()).unwrap();
        assert_ne!(plain.losses, changed.losses);
        // The weights don't move, so evaluation is what it was, on either data set.
        let found = other.evaluate(&augmented).unwrap();
        assert_eq!(found, new().evaluate(&data).unwrap());
        // Streamed, the same.
        let statistics = Dataset::statistics(&data).unwrap();
        let streamed = Streaming::new(data.clone()).normalised(statistics).augmented(transforms());
        assert_eq!(new().fit(&streamed, fit()).unwrap().losses, changed.losses);
        let mixed = |alpha| {
            let mut trainer = new().mixup(alpha);
            let mut course = trainer.start(&data, 20).unwrap();
            let mut history = History::default();
            trainer.advance(&mut course, 3, &mut history).unwrap();
            history.losses
        };
        assert_ne!(mixed(1.0), plain.losses);
    }
    // A picture of a text is refused.
    let graph = Graph::training(&Variable::word("seed", 7), &Variable::word("step", 0));
    RandomHorizontalFlip(0.5).apply(&graph.full(&[2, 3], DType::F32, 1.0));
    assert!(graph.error().unwrap().to_string().contains("random_horizontal_flip"));
}

/// PyTorch 2.15's `affine_grid` and `grid_sample` in float64 of `arange(24)` as two images of 3 by 4.
#[test]
fn sampling_agrees_with_published_values() {
    const THETA: [f32; 12] = [0.9, -0.3, 0.1, 0.2, 1.1, -0.2, -0.5, 0.4, 0.3, 0.6, 0.7, 0.0];
    const GRID: [f64; 6] = [-0.35, -0.883333, 0.25, -0.75, 0.85, -0.616667];
    const EDGES: [f64; 12] =
        [0.54, 1.75, 2.64, 5.5, 7.5, 9.5, 12.570833, 15.6, 17.333333, 15.583333, 20.6, 19.104167];
    const CENTRES: [f64; 12] =
        [0.375, 1.47, 1.485, 5.78, 8.8, 9.495, 9.87, 14.55, 16.2, 13.58, 21.35, 15.26];
    const NEAREST: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 9.0, 11.0, 14.0, 14.0, 17.0, 19.0, 22.0, 22.0];
    for (device, _) in harness::devices() {
        let graph = Graph::new();
        let pixels: Vec<f32> = (0..24u8).map(f32::from).collect();
        let x = graph.tensor(&[2, 1, 3, 4], &pixels);
        let theta = graph.tensor(&[2, 2, 3], &THETA);
        let at = |align_corners| graph.affine_grid(&theta, [2, 3], align_corners);
        let sampled = |align_corners| {
            x.grid_sample(&at(align_corners), Interpolation::Bilinear { align_corners })
        };
        let found = [
            (at(false).narrow(0, 0, 1).narrow(1, 0, 1), &GRID[..]),
            (sampled(false), &EDGES[..]),
            (sampled(true), &CENTRES[..]),
            (x.grid_sample(&at(false), Interpolation::Nearest), &NEAREST[..]),
        ];
        for (tensor, expected) in found {
            let got = tensor.eval(&device).unwrap().data;
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() < 2e-6 * expected.abs().max(1.0),
                    "{got} not {expected}"
                );
            }
        }
    }
}
