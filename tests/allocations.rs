//! Steps on the CPU ask the system for no memory: what kernels work in is kept.
#![allow(clippy::unwrap_used, reason = "a test that fails should say where")]

use shadegrad::bench::{self, Step};
use shadegrad::device::Device;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often memory is asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all that matters.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn steps_ask_for_no_memory() {
    const STEPS: usize = 8;
    let device = Device::cpu(Some(2));
    for workload in bench::TRAINING {
        let (mut program, _) =
            bench::program(workload.name, &device, Step::default()).unwrap().unwrap();
        // Which thread does what differs from step to step: one may need for the first time what the other had so far. Once all have
        // what they need, fewer ask than one in each step.
        let rounds: Vec<usize> = (0..6)
            .map(|_| {
                let before = ASKED.load(Ordering::Relaxed);
                program.run(STEPS).unwrap();
                ASKED.load(Ordering::Relaxed) - before
            })
            .take_while(|asked| *asked >= STEPS)
            .collect();
        assert!(rounds.len() < 6, "{}: {rounds:?} times in {STEPS} steps each", workload.name);
    }
}
