//! The pages in the repository are those that the definitions give.

use super::Page;

fn assert_current(page: Page, committed: &str) {
    let made = page.render();
    let differs = made.lines().zip(committed.lines()).position(|(made, old)| made != old);
    let line = differs.unwrap_or(made.lines().count().min(committed.lines().count())) + 1;
    assert!(made == committed, "{page:?} is stale from line {line} on: run `cargo xtask docs`");
}

#[test]
fn configuration_is_current() {
    assert_current(Page::Config, include_str!("../../../../docs/reference/configuration.md"));
}

#[test]
fn cli_is_current() {
    assert_current(Page::Cli, include_str!("../../../../docs/reference/cli.md"));
}

#[test]
fn rest_is_current() {
    assert_current(Page::Rest, include_str!("../../../../docs/reference/rest.md"));
}

#[test]
fn keys_are_current() {
    assert_current(Page::Keys, include_str!("../../../../docs/reference/keys.md"));
}
