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

/// How often 20 steps ask for memory after some that find out what they need.
fn asked(workload: &str, step: Step) -> usize {
    let (mut program, _) = bench::program(workload, &Device::cpu(Some(2)), step).unwrap().unwrap();
    program.run(20).unwrap();
    let before = ASKED.load(Ordering::Relaxed);
    program.run(20).unwrap();
    ASKED.load(Ordering::Relaxed) - before
}

#[test]
fn steps_ask_for_no_memory() {
    for workload in bench::TRAINING {
        let step = Step { batch: Some(workload.batch.min(8)), ..Step::default() };
        // Which thread does what differs from step to step, so one may need what the other had so far: not in every step.
        let asked = asked(workload.name, step);
        assert!(asked < 20, "{}: {asked} times in 20 steps", workload.name);
    }
}
