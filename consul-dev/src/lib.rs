//! hart-consul-dev
