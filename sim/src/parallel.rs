//! Seeds on several threads, with results in the order of the seeds, as if there were one thread.

use std::cell::Cell;
use std::thread;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// On which seed this thread works, for what is said when it panics.
#[must_use]
pub fn seed_of_this_thread() -> Option<u64> {
    SEED.get()
}

/// So many seeds are given out to a thread at a time.
const SHARE: u64 = 16;

/// Works on the seeds from `from` on and gives the results to `take` in their order, until that
/// says false.
pub fn each<T: Send>(
    jobs: usize,
    from: u64,
    count: u64,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(T) -> bool,
) {
    let (mut next, end) = (from, from.saturating_add(count));
    while next < end {
        let shares: Vec<(u64, u64)> = (0..jobs as u64)
            .map(|job| next.saturating_add(job * SHARE))
            .map(|first| (first.min(end), first.saturating_add(SHARE).min(end)))
            .collect();
        let done: Vec<Vec<T>> = thread::scope(|scope| {
            let begin = |(first, last): &(u64, u64)| {
                let (first, last, work) = (*first, *last, &work);
                let named = move |seed| {
                    SEED.set(Some(seed));
                    work(seed)
                };
                scope.spawn(move || (first..last).map(named).collect::<Vec<T>>())
            };
            let threads: Vec<_> = shares.iter().map(begin).collect();
            let result = |thread: thread::ScopedJoinHandle<'_, Vec<T>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(result).collect()
        });
        if !done.into_iter().flatten().all(&mut take) {
            return;
        }
        next = shares.last().map_or(end, |(_, last)| *last);
    }
}

/// The first seed for which `work` finds something, and what it found.
pub fn first<T: Send>(
    jobs: usize,
    from: u64,
    count: u64,
    work: impl Fn(u64) -> Option<T> + Sync,
) -> Option<(u64, T)> {
    let mut found = None;
    each(
        jobs,
        from,
        count,
        |seed| work(seed).map(|what| (seed, what)),
        |result| {
            found = result;
            found.is_none()
        },
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_number_of_threads() {
        for jobs in [1, 2, 5] {
            let mut seen = Vec::new();
            each(
                jobs,
                7,
                100,
                |seed| seed,
                |seed| {
                    seen.push(seed);
                    seed < 80
                },
            );
            assert_eq!(seen, (7..=80).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_one_found_is_the_first_in_order() {
        let even = |seed: u64| (seed > 60 && seed.is_multiple_of(2)).then_some(seed * 10);
        assert_eq!(first(4, 1, 1000, even), Some((62, 620)));
        assert_eq!(first(3, 1, 50, even), None);
    }
}
