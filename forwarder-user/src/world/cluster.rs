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
    /// Flannel's annotation `public-ip-overwrite`, else `public-ip`: the IPv4 address by which flanneld
    /// reaches the node; text, unparsed.
    pub public_ip: Option<String>,
    /// The same of `public-ipv6-overwrite` and `public-ipv6`.
    pub public_ipv6: Option<String>,
}
