//! Threads that go through the kernels of a program together and wait for each other awake.
//!
//! A thread of the pool that finds no work sleeps after some microseconds and takes tens of them to wake up, as long as a small
//! kernel takes. So the pool's threads belong to a crew while a program runs: one leads it, which is to say runs the program, and
//! the others follow, looking for tasks that it has for them. A thread that the system doesn't run holds nobody up unless it was
//! about to look for a task or has one.

use smallvec::SmallVec;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a thread looks again at once; how often in all before it sleeps for a moment each time, letting others run in between.
const AT_ONCE: usize = 100;
const LOOKS: usize = 2000;
const MOMENT: Duration = Duration::from_micros(50);

/// The threads of a pool while a program runs.
#[derive(Default)]
pub(super) struct Crew {
    /// How often a program began or ended: odd while one runs, whose number it is.
    program: AtomicUsize,
    /// Whether threads were called for it: before the first work that is for several.
    called: AtomicBool,
    /// The work that there is now, if any.
    work: AtomicPtr<Work<'static>>,
    /// How much work there was so far.
    number: AtomicUsize,
    /// Followers that may hold on to the work.
    inside: AtomicUsize,
    /// What the task of a follower panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A function that is called with each of some numbers.
struct Work<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    /// The numbers that each thread begins with, so that it finds in its caches what it had there in the kernel before.
    shares: SmallVec<[Share; 16]>,
}

/// Numbers from one on that nobody has taken, on a line of cache of its own.
#[repr(align(64))]
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Work<'_> {
    /// Takes a thread's own share, then what is left of others.
    fn take_part(&self, thread: usize) {
        let threads = self.shares.len();
        for share in (thread..thread + threads).map(|owner| &self.shares[owner % threads]) {
            while share.next.load(Relaxed) < share.end {
                let number = share.next.fetch_add(1, Relaxed);
                if number < share.end {
                    (self.task)(number);
                }
            }
        }
    }
}

thread_local! {
    /// The crew that this thread leads, while it does nothing for it itself.
    static LEADS: Cell<Option<Arc<Crew>>> = const { Cell::new(None) };
}

impl Crew {
    /// Runs a program with all threads of the pool.
    pub(super) fn lead<R: Send>(
        self: &Arc<Crew>,
        pool: &rayon::ThreadPool,
        program: impl FnOnce() -> R + Send,
    ) -> R {
        /// Lets the followers go, whatever happens.
        struct Running<'a>(&'a Crew);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                LEADS.take();
                self.0.program.fetch_add(1, Release);
            }
        }
        pool.install(|| {
            if rayon::current_num_threads() == 1 {
                return program();
            }
            // One that nobody waited for, since the thread that led had one of its own.
            *self.panic() = None;
            self.called.store(false, Relaxed);
            self.program.fetch_add(1, Release);
            let _running = Running(self);
            LEADS.set(Some(self.clone()));
            program()
        })
    }

    fn panic(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the work of a program until it ends.
    fn follow(&self, program: usize, thread: usize) {
        let (mut seen, mut looks) = (0, 0);
        while self.program.load(Acquire) == program {
            let number = self.number.load(Acquire);
            if number == seen {
                wait(&mut looks);
                continue;
            }
            (seen, looks) = (number, 0);
            self.inside.fetch_add(1, SeqCst);
            // SAFETY: whoever puts work here takes it away again, and then waits until nobody is inside, before it ends. All
            // threads see these in one order: a thread that finds work has been inside since before it was taken away.
            if let Some(work) = unsafe { self.work.load(SeqCst).as_ref() } {
                let done = catch_unwind(AssertUnwindSafe(|| work.take_part(thread)));
                if let Err(panic) = done {
                    *self.panic() = Some(panic);
                }
            }
            self.inside.fetch_sub(1, Release);
        }
    }

    /// Calls a function with each number below `count`, on all threads.
    fn each(self: &Arc<Crew>, count: usize, task: &(dyn Fn(usize) + Sync)) {
        /// Takes the work away, and waits for who is busy with it.
        struct Open<'a>(&'a Crew);
        impl Drop for Open<'_> {
            fn drop(&mut self) {
                self.0.work.store(ptr::null_mut(), SeqCst);
                let mut looks = 0;
                while self.0.inside.load(SeqCst) > 0 {
                    wait(&mut looks);
                }
            }
        }
        if !self.called.swap(true, Relaxed) {
            let (crew, program) = (self.clone(), self.program.load(Relaxed));
            // This thread is called, too, and finds it when the program has ended.
            rayon::spawn_broadcast(move |context| crew.follow(program, context.index()));
        }
        let threads = rayon::current_num_threads();
        let share = |thread: usize| Share {
            next: AtomicUsize::new(thread * count / threads),
            end: (thread + 1) * count / threads,
        };
        let work = Work { task, shares: (0..threads).map(share).collect() };
        let open = Open(self);
        self.work.store(ptr::from_ref(&work).cast_mut().cast(), SeqCst);
        self.number.fetch_add(1, Release);
        work.take_part(rayon::current_thread_index().unwrap_or(0));
        drop(open);
        let panic = self.panic().take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Lets some time pass, the more the longer there was nothing to do.
fn wait(looks: &mut usize) {
    *looks += 1;
    match *looks {
        ..AT_ONCE => std::hint::spin_loop(),
        AT_ONCE..LOOKS => std::thread::yield_now(),
        _ => std::thread::sleep(MOMENT),
    }
}

/// Calls `task` with each number below `count`: on all threads of the crew that this one leads, or one after the other, in a task
/// as well as where there is no crew.
pub(super) fn each(count: usize, task: impl Fn(usize) + Sync) {
    match LEADS.take() {
        Some(crew) if count > 1 => {
            crew.each(count, &task);
            LEADS.set(Some(crew));
        }
        crew => {
            LEADS.set(crew);
            (0..count).for_each(task);
        }
    }
}

/// Calls `task` with each of `count` items, as [`each`], in no order.
pub(super) fn each_of<T>(
    count: usize,
    items: impl Iterator<Item = T> + Send,
    task: impl Fn(T) + Sync,
) {
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    each(count.min(rayon::current_num_threads()), |_| {
        while let Some(item) = next() {
            task(item);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
    }

    #[test]
    fn every_number_is_taken_once() {
        // More threads than a machine has, too.
        for threads in [1, 2, 3, 16] {
            let (pool, crew) = (pool(threads), Arc::new(Crew::default()));
            let counts: Vec<usize> = (0..300).map(|round| round * 7 % 40).collect();
            let found = crew.lead(&pool, || {
                let run = |&count: &usize| {
                    let taken: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                    each(count, |number| {
                        taken[number].fetch_add(1, Relaxed);
                    });
                    taken.iter().all(|taken| taken.load(Relaxed) == 1)
                };
                counts.iter().all(run)
            });
            assert!(found, "{threads} threads take some number twice or never");
        }
    }

    #[test]
    fn every_item_is_taken_once_and_written_by_one_thread() {
        let (pool, crew) = (pool(3), Arc::new(Crew::default()));
        let mut words = vec![0; 1000];
        for round in 1..100 {
            crew.lead(&pool, || {
                each_of(143, words.chunks_mut(7).enumerate(), |(number, chunk)| {
                    chunk.iter_mut().for_each(|word| *word += number);
                });
            });
            let expected: Vec<usize> = (0..1000).map(|at| at / 7 * round).collect();
            assert_eq!(words, expected, "after {round} rounds");
        }
    }

    #[test]
    fn other_threads_take_part() {
        let (pool, crew) = (pool(2), Arc::new(Crew::default()));
        let threads = Mutex::new(Vec::<ThreadId>::new());
        let both = || threads.lock().expect("no panic").len() == 2;
        crew.lead(&pool, || {
            each(2, |_| {
                threads.lock().expect("no panic").push(std::thread::current().id());
                // Until the other one is there, which takes the other number.
                while !both() {
                    std::thread::yield_now();
                }
            });
        });
        let threads = threads.into_inner().expect("no panic");
        assert_ne!(threads[0], threads[1], "one thread had both numbers");
    }

    #[test]
    fn tasks_within_tasks_run_where_they_are() {
        let (pool, crew) = (pool(2), Arc::new(Crew::default()));
        let alone = crew.lead(&pool, || {
            let alone = AtomicBool::new(true);
            each(8, |_| {
                let here = std::thread::current().id();
                each(8, |_| {
                    alone.fetch_and(std::thread::current().id() == here, Relaxed);
                });
            });
            alone.into_inner()
        });
        assert!(alone, "a task within a task went to another thread");
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_crew_goes_on() {
        let (pool, crew) = (pool(2), Arc::new(Crew::default()));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for bad in 0..8 {
            let run = || crew.lead(&pool, || each(8, |number| assert!(number != bad, "bad")));
            let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a task panicked");
            assert!(panic.downcast_ref::<&str>().is_some_and(|text| *text == "bad"));
        }
        std::panic::set_hook(hook);
        let sum = AtomicUsize::new(0);
        let add = |number| {
            sum.fetch_add(number, Relaxed);
        };
        crew.lead(&pool, || each(8, add));
        assert_eq!(sum.into_inner(), 28, "the sum of the numbers below eight");
    }
}
