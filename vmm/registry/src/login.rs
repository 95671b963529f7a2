//! Logging in to a registry and out of it.

use reqwest::{Method, StatusCode};

use crate::Error;
use crate::auth::Access;
use crate::docker::host;
use crate::http::{address, no_address};
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
/// logins are kept under. Of a URL, its host and port.
pub(crate) fn canonical(registry: &str) -> Result<&str, Error> {
    let is_url = registry.starts_with("https://") || registry.starts_with("http://");
    let host = match registry {
        "" => "docker.io",
        _ if is_url || !registry.contains('/') => host(registry),
        path => path,
    };
    address(host)
        .map(|_| host)
        .map_err(|_| no_address(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_named_by_its_host_or_a_url() {
        for (text, name) in [
            ("", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("http://a.example.org:5000", "a.example.org:5000"),
            ("https://a.example.org/b/c", "a.example.org"),
            ("a.example.org", "a.example.org"),
        ] {
            assert_eq!(canonical(text).ok(), Some(name), "{text}");
        }
        for text in [
            "a/b",
            "https://",
            "https:///a",
            "ftp://a",
            "https://me@a/",
            "a?b",
            "a b",
        ] {
            let error = canonical(text).unwrap_err();
            assert!(matches!(error, Error::Address { registry } if registry == text));
        }
    }
}
