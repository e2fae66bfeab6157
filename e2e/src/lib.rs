//! hart-e2e
