# The steps of `.ci/run`, one at a time. `just` lists them.

export CARGO_TERM_COLOR := "always"

_default:
    @just --list --unsorted

# Everything that CI checks, on a machine that may have nothing yet.
ci:
    .ci/run

# Formats all sources.
fmt:
    git ls-files -z "*.rs" | xargs -0 rustfmt --edition 2024

# Lints, with warnings as errors.
lint:
    git ls-files -z "*.rs" | xargs -0 rustfmt --edition 2024 --check
    cargo clippy --locked --all-targets --all-features -- -D warnings
    cargo clippy --locked --test e2e --test soak -- -D warnings
    cargo clippy --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

# Runs all tests.
test:
    cargo test --locked

# Runs the end-to-end tests against a real Collector; `just e2e readme` only some.
e2e *ARGS:
    tests/e2e/run {{ ARGS }}

# Looks for inputs that break a promise: `just fuzz template 600`.
fuzz TARGET *ARGS:
    fuzz/run {{ TARGET }} {{ ARGS }}

# Builds the library's documentation, with warnings as errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Checks licences, banned crates and sources of the lock file.
deny:
    cargo deny check licenses bans sources

# Runs one flow: `just run examples/earthquakes.yaml`.
run *PATHS:
    cargo run --locked --release -- run {{ PATHS }}

# Whole-process benchmarks; `just bench --quick` for a short look.
bench *ARGS:
    cargo run --locked --release --manifest-path bench/Cargo.toml -- {{ ARGS }}

# Micro-benchmark of scripts.
bench-script:
    cargo bench --locked --bench script

# Micro-benchmark of instruments.
bench-instruments:
    cargo bench --locked --bench instruments

# Micro-benchmark of processors that handle several events at a time.
bench-concurrency:
    cargo bench --locked --bench concurrency
