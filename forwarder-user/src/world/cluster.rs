//! Nodes, reduced to the fields that Underpass uses.

/// A Kubernetes Node as its author claims it to be: nothing here has been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `spec.podCIDRs`, or `spec.podCIDR` where that is all there is; text, unparsed.
    pub pod_cidrs: Vec<String>,
    /// `status.addresses` of type `InternalIP`; text, unparsed.
    pub internal_ips: Vec<String>,
}
