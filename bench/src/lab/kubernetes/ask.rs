//! What the control plane is asked: by kubectl, as the administrator or as somebody else.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::control_plane::PORT;
use super::tokens::{ServiceAccount, unix_now};
use super::{ControlPlane, PodAccess};

/// The API server takes tokens for a minute longer than they say.
const LEEWAY: u64 = 60;

impl ControlPlane {
    /// Runs kubectl as the administrator, and returns what it prints.
    ///
    /// # Errors
    /// When it doesn't exit with 0; the message holds what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_at(PORT, arguments, "")
    }

    /// As [`kubectl`](Self::kubectl), with a text as standard input.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.kubectl_at(PORT, arguments, input)
    }

    /// As [`kubectl`](Self::kubectl), for whom the API server knows by this token.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn kubectl_as(&self, token: &str, arguments: &[&str]) -> Result<String> {
        self.kubectl_as_with_input(token, arguments, "")
    }

    /// As [`kubectl_as`](Self::kubectl_as), with a text as standard input.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn kubectl_as_with_input(
        &self,
        token: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let authority = self.dir.join("ca.crt").display().to_string();
        let identity = [
            "--kubeconfig=/dev/null".to_owned(),
            format!("--certificate-authority={authority}"),
            format!("--token={token}"),
        ];
        self.run_kubectl(PORT, &identity, arguments, input)
    }

    pub(super) fn kubectl_at(&self, port: u16, arguments: &[&str], input: &str) -> Result<String> {
        let kubeconfig = self.dir.join("admin.kubeconfig").display().to_string();
        let identity = [format!("--kubeconfig={kubeconfig}")];
        self.run_kubectl(port, &identity, arguments, input)
    }

    fn run_kubectl(
        &self,
        port: u16,
        identity: &[String],
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let cache = self.dir.join("kubectl-cache").display().to_string();
        let mut command = vec![
            self.assets.program("kubectl")?.display().to_string(),
            format!("--server=https://{}", self.at(port)),
            format!("--cache-dir={cache}"),
        ];
        command.extend_from_slice(identity);
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self.host.run_with_input(&command, input)
    }

    /// Creates these objects, of YAML or JSON.
    ///
    /// # Errors
    /// When one is refused.
    pub fn create(&self, objects: &str) -> Result<()> {
        let arguments = ["create", "--validate=false", "-f", "-"];
        self.kubectl_with_input(&arguments, objects).map(drop)
    }

    /// Gives a Node these InternalIPs, as its kubelet does.
    ///
    /// # Errors
    /// When there is no such Node.
    pub fn set_addresses(&self, node: &str, addresses: &[IpAddr]) -> Result<()> {
        let of = |address| json!({"type": "InternalIP", "address": address});
        let addresses: Vec<_> = addresses.iter().map(of).collect();
        let patch = json!({"status": {"addresses": addresses}}).to_string();
        let arguments = [
            "patch",
            "node",
            node,
            "--subresource=status",
            "--type=merge",
        ];
        self.kubectl(&[&arguments[..], &["--patch", &patch]].concat())
            .map(drop)
    }

    /// A token of a ServiceAccount, by the API's TokenRequest: good for an hour, and for the API server.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn request_token(&self, namespace: &str, account: &str) -> Result<String> {
        let arguments = ["create", "token", account, "--namespace", namespace];
        let token = self.kubectl(&[&arguments[..], &["--duration=1h"]].concat())?;
        Ok(token.trim().to_owned())
    }

    /// A token of a ServiceAccount that the API server takes for so much longer, give or take a second, and no
    /// more after that; it may remember for ten seconds that it was good.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn short_token(&self, namespace: &str, name: &str, good_for: Duration) -> Result<String> {
        let arguments = ["get", "serviceaccount", name, "--namespace", namespace];
        let uid = self.kubectl(&[&arguments[..], &["-o=jsonpath={.metadata.uid}"]].concat())?;
        let account = ServiceAccount {
            namespace,
            name,
            uid: &uid,
        };
        self.token_key
            .token(&account, unix_now()? + good_for.as_secs() - LEEWAY)
    }

    /// What a kubelet gives to a pod with this token, in a folder of the lab that nobody has named so yet.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn pod_access(&self, folder: &str, namespace: &str, token: &str) -> Result<PodAccess> {
        let dir = self.dir.join(folder);
        let authority = &self.authority.pem;
        PodAccess::new(self.at(PORT), dir, authority, namespace, token)
    }
}
