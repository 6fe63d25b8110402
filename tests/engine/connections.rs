//! Sources that tell whether they have a connection, and who can see that.

use std::time::Duration;

use async_trait::async_trait;
use flowgen::{
    plan::{Flow, OnTaskPanic},
    retry::RetryPolicy,
    runtime::{Ailment, FlowHandle, State, TaskManager},
    shutdown::Stop,
    task::{Emitter, Source, Task, TaskError},
};
use tokio::time::{Instant, sleep};

use crate::support::{
    graph::{flow, node, plan},
    tasks::Apply,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A source that does one thing after the other, each an hour after the one before.
struct Scripted(Vec<Deed>);

#[derive(Clone, Copy)]
enum Deed {
    Connects,
    Disconnects,
    Panics,
}

use Deed::{Connects, Disconnects, Panics};

#[async_trait]
impl Source for Scripted {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        for deed in self.0 {
            match deed {
                Connects => emitter.connected(true),
                Disconnects => emitter.connected(false),
                Panics => panic!("as the test wants it"),
            }
            sleep(HOUR).await;
        }
        stop.stopped().await;
        Ok(())
    }

    fn can_resume(&self) -> bool {
        true
    }
}

/// Looks at a flow of such a source half an hour after each of its deeds. Returns its state and what its tasks ail from,
/// each time and once it has ended.
async fn looks(deeds: &'static [Deed]) -> Vec<(State, Vec<String>)> {
    let mut source = node("in", vec![1], || Task::Source(Box::new(Scripted(deeds.to_vec()))));
    // Longer than the rest of the script takes.
    source.policy.retry =
        RetryPolicy { initial_backoff: 1000 * HOUR, max_backoff: 1000 * HOUR, ..RetryPolicy::default() };
    let sink = node("out", vec![], || Task::Transform(Box::new(Apply(|_: &mut _, _: &mut _| Ok(())))));
    let flow = Flow { on_task_panic: OnTaskPanic::Restart, ..flow("connecting", vec![source, sink]) };
    let manager = TaskManager::start(plan(vec![flow], 16), None).await.unwrap();
    let (stop, handle) = (manager.stop(), manager.flows().remove(0));
    let look = |handle: &FlowHandle| {
        let told = |(task, ailment): (_, Ailment)| format!("{task} {}", ailment.name());
        (handle.state(), handle.ailing().into_iter().map(told).collect::<Vec<_>>())
    };
    let mut seen = Vec::new();
    let watch = async {
        let began = Instant::now();
        for n in 0..deeds.len() {
            tokio::time::sleep_until(began + HOUR * u32::try_from(n).unwrap() + HOUR / 2).await;
            seen.push(look(&handle));
        }
        stop.stop();
    };
    tokio::join!(manager.run(), watch);
    seen.push(look(&handle));
    seen
}

fn ails(state: State, what: &[&str]) -> (State, Vec<String>) {
    (state, what.iter().map(|one| (*one).to_owned()).collect())
}

/// Scenario: a source loses its connection, says so twice, gets it back, and ends without one. Guarantee: its flow runs all
/// the time, and tells of the source for as long as it has none, and not after its end.
#[tokio::test(start_paused = true)]
async fn a_source_without_a_connection_is_told_of_until_it_has_one() {
    let disconnected = || ails(State::Running, &["in disconnected"]);
    let well = || ails(State::Running, &[]);
    assert_eq!(
        looks(&[Disconnects, Disconnects, Connects, Connects, Disconnects]).await,
        [disconnected(), disconnected(), well(), well(), disconnected(), ails(State::Done, &[])]
    );
    assert_eq!(looks(&[Connects]).await, [well(), ails(State::Done, &[])]);
}

/// Scenario: a source without a connection panics. Guarantee: what is told of it is that it waits to be built again.
#[tokio::test(start_paused = true)]
async fn a_source_that_panics_without_a_connection_is_restarting() {
    assert_eq!(
        looks(&[Disconnects, Panics]).await,
        [
            ails(State::Running, &["in disconnected"]),
            ails(State::Restarting, &["in restarting"]),
            ails(State::Done, &[])
        ]
    );
}
