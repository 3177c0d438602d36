//! The other nodes: can they be reached on the segment?

use super::Finding;
use super::facts::{PeerFact, Peers, Standing};
use super::network::listed;

pub(super) fn findings(peers: &Peers) -> Vec<Finding> {
    vec![nodes(peers), reached(peers), claims(peers)]
}

fn nodes(peers: &Peers) -> Finding {
    let name = "nodes";
    let fix = "name a nodes file with --nodes-file, or a kubeconfig with --kubeconfig";
    match (&peers.source, &peers.error) {
        (_, Some(error)) => Finding::fail(name, error.clone(), fix),
        (None, None) => Finding::warn(
            name,
            "nobody tells of other nodes: whether they can be reached was not tried",
            fix,
        ),
        (Some(source), None) => {
            let mut names: Vec<_> = peers.list.iter().map(|peer| &peer.name).collect();
            names.sort();
            names.dedup();
            Finding::pass(name, format!("{} others, from the {source}", names.len()))
        }
    }
}

fn named(peers: &Peers, chosen: impl Fn(&Standing) -> bool) -> Vec<String> {
    let show = |peer: &PeerFact| match peer.address {
        Some(address) => format!("{} ({address})", peer.name),
        None => peer.name.clone(),
    };
    let chosen = peers.list.iter().filter(|peer| chosen(&peer.standing));
    chosen.map(show).collect()
}

/// What a standing says beside its name, of the first that has one.
fn first_reason<'a>(
    peers: &'a Peers,
    reason: impl Fn(&'a Standing) -> Option<&'a str>,
) -> Option<&'a str> {
    peers.list.iter().find_map(|peer| reason(&peer.standing))
}

fn reached(peers: &Peers) -> Finding {
    let name = "peers on the segment";
    let answer = named(peers, |it| *it == Standing::Answers).len();
    let silent = named(peers, |it| *it == Standing::Silent);
    let away = named(peers, |it| matches!(it, Standing::NotOnLink(_)));
    let asked = answer + silent.len() + away.len();
    let fix = "all nodes are to share one L2 segment: look at cables, VLANs and `ip neigh show`";
    if !silent.is_empty() {
        let found = format!(
            "{} of {asked} answer; asked in vain for the MAC of {}",
            answer,
            listed(&silent)
        );
        return match answer {
            0 => Finding::fail(name, found, fix),
            _ => Finding::warn(name, found, fix),
        };
    }
    if !away.is_empty() {
        let why = first_reason(peers, |it| match it {
            Standing::NotOnLink(why) => Some(why),
            _ => None,
        });
        let found = format!("not there: {}: {}", listed(&away), why.unwrap_or_default());
        let fix = format!("left to the kernel. Where that is not wanted: {fix}");
        return Finding::warn(name, found, fix);
    }
    not_asked(peers, name, answer)
}

fn not_asked(peers: &Peers, name: &'static str, answer: usize) -> Finding {
    let untold = named(peers, |it| matches!(it, Standing::NotAsked(_)));
    let why = first_reason(peers, |it| match it {
        Standing::NotAsked(why) => Some(why),
        _ => None,
    });
    match why {
        Some(why) => Finding::warn(
            name,
            format!("{answer} answer; {} not asked: {why}", untold.len()),
            "an agent that runs asks for all of them; until then ping them",
        ),
        None if answer == 0 => Finding::pass(name, "none to ask"),
        None => Finding::pass(name, format!("all {answer} addresses answer")),
    }
}

fn claims(peers: &Peers) -> Finding {
    let name = "claims";
    let refused = named(peers, |it| matches!(it, Standing::Refused(_)));
    let why = first_reason(peers, |it| match it {
        Standing::Refused(why) => Some(why),
        _ => None,
    });
    match why {
        Some(why) => Finding::warn(
            name,
            format!("{} refused: {}: {why}", refused.len(), listed(&refused)),
            "mend the Nodes: `kubectl get nodes -o wide`, spec.podCIDRs, InternalIP",
        ),
        None => Finding::pass(name, "none refused"),
    }
}
