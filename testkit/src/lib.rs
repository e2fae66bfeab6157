//! hart-testkit
