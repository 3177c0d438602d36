//! A lab with a control plane, and agents that know of nothing but its API.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use underpass_bench::Lab;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane, PodAccess};
use underpass_bench::lab::{AgentOptions, AgentProcess, LabBuilder};

use crate::common::start_agents;

/// The agents' ServiceAccount, as `deploy/` has it.
pub const NAMESPACE: &str = "kube-system";
pub const ACCOUNT: &str = "underpass";

/// A lab, and the Kubernetes cluster that its nodes are.
pub struct Cluster {
    // Before the lab: it lives in it.
    pub control_plane: ControlPlane,
    pub lab: Lab,
}

impl Cluster {
    /// A cluster whose Nodes are the lab's, with the rights that `deploy/` gives to the agents.
    pub fn start(lab: LabBuilder, assets: &Assets) -> Result<Self> {
        let cluster = Self::start_without_rights(lab, assets)?;
        let rights = fs::read_to_string(deploy().join("base/rbac.yaml"));
        cluster.create(&rights.context("the rights that deploy/ gives")?)?;
        Ok(cluster)
    }

    /// A cluster that knows nothing of Underpass.
    pub fn start_without_rights(lab: LabBuilder, assets: &Assets) -> Result<Self> {
        let lab = lab.build()?;
        let control_plane = ControlPlane::start(&lab, assets)?;
        control_plane.create(&lab.nodes_list().to_yaml()?)?;
        Ok(Self { control_plane, lab })
    }

    /// What the agents get as their pods would: with a token that is good for an hour.
    pub fn agents_access(&self) -> Result<PodAccess> {
        let token = self.request_token(NAMESPACE, ACCOUNT)?;
        self.control_plane.pod_access("agents", NAMESPACE, &token)
    }

    /// An agent on every node, each of which knows the way to all others.
    pub fn start_agents(&self, access: &PodAccess) -> Result<Vec<AgentProcess>> {
        let options = AgentOptions::default().in_pod(access);
        start_agents(&self.lab, &options.env("RUST_LOG", "info,underpass=debug"))
    }
}

impl Deref for Cluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}

/// Where the manifests are.
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}
