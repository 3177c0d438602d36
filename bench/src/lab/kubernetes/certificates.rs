//! Certificates of the control plane, made anew for each lab.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The authority that server and clients trust.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, as PEM.
    pub pem: String,
}

/// A certificate and its key, both as PEM.
pub(super) struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = named("kubernetes", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.self_signed(&key);
        let pem = certificate.context("cannot make the authority")?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// For a server with these names and addresses.
    pub fn server(&self, names: Vec<String>) -> Result<Pair> {
        let params = CertificateParams::new(names).context("no name for a server")?;
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client: Kubernetes takes the common name for the user, organisations for groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Pair> {
        self.issue(named(user, groups), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &self.issuer);
        Ok(Pair {
            certificate: certificate.context("cannot sign a certificate")?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn named(name: &str, organisations: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    for organisation in organisations {
        let kind = DnType::OrganizationName;
        params.distinguished_name.push(kind, *organisation);
    }
    params
}
