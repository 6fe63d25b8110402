//! What a request says in a header that tells who it is from.

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::refusal::{Challenge, Refusal};

/// Returns the one value of a header, or refuses the request.
pub(super) fn one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    challenge: &Challenge,
) -> Result<&'a [u8], Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes()),
        (None, _) => Err(Refusal::unknown(challenge, "the request does not say who it is from")),
        (Some(_), Some(_)) => Err(Refusal::ambiguous(challenge, "the request says twice who it is from")),
    }
}

/// Returns what follows the name of the scheme in `Authorization`, or refuses the request.
pub(super) fn of_scheme<'a>(
    headers: &'a HeaderMap,
    scheme: &str,
    challenge: &Challenge,
) -> Result<&'a [u8], Refusal> {
    let value = one(headers, &AUTHORIZATION, challenge)?;
    let (given, rest) = value.split_at_checked(scheme.len()).unwrap_or_default();
    match rest {
        [b' ', credentials @ ..] if given.eq_ignore_ascii_case(scheme.as_bytes()) => {
            Ok(credentials.trim_ascii())
        }
        _ => Err(Refusal::unknown(challenge, "the request says in another way who it is from")),
    }
}
