//! num: a meeting of the threads of a job: each writes its rows of a common table, and once all have, each reads the
//! whole. A barrier that a thread which stops or panics breaks for all. Knows nothing of what is written.
//!
//! Threads that meet must run at the same time, which [`hold`](super::pool::hold) makes sure of.

use super::pool::{Counter, each_owned};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Looks at the others' progress before the thread lets others run: some tens of microseconds, as threads that run at the
/// same time mostly come much sooner, and a call of the system takes longer than that.
const SPINS: u32 = 2000;
/// The same where there are more threads than the machine runs at once: somebody may wait for this one's place.
const CROWDED: u32 = 50;

/// What the members of a meeting share.
pub struct Meeting {
    /// Meetings that each member has come to.
    came: Vec<Counter>,
    /// Somebody will not come again.
    left: AtomicBool,
    /// Two tables that take turns: while one is read, the other is written.
    tables: [*mut [f64]; 2],
    width: usize,
    spins: u32,
}

// SAFETY: the tables are only reached through `Member::meet`, which says why its borrows are apart.
unsafe impl Sync for Meeting {}

impl Drop for Meeting {
    fn drop(&mut self) {
        for t in self.tables {
            // SAFETY: `new` made the table from a box, and no member, which borrows the meeting, is left.
            drop(unsafe { Box::from_raw(t) });
        }
    }
}

/// One thread's place in a meeting.
pub struct Member<'a> {
    meeting: &'a Meeting,
    me: usize,
    rows: Range<usize>,
    turns: usize,
    over: bool,
}

/// The table of a meeting.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    values: &'a [f64],
    width: usize,
}

impl<'a> Table<'a> {
    /// A row.
    pub fn row(&self, i: usize) -> &'a [f64] {
        &self.values[i * self.width..][..self.width]
    }
}

impl Meeting {
    /// A meeting of `parts` threads over a table of `rows` x `width`.
    pub fn new(parts: usize, rows: usize, width: usize) -> Self {
        let table = || Box::into_raw(vec![0.0; rows * width].into_boxed_slice());
        Self {
            came: (0..parts).map(|_| Counter(AtomicUsize::new(0))).collect(),
            left: AtomicBool::new(false),
            tables: [table(), table()],
            width,
            spins: if parts > std::thread::available_parallelism().map_or(1, |n| n.get()) { CROWDED } else { SPINS },
        }
    }

    /// Its members, who write these rows of the table.
    ///
    /// # Panics
    /// If the ranges are not one for each part, ascending and disjoint, or the table is shorter: a programming error.
    pub fn members(&mut self, rows: &[Range<usize>]) -> Vec<Member<'_>> {
        let mut end = 0;
        for r in rows {
            assert!(r.start >= end && r.end >= r.start, "a meeting's rows must be ascending and disjoint");
            end = r.end;
        }
        assert!(rows.len() == self.came.len() && end * self.width <= self.tables[0].len(), "a meeting's rows");
        self.came.iter_mut().for_each(|c| *c.0.get_mut() = 0);
        self.left = AtomicBool::new(false);
        let meeting = &*self;
        let member = |(me, r): (usize, &Range<usize>)| Member { meeting, me, rows: r.clone(), turns: 0, over: false };
        rows.iter().enumerate().map(member).collect()
    }
}

/// How long so many threads take to meet: the shortest of a few times. Two cores with a cache in common take a tenth of a
/// microsecond, others several times as long, and a host may move a machine's cores between the two at any moment. The
/// caller holds the pool.
pub fn takes(parts: usize) -> Duration {
    const TIMES: usize = 12;
    let rows: Vec<_> = (0..parts).map(|i| i..i + 1).collect();
    let mut meeting = Meeting::new(parts, parts, 8);
    let mut shortest = vec![Duration::MAX; parts];
    let items: Vec<_> = meeting.members(&rows).into_iter().zip(&mut shortest).collect();
    each_owned(parts, items, &|_, (mut member, shortest)| {
        for _ in 0..TIMES {
            let begin = Instant::now();
            if member.meet(|own| own.fill(1.0)).is_none() {
                return;
            }
            *shortest = begin.elapsed().min(*shortest);
        }
    });
    // The last to come to a meeting does not wait there.
    shortest.into_iter().max().unwrap_or_default()
}

impl Member<'_> {
    /// Width of the table.
    pub fn width(&self) -> usize {
        self.meeting.width
    }

    /// Writes this member's rows with `fill` (each as wide as the table), waits until all members have, and gives the
    /// whole table. Nothing if some member has gone: then this one must go too.
    pub fn meet(&mut self, fill: impl FnOnce(&mut [f64])) -> Option<Table<'_>> {
        if self.over {
            return None;
        }
        let Meeting { came, left, tables, width, spins: most } = self.meeting;
        let table = tables[self.turns % 2];
        let (from, to) = (self.rows.start * width, self.rows.end * width);
        {
            // Nobody reads this table now: what `meet` gave two turns ago ended before its holder's next `meet`, as that
            // borrows the member uniquely, and all had called that before this member's last `meet` returned.
            // SAFETY: for that reason, and because `members` checked the ranges against the length, made them disjoint and
            // borrowed the meeting uniquely, so that there is one member for each.
            let own = unsafe { std::slice::from_raw_parts_mut(table.cast::<f64>().add(from), to - from) };
            fill(own);
        }
        // Each tells of itself on a line of its own: a common counter would go from core to core twice.
        came[self.me].0.store(self.turns + 1, Ordering::Release);
        let mut spins = 0u32;
        for other in came {
            while other.0.load(Ordering::Acquire) <= self.turns {
                // Who leaves after the last meeting has come to it: looked at in this order it is never taken for broken.
                if left.load(Ordering::Acquire) && other.0.load(Ordering::Acquire) <= self.turns {
                    self.over = true;
                    return None;
                }
                spins += 1;
                if spins < *most { std::hint::spin_loop() } else { std::thread::yield_now() }
            }
        }
        self.turns += 1;
        // SAFETY: all have written this turn's table, and nobody writes it before every member has called `meet` again,
        // which for this one ends the borrow.
        let values = unsafe { &*table };
        Some(Table { values, width: *width })
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.meeting.left.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn everyone_sees_what_everyone_wrote() {
        let mut meeting = Meeting::new(3, 7, 2);
        let members = meeting.members(&[0..2, 2..3, 3..7]);
        std::thread::scope(|s| {
            for mut m in members {
                s.spawn(move || {
                    for turn in 0..2000 {
                        let first = m.rows.start;
                        let table = m.meet(|own| {
                            for (i, row) in own.chunks_exact_mut(2).enumerate() {
                                row.copy_from_slice(&[f64::from(turn), (first + i) as f64]);
                            }
                        });
                        let rows: Vec<_> = table.iter().flat_map(|t| (0..7).map(|i| t.row(i))).collect();
                        assert!(
                            rows.len() == 7 && rows.iter().enumerate().all(|(i, r)| **r == [f64::from(turn), i as f64])
                        );
                    }
                });
            }
        });
    }

    #[test]
    fn every_member_has_met() {
        for parts in [1, 2, 5] {
            let hold = crate::num::pool::hold(parts);
            assert!(hold.is_none() || takes(parts) < Duration::MAX);
        }
    }

    #[test]
    fn who_leaves_releases_the_others() {
        let mut meeting = Meeting::new(2, 2, 1);
        let mut members = meeting.members(&[0..1, 1..2]);
        let seen = Mutex::new(Vec::new());
        let (second, first) = (members.pop(), members.pop());
        std::thread::scope(|s| {
            s.spawn(|| {
                if let Some(mut m) = first {
                    while m.meet(|_| {}).is_some() {}
                    seen.lock().map(|mut v| v.push(m.meet(|_| {}).is_none())).unwrap_or_default();
                }
            });
            s.spawn(|| {
                if let Some(mut m) = second {
                    assert!(m.meet(|_| {}).is_some());
                }
            });
        });
        assert_eq!(seen.into_inner().unwrap_or_default(), [true]);
    }
}
