//! hart-config
