use proptest::prelude::*;
use tokio::time::advance;

use super::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_over_are_forgotten() {
    let mut limiter = Limiter::new(10.0, 2, 1000, Instant::now());
    for n in 0..500 {
        limiter.admit(&n.to_string(), Instant::now()).unwrap();
    }
    assert_eq!(limiter.keys(), 500);
    advance(std::time::Duration::from_millis(102)).await;
    limiter.admit("x", Instant::now()).unwrap();
    assert_eq!(limiter.keys(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_pass_learns_after_what_time_it_would() {
    let start = Instant::now();
    let mut limiter = Limiter::new(10.0, 2, 10, start);
    assert_eq!(limiter.try_acquire("a", start), Ok(()));
    assert_eq!(limiter.try_acquire("a", start), Ok(()));
    for _ in 0..3 {
        assert_eq!(limiter.try_acquire("a", start), Err(millis(100)), "asking costs nothing");
    }
    assert_eq!(limiter.try_acquire("a", start + millis(60)), Err(millis(40)));
    assert_eq!(limiter.try_acquire("b", start + millis(60)), Ok(()));
    assert_eq!(limiter.try_acquire("a", start + millis(100)), Ok(()));
    assert_eq!(limiter.try_acquire("a", start + millis(100)), Err(millis(100)));
}

#[tokio::test(start_paused = true)]
async fn strangers_make_room_for_one_another_and_whoever_asks_for_most_is_remembered() {
    let start = Instant::now();
    let mut limiter = Limiter::new(1.0, 5, 3, start);
    for _ in 0..5 {
        limiter.try_acquire("greedy", start).unwrap();
    }
    for n in 0..1000 {
        limiter.try_acquire(&n.to_string(), start).unwrap();
        assert!(limiter.keys() <= 3);
    }
    assert_eq!(limiter.try_acquire("greedy", start), Err(millis(1000)));
}

proptest! {
    /// Scenario: any keys at any times. Guarantee: memory is bounded, no key that is remembered gets more than its rate,
    /// and whoever waits as long as was asked passes.
    #[test]
    fn the_answer_is_kept_and_the_memory_bounded(
        steps in prop::collection::vec((0_u8..12, 0_u64..400), 1..200), rate in 1_u32..50, burst in 1_u32..6, max_keys in 1_usize..8,
    ) {
        let start = Instant::now();
        let mut limiter = Limiter::new(f64::from(rate), burst, max_keys, start);
        let mut now = start;
        for (key, pause) in steps {
            now += millis(pause);
            let key = key.to_string();
            if let Err(wait) = limiter.try_acquire(&key, now) {
                prop_assert!(wait > Duration::ZERO && wait <= Duration::from_secs_f64(1.0 / f64::from(rate)) + millis(2));
                now += wait;
                prop_assert_eq!(limiter.try_acquire(&key, now), Ok(()));
            }
            prop_assert!(limiter.keys() <= max_keys);
        }
    }
}
