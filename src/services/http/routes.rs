//! Which task answers the requests of which route, while tasks come and go.
//!
//! A route is there as long as a task has it reserved. One that nobody serves for now, since the flow that did is being
//! replaced, lets its requests wait.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use http::Method;
use tokio::sync::watch;

use super::{meters::RequestMeters, server::Shared};
use crate::task::{
    BuildError,
    http::{Claim, Claimant, Handler, Route, Routing},
};

/// All routes of a server.
#[derive(Default)]
pub(super) struct Routes(RwLock<Routing<Vec<Arc<Place>>>>);

/// A route that was reserved at some time.
pub(super) struct Place {
    pub(super) route: Route,
    pub(super) meters: RequestMeters,
    /// How many tasks have it reserved.
    claims: AtomicUsize,
    handler: watch::Sender<Handled>,
    /// The number of the latest handler.
    latest: Mutex<u64>,
}

/// Who answers the requests of a route.
#[derive(Clone)]
pub(super) enum Handled {
    /// Nobody yet, or nobody any more: whoever has it reserved will.
    Soon,
    /// This one, of that number.
    Now(u64, Arc<dyn Handler>),
    /// Nobody.
    Never,
}

/// What the path and the method of a request lead to.
pub(super) enum Found {
    /// A route, with the values of its parameters.
    Route(Arc<Place>, Vec<String>),
    /// The path is one of a route, with these methods.
    OtherMethod(Vec<Method>),
    /// Nothing.
    Nothing,
}

impl Routes {
    /// Finds what a request leads to. `OPTIONS` leads to the route that `asked` about, or to any one of the path.
    pub(super) fn find(&self, method: &Method, asked: Option<&Method>, path: &str) -> Found {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some((places, params)) = routes.find(path) else { return Found::Nothing };
        let of = |method: &Method| places.iter().find(|place| place.route.method == *method);
        let found = of(method).or_else(|| match *method {
            // RFC 9110: what answers GET answers HEAD.
            Method::HEAD => of(&Method::GET),
            Method::OPTIONS => asked.map_or_else(|| places.first(), of),
            _ => None,
        });
        match found {
            Some(place) => Found::Route(Arc::clone(place), params),
            None if places.is_empty() => Found::Nothing,
            None => Found::OtherMethod(methods(places)),
        }
    }

    /// Returns the methods of a path.
    pub(super) fn methods(&self, path: &str) -> Vec<Method> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        routes.find(path).map(|(places, _)| methods(places)).unwrap_or_default()
    }

    /// Reserves a route.
    pub(super) fn claim(
        &self,
        shared: &Arc<Shared>,
        route: &Route,
        claimant: &Claimant,
    ) -> Result<Reserved, BuildError> {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let places = routes.entry(route, Vec::new).map_err(|conflict| {
            BuildError::new(format!(
                "the path `{}` takes the requests of `{}` too",
                route.template, conflict.with
            ))
        })?;
        let known = places.iter().find(|place| place.route == *route).cloned();
        let place = known.unwrap_or_else(|| {
            // Its parameters may have other names from now on, or it may be another task's.
            places.retain(|place| !place.route.is_same(route) || place.claims.load(Ordering::Acquire) > 0);
            let place = Arc::new(Place {
                route: route.clone(),
                meters: RequestMeters::new(&shared.meter, shared.scheme(), Some((route, claimant))),
                claims: AtomicUsize::new(0),
                handler: watch::Sender::new(Handled::Soon),
                latest: Mutex::default(),
            });
            places.insert(0, Arc::clone(&place));
            place
        });
        place.claims.fetch_add(1, Ordering::AcqRel);
        place.handler.send_if_modified(|handled| {
            let is_over = matches!(handled, Handled::Never);
            if is_over {
                *handled = Handled::Soon;
            }
            is_over
        });
        Ok(Reserved { place, shared: Arc::clone(shared) })
    }

    /// Forgets the routes that no task has reserved any more.
    pub(super) fn prune(&self) {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        routes.retain_mut(|places| {
            places.retain(|place| place.claims.load(Ordering::Acquire) > 0);
            !places.is_empty()
        });
    }
}

/// Returns the methods of the routes of one path, in the same order whichever came first.
fn methods(places: &[Arc<Place>]) -> Vec<Method> {
    let mut methods: Vec<_> = places.iter().map(|place| place.route.method.clone()).collect();
    methods.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    methods
}

impl Place {
    /// Returns who answers now.
    pub(super) fn handled(&self) -> Handled {
        self.handler.borrow().clone()
    }

    /// Waits until somebody answers; `None` if nobody will.
    pub(super) async fn handler(&self) -> Option<Arc<dyn Handler>> {
        let mut handler = self.handler.subscribe();
        let handled = handler.wait_for(|handled| !matches!(handled, Handled::Soon)).await.ok()?;
        match &*handled {
            Handled::Now(_, handler) => Some(Arc::clone(handler)),
            Handled::Soon | Handled::Never => None,
        }
    }

    fn serve(&self, handler: Arc<dyn Handler>) -> u64 {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest += 1;
        self.handler.send_replace(Handled::Now(*latest, handler));
        *latest
    }

    /// Ends what the handler of this number does, unless another one has taken over.
    fn leave(&self, number: u64) {
        self.handler.send_if_modified(|handled| {
            let is_own = matches!(handled, Handled::Now(own, _) if *own == number);
            if is_own {
                *handled = Handled::Soon;
            }
            is_own
        });
    }
}

/// A route that is reserved.
pub(super) struct Reserved {
    place: Arc<Place>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Claim for Reserved {
    fn serve(&self, handler: Arc<dyn Handler>) -> Box<dyn Send> {
        let number = self.place.serve(handler);
        Box::new(Serving { place: Arc::clone(&self.place), number })
    }

    async fn quiet(&self) {
        self.shared.quiet().await;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.place.claims.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.place.handler.send_if_modified(|handled| {
                let is_left = self.place.claims.load(Ordering::Acquire) == 0;
                if is_left {
                    *handled = Handled::Never;
                }
                is_left
            });
        }
    }
}

/// What a handler answers as long as it is there.
struct Serving {
    place: Arc<Place>,
    number: u64,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.place.leave(self.number);
    }
}
