//! How the API server is reached: with a pod's own identity, or with a kubeconfig.

use std::path::PathBuf;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::explain::chain;

/// Set by the kubelet in every pod.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// Whose identity is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The pod's ServiceAccount.
    Pod,
    /// A kubeconfig; `None`: that of `KUBECONFIG`, else `~/.kube/config`.
    Kubeconfig(Option<PathBuf>),
}

impl Access {
    /// A kubeconfig that was named, else the pod's identity in a pod, else the kubeconfig that kubectl
    /// would take.
    pub fn choose(kubeconfig: Option<PathBuf>) -> Self {
        match kubeconfig {
            None if std::env::var_os(IN_POD).is_some() => Self::Pod,
            kubeconfig => Self::Kubeconfig(kubeconfig),
        }
    }

    /// Reads certificates and tokens anew and makes a client of them. Returns also the server's URL.
    ///
    /// # Errors
    /// Where something is missing or unreadable: one line that says what.
    pub async fn client(&self) -> Result<(Client, String), String> {
        let mut config = self.config().await?;
        // Each attempt has a deadline and is told of: that is the follower's business.
        config.default_retry = false;
        let url = config.cluster_url.to_string();
        let url = url.trim_end_matches('/').to_owned();
        // A kubeconfig may name a program that fetches a token, and that blocks.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
        match made {
            Ok(Ok(client)) => Ok((client, url)),
            Ok(Err(error)) => Err(format!("{url}: {}", chain(&error))),
            Err(error) => Err(format!("{url}: {error}")),
        }
    }

    async fn config(&self) -> Result<Config, String> {
        let options = KubeConfigOptions::default();
        match self {
            Self::Pod => Config::incluster()
                .map_err(|error| format!("the pod's ServiceAccount: {}", chain(&error))),
            Self::Kubeconfig(Some(path)) => {
                let told = |error: &dyn std::error::Error| {
                    format!("kubeconfig {}: {}", path.display(), chain(error))
                };
                let kubeconfig = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .map_err(|error| told(&error))
            }
            Self::Kubeconfig(None) => Config::from_kubeconfig(&options).await.map_err(|error| {
                format!(
                    "no nodes file (--nodes-file), not in a pod ({IN_POD} is not set), and no usable \
                     kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config): {}",
                    chain(&error)
                )
            }),
        }
    }
}
