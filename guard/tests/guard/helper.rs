//! What the tests start in place of the `hart` binary.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hart_guard::{Client, QUIET, cgroup, privilege};

/// Ends the process where the guard allocates in spite of its promise.
struct Strict;

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if QUIET.load(Ordering::Relaxed) {
            QUIET.store(false, Ordering::Relaxed);
            eprintln!("the guard allocated {} bytes", layout.size());
            std::process::abort();
        }
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Strict = Strict;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let role = args.next().unwrap_or_default();
    let code = match role.to_str() {
        Some("guard") => guard(args.collect()),
        Some("agent") => agent(args.next().unwrap_or_default()),
        Some("as-init") => as_init(args.next().unwrap_or_default()),
        _ => 64,
    };
    std::process::exit(code);
}

/// `hart guard`, after what `hart agent` does at its start where the environment asks for it.
fn guard(mut args: Vec<OsString>) -> i32 {
    let user = std::env::var("HART_GUARD_TEST_USER").ok();
    if let Ok(scope) = std::env::var("HART_GUARD_TEST_SCOPE") {
        let owner = user.as_deref().map(|user| {
            let account = privilege::lookup(user).expect("an account");
            cgroup::Owner { uid: account.uid, gid: account.gid }
        });
        let prepared = cgroup::prepare(&scope, owner, &cgroup::Want::Auto);
        match prepared.postgres {
            Some(path) => args.splice(0..0, ["--cgroup".into(), path.into_os_string()]),
            None => panic!("no cgroup: {:?}", prepared.why_not),
        };
    }
    if let Some(user) = user {
        privilege::drop_privileges(&user).expect("privileges dropped");
    }
    hart_guard::run(args)
}

/// What `hart agent` does at its start as process 1; the agent is a shell script.
fn as_init(script: OsString) -> i32 {
    if let Some(code) = hart_guard::become_init().expect("a child") {
        return code.into();
    }
    let error = std::process::Command::new("sh").arg("-c").arg(script).exec();
    panic!("no shell: {error}");
}

/// An agent that arms and then hangs until it is killed.
fn agent(socket: OsString) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let patience = Duration::from_secs(60);
        let mut client = Client::connect(socket.as_ref(), patience).await.expect("connected");
        let deadline = hart_clock::now() + Duration::from_secs(3600);
        client.arm(7, deadline, patience).await.expect("armed");
        println!("armed");
        std::future::pending::<i32>().await
    })
}
