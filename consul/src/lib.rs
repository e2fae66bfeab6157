//! hart-consul
