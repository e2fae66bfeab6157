//! Process 1 of a container.

use std::process::Command;

use hart_guard::privilege;

/// Runs `script` as the child of a process 1 in a namespace of its own; `None` without root.
fn in_container(script: &str) -> Option<(Option<i32>, String)> {
    if !privilege::is_root() {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_hart-guard-test")]);
    let output = command.args(["as-init", script]).output().unwrap();
    Some((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn orphans_are_reaped_and_the_child_does_not_become_process_1() {
    // An orphan ends while its foster parent, process 1, has another child.
    let script =
        "(sleep 0.1 &); echo $$; sleep 1; grep -c '^State:.Z' /proc/[0-9]*/status | grep -c ':1$'";
    let Some((code, said)) = in_container(script) else { return };
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.last(), Some(&"0"), "zombies are left: {said}");
    assert_ne!(lines.first(), Some(&"1"), "it is process 1 itself");
    assert_eq!(code, Some(1), "grep found nothing");
}

#[test]
fn it_ends_as_its_child_does_and_passes_signals_on() {
    let Some((code, _)) = in_container("exit 7") else { return };
    assert_eq!(code, Some(7));
    let script = "trap 'echo told; exit 3' TERM; kill -TERM 1; while :; do sleep 0.05; done";
    let (code, said) = in_container(script).unwrap();
    assert_eq!((code, said.as_str()), (Some(3), "told\n"));
    let (code, _) = in_container("kill -KILL $$").unwrap();
    assert_eq!(code, Some(137));
}
