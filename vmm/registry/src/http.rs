//! Connections: which scheme, which certificates, which proxy, and which
//! redirects are followed.
//!
//! Of proxies, `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are heeded, but for
//! loopback hosts, which no proxy can mean.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use reqwest::Url;
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Options};

const USER_AGENT: &str = concat!("shem/", env!("CARGO_PKG_VERSION"));
/// Redirects in a row that are followed.
const MAX_REDIRECTS: usize = 10;

pub(crate) struct Http {
    proxied: Clients,
    direct: Clients,
    has_cas: bool,
    plain: bool,
    plain_loopback: bool,
}

struct Clients {
    /// For what is read. The library sends credentials to the first host alone,
    /// and never from TLS to plain HTTP.
    following: reqwest::Client,
    /// For what is sent, and for whatever carries a secret in it.
    staying: reqwest::Client,
}

/// Whether a request goes where redirects point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirects {
    Follow,
    Refuse,
}

impl Http {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let cas = trusted(options.ca_file.as_deref())?;
        let has_cas = !cas.is_empty();
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(other)?
                .with_root_certificates(cas)
                .with_no_client_auth();
        let clients = |direct| -> Result<Clients, Error> {
            Ok(Clients {
                following: client(options, &tls, direct, following())?,
                staying: client(options, &tls, direct, Policy::none())?,
            })
        };
        Ok(Self {
            proxied: clients(false)?,
            direct: clients(true)?,
            has_cas,
            plain: options.insecure,
            plain_loopback: options.ca_file.is_none(),
        })
    }

    pub(crate) fn client(&self, url: &Url, redirects: Redirects) -> &reqwest::Client {
        let clients = match is_loopback(url) {
            true => &self.direct,
            false => &self.proxied,
        };
        match redirects {
            Redirects::Follow => &clients.following,
            Redirects::Refuse => &clients.staying,
        }
    }

    /// The URL of a registry's API, which ends with `/v2/`.
    pub(crate) fn base(&self, registry: &str) -> Result<Url, Error> {
        let host = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let mut url = address(host).map_err(|_| no_address(registry))?;
        if self.plain || (self.plain_loopback && is_loopback(&url)) {
            return Ok(url);
        }
        if !self.has_cas {
            return Err(Error::NoCas {
                registry: registry.to_owned(),
            });
        }
        // Parsed anew, as a port 80 that was given is no longer told from none.
        url = Url::parse(&format!("https://{host}/v2/")).map_err(|_| no_address(registry))?;
        Ok(url)
    }
}

/// The URL of the API of a host, with a port or without, by plain HTTP.
pub(crate) fn address(host: &str) -> Result<Url, Error> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(good) {
        return Err(no_address(host));
    }
    Url::parse(&format!("http://{host}/v2/")).map_err(|_| no_address(host))
}

pub(crate) fn no_address(registry: &str) -> Error {
    Error::Address {
        registry: registry.to_owned(),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn client(
    options: &Options,
    tls: &ClientConfig,
    direct: bool,
    redirects: Policy,
) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .redirect(redirects)
        .referer(false)
        .tls_backend_preconfigured(tls.clone());
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(other)
}

fn following() -> Policy {
    Policy::custom(|attempt| {
        let from_tls = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("redirects without an end")
        } else if from_tls && attempt.url().scheme() != "https" {
            attempt.error("redirects from TLS to plain HTTP")
        } else {
            attempt.follow()
        }
    })
}

/// The system's CAs, of which some may be unreadable, and those of `ca_file`,
/// all of which must be good.
fn trusted(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut cas = RootCertStore::empty();
    cas.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|source| Error::ReadCa {
            path: path.to_path_buf(),
            source,
        })?;
        let not_ca = || Error::NotCa {
            path: path.to_path_buf(),
        };
        let before = cas.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| not_ca())?;
            cas.add(certificate).map_err(|_| not_ca())?;
        }
        if cas.len() == before {
            return Err(not_ca());
        }
    }
    Ok(cas)
}

fn other(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Prepare {
        source: std::io::Error::other(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(options: &Options, registry: &str) -> Option<String> {
        // The tests' system may have no CAs.
        let mut http = Http::new(options).unwrap();
        http.has_cas = true;
        http.base(registry).ok().map(String::from)
    }

    #[test]
    fn plain_http_is_for_loopback_hosts_or_on_demand() {
        let mut options = Options::default();
        for (registry, url) in [
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("127.8.0.1", "http://127.8.0.1/v2/"),
            ("[::1]:80", "http://[::1]/v2/"),
            ("localhost.example.org", "https://localhost.example.org/v2/"),
            ("10.0.0.1:80", "https://10.0.0.1:80/v2/"),
            ("docker.io", "https://registry-1.docker.io/v2/"),
        ] {
            assert_eq!(base(&options, registry).as_deref(), Some(url));
        }
        options.insecure = true;
        let url = base(&options, "example.org:443");
        assert_eq!(url.as_deref(), Some("http://example.org:443/v2/"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "a/b", "a@b", "a?b", "a#b", "a b", "a:x", "https://a"] {
            assert_eq!(base(&Options::default(), text), None, "{text}");
        }
    }

    #[test]
    fn file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let options = Options {
            ca_file: Some(path.clone()),
            ..Options::default()
        };
        assert!(matches!(
            Http::new(&options),
            Err(Error::ReadCa { path: named, .. }) if named == path
        ));
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Http::new(&options), Err(Error::NotCa { .. })));
        }
    }
}
