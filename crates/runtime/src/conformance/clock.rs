//! The suites of [`Clock`] and [`Ids`].

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join;

use crate::ports::Clock;
use crate::ports::Ids;

/// Runs every case. `pass` makes at least so much time pass on this clock: it waits, or moves a clock that tests move.
pub async fn clock_suite(clock: &dyn Clock, pass: impl AsyncFn(Duration)) {
    let length = Duration::from_millis(20);
    let before = clock.now();
    clock.sleep(Duration::ZERO).await;
    let slept = async {
        clock.sleep(length).await;
        clock.now()
    };
    let (after, ()) = join(slept, pass(length)).await;
    assert!(after.duration_since(before) >= length.try_into().unwrap(), "a sleep ended too early");
    assert!(clock.now() >= after, "time went back");
    // A sleep that is given up disturbs nobody.
    drop(clock.sleep(Duration::from_hours(1)));
    let ((), ()) = join(clock.sleep(length), pass(length)).await;
}

/// Runs every case.
pub fn ids_suite(ids: &dyn Ids) {
    let count = 10_000;
    let runs: BTreeSet<_> = (0..count).map(|_| ids.run()).collect();
    assert_eq!(runs.len(), count, "two runs got one id");
    assert!(
        runs.iter().all(|run| run.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    );
    let marks: BTreeSet<_> = (0..count).map(|_| ids.append()).collect();
    assert_eq!(marks.len(), count, "two appends got one mark");
    let bits = (0..count).map(|_| ids.entropy());
    let (ones, zeros) = bits.fold((0, u64::MAX), |(ones, zeros), bits| (ones | bits, zeros & bits));
    assert_eq!((ones, zeros), (u64::MAX, 0), "a bit that never changes is not random");
}
