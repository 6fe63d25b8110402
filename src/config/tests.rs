//! Tests of whole loads.
