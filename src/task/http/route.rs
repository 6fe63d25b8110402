//! Routes: a method and a path that may have parameters, and which of them is meant by a request.

use std::{fmt, sync::Arc};

use http::Method;

/// Where requests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path as it is written: `/orders/{id}`, `/files/{*path}`.
    pub template: Arc<str>,
    /// The names of its parameters, in order.
    pub names: Vec<String>,
    /// The same for all paths that differ by the names of their parameters only.
    pattern: String,
}

/// Why a path is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RouteError(String);

/// Two routes that some requests would belong to both of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The template of the one that was there first.
    pub with: String,
}

impl Route {
    /// Reads a path in which `{name}` stands for one segment and `{*name}`, at the end, for all that is left.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(method: Method, template: &str) -> Result<Self, RouteError> {
        let wrong = |message: &str| RouteError(message.to_owned());
        if !template.starts_with('/') {
            return Err(wrong("a path begins with `/`"));
        }
        if template.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#".contains(&byte)) {
            return Err(wrong("a path has no spaces, `?`, `#` or letters beyond ASCII: write them as `%20`"));
        }
        let (mut names, mut pattern) = (Vec::new(), String::new());
        for segment in template[1..].split('/') {
            pattern.push('/');
            let parameter = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let Some(parameter) = parameter else {
                if segment.contains(['{', '}']) {
                    return Err(wrong("a parameter is a whole segment of the path: `/orders/{id}`"));
                }
                pattern.push_str(segment);
                continue;
            };
            let name = parameter.strip_prefix('*').unwrap_or(parameter);
            let is_word = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if name.is_empty() || !is_word(name) || name.as_bytes()[0].is_ascii_digit() {
                return Err(wrong("the name of a parameter has letters, digits and `_`: `{order_id}`"));
            }
            if names.iter().any(|known| known == name) {
                return Err(RouteError(format!("two parameters are named `{name}`")));
            }
            let star = if parameter.len() > name.len() { "*" } else { "" };
            pattern += &format!("{{{star}p{}}}", names.len());
            names.push(name.to_owned());
        }
        let is_rest =
            |n: usize, segment: &str| segment.starts_with("{*") && n < template[1..].split('/').count() - 1;
        if template[1..].split('/').enumerate().any(|(n, segment)| is_rest(n, segment)) {
            return Err(wrong("`{*name}` takes all that is left of a path, so it stands at its end"));
        }
        Ok(Self { method, template: template.into(), names, pattern })
    }

    /// Returns whether requests of the other belong to this one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.method == other.method && self.pattern == other.pattern
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.template)
    }
}

/// Finds what belongs to a path. Paths that differ by the names of their parameters only are the same.
#[derive(Clone, Debug)]
pub struct Routing<T> {
    router: matchit::Router<usize>,
    places: Vec<Place<T>>,
}

#[derive(Clone, Debug)]
struct Place<T> {
    pattern: String,
    /// The path that came first.
    template: Arc<str>,
    value: T,
}

impl<T> Default for Routing<T> {
    fn default() -> Self {
        Self { router: matchit::Router::new(), places: Vec::new() }
    }
}

impl<T> Routing<T> {
    /// Returns what belongs to the path of a route, made by `new` if nothing does yet.
    ///
    /// # Errors
    /// Neither its path nor another one that is there is the more special one.
    pub fn entry(&mut self, route: &Route, new: impl FnOnce() -> T) -> Result<&mut T, Conflict> {
        let place = match self.places.iter().position(|place| place.pattern == route.pattern) {
            Some(place) => place,
            None => {
                let place = self.places.len();
                self.router.insert(&route.pattern, place).map_err(|error| {
                    let pattern = match error {
                        matchit::InsertError::Conflict { with } => with,
                        other => other.to_string(),
                    };
                    let known = self.places.iter().find(|place| place.pattern == pattern);
                    Conflict { with: known.map_or(pattern, |place| place.template.to_string()) }
                })?;
                let (pattern, template) = (route.pattern.clone(), Arc::clone(&route.template));
                self.places.push(Place { pattern, template, value: new() });
                place
            }
        };
        Ok(&mut self.places[place].value)
    }

    /// Finds what belongs to the path of a request, with the values of its parameters, in order.
    pub fn find(&self, path: &str) -> Option<(&T, Vec<String>)> {
        let found = self.router.at(path).ok()?;
        let params = found.params.iter().map(|(_, value)| value.to_owned()).collect();
        Some((&self.places[*found.value].value, params))
    }

    /// Keeps of what is there only what `keep` says, which may change it.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let places = std::mem::take(&mut self.places);
        self.router = matchit::Router::new();
        for mut place in places {
            // It was there beside the others before.
            if keep(&mut place.value) && self.router.insert(&place.pattern, self.places.len()).is_ok() {
                self.places.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(template: &str) -> Route {
        Route::new(Method::GET, template).unwrap()
    }

    #[test]
    fn a_path_names_its_parameters() {
        let orders = route("/shops/{shop}/orders/{id}");
        assert_eq!(orders.names, ["shop", "id"]);
        assert_eq!(orders.to_string(), "GET /shops/{shop}/orders/{id}");
        assert!(orders.is_same(&route("/shops/{a}/orders/{b}")) && !orders.is_same(&route("/shops/{shop}")));
        assert_eq!(route("/").names, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_path_says_why() {
        for wrong in [
            "", "orders", "/a b", "/é", "/a?b", "/{", "/x{id}", "/{id}x", "/{}", "/{*}", "/{1}", "/{a}/{a}",
            "/{*a}/b", "/{a-b}",
        ] {
            assert!(Route::new(Method::GET, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_more_special_path_wins_and_the_same_one_is_found_again() {
        let mut routing = Routing::default();
        for template in ["/orders/{id}", "/orders/new", "/orders/{id}/items/{item}", "/files/{*path}", "/"] {
            *routing.entry(&route(template), String::new).unwrap() = template.to_owned();
        }
        *routing.entry(&route("/orders/{order}"), String::new).unwrap() += " again";
        let find = |path: &str| {
            let found = routing.find(path);
            found.map_or_else(|| "-".to_owned(), |(value, params)| format!("{value} [{}]", params.join(",")))
        };
        assert_eq!(find("/orders/7"), "/orders/{id} again [7]");
        assert_eq!(find("/orders/new"), "/orders/new []");
        assert_eq!(find("/orders/7/items/a%20b"), "/orders/{id}/items/{item} [7,a%20b]");
        assert_eq!(find("/files/a/b"), "/files/{*path} [a/b]");
        assert_eq!(find("/"), "/ []");
        for none in ["/orders", "/orders/", "/orders/7/", "/files/", "/nothing", ""] {
            assert_eq!(find(none), "-", "{none}");
        }
        let conflict = routing.entry(&route("/{*all}"), String::new).is_ok();
        assert!(conflict, "a rest beside special paths is no conflict");
        assert!(routing.entry(&route("/files/{name}"), String::new).is_err());
        routing.retain_mut(|value| value.contains("orders"));
        assert!(routing.find("/files/a").is_none() && routing.find("/orders/new").is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_a_route_or_an_error(template in "[/{}*a-c?é. ]{0,12}", path in "[/a-c%{}*]{0,12}") {
            let mut routing = Routing::default();
            if let Ok(route) = Route::new(Method::POST, &template) {
                prop_assert!(routing.entry(&route, || 1).is_ok(), "{}", route.pattern);
            }
            let _ = routing.find(&path);
        }
    }
}
