//! Tokens of ServiceAccounts, signed with the control plane's own key: such as it would issue itself, and also
//! those that it would not, as it issues none for less than ten minutes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// The issuer, and the audience of the API server.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// The key that signs tokens.
pub(super) struct TokenKey {
    key: EcdsaKeyPair,
    /// As PEM.
    pub private_pem: String,
    /// Its public half, as PEM.
    pub public_pem: String,
}

/// A ServiceAccount as the API server knows it.
#[derive(Clone, Debug)]
pub(super) struct ServiceAccount<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
}

impl TokenKey {
    /// A new one.
    pub fn new() -> Result<Self> {
        let pair = KeyPair::generate().context("cannot make a key")?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pair.serialized_der(), &random);
        Ok(Self {
            key: key.map_err(|error| anyhow!("ring refuses the key: {error}"))?,
            private_pem: pair.serialize_pem(),
            public_pem: pair.public_key_pem(),
        })
    }

    /// A token that is good until `expires`, in seconds since 1970.
    pub fn token(&self, account: &ServiceAccount<'_>, expires: u64) -> Result<String> {
        let ServiceAccount {
            namespace,
            name,
            uid,
        } = account;
        let issued = unix_now()?.min(expires) - 60;
        self.sign(&json!({
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "iat": issued, "nbf": issued, "exp": expires,
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        }))
    }

    /// A JSON Web Token of these claims (RFC 7519).
    fn sign(&self, claims: &Value) -> Result<String> {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = json!({"alg": "ES256", "typ": "JWT"});
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|error| anyhow!("ring doesn't sign: {error}"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The time in seconds since 1970.
pub(super) fn unix_now() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("the clock stands before 1970")?.as_secs())
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair as _, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_token_is_signed_and_says_whose_it_is() {
        let key = TokenKey::new().unwrap();
        let account = ServiceAccount {
            namespace: "kube-system",
            name: "underpass",
            uid: "6e3c",
        };
        let token = key.token(&account, 2_000_000_000).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (_, claims) = signed.split_once('.').unwrap();
        let public = key.key.public_key().as_ref();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:kube-system:underpass");
        assert_eq!(claims["exp"], 2_000_000_000);
        assert_eq!(claims["kubernetes.io"]["serviceaccount"]["uid"], "6e3c");
    }
}
