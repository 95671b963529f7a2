//! What is fetched from registries and pushed to them: against one that does
//! what each test says, good or bad, on a loopback port.

mod artifact;
mod auth;
mod fake;
mod fetch;
mod manifest;
mod tls;
