//! What holds packets back, limits or redirects them, on real links.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use underpass::world::kernel::Kernel;

use crate::link;
use crate::namespace::{Mirror, in_a_namespace, ip, run};

async fn with_a_veth() -> Result<Mirror> {
    ip("link add here type veth peer name there")?;
    ip("link set here up")?;
    Mirror::new().await
}

/// Kinds of qdiscs, of ingress filters and of egress filters.
fn shown(kernel: &Kernel) -> [Vec<String>; 3] {
    let here = link(kernel, "here").unwrap();
    [
        here.qdiscs.clone(),
        here.ingress_filters.clone(),
        here.egress_filters.clone(),
    ]
}

fn tc(arguments: &str) -> Result<()> {
    run("tc", arguments)
}

/// Puts a BPF program there that lets everything pass to whoever comes next.
fn program(place: &str) -> Result<()> {
    let add = ["filter", "add", "dev", "here", place];
    let pass = ["bpf", "direct-action", "bytecode", "1,6 0 0 4294967295"];
    let status = Command::new("tc").args(add).args(pass).status()?;
    ensure!(status.success(), "tc: {status}");
    Ok(())
}

#[test]
fn a_qdisc_that_shapes_is_seen_and_one_that_does_not_is_not() {
    in_a_namespace(
        "a_qdisc_that_shapes_is_seen_and_one_that_does_not_is_not",
        || async {
            let mut mirror = with_a_veth().await?;
            assert_eq!(shown(&mirror.kernel), [const { Vec::<String>::new() }; 3]);
            tc("qdisc add dev here clsact")?;
            for (qdisc, seen) in [
                ("tbf rate 1mbit burst 10k latency 50ms", &["tbf"][..]),
                ("htb", &["htb"]),
                ("pfifo_fast", &[]),
                ("mq", &[]),
                ("noqueue", &[]),
            ] {
                tc(&format!("qdisc replace dev here root {qdisc}"))?;
                mirror
                    .until(|kernel| shown(kernel)[0] == seen)
                    .await
                    .context(qdisc)?;
                mirror.until_true().await?;
            }
            tc("qdisc replace dev here root handle 1: htb")?;
            tc("class add dev here parent 1: classid 1:1 htb rate 1mbit")?;
            tc("qdisc add dev here parent 1:1 handle 2: tbf rate 1mbit burst 10k latency 50ms")?;
            mirror
                .until(|kernel| shown(kernel)[0] == ["htb", "tbf"])
                .await?;
            tc("qdisc del dev here root")?;
            mirror.until(|kernel| shown(kernel)[0].is_empty()).await?;
            tc("qdisc del dev here clsact")?;
            tc("qdisc add dev here ingress")?;
            mirror.until(|kernel| shown(kernel)[0] == ["ingress"]).await
        },
    );
}

#[test]
fn a_filter_that_redirects_is_seen_and_a_program_is_not() {
    in_a_namespace(
        "a_filter_that_redirects_is_seen_and_a_program_is_not",
        || async {
            let mut mirror = with_a_veth().await?;
            // As the bandwidth plugin of CNI does it.
            ip("link add ifb0 type ifb")?;
            ip("link set ifb0 up")?;
            let to_ifb = "u32 match u32 0 0 action mirred egress redirect dev ifb0";
            let none: [&str; 0] = [];
            for qdisc in ["clsact", "ingress"] {
                tc(&format!("qdisc add dev here {qdisc}"))?;
                program("ingress")?;
                mirror.until_true().await?;
                assert_eq!(shown(&mirror.kernel)[1], none, "{qdisc}");

                tc(&format!(
                    "filter add dev here ingress pref 7 protocol ip {to_ifb}"
                ))?;
                mirror
                    .until(|kernel| shown(kernel)[1] == ["u32"])
                    .await
                    .context(qdisc)?;
                assert_eq!(shown(&mirror.kernel)[2], none, "{qdisc}");
                mirror.until_true().await?;

                tc("filter del dev here ingress pref 7")?;
                mirror.until(|kernel| shown(kernel)[1] == none).await?;
                tc(&format!("qdisc del dev here {qdisc}"))?;
                mirror.until(|kernel| shown(kernel) == [none; 3]).await?;
            }
            tc("qdisc add dev here clsact")?;
            program("egress")?;
            tc(&format!("filter add dev here egress protocol ip {to_ifb}"))?;
            mirror.until(|kernel| shown(kernel)[2] == ["u32"]).await?;
            assert_eq!(shown(&mirror.kernel)[1], none);
            tc("qdisc del dev here clsact")?;
            mirror.until(|kernel| shown(kernel) == [none; 3]).await
        },
    );
}
