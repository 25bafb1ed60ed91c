//! Placeholder.

mod lab;

use std::process::ExitCode;

use clap::Parser;

#[derive(clap::Parser)]
enum Cli {
    Lab(lab::Args),
    Run { #[arg(trailing_var_arg = true, allow_hyphen_values = true)] args: Vec<String> },
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Cli::parse() {
    Cli::Lab(args) =>
    args.run().unwrap_or_else(|error| {
        eprintln!("fourseven: {error:#}");
        ExitCode::FAILURE
    }),
    Cli::Run {..} => {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        eprintln!("stub run");
        eprintln!("ready: stub");
        let mut s = signal_hook::iterator::Signals::new([15]).unwrap();
        for _ in &mut s { break }
        println!("{}", serde_json::to_string(&crate::lab::report::Report { agree: true, ..Default::default() }).unwrap());
        ExitCode::SUCCESS
    }
    }
}
