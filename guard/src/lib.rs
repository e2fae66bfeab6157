//! hart-guard
