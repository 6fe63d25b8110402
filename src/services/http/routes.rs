//! Which task answers the requests of which route, while tasks come and go.
//!
//! A route is there as long as a task has it reserved. One that nobody serves for now, since the flow that did is being
//! replaced, lets its requests wait.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use http::{Method, request::Parts};
use tokio::sync::watch;

use super::{meters::RequestMeters, server::Shared};
use crate::task::http::{Claim, Claimant, Handler, Route, Routing};

/// All routes of a server.
///
/// In layers: routes that could not stand beside one another do so for a while, when a flow is replaced by another one.
#[derive(Default)]
pub(super) struct Routes(RwLock<Vec<Routing<Vec<Arc<Place>>>>>);

/// A route that a task has reserved.
pub(super) struct Place {
    pub(super) route: Route,
    pub(super) meters: RequestMeters,
    claimant: Claimant,
    /// How many have it reserved.
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
    /// Finds what a request leads to: of several routes the one that is served, or will be. `OPTIONS` leads to the route
    /// that answers the method `asked` about, or else to any one of the path.
    pub(super) fn find(&self, method: &Method, asked: Option<&Method>, path: &str) -> Found {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(u8, Arc<Place>, Vec<String>)> = None;
        // The latest first, which wins where all else is equal.
        for (places, params) in layers.iter().rev().filter_map(|layer| layer.find(path)) {
            let mut best_here = None;
            for place in places {
                let known = &place.route.method;
                let is_question = *method == Method::OPTIONS;
                let is_asked = is_question && asked.is_some_and(|asked| answers(known, asked));
                let rank = place.rank() + if known == method || is_asked { 4 } else { 0 };
                let of_best = best_here.map(|(rank, _)| rank).or(best.as_ref().map(|(rank, ..)| *rank));
                if (is_question || answers(known, method)) && of_best.is_none_or(|of_best| of_best < rank) {
                    best_here = Some((rank, place));
                }
            }
            if let Some((rank, place)) = best_here {
                best = Some((rank, Arc::clone(place), params));
            }
        }
        drop(layers);
        match best {
            Some((_, place, params)) => Found::Route(place, params),
            None => {
                let methods = self.methods(path);
                if methods.is_empty() { Found::Nothing } else { Found::OtherMethod(methods) }
            }
        }
    }

    /// Returns the methods of a path, in the same order whichever came first.
    pub(super) fn methods(&self, path: &str) -> Vec<Method> {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let places = layers.iter().filter_map(|layer| layer.find(path)).flat_map(|(places, _)| places);
        let mut methods: Vec<_> =
            places.filter(|place| place.is_claimed()).map(|place| place.route.method.clone()).collect();
        methods.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        methods.dedup();
        methods
    }

    /// Returns who answers the methods of a path now, in the same order whichever came first.
    pub(super) fn handlers(&self, path: &str) -> Vec<(Method, Arc<dyn Handler>)> {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut handlers: Vec<(Method, Arc<dyn Handler>)> = Vec::new();
        for place in layers.iter().rev().filter_map(|layer| layer.find(path)).flat_map(|(places, _)| places) {
            let method = &place.route.method;
            if let Handled::Now(_, handler) = place.handled()
                && !handlers.iter().any(|(known, _)| known == method)
            {
                handlers.push((method.clone(), handler));
            }
        }
        handlers.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        handlers
    }

    /// Returns whether a request that led to `place` leads to another one by now.
    pub(super) fn has_other(&self, place: &Arc<Place>, head: &Parts) -> bool {
        match self.find(&head.method, None, head.uri.path()) {
            Found::Route(other, _) => !Arc::ptr_eq(&other, place) || !other.is_over(),
            Found::OtherMethod(_) | Found::Nothing => false,
        }
    }

    /// Reserves a route. The plan has none that is in the way of another one.
    pub(super) fn claim(&self, shared: &Arc<Shared>, route: &Route, claimant: &Claimant) -> Reserved {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let layer = layers.iter_mut().position(|layer| layer.entry(route, Vec::new).is_ok());
        let layer = layer.unwrap_or_else(|| {
            layers.push(Routing::default());
            layers.len() - 1
        });
        let new = || {
            Arc::new(Place {
                route: route.clone(),
                meters: RequestMeters::new(&shared.meter, shared.scheme(), Some((route, claimant))),
                claimant: claimant.clone(),
                claims: AtomicUsize::new(0),
                handler: watch::Sender::new(Handled::Soon),
                latest: Mutex::default(),
            })
        };
        let place = match layers[layer].entry(route, Vec::new) {
            Ok(places) => {
                match places.iter().find(|place| place.route == *route && place.claimant == *claimant) {
                    Some(place) => Arc::clone(place),
                    None => {
                        let place = new();
                        places.insert(0, Arc::clone(&place));
                        place
                    }
                }
            }
            // There is a layer for it.
            Err(_) => new(),
        };
        place.claims.fetch_add(1, Ordering::AcqRel);
        place.handler.send_if_modified(|handled| {
            let is_over = matches!(handled, Handled::Never);
            if is_over {
                *handled = Handled::Soon;
            }
            is_over
        });
        Reserved { place, shared: Arc::clone(shared) }
    }

    /// Forgets the routes that no task has reserved any more.
    pub(super) fn prune(&self) {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        layers.retain_mut(|layer| {
            let mut is_left = false;
            layer.retain_mut(|places| {
                places.retain(|place| place.is_claimed());
                is_left |= !places.is_empty();
                !places.is_empty()
            });
            is_left
        });
    }
}

/// Returns whether a route of the method `known` answers requests of `method`.
fn answers(known: &Method, method: &Method) -> bool {
    // RFC 9110: what answers GET answers HEAD.
    known == method || (*method == Method::HEAD && *known == Method::GET)
}

impl Place {
    /// Returns whether nobody answers, nor will.
    pub(super) fn is_over(&self) -> bool {
        self.rank() == 0
    }

    fn is_claimed(&self) -> bool {
        self.claims.load(Ordering::Acquire) > 0
    }

    /// Returns how much it has to say for itself: whether it is served, will be, or not.
    fn rank(&self) -> u8 {
        match &*self.handler.borrow() {
            Handled::Now(..) => 2,
            Handled::Soon => 1,
            Handled::Never => 0,
        }
    }

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
        self.shared.announce();
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
