//! hart-workload
