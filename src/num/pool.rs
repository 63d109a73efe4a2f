//! num: the threads. Work is handed to all of them at once and joined; knows nothing of the work.
//!
//! The caller is worker 0. Workers spin for a moment between jobs, because a deep pass is a few hundred short jobs,
//! and then sleep. A forked child finds a process number that is not its own and starts a new pool.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Most threads a job may have.
pub const MAX_THREADS: usize = 1024;
/// How long a worker looks for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(60);

type Job = *const (dyn Fn(usize) + Sync);

struct Pool {
    pid: u32,
    /// Generation in the high bits, threads of the job in the low 16: one word, so that a late worker cannot pair the
    /// number of one job with the generation of another.
    word: AtomicU64,
    job: Mutex<Option<JobCell>>,
    pending: AtomicUsize,
    asleep: Mutex<usize>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    started: Mutex<usize>,
    busy: Mutex<()>,
}

#[derive(Clone, Copy)]
struct JobCell(Job);
// SAFETY: the closure behind the pointer is Sync, and `run` outlives every use of it.
unsafe impl Send for JobCell {}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(std::ptr::null_mut());
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Threads that a pass uses: `VGCORE_NUM_THREADS`, or all the processor offers.
pub fn num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            let asked = super::setting::threads().ok().flatten();
            let n = asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
            let n = n.clamp(1, MAX_THREADS);
            THREADS.store(n, Ordering::Relaxed);
            n
        }
        n => n,
    }
}

/// Sets the number of threads for later passes, 1..=[`MAX_THREADS`].
pub fn set_num_threads(n: usize) {
    THREADS.store(n.clamp(1, MAX_THREADS), Ordering::Relaxed);
}

fn pool() -> &'static Pool {
    let pid = std::process::id();
    loop {
        let p = POOL.load(Ordering::Acquire);
        // SAFETY: the pointer is null or a leaked Pool, which lives for ever.
        if let Some(pool) = unsafe { p.as_ref() }
            && pool.pid == pid
        {
            return pool;
        }
        let new = Box::into_raw(Box::new(Pool {
            pid,
            word: AtomicU64::new(0),
            job: Mutex::new(None),
            pending: AtomicUsize::new(0),
            asleep: Mutex::new(0),
            wake: Condvar::new(),
            panic: Mutex::new(None),
            started: Mutex::new(0),
            busy: Mutex::new(()),
        }));
        if POOL.compare_exchange(p, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: nobody else has seen this allocation.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// Calls `f(0), .., f(n - 1)`, each on its own thread, and returns when all are done.
///
/// If another thread of this process is inside `run`, the calls are made one after another on the caller: results may
/// not depend on who runs what, so nothing but time changes.
pub fn run(n: usize, f: &(dyn Fn(usize) + Sync)) {
    let n = n.clamp(1, MAX_THREADS);
    let pool = pool();
    let held = n > 1 && HELD.with_borrow_mut(|h| std::mem::take(&mut h.idle));
    let _idle = Idle(held);
    let _busy = if held || n == 1 { None } else { pool.take() };
    if !held && _busy.is_none() {
        (0..n).for_each(f);
        return;
    }
    if !pool.grow(n - 1) {
        (0..n).for_each(f);
        return;
    }
    // SAFETY: only the lifetime changes; `run` does not return, nor unwind, before every worker is done with the job.
    let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(std::ptr::from_ref(f)) };
    *lock(&pool.job) = Some(JobCell(job));
    pool.pending.store(n - 1, Ordering::Relaxed);
    let generation = (pool.word.load(Ordering::Relaxed) >> 16) + 1;
    pool.word.store((generation << 16) | n as u64, Ordering::SeqCst);
    if *lock(&pool.asleep) > 0 {
        pool.wake.notify_all();
    }
    let mine = catch_unwind(AssertUnwindSafe(|| f(0)));
    let mut spins = 0u32;
    while pool.pending.load(Ordering::Acquire) > 0 {
        spins += 1;
        if spins.is_multiple_of(256) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
    *lock(&pool.job) = None;
    let theirs = lock(&pool.panic).take();
    if let Err(p) = mine {
        resume_unwind(p);
    }
    if let Some(p) = theirs {
        resume_unwind(p);
    }
}

/// The pool as the calling thread holds it.
struct Holding {
    holds: usize,
    /// No job is being run, so that the next one may take the workers.
    idle: bool,
    guard: Option<MutexGuard<'static, ()>>,
}

thread_local! {
    static HELD: RefCell<Holding> = const { RefCell::new(Holding { holds: 0, idle: false, guard: None }) };
}

/// Says that the job of a thread which holds the pool is over, also after a panic.
struct Idle(bool);

impl Drop for Idle {
    fn drop(&mut self) {
        if self.0 {
            HELD.with_borrow_mut(|h| h.idle = true);
        }
    }
}

/// The pool is the calling thread's own until this goes.
pub struct Hold(std::marker::PhantomData<*const ()>);

/// Makes sure that the calling thread's jobs of up to `n` parts have all their workers at the same time, so that these
/// may wait for each other. None if the pool is in use, by another thread or by a job inside which this is called, or
/// the system has no more threads: then a job must be one part.
pub fn hold(n: usize) -> Option<Hold> {
    HELD.with_borrow_mut(|h| {
        if h.holds > 0 && !h.idle {
            // A job of this thread has the workers, and it goes on only when the caller is done: nobody would come.
            return None;
        }
        let pool = pool();
        if h.holds == 0 {
            h.guard = Some(pool.take()?);
        }
        if !pool.grow(n.clamp(1, MAX_THREADS) - 1) {
            if h.holds == 0 {
                h.guard = None;
            }
            return None;
        }
        h.idle |= h.holds == 0;
        h.holds += 1;
        Some(Hold(std::marker::PhantomData))
    })
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|h| {
            h.holds -= 1;
            if h.holds == 0 {
                (h.idle, h.guard) = (false, None);
            }
        });
    }
}

/// A counter on cache lines of its own: counters side by side would move between cores with every count.
#[repr(align(128))]
pub(super) struct Counter(pub(super) AtomicUsize);

/// Calls `f(worker, i)` for every i in 0..count, on up to `n` threads, as [`each_of`] does.
pub fn each(n: usize, count: usize, f: &(dyn Fn(usize, usize) + Sync)) {
    each_of(n, [count], &|worker, _, i| f(worker, i));
}

/// Calls `f(worker, kind, i)` for every i in 0..counts\[kind\], on up to `n` threads. Of each kind a thread has a run of
/// indices of its own, the same in every call with these numbers, and it helps the others when it is done: what a core
/// wrote in one phase it then finds in its own caches in the next. Those of another core may be hundreds of cycles away.
pub fn each_of<const KINDS: usize>(n: usize, counts: [usize; KINDS], f: &(dyn Fn(usize, usize, usize) + Sync)) {
    let n = n.clamp(1, counts.iter().copied().max().unwrap_or(0).max(1));
    let from = |kind: usize, owner: usize| owner * counts[kind] / n;
    let next: Vec<_> =
        (0..n).map(|w| std::array::from_fn::<_, KINDS, _>(|k| Counter(AtomicUsize::new(from(k, w))))).collect();
    run(n, &|worker| {
        for owner in (worker..n).chain(0..worker) {
            for (kind, next) in next[owner].iter().enumerate() {
                loop {
                    let i = next.0.fetch_add(1, Ordering::Relaxed);
                    if i >= from(kind, owner + 1) {
                        break;
                    }
                    f(worker, kind, i);
                }
            }
        }
    });
}

/// The same over items that a task takes by value: how unique borrows are shared out.
pub fn each_owned<X: Send>(n: usize, items: Vec<X>, f: &(dyn Fn(usize, X) + Sync)) {
    let cells: Vec<_> = items.into_iter().map(|x| Mutex::new(Some(x))).collect();
    each(n, cells.len(), &|worker, i| {
        if let Some(x) = lock(&cells[i]).take() {
            f(worker, x);
        }
    });
}

fn lock<X>(m: &Mutex<X>) -> std::sync::MutexGuard<'_, X> {
    // A panic in a job is carried to the caller; the data under these locks is whole at every point.
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Pool {
    /// The pool for one job or, while it is held, more; none if it has one. A job that panicked leaves it as it was.
    fn take(&self) -> Option<MutexGuard<'_, ()>> {
        match self.busy.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Starts workers until there are `n`; false if the system refuses.
    fn grow(&'static self, n: usize) -> bool {
        let mut started = lock(&self.started);
        while *started < n {
            let id = *started + 1;
            let seen = self.word.load(Ordering::SeqCst);
            let ok = std::thread::Builder::new().name(format!("vgcore-{id}")).spawn(move || self.work(id, seen));
            if ok.is_err() {
                return false;
            }
            *started += 1;
        }
        true
    }

    fn work(&self, id: usize, mut seen: u64) {
        loop {
            let word = self.next(seen);
            seen = word;
            if id >= (word & 0xffff) as usize {
                continue;
            }
            let job = *lock(&self.job);
            if let Some(JobCell(job)) = job {
                // SAFETY: `run` waits for `pending` to fall to zero before the closure goes.
                let f = unsafe { &*job };
                if let Err(p) = catch_unwind(AssertUnwindSafe(|| f(id))) {
                    *lock(&self.panic) = Some(p);
                }
            }
            self.pending.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a word other than `seen`: spinning first, then asleep.
    fn next(&self, seen: u64) -> u64 {
        let mut until = None;
        let mut spins = 0u32;
        loop {
            let word = self.word.load(Ordering::SeqCst);
            if word != seen {
                return word;
            }
            spins += 1;
            if !spins.is_multiple_of(64) {
                std::hint::spin_loop();
            } else if Instant::now() < *until.get_or_insert_with(|| Instant::now() + SPIN) {
                std::thread::yield_now();
            } else {
                break;
            }
        }
        let mut asleep = lock(&self.asleep);
        *asleep += 1;
        while self.word.load(Ordering::SeqCst) == seen {
            asleep = self.wake.wait(asleep).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *asleep -= 1;
        self.word.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once_for_any_number_of_threads() {
        for n in [1, 2, 3, 7] {
            for _ in 0..200 {
                let hits: Vec<_> = (0..37).map(|_| AtomicUsize::new(0)).collect();
                each(n, 37, &|_, i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn every_index_of_every_kind_once() {
        for n in [1, 2, 3, 7] {
            for counts in [[0, 0], [0, 5], [37, 2], [1, 100]] {
                let hits = counts.map(|c| (0..c).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
                each_of(n, counts, &|_, kind, i| {
                    hits[kind][i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().flatten().all(|h| h.load(Ordering::Relaxed) == 1), "{n} {counts:?}");
            }
        }
    }

    #[test]
    fn a_thread_begins_with_its_own_run() {
        for _ in 0..50 {
            let held = hold(3);
            let n = if held.is_some() { 3 } else { 1 };
            let (here, first) = (AtomicUsize::new(0), [const { AtomicUsize::new(usize::MAX) }; 3]);
            each(n, 30, &|worker, i| {
                if first[worker].compare_exchange(usize::MAX, i, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    // Nobody can help before all have taken their first.
                    here.fetch_add(1, Ordering::AcqRel);
                    while here.load(Ordering::Acquire) < n {
                        std::thread::yield_now();
                    }
                }
            });
            for (worker, first) in first.iter().enumerate().take(n) {
                assert_eq!(first.load(Ordering::Acquire), worker * 30 / n);
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let r = catch_unwind(|| run(3, &|i| assert!(i != 2, "worker two")));
        assert!(r.is_err());
        run(3, &|_| {});
    }

    #[test]
    fn who_holds_the_pool_has_all_workers_at_once() {
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for _ in 0..50 {
                        let held = hold(3);
                        let again = held.as_ref().map(|_| hold(2).is_some());
                        assert_ne!(again, Some(false));
                        let parts = if held.is_some() { 3 } else { 1 };
                        let here = AtomicUsize::new(0);
                        run(parts, &|_| {
                            here.fetch_add(1, Ordering::AcqRel);
                            while here.load(Ordering::Acquire) < parts {
                                std::thread::yield_now();
                            }
                            // The workers are taken, whoever asks: by this job, or by that of a thread which holds them.
                            assert!(parts == 1 || hold(2).is_none());
                            run(2, &|_| {});
                        });
                        drop(held);
                        run(2, &|_| {});
                    }
                });
            }
        });
        let held = hold(2);
        assert!(catch_unwind(|| run(2, &|i| assert!(i != 1))).is_err());
        drop(held);
        // Other tests use the pool too.
        let again = || {
            std::thread::yield_now();
            hold(2).is_some()
        };
        assert!((0..1_000_000).any(|_| again()));
    }

    #[test]
    fn nested_and_concurrent_runs_finish() {
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..100 {
                        run(2, &|_| run(2, &|_| {}));
                    }
                });
            }
        });
    }
}
