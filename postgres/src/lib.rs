//! hart-postgres
