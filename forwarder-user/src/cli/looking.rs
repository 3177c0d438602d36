//! `underpass status` and `underpass check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Output, ReadArgs, UplinkArgs};

/// `underpass status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Read twice, so many seconds apart, and tell packets per second; 0: read once. Without this the
    /// screen takes 1 s, and `-o json` reads once
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
}

impl StatusArgs {
    /// How far apart to read; `None`: once.
    pub fn pause(&self) -> Option<Duration> {
        let usual = match self.read.output {
            Output::Text => Duration::from_secs(1),
            Output::Json => Duration::ZERO,
        };
        Some(self.interval.unwrap_or(usual)).filter(|pause| !pause.is_zero())
    }
}

/// No more than an hour: somebody waits for it.
fn seconds(text: &str) -> Result<Duration, String> {
    let most = 3600.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=most).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!(
            "a number of seconds from 0 to {most} is needed, as 0.5"
        )),
    }
}

/// `underpass check`: what an agent would be told, as far as it decides what is looked at.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// What all reading commands take.
    #[command(flatten)]
    pub read: ReadArgs,
    /// This node's name, as the cluster knows it; without it the Node with an address of this machine
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Nodes from a file. Without this and --kubeconfig: from the maps of an agent that ran here, else,
    /// in a pod, from the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub nodes_file: Option<PathBuf>,
    /// Nodes from the Kubernetes API, reached with this kubeconfig
    #[arg(long, value_name = "FILE", conflicts_with = "nodes_file")]
    pub kubeconfig: Option<PathBuf>,
    /// Which uplink.
    #[command(flatten)]
    pub uplink: UplinkArgs,
    /// Stay after it where nothing fails, doing nothing, until told to stop (SIGTERM, SIGINT): for a
    /// DaemonSet, whose containers may not end
    #[arg(long)]
    pub stay: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    #[test]
    fn a_screen_takes_a_second_and_json_none_unless_asked() {
        let pause = |words: &[&str]| {
            let words = ["underpass", "status"].iter().chain(words);
            let Command::Status(args) = Cli::try_parse_from(words).ok()?.command else {
                panic!("no status");
            };
            Some(args.pause().map(|pause| pause.as_millis()))
        };
        assert_eq!(pause(&[]), Some(Some(1000)));
        assert_eq!(pause(&["-o", "json"]), Some(None));
        assert_eq!(pause(&["-o", "json", "--interval", "0.5"]), Some(Some(500)));
        assert_eq!(pause(&["--interval", "0"]), Some(None));
        for nonsense in ["-1", "x", "nan", "inf", "3601"] {
            assert_eq!(pause(&["--interval", nonsense]), None, "{nonsense}");
        }
    }
}
