//! The load, by dnsperf.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::Failure;

/// What dnsperf found: answers per second, all answers, and seconds per answer.
pub(crate) struct Load {
    pub rate: f64,
    pub completed: f64,
    pub latency: f64,
}

/// Asks `port` of this machine from the second core.
pub(crate) fn dnsperf(
    port: u16,
    questions: impl Iterator<Item = String>,
    seconds: u32,
) -> Result<Load, Failure> {
    let file = std::env::temp_dir().join(format!("hart-dns-bench-{}", std::process::id()));
    let text: Vec<String> = questions.collect();
    fs::File::create(&file)?.write_all((text.join("\n") + "\n").as_bytes())?;
    let output = Command::new("taskset")
        .args(["-c", "1", "dnsperf", "-s", "127.0.0.1", "-c", "4", "-q", "400"])
        .args(["-p", &port.to_string(), "-l", &seconds.to_string(), "-d"])
        .arg(&file)
        .output();
    fs::remove_file(&file)?;
    let output = output.map_err(|error| format!("taskset and dnsperf are needed: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| -> Result<f64, Failure> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next());
        let number = word.and_then(|word| word.parse().ok());
        Ok(number.ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!("dnsperf printed no \"{label}\": {text}{complaint}")
        })?)
    };
    Ok(Load {
        rate: number("Queries per second:")?,
        completed: number("Queries completed:")?,
        latency: number("Average Latency (s):")?,
    })
}
