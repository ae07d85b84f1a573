//! Half precision in memory: rounding bit by bit, odd numbers of halves, views of them, and assignments to them.

use crate::{Build, agree, compared, harness, run, x};
use shadegrad::graph::Options;
use shadegrad::prelude::*;

/// The magnitude that the bits of a half without its sign stand for; infinity counts as the number that would
/// follow the largest one, because it is from halfway there that numbers become infinite.
fn magnitude(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10), f64::from(bits & 0x3FF) / 1024.0);
    match exponent {
        0 => fraction * 2f64.powi(-14),
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

const INFINITY: u16 = 0x7C00;

/// The half nearest to a number, of two equally near ones the even one; by search, and nobody else's code.
fn nearest(value: f32) -> u16 {
    let sign = ((value.to_bits() >> 31) as u16) << 15;
    let size = f64::from(value.abs());
    let (mut low, mut high) = (0, INFINITY);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        *(if magnitude(middle) <= size { &mut low } else { &mut high }) = middle;
    }
    let (below, above) = (size - magnitude(low), magnitude(high) - size);
    let up = above < below || above == below && low % 2 == 1;
    sign | if up { high } else { low }
}

/// Every half that is a number, what lies halfway to the next one, the floats beside that, and what is none.
fn numbers() -> Vec<f32> {
    let mut numbers =
        vec![f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-38, -1e-40, -0.0];
    for bits in 0..INFINITY {
        let here = magnitude(bits) as f32;
        let halfway = ((magnitude(bits) + magnitude(bits + 1)) / 2.0) as f32;
        numbers.extend([here, halfway.next_down(), -halfway, halfway.next_up()]);
    }
    numbers
}

#[test]
fn floats_become_the_nearest_halves_bit_by_bit() {
    let numbers = numbers();
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let (y, nan) = (g.tensor(&[numbers.len()], &numbers), g.tensor(&[1], &[f32::NAN]));
        let (y, nan) = (y.to(DType::F16), nan.to(DType::F16));
        let mut program = Session::new(&device).compile(&g, &[&y, &nan]).unwrap();
        program.run(1).unwrap();
        let bytes = program.read(0).unwrap();
        assert_eq!(bytes.len(), 2 * numbers.len());
        for (value, bytes) in numbers.iter().zip(bytes.chunks_exact(2)) {
            let (got, expected) = (u16::from_le_bytes([bytes[0], bytes[1]]), nearest(*value));
            let device = device.info();
            assert_eq!(got, expected, "{value:e} is {got:#06x}, not {expected:#06x}, on {device}");
        }
        let bits = u16::from_le_bytes(program.read(1).unwrap().try_into().unwrap());
        assert!(bits & 0x7FFF > INFINITY, "NaN is {bits:#06x} on {}", device.info());
    }
}

#[test]
fn floats_that_wait_in_memory_are_the_nearest_halves_bit_by_bit() {
    let numbers: Vec<f32> = numbers().into_iter().chain([f32::NAN, 1.0]).collect();
    let options = Options { fuse: false, simplify: false, ..Options::default() };
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let x = g.tensor(&[numbers.len()], &numbers);
        let y = -g.autocast(|| -x);
        let mut program = Session::new(&device).compile_with(&g, &[&y], &options).unwrap();
        let bytes: Vec<usize> = program.report().slots.iter().map(|slot| slot.bytes).collect();
        assert_eq!(bytes, [2 * numbers.len() + 2, 4 * numbers.len()], "an odd number of halves");
        program.run(1).unwrap();
        for (value, bytes) in numbers.iter().zip(program.read(0).unwrap().chunks_exact(4)) {
            let got = f32::from_le_bytes(bytes.try_into().unwrap());
            if value.is_nan() {
                assert!(got.is_nan(), "NaN is {got:e} on {}", device.info());
                continue;
            }
            let bits = nearest(*value);
            let size = match bits & 0x7FFF {
                INFINITY => f64::INFINITY,
                bits => magnitude(bits),
            };
            let expected = if bits >> 15 == 1 { -size } else { size } as f32;
            let device = device.info();
            assert_eq!(got.to_bits(), expected.to_bits(), "{value:e} is {got:e} on {device}");
        }
    }
}

#[test]
fn halves_become_floats_bit_by_bit() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let v = Variable::from_bytes("all", &[1 << 16], DType::F16, all);
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let y = g.variable(&v).to(DType::F32);
        let mut program = Session::new(&device).compile(&g, &[&y]).unwrap();
        program.run(1).unwrap();
        for (bits, bytes) in (0..=u16::MAX).zip(program.read(0).unwrap().chunks_exact(4)) {
            let got = f32::from_le_bytes(bytes.try_into().unwrap());
            let size = bits & 0x7FFF;
            let right = match size {
                ..INFINITY => {
                    let sign = u32::from(bits >> 15) << 31;
                    got.to_bits() == (magnitude(size) as f32).to_bits() | sign
                }
                INFINITY => got == if bits == size { f32::INFINITY } else { f32::NEG_INFINITY },
                _ => got.is_nan(),
            };
            assert!(right, "{bits:#06x} is {got:e} on {}", device.info());
        }
    }
}

#[test]
fn halves_overflow_on_the_way() {
    for (device, _) in harness::devices() {
        let g = Graph::new();
        let big = g.tensor(&[3], &[60_000.0, -60_000.0, 300.0]).to(DType::F16);
        // Computed in f32: only what is stored has the range of halves.
        let outputs = [(&big * 2.0).to(DType::F16), &big * &big];
        let found = run(&device, &g, &outputs, &Options::default()).unwrap();
        assert_eq!(found[0].data, [f64::INFINITY, f64::NEG_INFINITY, 600.0]);
        let squares = [3.6e9, 3.6e9, 9e4];
        assert_eq!(found[1].data, squares, "on {}", device.info());
    }
}

/// A variable of halves in `-2..2`, the same for the same seed.
fn halves(shape: &[usize], seed: u64) -> Variable {
    let init = Init::Uniform { low: -2.0, high: 2.0, seed };
    Variable::new(&format!("h{seed}"), shape, DType::F16, init)
}

#[test]
fn odd_numbers_of_halves_are_read_through_views() {
    for count in [1, 3, 257] {
        let build: Build<'_> = &|g| {
            let h = g.variable(&halves(&[count], 1));
            let odd = count / 2;
            vec![
                h.clone(),
                &h * 3.0,
                h.sum_all(),
                h.flip(0),
                h.narrow(0, odd, count - odd),
                h.pad(0, 1, 2),
                h.slice(0, count - 1, -2, count.div_ceil(2)),
                h.unsqueeze(0).expand(&[3, count]),
                h.narrow(0, odd, 1).to(DType::F32),
                h.argsort(0, false).to(DType::F32),
                h.cumsum(0),
                h.index_select(0, &g.iota(count).flip(0)),
                h.detach(),
            ]
        };
        agree(&[(&format!("{count} halves"), build)]);
    }
}

#[test]
fn matrices_of_halves_are_moved_and_multiplied() {
    let build: Build<'_> = &|g| {
        let (h, k) = (g.variable(&halves(&[5, 7], 1)), g.variable(&halves(&[3, 5, 3], 2)));
        let inner = h.slice(1, 1, 2, 3).narrow(0, 1, 3);
        vec![
            h.transpose(0, 1),
            inner.clone(),
            // No view reads this in memory order.
            inner.transpose(0, 1).reshape(&[9]),
            h.transpose(0, 1).reshape(&[5, 7]).flip(1),
            h.matmul(&h.transpose(0, 1)),
            k.matmul(&inner).to(DType::F16),
            k.permute(&[2, 0, 1]).softmax(1).to(DType::F16),
            g.concat(&[&h.transpose(0, 1), &g.variable(&halves(&[7, 2], 3))], 1),
            h.gather(1, &g.indices(&[2, 3], &[6, 1, 3, 0, 5, 2])),
            h.flip(1).index_select(1, &g.indices(&[3], &[6, 0, 5])),
            h.pad(0, 1, 0).index_select(0, &g.indices(&[2], &[0, 3])),
            h.exp().to(DType::F16).transpose(0, 1).index_select(1, &g.indices(&[2], &[4, 1])),
            g.variable(&halves(&[4, 3], 4)).embedding(&g.indices(&[2, 2], &[3, 0, 1, 3]), None),
            k.conv1d(&k, None, &ConvOptions::default()),
        ]
    };
    agree(&[("matrices", build)]);
}

#[test]
fn parts_of_a_variable_of_halves_begin_at_words() {
    let v = halves(&[9], 1);
    let build: Build<'_> =
        &|g| vec![g.variable_part(&v, 2, &[7]), g.variable_part(&v, 6, &[3]) * 2.0];
    agree(&[("parts", build)]);
    let g = Graph::new();
    let part = g.variable_part(&v, 3, &[2]);
    let error = run(&Device::cpu(Some(1)), &g, &[part], &Options::default()).unwrap_err();
    assert!(error.to_string().contains("don't begin at a word"), "{error}");
}

#[test]
fn gradients_pass_through_halves() {
    let build: Build<'_> = &|g| {
        let (a, h) = (x(g, &[7], 1), g.variable(&halves(&[7], 2)));
        let rounded = a.to(DType::F16);
        let y = &rounded * &h + rounded.to(DType::F32).square() - h.to(DType::F32).tanh();
        g.gradients(&y.sum_all(), &[&a, &h])
    };
    agree(&[("gradients", build)]);
    // The slope is the one without rounding: 2 round(a).
    let g = Graph::new();
    let a = g.tensor(&[2], &[0.1, -3.0]);
    let y = a.to(DType::F16).to(DType::F32);
    let slope = g.gradients(&(&y * &y).sum_all(), &[&a]).remove(0);
    let found = slope.eval(&Device::cpu(Some(1))).unwrap().data;
    assert_eq!(found, [2.0 * 0.0999755859375, -6.0]);
}

#[test]
fn values_that_nothing_changes_keep_their_type() {
    // Each is simplified to the halves that it is made of, but takes twice their bytes.
    let same: [fn(&Tensor) -> Tensor; 7] = [
        |h| h * 1.0,
        |h| h + 0.0,
        |h| h - 0.0,
        |h| -(-h),
        |h| h / 1.0,
        |h| h.unsqueeze(0).sum(&[0]),
        |h| h.full_like(1.0).to(DType::Bool).select(h, &h.zeros_like()),
    ];
    for (device, _) in harness::devices() {
        for (number, change) in same.iter().enumerate() {
            let (from, to) =
                (halves(&[3], 7), Variable::new("f", &[3], DType::F32, Init::Full(0.0)));
            let g = Graph::new();
            g.assign(&to, &change(&g.variable(&from)));
            let mut session = Session::new(&device);
            session.compile(&g, &[]).unwrap().run(1).unwrap();
            let expected = session.read_array(&from).unwrap().data;
            assert_eq!(session.read_array(&to).unwrap().data, expected, "of change {number}");
        }
    }
}

#[test]
fn variables_of_halves_are_assigned() {
    for (device, _) in harness::devices() {
        for count in [1, 3, 257] {
            let (a, b, c) = (halves(&[count], 1), halves(&[count], 2), halves(&[count], 3));
            let d = Variable::new("d", &[count], DType::F32, Init::Full(0.0));
            let g = Graph::new();
            let [old_a, old_b, old_c] = [&a, &b, &c].map(|v| g.variable(v));
            // Swapped, one of them backwards; one in place; and one into floats.
            g.assign(&a, &old_b);
            g.assign(&b, &old_a.flip(0));
            g.assign(&c, &(&old_c * 0.5).to(DType::F16));
            g.assign(&d, &(&old_a + &old_b + &old_c));
            let mut session = Session::new(&device);
            let [first, second, third] = [&a, &b, &c].map(|v| session.read_array(v).unwrap().data);
            let mut step = session.compile(&g, &[]).unwrap();
            step.run(1).unwrap();
            let mut read = |v: &Variable| session.read_array(v).unwrap().data;
            let backwards: Vec<f64> = first.iter().rev().copied().collect();
            assert_eq!(read(&a), second, "{count} on {}", device.info());
            assert_eq!(read(&b), backwards, "{count} on {}", device.info());
            assert_eq!(read(&c), third.iter().map(|v| v * 0.5).collect::<Vec<_>>());
            let sums = first.iter().zip(&second).zip(&third).map(|((a, b), c)| a + b + c);
            let close = |(got, sum): (&f64, f64)| (got - sum).abs() <= 1e-6;
            assert!(read(&d).iter().zip(sums).all(close), "{count} on {}", device.info());
        }
    }
}

#[test]
fn parts_of_what_is_computed_are_assigned_and_packed() {
    // The first elements of a larger value lie where it begins, but aren't all of it.
    for (device, exact) in harness::devices() {
        let start =
            |name: &str, len: usize| Variable::new(name, &[len], DType::F32, Init::Full(9.0));
        let (v, w) = (start("v", 3), start("w", 2));
        let g = Graph::new();
        let doubled = g.tensor(&[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) * 2.0;
        g.assign(&v, &doubled.narrow(0, 0, 3));
        g.assign(&w, &doubled.reshape(&[3, 2]).narrow(0, 0, 1).reshape(&[2]));
        let mut session = Session::new(&device);
        session.compile(&g, &[]).unwrap().run(1).unwrap();
        assert_eq!(session.read_array(&v).unwrap().data, [2.0, 4.0, 6.0]);
        assert_eq!(session.read_array(&w).unwrap().data, [2.0, 4.0]);
        let packed: Build<'_> = &|g| {
            let sums = x(g, &[33], 1).cumsum(0);
            vec![g.pack(&[&sums, &sums, &sums.narrow(0, 0, 5)])]
        };
        compared(&device, exact, packed, &Options::default()).unwrap();
    }
}
