//! Logging in to a registry and out of it.

use reqwest::{Method, StatusCode};

use crate::Error;
use crate::auth::Access;
use crate::transport::{Target, Transport};

impl Transport {
    /// Asks the registry whether it takes the credentials of our options. One
    /// that lets anybody in takes them all.
    pub(crate) async fn check_login(&self, registry: &str) -> Result<(), Error> {
        let target = Target {
            what: "login".to_owned(),
            registry: registry.to_owned(),
            repository: String::new(),
            access: Access::Pull,
        };
        let request = self.request(Method::GET, self.http.base(registry)?);
        let unauthorized = StatusCode::UNAUTHORIZED.as_u16();
        match self.send(&target, &request).await {
            Ok(_) => Ok(()),
            Err(Error::Denied { status, .. }) if status == unauthorized => Err(Error::Login {
                registry: registry.to_owned(),
            }),
            Err(error) => Err(error),
        }
    }
}

/// The name that [`crate::Reference`]s have for a registry, which is what
/// logins are kept under.
pub(crate) fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" | "" => "docker.io",
        other => other,
    }
}
