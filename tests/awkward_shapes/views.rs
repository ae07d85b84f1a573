//! Ranks from 0 to 6, and views of views that no stride expresses, read by every kind of kernel.

use crate::{Build, agree, x};
use shadegrad::prelude::*;

/// Extents of which the first ones make a shape of any rank.
const EXTENTS: [usize; 6] = [2, 3, 1, 2, 3, 2];

fn orders(rank: usize) -> Vec<Vec<usize>> {
    let backwards: Vec<usize> = (0..rank).rev().collect();
    let turned: Vec<usize> = (0..rank).map(|axis| (axis + 1) % rank.max(1)).collect();
    let mut swapped: Vec<usize> = (0..rank).collect();
    swapped.swap(0, rank / 2);
    vec![backwards, turned, swapped]
}

fn ranked(rank: usize, build: impl Fn(&Graph, &Tensor) -> Vec<Tensor>) {
    let whole: Build<'_> = &|g| build(g, &x(g, &EXTENTS[..rank], 1));
    agree(&[(&format!("rank {rank}"), whole)]);
}

#[test]
fn reductions_over_every_set_of_axes_of_every_rank() {
    for rank in 0..=6 {
        ranked(rank, |_, x| {
            let sets = 0..1usize << rank;
            let axes = |set: usize| (0..rank).filter(move |axis| set >> axis & 1 == 1);
            sets.flat_map(|set| {
                let axes: Vec<usize> = axes(set).collect();
                // Every set once, each by one of four reductions.
                match set % 4 {
                    0 => vec![x.sum(&axes)],
                    1 => vec![x.amax(&axes)],
                    2 => vec![x.prod(&axes)],
                    _ => vec![x.logsumexp(&axes)],
                }
            })
            .collect()
        });
    }
}

#[test]
fn permutes_and_broadcasts_of_every_rank() {
    for rank in 1..=6 {
        ranked(rank, |g, t| {
            let moved = |order: &Vec<usize>| {
                let y = t.permute(order);
                // As it is, in memory order, against itself, and summed over its first axis.
                vec![y.clone(), y.exp().flatten(0), y.sum(&[0])]
            };
            let mut all: Vec<Tensor> = orders(rank).iter().flat_map(moved).collect();
            for from in 0..=rank {
                // A suffix of the shape, and the shape with the axes before it of extent one.
                let suffix = x(g, &EXTENTS[from..rank], 2);
                let ones = [vec![1; from], EXTENTS[from..rank].to_vec()].concat();
                all.push(t * &suffix - x(g, &ones, 3));
            }
            all
        });
    }
}

#[test]
fn gradients_through_moves_of_every_rank() {
    for rank in 1..=6 {
        ranked(rank, |g, t| {
            let y = t.permute(&orders(rank)[1]).flip(0).pad(rank - 1, 1, 2).tanh();
            let loss = (&y * y.shape().iter().fold(y.sum_all(), |a, _| a)).sum_all();
            g.gradients(&loss, &[t])
        });
    }
}

/// Views of views, none of which is contiguous, of 60 elements in `[3, 4, 5]`.
fn twisted(g: &Graph, seed: u64) -> Vec<Tensor> {
    let base = || x(g, &[7, 5, 6], seed);
    vec![
        // A slice with a step, of a flip, of a permute.
        base().permute(&[1, 2, 0]).flip(2).slice(2, 5, -1, 5).narrow(1, 1, 4).slice(0, 4, -2, 3),
        // A permute, of a slice, of an expand, of a pad, of a flip.
        x(g, &[1, 3], seed)
            .flip(1)
            .pad(1, 1, 1)
            .unsqueeze(0)
            .expand(&[4, 1, 5])
            .expand(&[4, 3, 5])
            .transpose(0, 1),
        // Padding inside of what is reshaped.
        x(g, &[3, 2, 4], seed).pad(1, 1, 2).transpose(1, 2).reshape(&[3, 4, 5]),
        // A reshape of a step, of a repeat.
        x(g, &[3, 8], seed).slice(1, 7, -2, 4).unsqueeze(2).expand(&[3, 4, 5]).flip(0),
        // A diagonal of matrices that lie askew.
        x(g, &[3, 5, 5, 4], seed).permute(&[0, 3, 1, 2]).diagonal(0).flip(1),
        // Computed, then moved.
        base().exp().narrow(0, 2, 3).transpose(1, 2).narrow(1, 2, 4).flip(0),
        // Concatenated, rolled and cropped.
        g.concat(&[&x(g, &[3, 2, 5], seed), &x(g, &[3, 3, 5], seed + 50).flip(2)], 1)
            .roll(2, 1)
            .narrow(1, 1, 4),
    ]
}

fn each(read: impl Fn(&Graph, &Tensor) -> Tensor) {
    let build: Build<'_> = &|g| twisted(g, 1).iter().map(|view| read(g, view)).collect();
    agree(&[("views of views", build)]);
}

#[test]
fn views_of_views_are_copied_reshaped_and_reduced() {
    each(|_, view| view.clone());
    each(|_, view| view.reshape(&[5, 12]));
    each(|_, view| view.reshape(&[2, 30]).exp().sum(&[1]));
    each(|_, view| view.sum(&[0, 2]));
    each(|_, view| view.softmax(1));
    each(|_, view| view.to(DType::F16));
}

#[test]
fn views_of_views_are_multiplied_and_convolved() {
    each(|g, view| view.matmul(&x(g, &[6, 5], 9).transpose(0, 1)));
    each(|_, view| view.matmul(&view.transpose(1, 2)));
    each(|g, view| x(g, &[2, 4], 9).matmul(&view.reshape(&[3, 4, 5])));
    each(|g, view| view.conv1d(&x(g, &[2, 4, 3], 9), None, &ConvOptions::default()));
    each(|g, view| {
        let images = view.unsqueeze(0).transpose(2, 3);
        images.conv2d(&x(g, &[2, 3, 2, 3], 9).flip(3), None, &ConvOptions::default())
    });
    each(|_, view| view.unsqueeze(1).max_pool2d(&PoolOptions::new([2, 2])));
}

#[test]
fn views_of_views_are_ordered_gathered_and_attended() {
    each(|_, view| view.cumsum(1));
    each(|_, view| view.sort(2, true).0);
    each(|g, view| view.index_select(1, &g.indices(&[3], &[3, 0, 3])));
    each(|g, view| {
        let index = g.indices(&[5], &[1, 0, 1, 3, 1]);
        g.zeros(&[3, 4, 4]).index_add(2, &index, view)
    });
    each(|g, view| {
        view.scaled_dot_product_attention(
            &x(g, &[3, 2, 5], 9),
            &x(g, &[3, 2, 2], 8),
            &AttentionOptions::default(),
        )
    });
    each(|g, view| {
        let index = view.argsort(1, false).narrow(1, 0, 2);
        g.gradients(&view.gather(1, &index).sum_all(), &[view]).remove(0)
    });
}

/// A mask that hides all of an axis of extent one hides it in every row, also where that axis is one that is summed.
#[test]
fn all_of_an_axis_of_one_is_hidden() {
    let beside_a_sum: Build<'_> = &|g| {
        let (t, y) = (x(g, &[5, 4], 1), x(g, &[5, 70], 2));
        let hidden = t.narrow(1, 1, 1).pad(1, 0, 1).slice(1, 1, 1, 1);
        vec![y.sum(&[1]).keepdim(&[1]) + hidden]
    };
    let shifted: Build<'_> = &|g| {
        let (t, y) = (x(g, &[5, 1], 1), x(g, &[5, 70], 2));
        vec![y.sum(&[1]).keepdim(&[1]) + t.pad(1, 1, 0).slice(1, 0, 1, 1)]
    };
    let in_a_sum: Build<'_> = &|g| {
        let (t, y) = (x(g, &[5, 1, 1], 1), x(g, &[5, 1, 70], 2));
        let hidden = t.pad(1, 1, 0).slice(1, 0, 1, 1).expand(&[5, 1, 70]);
        vec![(&hidden * &y + &y).sum(&[1, 2])]
    };
    let index: Build<'_> = &|g| {
        let places = g.arange(0.0, 3.0, 1.0).reshape(&[3, 1]).to(DType::U32);
        let hidden = places.pad(1, 1, 0).slice(1, 0, 1, 1).expand(&[3, 6]);
        vec![x(g, &[4, 6], 2).scatter_add(0, &hidden, &x(g, &[3, 6], 1))]
    };
    agree(&[
        ("beside a sum", beside_a_sum),
        ("a sequence of one, shifted", shifted),
        ("in a sum", in_a_sum),
        ("of an index", index),
    ]);
}

/// Rows of which several share a block, or a group, and of which neither holds a whole number.
#[test]
fn rows_that_share_blocks() {
    for shape in [[1031, 3], [517, 200], [9, 300], [3, 1], [33, 513]] {
        let passes: Build<'_> = &|g| {
            let t = x(g, &shape, 1);
            let weights = t.softmax(1);
            let mean = weights.mean(&[1]).keepdim(&[1]);
            let spread = (&weights - &mean).abs().sum(&[1]);
            vec![&weights * 2.0, spread, (&weights * &t).amax(&[1])]
        };
        agree(&[(&format!("{shape:?}"), passes)]);
    }
    let none: Build<'_> = &|g| {
        let t = x(g, &[7, 0], 1);
        vec![t.sum(&[1]) + 1.0, t.exp().sum(&[1]).keepdim(&[1]) * 3.0]
    };
    agree(&[("no columns", none)]);
}

#[test]
fn one_row_by_matrices_in_every_layout() {
    for (batch, k, n) in [(1, 70, 48), (3, 7, 33), (2, 257, 1), (2, 1, 5)] {
        let products: Build<'_> = &|g| {
            let row = x(g, &[batch, 1, k], 1);
            let (lines, columns) = (x(g, &[batch, n, k], 2), x(g, &[batch, k, n], 3));
            let (shared, bias) = (x(g, &[1, n, k], 4).expand(&[batch, n, k]), x(g, &[n], 5));
            vec![
                // What linear layers do with one sample: lines of the weight, and what follows.
                (row.matmul(&lines.transpose(1, 2)) + &bias).relu(),
                row.matmul(&shared.transpose(1, 2)),
                row.matmul(&columns),
                // A row that is computed, one whose elements lie apart, and one whose sum is wanted, too.
                row.exp().matmul(&lines.transpose(1, 2)),
                columns.narrow(2, 0, 1).transpose(1, 2).matmul(&lines.transpose(1, 2)),
                (&row * 2.0).matmul(&lines.transpose(1, 2)) + (&row * 2.0).sum(&[2]).unsqueeze(2),
            ]
        };
        agree(&[(&format!("{batch} rows of {k} by {n} columns"), products)]);
    }
}
