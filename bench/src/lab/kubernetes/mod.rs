//! A real control plane in the lab: etcd and kube-apiserver on the switch, where every node reaches them, and
//! kube-proxy on the nodes; the programs of Kubernetes as they are.
//!
//! ```no_run
//! use underpass_bench::Lab;
//! use underpass_bench::lab::kubernetes::{Assets, ControlPlane};
//!
//! # fn main() -> anyhow::Result<()> {
//! # let Some(assets) = Assets::or_skip("example", &ControlPlane::PROGRAMS) else { return Ok(()) };
//! let lab = Lab::builder().build()?;
//! let cluster = ControlPlane::start(&lab, &assets)?;
//! cluster.create(&lab.nodes_list().to_yaml()?)?;
//! println!("{}", cluster.kubectl(&["get", "nodes", "-o", "wide"])?);
//! # Ok(())
//! # }
//! ```

mod ask;
mod assets;
mod certificates;
mod control_plane;
mod kube_proxy;
mod places;
mod pod_access;
mod server;
mod tokens;

pub use assets::Assets;
pub use control_plane::ControlPlane;
pub use kube_proxy::KubeProxy;
pub use pod_access::PodAccess;
