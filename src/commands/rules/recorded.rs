//! The names of what rules record, for those who ask for it: a window stands behind some of them.

/// The share of events that were bad, in each of the windows.
pub(in crate::commands) const ERRORS: &str = "flowgen:slo_errors:ratio_rate";
/// How many events were bad, in the longer ones of the windows.
pub(in crate::commands) const BAD_EVENTS: &str = "flowgen:slo_bad_events:increase";
/// The share of events that is to be good.
pub(in crate::commands) const OBJECTIVE: &str = "flowgen:slo_objective:ratio";
/// What is left of the events that may be bad.
pub(in crate::commands) const BUDGET: &str = "flowgen:slo_budget_remaining:ratio";
